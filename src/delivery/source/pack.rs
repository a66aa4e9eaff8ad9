//! A directory of files as a source artifact, the same bytes for the same files
//! on every machine: for `recipe apply --upload`.

use serde_json::json;

use super::Tree;
use crate::delivery::artifact::{Blob, EMPTY_TYPE, LAYER_TYPE, gzip, tar};
use crate::oci::media;

/// `artifactType` of an uploaded directory.
pub const SOURCE_TYPE: &str = "application/vnd.kokumi.source.v1";

/// Files as an artifact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    manifest: Blob,
    config: Blob,
    layer: Blob,
}

/// Packs files: names in byte order, modes 0644 and 0755, no owners, no times,
/// no compression.
pub fn pack(tree: &Tree) -> Source {
    let mut archive = Vec::new();
    for (path, file) in tree.files() {
        tar::append(&mut archive, path, file.executable, &file.bytes);
    }
    tar::finish(&mut archive);
    let layer = Blob::of(gzip::wrap(&archive));
    let config = Blob::of(b"{}".to_vec());
    // As text: the order of keys must not depend on how a library keeps maps.
    let descriptor = |media_type: &str, blob: &Blob| {
        let (digest, size) = (&blob.digest, blob.bytes.len());
        format!(r#"{{"digest":"{digest}","mediaType":"{media_type}","size":{size}}}"#)
    };
    let manifest = format!(
        r#"{{"artifactType":"{SOURCE_TYPE}","config":{},"layers":[{}],"mediaType":"{}","schemaVersion":2}}"#,
        descriptor(EMPTY_TYPE, &config),
        descriptor(LAYER_TYPE, &layer),
        media::MANIFEST,
    );
    Source {
        manifest: Blob::of(manifest.into_bytes()),
        config,
        layer,
    }
}

impl Source {
    /// Digest of the artifact, `sha256:…`.
    pub fn digest(&self) -> &str {
        &self.manifest.digest
    }

    /// As an OCI image layout in a tar archive, which registries import.
    pub fn layout(&self) -> Vec<u8> {
        let index = json!({
            "schemaVersion": 2,
            "mediaType": media::INDEX,
            "manifests": [{
                "mediaType": media::MANIFEST,
                "digest": self.manifest.digest,
                "size": self.manifest.bytes.len(),
            }],
        });
        let mut out = Vec::with_capacity(self.layer.bytes.len() + (64 << 10));
        tar::append(
            &mut out,
            "oci-layout",
            false,
            br#"{"imageLayoutVersion":"1.0.0"}"#,
        );
        for blob in [&self.config, &self.layer, &self.manifest] {
            let name = format!("blobs/{}", blob.digest.replace(':', "/"));
            tar::append(&mut out, &name, false, &blob.bytes);
        }
        tar::append(&mut out, "index.json", false, index.to_string().as_bytes());
        tar::finish(&mut out);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::super::{File, archive};
    use super::*;

    fn tree(files: &[(&str, &str, bool)]) -> Tree {
        let mut tree = Tree::default();
        for (path, text, executable) in files {
            let bytes = text.as_bytes().to_vec();
            let file = File {
                bytes,
                executable: *executable,
            };
            tree.insert(path, file).expect("fits");
        }
        tree
    }

    #[test]
    fn the_digest_is_of_names_modes_and_contents() {
        let one = tree(&[("a.yaml", "a", false), ("run.sh", "x", true)]);
        let same = tree(&[("run.sh", "x", true), ("a.yaml", "a", false)]);
        assert_eq!(pack(&one), pack(&same));
        // Other bytes for the same files would make every upload a new source.
        assert_eq!(
            pack(&one).digest(),
            "sha256:f5eb434ea3c3b419b609ee3c896935c37955e64c49285291162550635219eecc"
        );
        for other in [
            tree(&[("b.yaml", "a", false), ("run.sh", "x", true)]),
            tree(&[("a.yaml", "b", false), ("run.sh", "x", true)]),
            tree(&[("a.yaml", "a", false), ("run.sh", "x", false)]),
        ] {
            assert_ne!(pack(&one).digest(), pack(&other).digest());
        }
    }

    #[tokio::test]
    async fn what_was_packed_comes_out_again() {
        let deep = format!("{}/{}.yaml", "d".repeat(90), "f".repeat(90));
        let longest = format!("{}/{}", "d".repeat(200), "f".repeat(200));
        let wide = "ü".repeat(60);
        let files = tree(&[
            ("a.yaml", "a", false),
            (&deep, "deep", false),
            (&longest, "longest", true),
            (&wide, "", false),
        ]);
        let mut out = Tree::default();
        archive::extract(&pack(&files).layer.bytes, "", &mut out)
            .await
            .expect("an archive");
        let paths = |tree: &Tree| -> Vec<_> {
            let entry = |(path, file): (&str, &File)| (path.to_owned(), file.clone());
            tree.files().map(entry).collect()
        };
        assert_eq!(paths(&out), paths(&files));
    }
}
