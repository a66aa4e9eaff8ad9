//! The HTTP server of the built-in image: answers with the identity of the cell
//! it runs in. HTTP/1.1 with the standard library only, a thread per connection.
//!
//! It is process 1 of its namespace, where signals without a handler are
//! ignored: SIGTERM is waited for, and ends it with code 0.

use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};

/// Role argument.
pub const ROLE: &str = "hello";

/// Port without `$PORT`.
const PORT: u16 = 8080;

/// Connections at a time; more are closed at once.
const CONNECTIONS: usize = 64;

/// Largest request head, in bytes.
const HEAD: u64 = 8 * 1024;

/// Longest wait for the next bytes of a peer, and for a whole request head.
const PATIENCE: Duration = Duration::from_secs(10);

/// Requests on one connection.
const REQUESTS: usize = 100;

/// Main function of the hello server: `hello`, with the port in `$PORT`.
pub fn main(args: &[OsString]) -> ExitCode {
    if !args.is_empty() {
        return fail("it takes no arguments");
    }
    let port = match std::env::var("PORT") {
        Err(_) => PORT,
        Ok(text) => match text.parse() {
            Ok(port) => port,
            Err(_) => return fail(&format!("PORT={text:?} is not a port number")),
        },
    };
    // Before the first thread, so that all of them have it blocked.
    let mut ends = SigSet::empty();
    ends.add(Signal::SIGTERM);
    ends.add(Signal::SIGINT);
    if let Err(e) = ends.thread_block() {
        return fail(&format!("signals: {e}"));
    }
    let listener = match listen(port) {
        Ok(listener) => listener,
        Err(e) => return fail(&format!("port {port}: {e}")),
    };
    if let Ok(at) = listener.local_addr() {
        note(&format!("listening on {at}"));
    }
    std::thread::spawn(move || serve(&listener, &Arc::new(Identity::of_environment)));
    match ends.wait() {
        Ok(_) => ExitCode::SUCCESS,
        Err(e) => fail(&format!("signals: {e}")),
    }
}

fn note(text: &str) {
    // A container whose output nobody takes still serves.
    let _ = writeln!(io::stderr(), "hello: {text}");
}

fn fail(text: &str) -> ExitCode {
    note(text);
    ExitCode::FAILURE
}

/// IPv6 with IPv4 on one socket, or IPv4 where there is no IPv6.
fn listen(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
        .or_else(|_| TcpListener::bind(("0.0.0.0", port)))
}

/// Where the answers' facts come from.
type Facts = dyn Fn() -> Identity + Send + Sync;

/// Who the cell is.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
struct Identity {
    realm: String,
    space: String,
    stack: String,
    cell: String,
    container: String,
    cgroup: String,
    hostname: String,
    addresses: Vec<IpAddr>,
}

impl Identity {
    fn of_environment() -> Self {
        let var = |name: &str| std::env::var(name).unwrap_or_default();
        Self {
            realm: var("KUKEON_REALM"),
            space: var("KUKEON_SPACE"),
            stack: var("KUKEON_STACK"),
            cell: var("KUKEON_CELL_NAME"),
            container: var("KUKEON_CONTAINER_ID"),
            cgroup: var("KUKEON_CGROUP_PATH"),
            hostname: nix::unistd::gethostname()
                .map(|h| h.to_string_lossy().into_owned())
                .unwrap_or_default(),
            addresses: addresses(),
        }
    }

    fn text(&self) -> String {
        let addresses: Vec<String> = self.addresses.iter().map(IpAddr::to_string).collect();
        format!(
            "hello from cell {cell}\n\
             realm: {}\nspace: {}\nstack: {}\ncell: {cell}\ncontainer: {}\n\
             hostname: {}\naddresses: {}\ncgroup: {}\n",
            self.realm,
            self.space,
            self.stack,
            self.container,
            self.hostname,
            addresses.join(" "),
            self.cgroup,
            cell = self.cell,
        )
    }
}

/// Addresses of all interfaces but loopback ones.
fn addresses() -> Vec<IpAddr> {
    let Ok(list) = nix::ifaddrs::getifaddrs() else {
        return Vec::new();
    };
    let mut found: Vec<IpAddr> = list
        .filter_map(|interface| interface.address)
        .filter_map(|address| {
            if let Some(v4) = address.as_sockaddr_in() {
                return Some(v4.ip().into());
            }
            address.as_sockaddr_in6().map(|v6| v6.ip().into())
        })
        .filter(|ip: &IpAddr| {
            let link_local = matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
            !ip.is_loopback() && !link_local
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

/// Accepts until the listener fails for good.
fn serve<F: Fn() -> Identity + Send + Sync + 'static>(listener: &TcpListener, facts: &Arc<F>) {
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(_) => {
                // Out of descriptors, or the peer gave up: others will come.
                std::thread::sleep(Duration::from_millis(50));
                continue;
            }
        };
        if open.fetch_add(1, Ordering::SeqCst) >= CONNECTIONS {
            open.fetch_sub(1, Ordering::SeqCst);
            continue;
        }
        let (facts, count) = (Arc::clone(facts), Arc::clone(&open));
        let started = std::thread::Builder::new()
            .stack_size(128 * 1024)
            .spawn(move || {
                // A peer that breaks off is its own affair.
                let _ = converse(&stream, &*facts);
                count.fetch_sub(1, Ordering::SeqCst);
            });
        if started.is_err() {
            open.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// Answers the requests of one connection.
fn converse(stream: &TcpStream, facts: &Facts) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let peer = stream.peer_addr()?;
    let mut reader = BufReader::new(stream);
    for _ in 0..REQUESTS {
        let Some(head) = read_head(&mut reader)? else {
            return Ok(());
        };
        let answer = answer(&head, facts);
        log(peer, &head, answer.status);
        let mut out = stream;
        out.write_all(&answer.bytes)?;
        if !answer.keep {
            break;
        }
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    // Closing over unread bytes would reset the connection, and the peer might
    // lose the answer.
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    io::copy(&mut reader.take(64 * 1024), &mut io::sink()).map(drop)
}

/// One line a request, but not for the probes that come every few seconds.
fn log(peer: SocketAddr, head: &str, status: &str) {
    let request = head.lines().next().unwrap_or_default();
    if !request.contains(" /healthz") {
        let ip = peer.ip().to_canonical();
        note(&format!("{ip} {request:?} {status}"));
    }
}

/// The next request's head up to its empty line; `None` at the connection's end.
/// One that is too long or too slow is handed over as far as it came, which
/// makes it a bad one.
fn read_head(reader: &mut BufReader<&TcpStream>) -> io::Result<Option<String>> {
    let until = Instant::now() + PATIENCE;
    let mut head = Vec::new();
    loop {
        let left = HEAD - head.len() as u64;
        let n = reader.take(left).read_until(b'\n', &mut head)?;
        if n == 0 && head.is_empty() {
            return Ok(None);
        }
        // Empty lines before a request are to be passed over (RFC 9112, section 2.2).
        if head == b"\r\n" || head == b"\n" {
            head.clear();
            if Instant::now() < until {
                continue;
            }
        }
        let whole = head.ends_with(b"\r\n\r\n") || head.ends_with(b"\n\n");
        if whole || n == 0 || head.len() as u64 >= HEAD || Instant::now() >= until {
            return Ok(Some(String::from_utf8_lossy(&head).into_owned()));
        }
    }
}

/// An answer, ready to be sent.
struct Answer {
    status: &'static str,
    bytes: Vec<u8>,
    /// The connection stays open.
    keep: bool,
}

/// Answers one request head.
fn answer(head: &str, facts: &Facts) -> Answer {
    const TEXT: &str = "text/plain; charset=utf-8";
    let mut lines = head.lines();
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    let header = |name: &str| {
        head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    };
    let whole = head.ends_with("\r\n\r\n") || head.ends_with("\n\n");
    let form = (method, target, version, words.next());
    let (Some(method), Some(target), Some(version @ ("HTTP/1.1" | "HTTP/1.0")), None) = form else {
        return respond("400 Bad Request", TEXT, "bad request\n", true, false);
    };
    if !whole {
        let status = "431 Request Header Fields Too Large";
        return respond(status, TEXT, "the request head is too long\n", true, false);
    }
    // A body would be taken for the next request: it is not read, the connection ends.
    let body = header("transfer-encoding").is_some()
        || header("content-length").is_some_and(|length| length != "0");
    let asked = header("connection").unwrap_or_default();
    let keep = version == "HTTP/1.1" && !body && !asked.eq_ignore_ascii_case("close");
    let with_body = method != "HEAD";
    if !matches!(method, "GET" | "HEAD") {
        let status = "405 Method Not Allowed";
        return respond(status, TEXT, "only GET and HEAD\n", with_body, keep);
    }
    let json = header("accept").is_some_and(|accept| accept.contains("application/json"));
    match target.split('?').next().unwrap_or_default() {
        "/healthz" => respond("200 OK", TEXT, "ok\n", with_body, keep),
        "/" if json => {
            // An Identity is strings and addresses: it always has a JSON form.
            let text = serde_json::to_string(&facts()).unwrap_or_default() + "\n";
            respond("200 OK", "application/json", &text, with_body, keep)
        }
        "/" => respond("200 OK", TEXT, &facts().text(), with_body, keep),
        _ => respond("404 Not Found", TEXT, "not found\n", with_body, keep),
    }
}

fn respond(status: &'static str, kind: &str, body: &str, with_body: bool, keep: bool) -> Answer {
    let allow = if status.starts_with("405") {
        "Allow: GET, HEAD\r\n"
    } else {
        ""
    };
    let connection = if keep { "keep-alive" } else { "close" };
    let mut bytes = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
         {allow}Connection: {connection}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    if with_body {
        bytes.extend_from_slice(body.as_bytes());
    }
    Answer {
        status,
        bytes,
        keep,
    }
}

#[cfg(test)]
#[path = "hello_tests.rs"]
mod tests;
