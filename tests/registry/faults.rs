//! What goes wrong on the way: clients that vanish, restarts, a full disk,
//! damage, large content.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use kukeon::oci::Digest;
use kukeon::registry::{Config, serve};
use reqwest::Method;

use crate::support::{PASSWORD, USER, failure, header, start, start_with};

/// Basic credentials of the account.
fn basic() -> String {
    use base64::Engine as _;

    let pair = format!("{USER}:{PASSWORD}");
    base64::engine::general_purpose::STANDARD.encode(pair)
}

#[tokio::test]
async fn an_upload_goes_on_where_a_client_broke_off() {
    let r = start().await;
    let content: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 253) as u8).collect();
    let at = r.begin("a").await;
    let mut stream = TcpStream::connect(r.server.address()).unwrap();
    write!(
        stream,
        "PATCH {at} HTTP/1.1\r\nhost: x\r\nauthorization: Basic {}\r\n\
         content-length: {}\r\ncontent-range: 0-{}\r\n\r\n",
        basic(),
        content.len(),
        content.len() - 1
    )
    .unwrap();
    stream.write_all(&content[..1_234_567]).unwrap();
    // Until all of it has come, the client stays.
    let arrived = async || {
        let range = header(&r.get(&at).await, "range");
        range.split('-').nth(1).unwrap().parse::<usize>().unwrap() + 1
    };
    let late = Instant::now() + Duration::from_secs(60);
    while arrived().await < 1_234_567 {
        assert!(Instant::now() < late, "the bytes do not arrive");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Meanwhile nobody else may write.
    let other = r.ask(Method::PATCH, &at).body("x").send().await.unwrap();
    assert_eq!(
        failure(other).await,
        (409, "BLOB_UPLOAD_INVALID".to_owned())
    );
    drop(stream);
    let digest = Digest::sha256(&content);
    let rest = content[1_234_567..].to_vec();
    let to = format!("{at}?digest={digest}");
    loop {
        let put = r
            .ask(Method::PUT, &to)
            .header("content-range", format!("1234567-{}", content.len() - 1));
        let answer = put.body(rest.clone()).send().await.unwrap();
        if answer.status() == 409 {
            // The server has not yet noticed that the client is gone.
            assert!(Instant::now() < late, "the session stays busy");
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        }
        assert_eq!(answer.status(), 201);
        break;
    }
    let back = r.get(&format!("/v2/a/blobs/{digest}")).await;
    assert_eq!(back.bytes().await.unwrap(), content);
}

#[tokio::test]
async fn a_restart_keeps_everything_and_sessions_too() {
    let r = start().await;
    let image = r.tagged("a", "v1", b"layer").await;
    let at = r.begin("a").await;
    let patch = r
        .ask(Method::PATCH, &at)
        .body("half ")
        .send()
        .await
        .unwrap();
    assert_eq!(patch.status(), 202);
    let address = r.server.address();
    let path = r.path().join("registry");
    let (server, _dir) = (r.server, r.dir);
    server.stop().await;
    let config = Config {
        listen: address,
        min_free: 0,
        ..Config::default()
    };
    let again = serve::serve(&path, &config).await.unwrap();
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([])
        .build()
        .unwrap();
    let ask = |method, path: &str| {
        client
            .request(method, format!("http://{address}{path}"))
            .basic_auth(USER, Some(PASSWORD))
    };
    let manifest = ask(Method::GET, "/v2/a/manifests/v1").send().await.unwrap();
    assert_eq!(header(&manifest, "docker-content-digest"), image.as_str());
    let digest = Digest::sha256(b"half and half");
    let put = ask(Method::PUT, &format!("{at}?digest={digest}"));
    let put = put.body("and half").send().await.unwrap();
    assert_eq!(put.status(), 201);
    again.stop().await;
}

#[tokio::test]
async fn stopping_lets_a_request_end() {
    let r = start().await;
    let digest = Digest::sha256(b"slowly");
    let at = r.begin("a").await;
    let mut stream = TcpStream::connect(r.server.address()).unwrap();
    write!(
        stream,
        "PUT {at}?digest={digest} HTTP/1.1\r\nhost: x\r\nauthorization: Basic {}\r\n\
         content-length: 6\r\n\r\nslo",
        basic()
    )
    .unwrap();
    // The server has it in hand when the first bytes have come.
    while header(&r.get(&at).await, "range") != "0-2" {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let storage = r.storage().clone();
    let stopping = tokio::spawn(r.server.stop());
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!stopping.is_finished());
    stream.write_all(b"wly").unwrap();
    let answer = tokio::task::spawn_blocking(move || {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    let answer = answer.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    stopping.await.unwrap();
    let repository = "a".parse().unwrap();
    assert_eq!(storage.blob_size(&repository, &digest).unwrap(), 6);
}

#[tokio::test]
async fn over_quota_is_refused_before_the_bytes_are_sent() {
    let r = start_with(|c| c.quota = Some(1000)).await;
    r.blob("a", &[1; 600]).await;
    let content = vec![2; 600];
    let digest = Digest::sha256(&content);
    let path = format!("/v2/a/blobs/uploads/?digest={digest}");
    let post = r
        .ask(Method::POST, &path)
        .body(content)
        .send()
        .await
        .unwrap();
    assert_eq!(failure(post).await, (507, "DENIED".to_owned()));
    let old = Digest::sha256(&[1; 600]);
    let there = r.head(&format!("/v2/a/blobs/{old}")).await;
    assert_eq!(there.status(), 200);
}

#[tokio::test]
async fn damaged_content_is_an_error_and_not_an_answer() {
    let r = start().await;
    let digest = r.tagged("a", "v1", b"layer").await;
    let layer = Digest::sha256(b"layer");
    let file = |digest: &Digest| {
        let hex = digest.hex();
        r.path()
            .join(format!("registry/blobs/sha256/{}/{hex}", &hex[..2]))
    };
    std::fs::write(file(&layer), b"lay").unwrap();
    std::fs::write(file(&digest), b"{}").unwrap();
    for path in [
        format!("/v2/a/blobs/{layer}"),
        format!("/v2/a/manifests/{digest}"),
    ] {
        assert_eq!(r.get(&path).await.status(), 500, "{path}");
    }
    // Pushing it again mends it.
    r.tagged("a", "v1", b"layer").await;
    assert_eq!(r.get("/v2/a/manifests/v1").await.status(), 200);
    let blob = r.get(&format!("/v2/a/blobs/{layer}")).await;
    assert_eq!(blob.bytes().await.unwrap(), "layer");
}

#[tokio::test]
async fn many_push_one_blob_at_once() {
    let r = start().await;
    let content = vec![9; 2_000_000];
    let digest = Digest::sha256(&content);
    let pushes = (0..6).map(|n| {
        let (r, content) = (&r, &content);
        async move { r.blob(&format!("r{}", n % 2), content).await }
    });
    let pushed = futures::future::join_all(pushes).await;
    assert!(pushed.iter().all(|d| *d == digest));
    assert_eq!(r.storage().used().unwrap(), 2_000_000);
    let verified = r.storage().verify(|_| true).unwrap();
    assert_eq!((verified.blobs, verified.problems.len()), (1, 0));
}

/// Peak of this process's own memory, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The server is in this process, so its memory is ours; other tests of this
/// process run beside it, so there is room for them.
#[tokio::test]
async fn memory_stays_flat_for_a_blob_of_2_gib() {
    const SIZE: u64 = 2 << 30;
    let r = start().await;
    let disk = rustix::fs::statvfs(r.path()).unwrap();
    if disk.f_bavail * disk.f_frsize < 2 * SIZE {
        println!("skipped: memory_stays_flat_for_a_blob_of_2_gib: no room on the disk");
        return;
    }
    let mut hasher = kukeon::oci::Hasher::default();
    let piece = vec![5; 1 << 20];
    for _ in 0..SIZE >> 20 {
        hasher.update(&piece);
    }
    let digest = hasher.finish();
    let before = peak();
    let at = r.begin("a").await;
    let address = r.server.address();
    let head = format!(
        "PUT {at}?digest={digest} HTTP/1.1\r\nhost: x\r\nauthorization: Basic {}\r\n\
         connection: close\r\ncontent-length: {SIZE}\r\n\r\n",
        basic()
    );
    let pushed = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        for _ in 0..SIZE >> 20 {
            stream.write_all(&piece).unwrap();
        }
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    let answer = pushed.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    let head = format!(
        "GET /v2/a/blobs/{digest} HTTP/1.1\r\nhost: x\r\nauthorization: Basic {}\r\n\
         connection: close\r\n\r\n",
        basic()
    );
    let pulled = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        let mut buffer = vec![0; 1 << 20];
        let mut total = 0;
        loop {
            match stream.read(&mut buffer).unwrap() {
                0 => return total,
                n => total += n as u64,
            }
        }
    });
    let total = pulled.await.unwrap();
    assert!(total > SIZE && total < SIZE + 2000, "{total}");
    let grown = peak().saturating_sub(before);
    assert!(grown < 100 << 10, "{grown} KiB more");
}
