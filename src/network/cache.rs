//! What was attached: kept so that a DEL finds the configuration and the result
//! of its ADD, also after a crash or a reboot.
//!
//! `<run_path>/.cni/attachments/<id>.json` is written *before* ADD: from then on
//! something may have to be undone. It is synced while ADD runs. A power cut in
//! between may lose it and keep a lease; the next ADD of the cell then fails on
//! that lease once, is undone, and so frees it.
//! `<run_path>/.cni/results/<id>.json` follows after a successful ADD and is not
//! synced: after a power cut the namespace it speaks of is gone, and DEL must
//! work without it. Both are replaced as a whole, never changed.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Error, Result, ids};
use crate::model::{Attachment, CellRef};

/// What ADD is, or was, called with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Intent {
    /// `<realm>.<space>.<stack>.<cell>`.
    pub cell: String,
    /// Network name.
    pub network: String,
    /// Container id for plugins.
    pub container_id: String,
    /// Version that was settled.
    pub cni_version: String,
    /// The configuration as written then.
    pub conflist: Value,
}

impl Intent {
    /// The cell; none when the file was not written by us.
    pub fn cell(&self) -> Option<CellRef> {
        ids::parse_sandbox_name(&self.cell)
    }
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Outcome {
    /// Result of the chain, as printed.
    pub result: Value,
    /// Identity of the sandbox it was attached to.
    pub sandbox: String,
    /// Host end of the veth pair, or empty.
    pub host_interface: String,
    /// Bridge, or empty.
    pub bridge: String,
    /// Addresses in prefix notation.
    pub addresses: Vec<String>,
    /// Name servers.
    pub nameservers: Vec<String>,
    /// A CHECK found it wanting: it is to be undone and made again.
    #[serde(default)]
    pub broken: bool,
}

/// An attachment that was begun and not undone.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Record {
    /// What was asked.
    pub intent: Intent,
    /// What came of it; none when ADD did not end well, or that is not known.
    pub outcome: Option<Outcome>,
}

impl Record {
    /// The attachment as the controller sees it.
    pub fn attachment(&self) -> Attachment {
        let mut attachment = Attachment {
            network: self.intent.network.clone(),
            interface: ids::INTERFACE.to_owned(),
            ..Attachment::default()
        };
        if let Some(outcome) = &self.outcome {
            attachment
                .host_interface
                .clone_from(&outcome.host_interface);
            attachment.bridge.clone_from(&outcome.bridge);
            attachment.addresses.clone_from(&outcome.addresses);
            attachment.nameservers.clone_from(&outcome.nameservers);
        }
        attachment
    }
}

/// Attachments of one instance.
#[derive(Debug, Clone)]
pub(super) struct Cache {
    attachments: PathBuf,
    results: PathBuf,
}

impl Cache {
    /// Below the instance's own state directory.
    pub fn new(state: &Path) -> Self {
        Self {
            attachments: state.join("attachments"),
            results: state.join("results"),
        }
    }

    fn files(&self, id: &str) -> (PathBuf, PathBuf) {
        let name = format!("{id}.json");
        (self.attachments.join(&name), self.results.join(&name))
    }

    /// Notes that ADD is about to be called.
    pub fn begin(&self, intent: &Intent) -> Result<()> {
        let (file, _) = self.files(&intent.container_id);
        write(&file, intent).map_err(|e| writing(&file, e))
    }

    /// Makes that note outlive a power cut.
    pub fn sync(&self, id: &str) -> Result<()> {
        let (file, _) = self.files(id);
        let sync = |path: &Path| File::open(path)?.sync_all();
        sync(&file)
            .and_then(|()| sync(&self.attachments))
            .map_err(|e| writing(&file, e))
    }

    /// Notes the result of ADD.
    pub fn finish(&self, id: &str, outcome: &Outcome) -> Result<()> {
        let (_, file) = self.files(id);
        write(&file, outcome).map_err(|e| writing(&file, e))
    }

    /// The attachment of a container id. What a power cut has torn counts as none.
    pub fn get(&self, id: &str) -> Result<Option<Record>> {
        let (intent, outcome) = self.files(id);
        let intent = match read::<Intent>(&intent) {
            Ok(Some(intent)) => intent,
            Ok(None) => return Ok(None),
            Err(error) if is_torn(&error) => {
                tracing::warn!(file = %intent.display(), %error, "attachment was lost");
                return Ok(None);
            }
            Err(error) => return Err(reading(&intent, error)),
        };
        let outcome = read::<Outcome>(&outcome).unwrap_or_default();
        Ok(Some(Record { intent, outcome }))
    }

    /// Forgets an attachment.
    pub fn forget(&self, id: &str) -> Result<()> {
        let (intent, outcome) = self.files(id);
        for file in [outcome, intent] {
            match fs::remove_file(&file) {
                Err(e) if e.kind() != ErrorKind::NotFound => {
                    return Err(Error::host(format!("removing {}", file.display()), e));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// All attachments. A damaged file is left out and logged: it must not keep
    /// the others from being looked after.
    pub fn all(&self) -> Result<Vec<Record>> {
        let dir = match fs::read_dir(&self.attachments) {
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(|e| reading(&self.attachments, e))?,
        };
        let mut records = Vec::new();
        for entry in dir.flatten() {
            let name = entry.file_name();
            if let Some(id) = name.to_str().and_then(|name| name.strip_suffix(".json")) {
                match self.get(id) {
                    Ok(record) => records.extend(record),
                    Err(error) => tracing::warn!(%error, "attachment cannot be read"),
                }
            }
        }
        Ok(records)
    }
}

fn reading(path: &Path, e: io::Error) -> Error {
    Error::host(format!("reading {}", path.display()), e)
}

fn writing(path: &Path, e: io::Error) -> Error {
    Error::host(format!("writing {}", path.display()), e)
}

fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
    }
}

fn is_torn(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::InvalidData | ErrorKind::UnexpectedEof
    )
}

fn write(path: &Path, value: &impl Serialize) -> io::Result<()> {
    replace(path, &serde_json::to_vec(value)?, false)
}

/// Replaces a file as a whole, readable by its owner alone; `durable` makes it
/// outlive a power cut.
pub(super) fn replace(path: &Path, bytes: &[u8], durable: bool) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(dir)?;
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(bytes)?;
    if durable {
        file.as_file().sync_all()?;
    }
    file.persist(path).map_err(|e| e.error)?;
    if durable {
        File::open(dir)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn intent(id: &str) -> Intent {
        Intent {
            cell: "a.b.c.d".into(),
            network: "a_b".into(),
            container_id: id.into(),
            cni_version: "1.0.0".into(),
            conflist: json!({"name": "a_b"}),
        }
    }

    fn outcome() -> Outcome {
        Outcome {
            result: json!({"ips": []}),
            sandbox: "1".into(),
            host_interface: "veth1".into(),
            bridge: "k-1".into(),
            addresses: vec!["10.0.0.2/24".into()],
            nameservers: vec![],
            broken: false,
        }
    }

    #[test]
    fn keeps_what_was_begun_until_it_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path());
        assert_eq!(cache.get("x").unwrap(), None);
        assert_eq!(cache.all().unwrap(), []);

        cache.begin(&intent("x")).unwrap();
        let record = cache.get("x").unwrap().unwrap();
        assert_eq!((&record.intent, &record.outcome), (&intent("x"), &None));
        assert_eq!(record.attachment().network, "a_b");
        assert!(record.intent.cell().is_some());

        cache.finish("x", &outcome()).unwrap();
        cache.begin(&intent("y")).unwrap();
        assert_eq!(cache.all().unwrap().len(), 2);
        let record = cache.get("x").unwrap().unwrap();
        assert_eq!(record.outcome, Some(outcome()));
        assert_eq!(record.attachment().addresses, ["10.0.0.2/24"]);

        cache.forget("x").unwrap();
        cache.forget("x").unwrap();
        assert_eq!(cache.get("x").unwrap(), None);
    }

    #[test]
    fn what_is_torn_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(dir.path());
        cache.begin(&intent("x")).unwrap();
        cache.finish("x", &outcome()).unwrap();
        fs::write(dir.path().join("results/x.json"), "{\"result\":").unwrap();
        assert_eq!(cache.get("x").unwrap().unwrap().outcome, None);
        fs::write(dir.path().join("attachments/x.json"), "").unwrap();
        assert_eq!(cache.get("x").unwrap(), None);
        cache.sync("x").unwrap();
        cache.begin(&intent("x")).unwrap();
        assert!(cache.get("x").unwrap().is_some());
        fs::write(dir.path().join("attachments/x.json"), "{\"cell\":").unwrap();
        assert_eq!(cache.all().unwrap(), []);
    }
}
