//! The official conformance suite of the OCI distribution specification, with
//! every API and every kind of content that it knows, optional ones included.

use std::process::Command;

use crate::clients::installed;
use crate::support::{PASSWORD, USER, start};

/// Parts that the suite leaves out unless they are named.
const EXTRAS: [&str; 3] = [
    "OCI_API_BLOBS_DIGEST_HEADER",
    "OCI_API_BLOBS_UPLOAD_CANCEL",
    "OCI_API_MANIFESTS_DIGEST_HEADER",
];

#[tokio::test]
async fn the_official_suite_passes() {
    if !installed("oci-conformance") {
        println!("skipped: the_official_suite_passes: oci-conformance is not installed");
        return;
    }
    let r = start().await;
    let results = r.path().join("results").display().to_string();
    let mut suite = Command::new("oci-conformance");
    suite.current_dir(r.path());
    for (name, value) in [
        ("OCI_REGISTRY", &*r.host()),
        ("OCI_TLS", "disabled"),
        ("OCI_VERSION", "1.1"),
        ("OCI_REPO1", "conformance/one"),
        ("OCI_REPO2", "conformance/two"),
        ("OCI_USERNAME", USER),
        ("OCI_PASSWORD", PASSWORD),
        ("OCI_RESULTS_DIR", &*results),
    ] {
        suite.env(name, value);
    }
    suite.envs(EXTRAS.map(|name| (name, "true")));
    let ended = tokio::task::spawn_blocking(move || suite.output().unwrap()).await;
    let ended = ended.unwrap();
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert!(
        ended.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&ended.stderr)
    );
    // A suite that could not begin ends with 0 as well, and one that was refused
    // something says so and goes on: one line of each category.
    for part in [
        "Blob get",
        "Blob chunked",
        "Blob mount",
        "Tag listing",
        "Referrers",
        "Manifest delete",
    ] {
        let mut lines = said.lines().map(str::trim);
        let passed =
            lines.any(|line| line.starts_with(&format!("{part}.")) && line.ends_with("Pass"));
        assert!(passed, "{part} did not pass:\n{said}");
    }
}
