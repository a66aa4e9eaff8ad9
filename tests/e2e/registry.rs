//! Debian's docker-registry on loopback inside a test host, and a relay in
//! front of it that can break off.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU16, Ordering};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

use crate::command::{eventually, system};
use crate::host::Host;
use crate::image;
use crate::runner::Skip;

/// Account of the registry.
pub const USER: &str = "alice";
/// Its password.
pub const PASSWORD: &str = "correct-horse";
/// Where it listens inside the host.
pub const ADDRESS: &str = "127.0.0.1:5000";

/// What a relay does when its budget is spent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spent {
    BreakOff,
    Stall,
}

/// A registry with basic authentication.
pub struct Registry {
    child: Child,
    dir: PathBuf,
    netns: PathBuf,
}

impl Registry {
    /// Starts one inside a host.
    pub fn start(host: &Host) -> Result<Self, Skip> {
        for program in ["docker-registry", "skopeo", "htpasswd"] {
            if system("sh", &["-c", &format!("command -v {program}")]).code != 0 {
                return Err(Skip(format!("{program} is not installed")));
            }
        }
        // Beside the host's directory: the census counts what is inside it.
        let dir = host.dir.with_extension("registry");
        fs::create_dir_all(dir.join("data")).unwrap();
        let password = system("htpasswd", &["-Bbn", USER, PASSWORD]).ok().out;
        fs::write(dir.join("htpasswd"), password).unwrap();
        let config = format!(
            "version: 0.1\nlog:\n  level: warn\nstorage:\n  filesystem:\n    rootdirectory: {0}/data\n  delete:\n    enabled: true\n\
             http:\n  addr: {ADDRESS}\nauth:\n  htpasswd:\n    realm: tests\n    path: {0}/htpasswd\n",
            dir.display()
        );
        fs::write(dir.join("config.yml"), config).unwrap();
        let mut registry = Self {
            child: Self::spawn(&dir, host.netns()),
            dir,
            netns: host.netns().to_owned(),
        };
        registry.await_answer();
        Ok(registry)
    }

    fn spawn(dir: &Path, netns: &Path) -> Child {
        let log = File::options()
            .create(true)
            .append(true)
            .open(dir.join("log"))
            .unwrap();
        Command::new("nsenter")
            .arg(format!("--net={}", netns.display()))
            .args(["--", "docker-registry", "serve"])
            .arg(dir.join("config.yml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap()
    }

    fn await_answer(&mut self) {
        let netns = format!("--net={}", self.netns.display());
        eventually(10.0, "the registry answers", || {
            let url = format!("http://{ADDRESS}/v2/");
            system(
                "nsenter",
                &[&netns, "--", "curl", "-s", "-o", "/dev/null", &url],
            )
            .code
                == 0
        });
    }

    /// Pushes a busybox image with skopeo under `name`, such as `team/box:1`;
    /// returns its OCI layout.
    pub fn push(&self, name: &str) -> image::Layout {
        let layer = image::busybox_layer(&self.dir);
        self.push_layer(name, &layer)
    }

    /// Pushes an image with this layer.
    pub fn push_layer(&self, name: &str, layer: &[u8]) -> image::Layout {
        let place = self.dir.join(name.replace(['/', ':'], "-"));
        let layout = image::Layout::new(
            &place,
            name,
            image::architecture(),
            layer,
            image::busybox_config(),
        );
        self.copy(&layout, name);
        layout
    }

    /// Pushes an image with a layer of that many random bytes, which cannot be
    /// compressed.
    pub fn push_noise(&self, name: &str, bytes: u32) {
        let dir = self.dir.join("noise").display().to_string();
        let script = format!(
            "mkdir -p {dir} && head -c {bytes} /dev/urandom > {dir}/noise && tar -C {dir} -cf {dir}.tar ."
        );
        system("sh", &["-c", &script]).ok();
        self.push_layer(name, &fs::read(format!("{dir}.tar")).unwrap());
    }

    fn copy(&self, layout: &image::Layout, name: &str) {
        let netns = format!("--net={}", self.netns.display());
        system(
            "nsenter",
            &[
                &netns,
                "--",
                "skopeo",
                "--insecure-policy",
                "copy",
                "--dest-tls-verify=false",
                "--dest-creds",
                &format!("{USER}:{PASSWORD}"),
                &format!("oci:{}", layout.dir().display()),
                &format!("docker://{ADDRESS}/{name}"),
            ],
        )
        .ok();
    }

    /// The file in which the registry keeps a blob.
    pub fn blob(&self, digest: &str) -> PathBuf {
        self.dir
            .join("data/docker/registry/v2/blobs/sha256")
            .join(&digest[..2])
            .join(digest)
            .join("data")
    }

    /// Brings it back with what it had.
    pub fn restart(&mut self) {
        self.child = Self::spawn(&self.dir, &self.netns);
        self.await_answer();
    }

    /// Pushes files as the one layer of an artifact; pushing again moves the tag.
    pub fn push_files(&self, name: &str, files: &[(&str, &str)]) {
        let place = self.dir.join("files");
        fs::remove_dir_all(&place).ok();
        for (path, text) in files {
            let path = place.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let (from, to) = (place.display(), self.dir.join("files.tar"));
        let script = format!("tar -C {from} -cf {} .", to.display());
        system("sh", &["-c", &script]).ok();
        self.push_layer(name, &fs::read(&to).unwrap());
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// Starts it again after it was killed, with what it has stored.
    pub fn start_again(&mut self) {
        self.child = Self::spawn(&self.dir, &self.netns);
        self.await_answer();
    }

    /// A relay to it on another port that passes `budget` bytes of answers,
    /// then breaks every connection off. A negative budget is no limit.
    pub fn relay(&self, port: u16, budget: i64) -> Arc<AtomicI64> {
        self.relay_then(port, budget, Spent::BreakOff)
    }

    /// As [`Registry::relay`], but with the budget spent nothing more comes
    /// until it is raised.
    pub fn slow_relay(&self, port: u16, budget: i64) -> Arc<AtomicI64> {
        self.relay_then(port, budget, Spent::Stall)
    }

    fn relay_then(&self, port: u16, budget: i64, then: Spent) -> Arc<AtomicI64> {
        let left = Arc::new(AtomicI64::new(if budget < 0 { i64::MAX } else { budget }));
        let shared = left.clone();
        self.listen(port, move |client| {
            let Ok(server) = TcpStream::connect(ADDRESS) else {
                return;
            };
            let (up_from, up_to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || pass(up_from, up_to, None, then));
            let budget = shared.clone();
            std::thread::spawn(move || pass(server, client, Some(budget), then));
        });
        left
    }

    /// Gives every client on a port of its network to `serve`, until the test ends.
    fn listen(&self, port: u16, serve: impl Fn(TcpStream) + Send + 'static) {
        let netns = self.netns.clone();
        let (ready, listening) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            join(&netns);
            let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
            ready.send(()).unwrap();
            listener.incoming().flatten().for_each(serve);
        });
        listening.recv_timeout(Duration::from_secs(5)).unwrap();
    }

    /// It on another port, as a registry that answers questions for referrers with
    /// this status.
    pub fn without_referrers(&self, port: u16, status: u16) -> Arc<AtomicU16> {
        let status = Arc::new(AtomicU16::new(status));
        let shared = status.clone();
        self.listen(port, move |client| {
            let status = shared.clone();
            std::thread::spawn(move || answer(client, &status));
        });
        status
    }
}

/// Answers one request itself when it is for referrers; the registry answers all
/// others. A connection has one request, so that each is looked at.
fn answer(mut client: TcpStream, status: &AtomicU16) {
    let (mut request, mut buffer) = (Vec::new(), [0; 16 * 1024]);
    let end = |text: &[u8]| text.windows(4).position(|w| w == b"\r\n\r\n");
    while end(&request).is_none() {
        match client.read(&mut buffer) {
            Ok(n) if n > 0 => request.extend_from_slice(&buffer[..n]),
            _ => return,
        }
    }
    let line = request.iter().position(|b| *b == b'\n').unwrap_or_default() + 1;
    if String::from_utf8_lossy(&request[..line]).contains("/referrers/") {
        let status = status.load(Ordering::Relaxed);
        let text = format!(
            "HTTP/1.1 {status} No\r\nContent-Length: 2\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{{}}"
        );
        client.write_all(text.as_bytes()).ok();
        return;
    }
    let Ok(mut server) = TcpStream::connect(ADDRESS) else {
        return;
    };
    for part in [&request[..line], b"Connection: close\r\n", &request[line..]] {
        if server.write_all(part).is_err() {
            return;
        }
    }
    let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    std::thread::spawn(move || pass(from, to, None, Spent::BreakOff));
    pass(server, client, None, Spent::BreakOff);
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.kill();
        fs::remove_dir_all(&self.dir).ok();
    }
}

/// Moves the calling thread into a network namespace.
fn join(netns: &Path) {
    setns(File::open(netns).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
}

fn pass(mut from: TcpStream, mut to: TcpStream, budget: Option<Arc<AtomicI64>>, then: Spent) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(n) = from.read(&mut buffer) {
        let spent = budget
            .as_ref()
            .is_some_and(|b| b.fetch_sub(n as i64, Ordering::Relaxed) < n as i64);
        if n == 0 || (spent && then == Spent::BreakOff) {
            break;
        }
        while spent
            && budget
                .as_ref()
                .is_some_and(|b| b.load(Ordering::Relaxed) <= 0)
        {
            std::thread::sleep(Duration::from_millis(10));
        }
        if to.write_all(&buffer[..n]).is_err() {
            break;
        }
    }
    from.shutdown(std::net::Shutdown::Both).ok();
    to.shutdown(std::net::Shutdown::Both).ok();
}
