//! Pulls from registries that behave, and from one that does not.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kukeon::model::{Progress, ProgressSink, RegistryCredential};
use kukeon::runtime::{Containerd, Error, PullRequest, Runtime};

use super::build;
use super::host::{Host, missing, run};
use super::load::runs;
use super::registry::{Debian, Fake, Faults};

const NEEDS: &[&str] = &["containerd", "ctr", "runc", "busybox"];

fn request(namespace: &str, reference: &str) -> PullRequest {
    PullRequest {
        namespace: namespace.into(),
        reference: reference.into(),
        platform: None,
        credentials: vec![],
    }
}

async fn pull(runtime: &Containerd, request: &PullRequest) -> Result<String, Error> {
    runtime.pull_image(request, ProgressSink::none()).await
}

fn login(server: &str, username: &str, password: &str) -> RegistryCredential {
    RegistryCredential {
        server: server.into(),
        username: username.into(),
        password: password.into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn debians_registry_with_logins() {
    let mut needs = NEEDS.to_vec();
    needs.extend(["docker-registry", "skopeo", "htpasswd"]);
    if missing("debians_registry_with_logins", &needs) {
        return;
    }
    let host = Host::start();
    let runtime = host.runtime();
    let archive = host.path("a.tar");
    std::fs::write(&archive, build::tar(&build::simple("a", &["one", "two"]))).unwrap();
    let htpasswd = host.path("htpasswd");
    run(
        "htpasswd",
        &["-Bbc", htpasswd.to_str().unwrap(), "ann", "s3cret"],
    );
    let registry = Debian::start(&host.path(""), Some(&htpasswd), None);
    let name = format!("{}/team/a:1", registry.host);
    for (kind, tag) in [("oci", "1"), ("v2s2", "2")] {
        let to = format!("docker://{}/team/a:{tag}", registry.host);
        let from = format!("oci-archive:{}", archive.display());
        let flags = [
            "copy",
            "-q",
            "--dest-tls-verify=false",
            "--dest-creds=ann:s3cret",
        ];
        run("skopeo", &[&flags[..], &["-f", kind, &from, &to]].concat());
    }

    let anonymous = pull(&runtime, &request("a", &name)).await.unwrap_err();
    assert!(
        matches!(anonymous, Error::Unauthorized { .. }),
        "{anonymous}"
    );
    let mut with = request("a", &name);
    with.credentials = vec![
        login(&registry.host, "ann", "wrong"),
        login("", "ann", "s3cret"),
    ];
    let wrong = pull(&runtime, &with).await.unwrap_err();
    assert!(matches!(wrong, Error::Unauthorized { .. }), "{wrong}");
    assert!(!wrong.to_string().contains("wrong"), "{wrong}");
    assert_eq!(host.left("a"), [""; 0]);
    with.credentials.remove(0);
    let seen: Arc<Mutex<Vec<Progress>>> = Arc::default();
    let sink = {
        let seen = seen.clone();
        ProgressSink::new(move |p| seen.lock().unwrap().push(p))
    };
    assert_eq!(runtime.pull_image(&with, sink).await.unwrap(), name);
    runs(&host, "a", &name);
    let texts: Vec<String> = seen
        .lock()
        .unwrap()
        .iter()
        .map(|p| p.text.clone())
        .collect();
    for text in ["resolving", "resolved", "downloading", "unpacking", "done"] {
        assert!(texts.iter().any(|t| t == text), "{text}: {texts:?}");
    }
    // Docker's media types, layers that are there already.
    with.reference = format!("{}/team/a:2", registry.host);
    pull(&runtime, &with).await.unwrap();
    runs(&host, "a", &with.reference);
    let infos = runtime.images("a").await.unwrap();
    assert_eq!(infos.len(), 2);
    assert!(
        infos
            .iter()
            .all(|i| i.size > 500_000 && i.created_at.starts_with("20"))
    );
    assert_eq!(host.ok("a", &["leases", "ls", "-q"]), "");

    with.reference = format!("{}/team/nothing:1", registry.host);
    let gone = pull(&runtime, &with).await.unwrap_err();
    assert!(matches!(gone, Error::ImageNotFound(_)), "{gone}");
    drop(registry);
    let down = pull(&runtime, &with).await.unwrap_err();
    assert!(matches!(down, Error::Registry { .. }), "{down}");
}

/// Puts a registry's certificate where operators do, and takes it away again.
struct Trust(std::path::PathBuf);

impl Trust {
    fn new(registry: &str, certificate: &std::path::Path) -> Self {
        let dir = std::path::Path::new("/etc/docker/certs.d").join(registry);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::copy(certificate, dir.join("ca.crt")).unwrap();
        Self(dir)
    }
}

impl Drop for Trust {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.0.join("ca.crt"));
        // Each goes only when it is empty.
        for dir in self.0.ancestors().take(3) {
            let _ = std::fs::remove_dir(dir);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_with_the_operators_certificate() {
    let mut needs = NEEDS.to_vec();
    needs.extend(["docker-registry", "skopeo", "openssl"]);
    if missing("tls_with_the_operators_certificate", &needs) {
        return;
    }
    let host = Host::start();
    let runtime = host.runtime();
    let certs = host.path("certs");
    std::fs::create_dir(&certs).unwrap();
    std::fs::write(certs.join("ext"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    let at = |name: &str| certs.join(name).to_str().unwrap().to_owned();
    let key = "-newkey rsa:2048 -nodes";
    for line in [
        format!(
            "req -x509 {key} -keyout {} -out {} -subj /CN=ca",
            at("ca.key"),
            at("ca.crt")
        ),
        format!(
            "req {key} -keyout {} -out {} -subj /CN=registry",
            at("key"),
            at("csr")
        ),
        format!(
            "x509 -req -in {} -CA {} -CAkey {} -CAcreateserial -extfile {} -out {}",
            at("csr"),
            at("ca.crt"),
            at("ca.key"),
            at("ext"),
            at("crt")
        ),
    ] {
        run("openssl", &line.split(' ').collect::<Vec<_>>());
    }
    let pair = (certs.join("crt"), certs.join("key"));
    let registry = Debian::start(&host.path(""), None, Some((&pair.0, &pair.1)));
    let archive = host.path("a.tar");
    std::fs::write(&archive, build::tar(&build::simple("a", &["one"]))).unwrap();
    let from = format!("oci-archive:{}", archive.display());
    let to = format!("docker://{}/a:1", registry.host);
    run(
        "skopeo",
        &["copy", "-q", "--dest-tls-verify=false", &from, &to],
    );

    let wanted = request("t", &format!("{}/a:1", registry.host));
    let error = pull(&runtime, &wanted).await.unwrap_err();
    let said = error.to_string();
    assert!(
        matches!(error, Error::Registry { .. }) && said.contains("certificate"),
        "{said}"
    );
    let trust = Trust::new(&registry.host, &certs.join("ca.crt"));
    pull(&runtime, &wanted).await.unwrap();
    drop(trust);
    runs(&host, "t", &wanted.reference);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_and_passing_failures() {
    if missing("tokens_and_passing_failures", NEEDS) {
        return;
    }
    let host = Host::start();
    let runtime = host.runtime();
    let files = build::simple("x", &["one"]);
    let token = Faults {
        token: Some(("bob", "pw")),
        ..Faults::default()
    };
    let fake = Fake::start("x", "1", &files, token.clone()).await;
    let mut with = request("t", &format!("{}/x:1", fake.host));
    let nobody = pull(&runtime, &with).await.unwrap_err();
    assert!(
        matches!(&nobody, Error::Unauthorized { cause, .. } if cause.contains("who?")),
        "{nobody}"
    );
    with.credentials = vec![login(&fake.host, "bob", "pw")];
    fake.behave(Faults {
        unavailable: 2,
        ..token
    });
    let name = pull(&runtime, &with).await.unwrap();
    runs(&host, "t", &name);
    // The password goes to the token server only.
    for seen in fake.seen() {
        let basic = seen.authorization.is_some_and(|a| a.starts_with("Basic"));
        assert_eq!(basic, seen.path.starts_with("/token?"), "{}", seen.path);
    }
    fake.behave(Faults {
        unavailable: 100,
        ..Faults::default()
    });
    let error = pull(&runtime, &with).await.unwrap_err();
    assert!(
        matches!(&error, Error::Registry { cause, .. } if cause.contains("503")),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_layer_is_resumed_at_once_or_by_a_later_pull() {
    if missing("a_cut_layer_is_resumed", NEEDS) {
        return;
    }
    let host = Host::start();
    let runtime = host.runtime();
    let files = build::simple("x", &["one"]);
    let fake = Fake::start("x", "1", &files, Faults::default()).await;
    let wanted = request("a", &format!("{}/x:1", fake.host));
    let layer = build::digest(&build::layer("one"));

    // Twice in the middle: the same pull goes on where it was.
    fake.behave(Faults {
        cut: Some((700_000, 2)),
        ..Faults::default()
    });
    pull(&runtime, &wanted).await.unwrap();
    let ranges: Vec<_> = fake.seen().into_iter().filter_map(|s| s.range).collect();
    assert_eq!(ranges, ["bytes=700000-", "bytes=1400000-"]);
    runs(&host, "a", &wanted.reference);

    // Down for good: the pull fails, and leaves what came to a later one.
    let mut later = wanted.clone();
    later.namespace = "b".into();
    // Without the other namespace's bytes, which containerd would share.
    runtime.remove_image("a", &wanted.reference).await.unwrap();
    fake.behave(Faults {
        cut: Some((1_200_000, 1)),
        ..Faults::default()
    });
    let error = {
        let pulling = pull(&runtime, &later);
        let breaking = async {
            // The configuration is below a thousand bytes and not cut.
            let cut = |s: &super::registry::Seen| s.path.ends_with(&layer);
            while !fake.seen().iter().any(cut) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            fake.behave(Faults {
                unavailable: 1000,
                ..Faults::default()
            });
        };
        let (result, ()) = tokio::join!(pulling, breaking);
        result.unwrap_err()
    };
    assert!(matches!(error, Error::Registry { .. }), "{error}");
    let left = host.left("b");
    assert!(
        left.len() == 1 && left[0].contains("layer-sha256:"),
        "{left:?}"
    );
    fake.behave(Faults::default());
    pull(&runtime, &later).await.unwrap();
    let ranges: Vec<_> = fake.seen().into_iter().filter_map(|s| s.range).collect();
    assert_eq!(ranges, ["bytes=1200000-"]);
    runs(&host, "b", &later.reference);

    // A registry that ignores ranges.
    runtime.remove_image("b", &later.reference).await.unwrap();
    fake.behave(Faults {
        cut: Some((700_000, 1)),
        no_ranges: true,
        ..Faults::default()
    });
    let mut other = later.clone();
    other.namespace = "c".into();
    pull(&runtime, &other).await.unwrap();
    runs(&host, "c", &other.reference);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_and_other_platforms_leave_nothing() {
    if missing("wrong_bytes_and_other_platforms_leave_nothing", NEEDS) {
        return;
    }
    let host = Host::start();
    let runtime = host.runtime();
    let files = build::simple("x", &["one"]);
    let corrupt = Faults {
        corrupt_from: Some(100_000),
        ..Faults::default()
    };
    let fake = Fake::start("x", "1", &files, corrupt).await;
    let mut wanted = request("w", &format!("{}/x:1", fake.host));
    let error = pull(&runtime, &wanted).await.unwrap_err();
    assert!(matches!(error, Error::Digest { .. }), "{error}");
    assert_eq!(host.left("w"), [""; 0]);
    // A digest that is asked for must be the one that comes.
    let digest = build::digest(b"something else");
    wanted.reference = format!("{}/x@{digest}", fake.host);
    let error = pull(&runtime, &wanted).await.unwrap_err();
    assert!(matches!(error, Error::ImageNotFound(_)), "{error}");

    let mut files = vec![];
    let layers = [build::layer("far")];
    let far = build::image(&mut files, "s390x", &layers);
    let index = build::index(&mut files, &[far]);
    build::layout(&mut files, None, index);
    let fake = Fake::start("far", "1", &files, Faults::default()).await;
    let mut wanted = request("w", &format!("{}/far:1", fake.host));
    let error = pull(&runtime, &wanted).await.unwrap_err();
    assert!(
        matches!(&error, Error::Platform { offered, .. } if offered == "linux/s390x"),
        "{error}"
    );
    assert_eq!(host.left("w"), [""; 0]);
    // On request it comes.
    wanted.platform = Some("linux/s390x".into());
    pull(&runtime, &wanted).await.unwrap();
    let detail = runtime.image("w", &wanted.reference).await.unwrap();
    assert!(detail.config.contains("s390x") && !detail.chain_id.is_empty());

    let internal = request("w", "kukeon.internal/other:1");
    let error = pull(&runtime, &internal).await.unwrap_err();
    assert!(matches!(error, Error::ImageNotFound(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn side_by_side_and_cancelled() {
    if missing("side_by_side_and_cancelled", NEEDS) {
        return;
    }
    let host = Host::start();
    let runtime = Arc::new(host.runtime());
    let files = build::simple("x", &["one", "two", "three", "four"]);
    let slow = Faults {
        slow: Some(Duration::from_millis(200)),
        ..Faults::default()
    };
    let fake = Fake::start("x", "1", &files, slow).await;
    let wanted = request("s", &format!("{}/x:1", fake.host));

    // Cancelled in the middle: lease and snapshots go, also without an answer.
    let cancelled = tokio::time::timeout(Duration::from_millis(500), pull(&runtime, &wanted));
    assert!(cancelled.await.is_err());
    let mut left = vec![];
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        left = host.left("s");
        left.retain(|line| !line.contains("layer-sha256:"));
        if left.is_empty() {
            break;
        }
    }
    assert_eq!(left, [""; 0]);
    // How far the cancelled one came is nobody's promise.
    let before = fake.seen().len();

    let pulls = (0..4).map(|_| pull(&runtime, &wanted));
    for result in futures::future::join_all(pulls).await {
        result.unwrap();
    }
    runs(&host, "s", &wanted.reference);
    // Each layer came once.
    let asked = fake.seen().into_iter().skip(before);
    let blobs: Vec<String> = asked.map(|s| s.path).collect();
    let layer = build::digest(&build::layer("four"));
    assert_eq!(
        blobs.iter().filter(|p| p.ends_with(&layer)).count(),
        1,
        "{blobs:?}"
    );
}
