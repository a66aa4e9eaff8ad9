//! Registries: Debian's, and a small one that misbehaves on request.

use std::collections::HashMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::build::Files;

/// Debian's `docker-registry`; ends with the value.
pub struct Debian {
    child: Child,
    pub host: String,
}

impl Debian {
    /// With a password file, and over TLS with a certificate and key, when given.
    pub fn start(dir: &Path, htpasswd: Option<&Path>, tls: Option<(&Path, &Path)>) -> Self {
        // The kernel hands out a free port, which nobody else takes so soon.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let host = format!("127.0.0.1:{}", free.local_addr().unwrap().port());
        drop(free);
        let mut config = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {host}\n",
            dir.join("registry").display()
        );
        if let Some((certificate, key)) = tls {
            let (certificate, key) = (certificate.display(), key.display());
            config += &format!("  tls:\n    certificate: {certificate}\n    key: {key}\n");
        }
        if let Some(path) = htpasswd {
            let path = path.display();
            config += &format!("auth:\n  htpasswd:\n    realm: test\n    path: {path}\n");
        }
        let path = dir.join("registry.yml");
        std::fs::write(&path, config).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let registry = Self { child, host };
        let start = Instant::now();
        while std::net::TcpStream::connect(&registry.host).is_err() {
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "registry does not come up"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        registry
    }
}

impl Drop for Debian {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A request that came in.
#[derive(Debug, Clone)]
pub struct Seen {
    pub path: String,
    pub range: Option<String>,
    pub authorization: Option<String>,
}

/// How the registry misbehaves.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// Blob answers break off after this many bytes, this many times.
    pub cut: Option<(usize, u32)>,
    /// Answer 503 this many times.
    pub unavailable: u32,
    /// Ignore ranges.
    pub no_ranges: bool,
    /// Flip a bit of every blob of at least this size.
    pub corrupt_from: Option<usize>,
    /// Wait this long before each blob.
    pub slow: Option<Duration>,
    /// Want a token, given for this login.
    pub token: Option<(&'static str, &'static str)>,
}

/// A registry in the test's own process.
pub struct Fake {
    pub host: String,
    state: Arc<State>,
    task: tokio::task::JoinHandle<()>,
}

struct State {
    objects: HashMap<String, (String, Vec<u8>)>,
    faults: Mutex<Faults>,
    seen: Mutex<Vec<Seen>>,
}

impl Fake {
    /// Serves the blobs of a layout; `tag` of `repository` is the entry of its index.
    pub async fn start(repository: &str, tag: &str, files: &Files, faults: Faults) -> Self {
        let mut objects = HashMap::new();
        let mut types = HashMap::new();
        for (_, bytes) in files {
            let Ok(json) = serde_json::from_slice::<serde_json::Value>(bytes) else {
                continue;
            };
            let empty = vec![];
            for entry in json["manifests"].as_array().unwrap_or(&empty) {
                let digest = entry["digest"].as_str().unwrap().to_owned();
                types.insert(digest, entry["mediaType"].as_str().unwrap().to_owned());
            }
        }
        let index = &files
            .iter()
            .find(|(path, _)| path == "index.json")
            .unwrap()
            .1;
        let index: serde_json::Value = serde_json::from_slice(index).unwrap();
        let target = index["manifests"][0]["digest"].as_str().unwrap();
        for (path, bytes) in files {
            let Some(name) = path.strip_prefix("blobs/") else {
                continue;
            };
            let digest = name.replace('/', ":");
            let plain = ("application/octet-stream".to_owned(), bytes.clone());
            objects.insert(format!("/v2/{repository}/blobs/{digest}"), plain);
            if let Some(kind) = types.get(&digest) {
                let document = (kind.clone(), bytes.clone());
                if digest == target {
                    objects.insert(
                        format!("/v2/{repository}/manifests/{tag}"),
                        document.clone(),
                    );
                }
                objects.insert(format!("/v2/{repository}/manifests/{digest}"), document);
            }
        }
        let state = Arc::new(State {
            objects,
            faults: Mutex::new(faults),
            seen: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let (shared, name) = (state.clone(), host.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, shared.clone(), name.clone()));
            }
        });
        Self { host, state, task }
    }

    pub fn behave(&self, faults: Faults) {
        *self.state.faults.lock().unwrap() = faults;
        self.state.seen.lock().unwrap().clear();
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Answers one request, then closes.
async fn serve(mut stream: TcpStream, state: Arc<State>, host: String) {
    let mut head = vec![];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let header = |name: &str| {
        head.lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.to_owned())
    };
    let (range, authorization) = (header("range"), header("authorization"));
    state.seen.lock().unwrap().push(Seen {
        path: path.clone(),
        range: range.clone(),
        authorization: authorization.clone(),
    });
    let mut faults = state.faults.lock().unwrap().clone();
    let answer = if faults.unavailable > 0 {
        state.faults.lock().unwrap().unavailable -= 1;
        reply("503 Service Unavailable", "", b"busy")
    } else if path.starts_with("/token?") {
        let (user, password) = faults.token.unwrap_or_default();
        let wanted = basic(user, password);
        let scoped = path.contains("scope=repository%3A") && path.contains("%3Apull");
        if scoped && authorization.is_some_and(|a| a == wanted) {
            reply("200 OK", "", br#"{"token":"sesame"}"#)
        } else {
            reply(
                "401 Unauthorized",
                "",
                br#"{"errors":[{"message":"who?"}]}"#,
            )
        }
    } else if faults.token.is_some() && authorization.as_deref() != Some("Bearer sesame") {
        let challenge = format!(
            "WWW-Authenticate: Bearer realm=\"http://{host}/token\",service=\"fake, one\",\
             scope=\"repository:x:pull\"\r\n"
        );
        reply("401 Unauthorized", &challenge, b"{}")
    } else if let Some((kind, bytes)) = state.objects.get(&path) {
        let blob = path.contains("/blobs/");
        let mut bytes = bytes.clone();
        if blob && faults.corrupt_from.is_some_and(|n| bytes.len() >= n) {
            bytes[1000] ^= 1;
        }
        if blob && let Some(slow) = faults.slow {
            tokio::time::sleep(slow).await;
        }
        let from = range.filter(|_| !faults.no_ranges).and_then(|r| {
            let from: usize = r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()?;
            Some(from)
        });
        let (status, extra, body) = match from {
            Some(from) => (
                "206 Partial Content",
                format!(
                    "Content-Range: bytes {from}-{}/{}\r\n",
                    bytes.len() - 1,
                    bytes.len()
                ),
                bytes[from..].to_vec(),
            ),
            None => ("200 OK", String::new(), bytes),
        };
        let mut answer = reply(status, &format!("Content-Type: {kind}\r\n{extra}"), &body);
        if let Some((after, times)) = &mut faults.cut
            && blob
            && *times > 0
            && body.len() > *after
        {
            state.faults.lock().unwrap().cut = Some((*after, *times - 1));
            answer.truncate(answer.len() - body.len() + *after);
        }
        answer
    } else {
        let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
        reply("404 Not Found", "", body)
    };
    let _ = stream.write_all(&answer).await;
    let _ = stream.shutdown().await;
}

fn basic(user: &str, password: &str) -> String {
    use base64::Engine as _;

    let pair = format!("{user}:{password}");
    format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode(pair)
    )
}

fn reply(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}
