use super::*;

const MANIFEST: &str = "---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n";

fn parts() -> Parts {
    let base = [
        (URL, "https://example.com/x"),
        (VERSION, "1.2"),
        (REVISION, "main@sha1:abc"),
        ("other", "y"),
    ];
    Parts {
        config_hash: format!("sha256:{}", "1".repeat(64)),
        renderer: "manifest".into(),
        contract: 1,
        source_digest: format!("sha256:{}", "2".repeat(64)),
        target: TargetType::Kuke,
        base: base.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
    }
}

// Whoever has to change one of these has changed the digest of every artifact:
// that needs a new contract number. Computed once with other tools.
#[test]
fn digests_never_change() {
    let packed = pack(MANIFEST, &parts());
    assert_eq!(
        packed.layer.digest,
        "sha256:403dedb5905ec91e798f0acd67487e207d91e1e6394dcb2f7f7cb6aa41ff015d"
    );
    assert_eq!(
        packed.config.digest,
        "sha256:021a128744092578b4c48a13a17b6cce1b1b7602f2e11ba95249d6b09d0b0b84"
    );
    assert_eq!(
        packed.digest(),
        "sha256:d72a3a4e58c6f5e882f5c69a60f282106533dffc9c6a39712bbe38d781357b28"
    );
    let large = pack(&"---\n# 0123456789\n".repeat(10_000), &parts());
    assert_eq!(
        large.digest(),
        "sha256:648bcfe87c526d3cd545c0468b928e0f369944c6165ff7898b37b3ed2f5d548a"
    );
}

#[test]
fn the_manifest_is_what_consumers_expect() {
    let packed = pack(MANIFEST, &parts());
    let text = String::from_utf8(packed.manifest.bytes.clone()).unwrap();
    let value = Value::from_json(&text).unwrap();
    assert_eq!(value.to_canonical_json().unwrap(), text);
    let annotations = value.get("annotations").unwrap();
    let wanted = format!(
        r#"{{"org.opencontainers.image.base.digest":"sha256:{}","org.opencontainers.image.revision":"main","org.opencontainers.image.source":"https://example.com/x","org.opencontainers.image.version":"1.2"}}"#,
        "2".repeat(64)
    );
    assert_eq!(annotations.to_json(), wanted);
    let layer = &value.get("layers").unwrap().as_list().unwrap()[0];
    assert_eq!(layer.get("mediaType"), Some(&LAYER_TYPE.into()));
    assert_eq!(
        layer.at(&["annotations", "org.opencontainers.image.title"]),
        Some(&".".into())
    );
    let config = String::from_utf8(packed.config.bytes.clone()).unwrap();
    assert!(config.starts_with("{\"configHash\":\"sha256:1"), "{config}");
    assert_eq!(
        packed.size(),
        (text.len() + config.len() + packed.layer.bytes.len()) as u64
    );
}

#[tokio::test]
async fn what_is_packed_comes_out_again() {
    for manifest in [MANIFEST, "", &"x".repeat(200_000)] {
        let packed = pack(manifest, &parts());
        let described = describe(&packed.manifest.bytes, packed.digest()).unwrap();
        assert_eq!(
            (&described.config, &described.layer),
            (&packed.config.digest, &packed.layer.digest)
        );
        let layer = &packed.layer;
        assert_eq!(unpack(&layer.bytes, &layer.digest).await.unwrap(), manifest);
    }
}

#[tokio::test]
async fn what_was_changed_is_refused() {
    let packed = pack(MANIFEST, &parts());
    let mut layer = packed.layer.bytes.clone();
    layer[600] ^= 1;
    let failure = unpack(&layer, &packed.layer.digest).await.unwrap_err();
    assert_eq!(failure.reason, Reason::ArtifactInvalid);
    let digest = Digest::sha256(&layer).to_string();
    assert!(unpack(&layer, &digest).await.is_err());
    assert!(describe(b"{}", packed.digest()).is_err());
    let other = b"{\"layers\":[]}";
    assert!(describe(other, Digest::sha256(other).as_str()).is_err());
    let two = gzip::wrap(&tar::single("other.yaml", b"x"));
    let digest = Digest::sha256(&two).to_string();
    assert!(
        unpack(&two, &digest)
            .await
            .unwrap_err()
            .message
            .contains("nothing else")
    );
}

#[test]
fn records_refer_to_the_artifact() {
    let packed = pack(MANIFEST, &parts());
    let entry = Record {
        recipe: "default/web".into(),
        revision: 2,
        message: "why".into(),
        parent: Some("sha256:3".into()),
        files: vec![("a.yaml".into(), 2)],
        ..Record::default()
    };
    let record = record(&entry, &packed.manifest);
    let text = String::from_utf8(record.manifest.bytes).unwrap();
    let value = Value::from_json(&text).unwrap();
    assert_eq!(
        value.at(&["subject", "digest"]),
        Some(&packed.digest().into())
    );
    assert_eq!(value.get("artifactType"), Some(&RECORD_TYPE.into()));
    assert_eq!(
        record.config.digest,
        "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    );
    let body = String::from_utf8(record.layer.bytes).unwrap();
    assert!(
        body.contains(r#""message":"why","parent":"sha256:3""#),
        "{body}"
    );
}

#[test]
fn other_tools_read_the_layer() {
    use std::io::Write;
    use std::process::{Command, Stdio};

    let manifest = MANIFEST.repeat(5000);
    let packed = pack(&manifest, &parts());
    let child = Command::new("tar")
        .args(["-xzOf", "-", FILE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut child = child.unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let layer = packed.layer.bytes.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&layer));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    assert_eq!(output.stdout, manifest.as_bytes());
}
