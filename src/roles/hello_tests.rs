//! Requests over real sockets.

use super::*;

fn identity() -> Identity {
    Identity {
        realm: "main".into(),
        space: "lab".into(),
        stack: "default".into(),
        cell: "greeter".into(),
        container: "web".into(),
        cgroup: "/kukeon/main/lab/default/greeter/web".into(),
        hostname: "greeter".into(),
        addresses: vec!["10.117.0.2".parse().unwrap()],
    }
}

fn server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || serve(&listener, &Arc::new(identity)));
    at
}

/// Everything the server says to these bytes until it closes the connection.
fn talk(at: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(at).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    // The server may close before it has taken everything.
    let _ = stream.write_all(bytes);
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    String::from_utf8(said).unwrap()
}

fn get(at: SocketAddr, path: &str, more: &str) -> (String, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{more}\r\n");
    let said = talk(at, request.as_bytes());
    let (head, body) = said.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

#[test]
fn the_root_tells_who_the_cell_is() {
    let at = server();
    let (head, body) = get(at, "/", "");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert!(
        head.contains(&format!("Content-Length: {}", body.len())),
        "{head}"
    );
    for line in ["cell: greeter", "realm: main", "addresses: 10.117.0.2"] {
        assert!(body.lines().any(|l| l == line), "{line} in {body}");
    }
    let (head, body) = get(at, "/?x=1", "Accept: text/html, application/json\r\n");
    assert!(head.contains("Content-Type: application/json"), "{head}");
    let json: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(json["container"], "web");
    assert_eq!(json["addresses"][0], "10.117.0.2");
}

#[test]
fn other_paths_and_methods_are_answered_as_such() {
    let at = server();
    assert_eq!(get(at, "/healthz", "").1, "ok\n");
    assert!(get(at, "/nope", "").0.starts_with("HTTP/1.1 404 "));
    assert!(get(at, "/healthz/x", "").0.starts_with("HTTP/1.1 404 "));
    let post = talk(at, b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc");
    assert!(post.starts_with("HTTP/1.1 405 "), "{post}");
    assert!(post.contains("Allow: GET, HEAD\r\n"), "{post}");
    // The body was not taken for a second request.
    assert_eq!(post.matches("HTTP/1.1").count(), 1, "{post}");
}

#[test]
fn head_has_the_length_and_no_body() {
    let said = talk(server(), b"HEAD /healthz HTTP/1.0\r\n\r\n");
    assert!(said.starts_with("HTTP/1.1 200 OK\r\n"), "{said}");
    assert!(said.contains("Content-Length: 3\r\n"), "{said}");
    assert!(said.ends_with("\r\n\r\n"), "{said}");
}

#[test]
fn a_connection_carries_several_requests() {
    let said = talk(
        server(),
        b"GET /healthz HTTP/1.1\r\n\r\nGET /no HTTP/1.1\r\n\r\n\r\nGET /healthz HTTP/1.1\r\nconnection: CLOSE\r\n\r\n",
    );
    assert_eq!(said.matches("HTTP/1.1 200").count(), 2, "{said}");
    assert_eq!(said.matches("HTTP/1.1 404").count(), 1, "{said}");
}

#[test]
fn nonsense_and_oversize_are_refused() {
    let at = server();
    for bad in [
        &b"\x16\x03\x01 hello\r\n\r\n"[..],
        b"GET /\r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"GET / x HTTP/1.1\r\n\r\n",
    ] {
        let said = talk(at, bad);
        assert!(said.starts_with("HTTP/1.1 400 "), "{said}");
    }
    let mut long = b"GET / HTTP/1.1\r\nX: ".to_vec();
    long.resize(HEAD as usize, b'x');
    let said = talk(at, &long);
    assert!(said.starts_with("HTTP/1.1 431 "), "{said}");
}

#[test]
fn more_connections_than_the_limit_are_closed_and_later_ones_served() {
    let at = server();
    let held: Vec<TcpStream> = (0..CONNECTIONS)
        .map(|_| {
            let mut stream = TcpStream::connect(at).unwrap();
            // An answered request shows that its thread runs.
            stream.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").unwrap();
            let mut first = [0; 1];
            stream.read_exact(&mut first).unwrap();
            stream
        })
        .collect();
    assert_eq!(talk(at, b"GET /healthz HTTP/1.1\r\n\r\n"), "");
    drop(held);
    let until = Instant::now() + Duration::from_secs(10);
    while !talk(at, b"GET /healthz HTTP/1.0\r\n\r\n").ends_with("ok\n") {
        assert!(Instant::now() < until, "the places are not given back");
        std::thread::sleep(Duration::from_millis(20));
    }
}
