//! Images made here: layers, OCI layouts and Docker archives as lists of files,
//! so that a test can reorder or damage them.

use sha2::{Digest, Sha256};
use tokio_tar::{EntryType, Header};

pub type Files = Vec<(String, Vec<u8>)>;

/// What the program of every image here ends with.
pub const ITS_CODE: i32 = 42;

pub fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let hex: String = hash.iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

/// A tar of files; names that end in `*` are executable.
pub fn tar(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut out = vec![];
    for (name, bytes) in files {
        let mode = if name.ends_with('*') { 0o755 } else { 0o644 };
        entry(&mut out, name.trim_end_matches('*'), mode, bytes);
    }
    out.extend([0; 1024]);
    out
}

pub fn entry(out: &mut Vec<u8>, name: &str, mode: u32, bytes: &[u8]) {
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::Regular);
    // Straight into the field: the safe setter refuses what attackers write.
    let field = &mut header.as_ustar_mut().unwrap().name;
    field[..name.len()].copy_from_slice(name.as_bytes());
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(bytes.len() as u64);
    header.set_cksum();
    out.extend(header.as_bytes());
    out.extend(bytes);
    out.resize(out.len().next_multiple_of(512), 0);
}

/// A layer with busybox and a file that makes it unlike others.
pub fn layer(mark: &str) -> Vec<u8> {
    let busybox = std::fs::read("/bin/busybox").unwrap();
    tar(&[
        ("bin/busybox*".into(), busybox),
        ("mark".into(), mark.as_bytes().to_vec()),
    ])
}

fn blob(files: &mut Files, bytes: Vec<u8>, media_type: &str) -> serde_json::Value {
    let digest = digest(&bytes);
    let size = bytes.len();
    files.push((format!("blobs/{}", digest.replace(':', "/")), bytes));
    serde_json::json!({"mediaType": media_type, "digest": digest, "size": size})
}

pub fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn config(arch: &str, layers: &[Vec<u8>]) -> Vec<u8> {
    let ids: Vec<String> = layers.iter().map(|l| digest(l)).collect();
    serde_json::json!({
        "os": "linux", "architecture": arch,
        "config": {"Cmd": ["/bin/busybox", "sh", "-c", format!("exit {ITS_CODE}")]},
        "rootfs": {"type": "layers", "diff_ids": ids},
    })
    .to_string()
    .into_bytes()
}

/// Manifest of an image for `arch` with its blobs.
pub fn image(files: &mut Files, arch: &str, layers: &[Vec<u8>]) -> serde_json::Value {
    let config = config(arch, layers);
    let config = blob(files, config, "application/vnd.oci.image.config.v1+json");
    let layers: Vec<_> = layers
        .iter()
        .map(|l| blob(files, l.clone(), "application/vnd.oci.image.layer.v1.tar"))
        .collect();
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers,
    });
    let mut descriptor = blob(files, manifest.to_string().into_bytes(), MANIFEST);
    descriptor["platform"] = serde_json::json!({"os": "linux", "architecture": arch});
    descriptor
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An index over manifests, as a blob.
pub fn index(files: &mut Files, manifests: &[serde_json::Value]) -> serde_json::Value {
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests,
    });
    blob(files, index.to_string().into_bytes(), INDEX)
}

/// Adds what makes blobs an OCI layout.
pub fn layout(files: &mut Files, name: Option<&str>, mut target: serde_json::Value) {
    if let Some(name) = name {
        target["annotations"] = serde_json::json!({"org.opencontainers.image.ref.name": name});
    }
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [target]});
    files.push(("index.json".into(), index.to_string().into_bytes()));
    let version = br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec();
    files.push(("oci-layout".into(), version));
}

/// A whole OCI layout of one image for this machine.
pub fn simple(name: &str, marks: &[&str]) -> Files {
    let mut files = vec![];
    let layers: Vec<_> = marks.iter().map(|m| layer(m)).collect();
    let target = image(&mut files, arch(), &layers);
    layout(&mut files, Some(name), target);
    files
}

/// What `docker save` wrote for years.
pub fn docker(names: &[&str], marks: &[&str]) -> Files {
    let layers: Vec<_> = marks.iter().map(|m| layer(m)).collect();
    let config = config(arch(), &layers);
    let mut files = vec![];
    let mut paths = vec![];
    for layer in layers {
        let path = format!("{}/layer.tar", &digest(&layer)[7..20]);
        files.push((path.clone(), layer));
        paths.push(path);
    }
    let config_at = format!("{}.json", &digest(&config)[7..]);
    files.push((config_at.clone(), config));
    let manifest = serde_json::json!([{"Config": config_at, "RepoTags": names, "Layers": paths}]);
    files.push(("manifest.json".into(), manifest.to_string().into_bytes()));
    files
}

/// Writes a Docker archive whose layer holds one file of so many MiB that do
/// not compress away, without holding it.
pub fn big_docker_archive(path: &std::path::Path, name: &str, mib: u64) {
    use std::io::Write as _;

    let header = |name: &str, size: u64| {
        let mut out = vec![];
        entry(&mut out, name, 0o644, &[]);
        let mut header = Header::new_ustar();
        header.as_mut_bytes().copy_from_slice(&out[..512]);
        header.set_size(size);
        header.set_cksum();
        header.as_bytes().to_vec()
    };
    let size = mib << 20;
    let mut file = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
    file.write_all(&header("1/layer.tar", 512 + size + 1024))
        .unwrap();
    let mut hasher = Sha256::new();
    let mut write = |bytes: &[u8]| {
        hasher.update(bytes);
        file.write_all(bytes).unwrap();
    };
    write(&header("big", size));
    let mut piece: Vec<u8> = (0..1 << 20)
        .map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    for n in 0..mib {
        piece[..8].copy_from_slice(&n.to_le_bytes());
        write(&piece);
    }
    write(&[0; 1024]);
    let id: String = hasher
        .finalize()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let config = serde_json::json!({
        "os": "linux", "architecture": arch(),
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{id}")]},
    });
    let manifest =
        serde_json::json!([{"Config": "c.json", "RepoTags": [name], "Layers": ["1/layer.tar"]}]);
    let mut rest = vec![];
    entry(&mut rest, "c.json", 0o644, config.to_string().as_bytes());
    entry(
        &mut rest,
        "manifest.json",
        0o644,
        manifest.to_string().as_bytes(),
    );
    rest.extend([0; 1024]);
    file.write_all(&rest).unwrap();
    file.flush().unwrap();
}
