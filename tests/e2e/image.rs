//! Images made here, from busybox: no registry can be reached.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::command::system;

/// Go's name of the architecture we run on.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A root file system with busybox and its applets.
fn root(dir: &Path) -> PathBuf {
    let root = dir.join("root");
    if root.exists() {
        return root;
    }
    for name in ["bin", "etc", "tmp", "var", "home"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    for applet in system("/bin/busybox", &["--list"]).ok().out.lines() {
        if applet != "busybox" {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
    }
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/:/bin/sh\nguest:x:1000:1000:guest:/home:/bin/sh\n",
    )
    .unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\nguest:x:1000:\n").unwrap();
    root
}

/// An OCI layout that can be changed before it is packed.
pub struct Layout {
    dir: PathBuf,
    /// Digest of the layer, without `sha256:`.
    pub layer: String,
    /// Digest of the manifest, without `sha256:`.
    pub manifest: String,
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

impl Layout {
    /// Where a blob lies.
    pub fn blob(&self, digest: &str) -> PathBuf {
        self.dir.join("blobs/sha256").join(digest)
    }

    fn put(dir: &Path, bytes: &[u8]) -> String {
        let digest = hex(bytes);
        fs::write(dir.join("blobs/sha256").join(&digest), bytes).unwrap();
        digest
    }

    /// One layer, one configuration, one manifest, one reference.
    pub fn new(
        dir: &Path,
        reference: &str,
        architecture: &str,
        layer: &[u8],
        config: serde_json::Value,
    ) -> Self {
        let dir = dir.to_owned();
        fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
        let layer_digest = Self::put(&dir, layer);
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_digest}")]},
        })
        .to_string();
        let config_digest = Self::put(&dir, config.as_bytes());
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": format!("sha256:{config_digest}"),
                "size": config.len(),
            },
            "layers": [{
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": format!("sha256:{layer_digest}"),
                "size": layer.len(),
            }],
        })
        .to_string();
        let manifest_digest = Self::put(&dir, manifest.as_bytes());
        let index = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [{
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": format!("sha256:{manifest_digest}"),
                "size": manifest.len(),
                "platform": {"architecture": architecture, "os": "linux"},
                "annotations": {
                    "io.containerd.image.name": reference,
                    "org.opencontainers.image.ref.name": reference,
                },
            }],
        });
        fs::write(dir.join("index.json"), index.to_string()).unwrap();
        fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Self {
            dir,
            layer: layer_digest,
            manifest: manifest_digest,
        }
    }

    /// Packs it as `<dir>.tar`.
    pub fn pack(&self) -> PathBuf {
        let archive = self.dir.with_extension("tar");
        let (dir, to) = (
            self.dir.display().to_string(),
            archive.display().to_string(),
        );
        system(
            "tar",
            &["-C", &dir, "-cf", &to, "oci-layout", "index.json", "blobs"],
        )
        .ok();
        archive
    }

    /// The directory, for `skopeo copy oci:DIR`.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

/// The busybox layer as an uncompressed tar.
pub fn busybox_layer(dir: &Path) -> Vec<u8> {
    let root = root(dir).display().to_string();
    let layer = dir.join("busybox-layer.tar").display().to_string();
    system(
        "tar",
        &[
            "-C",
            &root,
            "--owner=0",
            "--group=0",
            "--numeric-owner",
            "-cf",
            &layer,
            ".",
        ],
    )
    .ok();
    fs::read(layer).unwrap()
}

/// The configuration that goes with it.
pub fn busybox_config() -> serde_json::Value {
    json!({"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"], "WorkingDir": "/"})
}

/// An archive of a busybox image under this reference.
pub fn busybox(dir: &Path, reference: &str) -> PathBuf {
    fs::create_dir_all(dir).unwrap();
    let layer = busybox_layer(dir);
    Layout::new(
        &dir.join("busybox"),
        reference,
        architecture(),
        &layer,
        busybox_config(),
    )
    .pack()
}
