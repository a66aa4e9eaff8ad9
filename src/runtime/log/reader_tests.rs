//! Reading and following, on real files.

use std::io::Write as _;

use futures::StreamExt as _;

use super::super::line::{put, stamp};
use super::super::sink::Sink;
use super::*;
use std::fs::File;

fn time(n: u64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + n as i64).unwrap()
}

fn entry(n: u64, partial: bool, text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    put(
        &mut out,
        &stamp(time(n)),
        "stdout",
        partial,
        text.as_bytes(),
    );
    out
}

/// Entries 0..count over several files of ten.
fn filled(path: &Path, count: u64) -> Sink {
    let mut sink = Sink::new(path.to_owned(), 10 * entry(0, false, "00000").len() as u64);
    for n in 0..count {
        sink.write(&entry(n, false, &format!("{n:05}")));
    }
    sink
}

async fn texts(path: &Path, options: ReadOptions) -> Vec<String> {
    read(path.to_owned(), options)
        .map(|line| String::from_utf8(line.unwrap().data).unwrap())
        .collect()
        .await
}

fn numbers(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|n| format!("{n:05}")).collect()
}

#[tokio::test]
async fn the_whole_log_comes_oldest_first_and_an_absent_one_is_empty() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    assert!(texts(&path, ReadOptions::default()).await.is_empty());
    filled(&path, 25);
    assert_eq!(texts(&path, ReadOptions::default()).await, numbers(0..25));
}

#[tokio::test]
async fn tail_and_since_choose_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    filled(&path, 25);
    for (lines, from) in [
        (0, 25),
        (1, 24),
        (5, 20),
        (6, 19),
        (24, 1),
        (25, 0),
        (99, 0),
    ] {
        let options = ReadOptions {
            tail: Some(lines),
            ..ReadOptions::default()
        };
        assert_eq!(texts(&path, options).await, numbers(from..25), "{lines}");
    }
    for (since, tail, from) in [
        (3, None, 3),
        (24, None, 24),
        (30, None, 25),
        (3, Some(2), 23),
        (24, Some(9), 24),
    ] {
        let options = ReadOptions {
            since: Some(time(since)),
            tail,
            ..ReadOptions::default()
        };
        assert_eq!(texts(&path, options).await, numbers(from..25), "{since}");
    }
}

#[tokio::test]
async fn since_does_not_read_files_that_are_older() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    filled(&path, 25);
    let old = File::options().append(true).open(rotated(&path, 1));
    old.unwrap().set_modified(time(5).into()).unwrap();
    let options = ReadOptions {
        since: Some(time(7)),
        ..ReadOptions::default()
    };
    // The file says 10 to 19 and its age says otherwise: it was not opened.
    // The one before it says 0 to 9, and is left out with it only if it is old too.
    let mut want = numbers(7..25);
    assert_eq!(texts(&path, options.clone()).await, want);
    let oldest = File::options().append(true).open(rotated(&path, 2));
    oldest.unwrap().set_modified(time(5).into()).unwrap();
    want.drain(..13);
    assert_eq!(texts(&path, options).await, want);
}

#[tokio::test]
async fn a_line_in_pieces_is_one_line_of_a_tail() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut bytes = Vec::new();
    for (partial, text) in [
        (false, "a"),
        (true, "b1"),
        (true, "b2"),
        (false, "b3"),
        (true, "c1"),
        (true, "c2"),
    ] {
        bytes.extend(entry(0, partial, text));
    }
    std::fs::write(&path, bytes).unwrap();
    for (lines, want) in [
        (1, vec!["c1", "c2"]),
        (2, vec!["b1", "b2", "b3", "c1", "c2"]),
    ] {
        let options = ReadOptions {
            tail: Some(lines),
            ..ReadOptions::default()
        };
        assert_eq!(texts(&path, options).await, want);
    }
    assert_eq!(last_lines(&path, 2), ["b1b2b3", "c1c2"]);
    assert_eq!(last_lines(&path, 1), ["c1c2"]);
    assert!(last_lines(&dir.path().join("none"), 1).is_empty());
}

#[tokio::test]
async fn damage_is_stepped_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut bytes = entry(0, false, "a");
    bytes.extend(vec![0; 200_000]); // a hole a power cut left
    bytes.push(b'\n');
    bytes.extend(entry(1, false, "b"));
    bytes.extend(b"not an entry\n\n");
    bytes.extend(entry(2, false, "c"));
    bytes.extend(b"2026-11-22T04:28:00.5Z stdout F to");
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(texts(&path, ReadOptions::default()).await, ["a", "b", "c"]);
    assert_eq!(last_lines(&path, 2), ["b", "c"]);
    assert_eq!(last_lines(&path, 3), ["a", "b", "c"]);
}

#[tokio::test]
async fn a_tail_of_a_large_log_reads_its_end_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut file = std::fs::File::create(&path).unwrap();
    file.set_len(10 << 30).unwrap(); // sparse
    file = File::options().append(true).open(&path).unwrap();
    file.write_all(b"\n").unwrap();
    file.write_all(&entry(0, false, "last")).unwrap();
    file.write_all(&entry(0, false, "line")).unwrap();
    let start = Instant::now();
    assert_eq!(last_lines(&path, 1), ["line"]);
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn following_loses_nothing_over_rotations_and_ends_with_the_container() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sub").join("log");
    let (ended, follow) = tokio::sync::watch::channel(false);
    let options = ReadOptions {
        follow: Some(follow),
        ..ReadOptions::default()
    };
    let reader = tokio::spawn({
        let path = path.clone();
        async move { texts(&path, options).await }
    });
    // The reader is there before the directory is.
    tokio::time::sleep(Duration::from_millis(50)).await;
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    let limit = 100 * entry(0, false, "00000").len() as u64;
    let mut sink = Sink::new(path.clone(), limit);
    for n in 0..1000 {
        sink.write(&entry(n, false, &format!("{n:05}")));
        if n % 20 == 0 {
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }
    ended.send(true).unwrap();
    // The writer is slower than the news of the end.
    tokio::time::sleep(Duration::from_millis(100)).await;
    sink.write(&entry(1000, false, "01000"));
    drop(sink);
    let got = tokio::time::timeout(Duration::from_secs(30), reader).await;
    assert_eq!(got.unwrap().unwrap(), numbers(0..1001));
}

#[tokio::test]
async fn a_follower_ends_when_nobody_can_tell_the_end_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let (ended, follow) = tokio::sync::watch::channel(false);
    drop(ended);
    let options = ReadOptions {
        follow: Some(follow),
        ..ReadOptions::default()
    };
    let path = dir.path().join("log");
    let all = texts(&path, options);
    let got = tokio::time::timeout(Duration::from_secs(5), all).await;
    assert!(got.unwrap().is_empty());
}

#[tokio::test]
async fn a_link_is_an_error_naming_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
    let lines: Vec<_> = read(path, ReadOptions::default()).collect().await;
    assert_eq!(lines.len(), 1);
    let message = lines[0].as_ref().unwrap_err().to_string();
    assert!(message.contains("/log"), "{message}");
}
