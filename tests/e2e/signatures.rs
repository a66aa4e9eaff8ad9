//! Signatures of Preparations: made with openssl's keys, kept beside the
//! artifact, checked, and demanded by the Kitchen.

use std::path::Path;

use crate::command::{eventually, system};
use crate::delivery::{HEAD, active, latest, source, text};
use crate::host::{Host, Mode};
use crate::manifest::sleeper;
use crate::registry::{ADDRESS, PASSWORD, Registry, USER};
use crate::releases::approved;
use crate::runner::{Case, Verdict};
use crate::{cases, cases_in_both_modes};

pub const CASES: &[&[Case]] = &[
    cases_in_both_modes![
        nothing_unsigned_is_activated,
        signatures_are_kept_in_another_registry
    ],
    cases![a_signature_lets_deployments_go_on],
];

/// A new key pair: the files with its private and its public half.
pub fn key_pair(host: &Host, name: &str, algorithm: &str) -> (String, String) {
    let private = host.file(&format!("{name}.pem"), "");
    let public = host.file(&format!("{name}.pub"), "");
    let curve = ["-pkeyopt", "ec_paramgen_curve:P-256"];
    let mut arguments = vec!["genpkey", "-algorithm", algorithm, "-out", &private];
    if algorithm == "EC" {
        arguments.extend(curve);
    }
    system("openssl", &arguments).ok();
    system(
        "openssl",
        &["pkey", "-in", &private, "-pubout", "-out", &public],
    )
    .ok();
    (private, public)
}

fn indented(path: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| format!("        {line}\n"))
        .collect()
}

/// The Kitchen, with keys and whether there must be a signature of one.
pub fn kitchen(dir: &str, required: bool, keys: &[&String]) -> String {
    let root = Path::new(dir).parent().unwrap().display();
    let keys: String = keys
        .iter()
        .map(|key| format!("      - |\n{}", indented(key)))
        .collect();
    format!(
        "{HEAD}kind: Kitchen\nmetadata: {{name: default}}\nspec:\n  sourceRoots: [{root}]\n  \
         signatures:\n    required: {required}\n    publicKeys:\n{keys}"
    )
}

fn recipe(dir: &str, more: &str) -> String {
    format!(
        "{HEAD}kind: Recipe\nmetadata: {{name: web}}\nspec:\n  source: {{path: {dir}}}\n  \
         target: {{kuke: {{minHealthy: 0s, healthTimeout: 20s}}}}\n{more}"
    )
}

fn signature(host: &Host, prep: &str, more: &[&str]) -> (i32, String) {
    let done = host.kuke(&[&["prep", "verify", prep, "-o", "json"], more].concat());
    (done.code, text(&done.json()["signature"]))
}

fn nothing_unsigned_is_activated(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let dir = source(&host, &sleeper("web"));
    let (release, release_pub) = key_pair(&host, "release", "EC");
    let (other, other_pub) = key_pair(&host, "other", "ED25519");
    // Keys are read when they are given.
    host.apply(&kitchen(&dir, true, &[]).replace("publicKeys:\n", "publicKeys: []\n"))
        .code(2)
        .says(&["spec.signatures.publicKeys"]);
    host.apply(&kitchen(&dir, true, &[&release]))
        .code(2)
        .says(&["spec.signatures.publicKeys[0]", "no public key"]);
    host.apply(&kitchen(&dir, true, &[&release_pub])).ok();
    host.apply(&recipe(&dir, "")).ok();
    let prep = latest(&host, "web");
    assert_eq!(signature(&host, &prep, &[]), (1, "none".to_owned()));
    let refused = [
        "has no signature of a key",
        "kuke prep sign",
        "nothing was changed",
    ];
    let done = host.kuke(&["promote", "web", "--wait"]);
    assert_ne!(done.code, 0, "{}", done.show());
    done.says(&refused);
    host.kuke(&["get", "servings"]).ok().says(&["No servings"]);
    let beside = Path::new(&dir).with_file_name("beside");
    std::fs::create_dir(&beside).unwrap();
    host.file("beside/manifest.yaml", sleeper("side"));
    let beside = beside.display().to_string();
    host.apply(&recipe(&beside, "").replace("name: web", "name: side"))
        .ok();
    let menu = format!(
        "{HEAD}kind: Menu\nmetadata: {{name: lunch}}\nspec: {{recipes: [{{name: web}}, {{name: side}}], strategy: {{healthTimeout: 20s, minHealthy: 300ms}}}}\n"
    );
    host.apply(&menu).ok();
    let done = host.kuke(&["menu", "run", "lunch", "--wait"]);
    assert_ne!(done.code, 0, "{}", done.show());
    done.says(&["no signature of a key"]);
    host.kuke(&["get", "servings"]).ok().says(&["No servings"]);

    // A signature of somebody else is not taken, nor one of something else.
    let sign = |arguments: &[&str]| host.kuke(&[&["prep", "sign", &prep], arguments].concat());
    sign(&["--key", &other])
        .code(2)
        .says(&["none of the Kitchen's keys"]);
    sign(&["--key", &release_pub])
        .code(1)
        .says(&["no private key"]);
    let nonsense = host.file("nonsense", "bm8gc2lnbmF0dXJl");
    sign(&["--signature", &nonsense])
        .code(2)
        .says(&["none of the Kitchen's keys"]);
    assert_eq!(signature(&host, &prep, &[]), (1, "none".to_owned()));
    sign(&["--key", &release]).ok().says(&["signed"]);
    assert_eq!(signature(&host, &prep, &[]), (0, "valid".to_owned()));
    // Who asks for a key of their own is told of that one only.
    let with_other = ["--key", other_pub.as_str()];
    assert_eq!(
        signature(&host, &prep, &with_other),
        (1, "invalid".to_owned())
    );
    host.apply(&kitchen(&dir, false, &[&other_pub])).ok();
    assert_eq!(signature(&host, &prep, &[]), (1, "invalid".to_owned()));
    let with_key = ["--key", release_pub.as_str()];
    assert_eq!(signature(&host, &prep, &with_key), (0, "valid".to_owned()));
    host.apply(&kitchen(&dir, false, &[]).replace("publicKeys:\n", "publicKeys: []\n"))
        .ok();
    assert_eq!(signature(&host, &prep, &[]), (0, "present".to_owned()));
    host.apply(&kitchen(&dir, true, &[&other_pub, &release_pub]))
        .ok();
    host.kuke(&["promote", "web", "--wait"]).ok();
    assert_eq!(active(&host, "web"), prep);
    // What is active stays, whatever is demanded later, also in a Menu.
    host.apply(&kitchen(&dir, true, &[&other_pub])).ok();
    host.kuke(&["sync", "web"]).ok();
    assert_eq!(active(&host, "web"), prep);
    let side = latest(&host, "side");
    host.kuke(&["prep", "sign", &side, "--key", &other]).ok();
    host.kuke(&["menu", "retry", "lunch", "--wait"]).ok();
    assert_eq!(active(&host, "side"), side);
    host.finish();
    Ok(())
}

/// A key that only another program can use signs what is printed.
fn sign_with_openssl(host: &Host, prep: &str, private: &str) {
    let payload = host.file("payload", "");
    let printed = host
        .kuke(&["prep", "sign", prep, "--print-payload"])
        .ok()
        .out;
    std::fs::write(&payload, printed).unwrap();
    let raw = host.file("raw", "");
    system(
        "openssl",
        &["dgst", "-sha256", "-sign", private, "-out", &raw, &payload],
    )
    .ok();
    let encoded = host.file("signature", "");
    system("openssl", &["base64", "-A", "-in", &raw, "-out", &encoded]).ok();
    assert!(Path::new(&encoded).metadata().unwrap().len() > 0);
    host.kuke(&["prep", "sign", prep, "--signature", &encoded])
        .ok();
}

fn a_signature_lets_deployments_go_on() -> Verdict {
    let host = Host::new(Mode::Daemon);
    let dir = source(&host, &sleeper("web"));
    let (private, public) = key_pair(&host, "release", "RSA");
    host.apply(&kitchen(&dir, true, &[&public])).ok();
    host.apply(&recipe(&dir, "  autoDeployLatest: true\n")).ok();
    let prep = latest(&host, "web");
    assert!(!prep.is_empty());
    host.kuke(&["get", "servings"]).ok().says(&["No servings"]);
    sign_with_openssl(&host, &prep, &private);
    eventually(20.0, "it is deployed", || {
        host.kuke(&["get", "serving", "web"]).code == 0 && active(&host, "web") == prep
    });
    // An approval waits for its signature, too.
    let colour = "  patches:\n  - target: {kind: Cell, name: web}\n    \
                  set: {'.spec.containers[id=main].env': ['COLOUR=red']}\n";
    host.apply(&recipe(&dir, colour)).ok();
    let next = latest(&host, "web");
    assert_ne!(next, prep);
    host.apply(&approved(&host, &[&next])).ok();
    eventually(20.0, "the approval is seen", || {
        host.daemon_log().contains("its approval waits")
    });
    assert_eq!(active(&host, "web"), prep);
    host.kuke(&["prep", "sign", &next, "--key", &private]).ok();
    eventually(20.0, "it is promoted", || active(&host, "web") == next);
    host.finish();
    Ok(())
}

fn signatures_are_kept_in_another_registry(mode: Mode) -> Verdict {
    let host = Host::new(mode);
    let _registry = Registry::start(&host)?;
    let dir = source(&host, &sleeper("web"));
    let (private, public) = key_pair(&host, "release", "EC");
    let pantry = format!(
        "{HEAD}kind: Pantry\nmetadata: {{name: shop}}\nspec: {{oci: 'oci://{ADDRESS}/shop/web', \
         username: {USER}, password: {PASSWORD}}}\n"
    );
    host.apply(&pantry).ok();
    host.apply(&kitchen(&dir, true, &[&public])).ok();
    host.apply(&recipe(
        &dir,
        &format!("  destination: {{oci: 'oci://{ADDRESS}/shop/web'}}\n"),
    ))
    .ok();
    let prep = latest(&host, "web");
    let done = host.kuke(&["promote", "web", "--wait"]);
    assert_ne!(done.code, 0, "{}", done.show());
    host.kuke(&["prep", "sign", &prep, "--key", &private]).ok();
    assert_eq!(signature(&host, &prep, &[]), (0, "valid".to_owned()));
    host.kuke(&["promote", "web", "--wait"]).ok();
    assert_eq!(active(&host, "web"), prep);
    host.finish();
    Ok(())
}
