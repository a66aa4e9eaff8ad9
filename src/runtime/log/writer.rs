//! The log writer role: moves what the container writes from its two pipes to
//! the log file. One small single-threaded process per container; it belongs to
//! the shim and needs neither containerd nor kukeond.

use std::ffi::OsString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::sys::signal::{SigSet, Signal};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::line::{Splitter, stamp};
use super::sink::Sink;
use super::{ROTATE_BYTES, inherited};

/// Entries are written at the latest when this many bytes wait.
const BUFFER: usize = 64 * 1024;

/// A line without an end is shown after this pause of its stream.
const IDLE: Duration = Duration::from_secs(1);

/// Main function of the log writer: `log-writer <path>`, with the container's
/// standard output at descriptor 3, its standard error at 4, and at 5 a pipe
/// that is closed when the writer is ready (containerd's binary logger protocol).
pub fn writer_main(args: &[OsString]) -> ExitCode {
    let [path] = args else {
        return ExitCode::from(2);
    };
    let pipes = [inherited::take(3), inherited::take(4)];
    let ready = inherited::take(5);
    close_others();
    // The working directory is the shim's bundle: do not hold it.
    let _ = std::env::set_current_dir("/");
    // The shim asks with SIGTERM when the task is removed; the pipes end soon
    // after, and what is in them until then belongs to the log.
    let mut ignored = SigSet::empty();
    for signal in [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGQUIT,
        Signal::SIGPIPE,
    ] {
        ignored.add(signal);
    }
    let _ = ignored.thread_block();

    let mut sink = Sink::new(path.into(), ROTATE_BYTES);
    drop(ready);
    // One waits beside each container: what it took to come here is not needed again.
    crate::sys::program::unmap();
    copy(pipes, &mut sink);
    ExitCode::SUCCESS
}

/// Closes every inherited descriptor above the three of the protocol.
fn close_others() {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else {
        return;
    };
    let open: Vec<i32> = entries
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
        .filter(|&fd| fd > 5)
        .collect();
    for fd in open {
        // The listing's own descriptor is among them and closed already.
        let _ = nix::unistd::close(fd);
    }
}

/// Copies until both pipes have ended.
fn copy(pipes: [Option<OwnedFd>; 2], sink: &mut Sink) {
    let [out, err] = pipes;
    let mut streams = [
        (out, Splitter::new("stdout")),
        (err, Splitter::new("stderr")),
    ];
    let mut entries = Vec::with_capacity(BUFFER);
    let mut chunk = vec![0; BUFFER];
    // When each stream last said something: one may be quiet while the other is not.
    let mut heard = [Instant::now(); 2];
    loop {
        let open: Vec<usize> = (0..2).filter(|&i| streams[i].0.is_some()).collect();
        if open.is_empty() {
            break;
        }
        let mut fds: Vec<PollFd<'_>> = open
            .iter()
            .filter_map(|&i| streams[i].0.as_ref())
            .map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN))
            .collect();
        let timeout = if !entries.is_empty() {
            Some(Duration::ZERO)
        } else {
            (0..2)
                .filter(|&i| streams[i].1.waits())
                .map(|i| IDLE.saturating_sub(heard[i].elapsed()))
                .min()
        };
        // A second at most, which fits.
        let timeout = timeout.and_then(|pause| Timespec::try_from(pause).ok());
        let ready = match poll(&mut fds, timeout.as_ref()) {
            Ok(n) => n,
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => break, // EFAULT, EINVAL, ENOMEM: cannot happen to two descriptors
        };
        let hit: Vec<usize> = open
            .iter()
            .zip(&fds)
            .filter(|(_, fd)| !fd.revents().is_empty())
            .map(|(&i, _)| i)
            .collect();
        drop(fds);

        let time = stamp(Timestamp::now());
        for i in hit {
            heard[i] = Instant::now();
            let (pipe, splitter) = &mut streams[i];
            let Some(fd) = pipe else { continue };
            match rustix::io::read(&*fd, &mut chunk[..]) {
                Ok(0) => {
                    splitter.finish(&time, &mut entries);
                    *pipe = None;
                }
                Ok(n) => splitter.push(&time, &chunk[..n], &mut entries),
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                Err(_) => {
                    splitter.finish(&time, &mut entries);
                    *pipe = None;
                }
            }
        }
        for ((_, splitter), heard) in streams.iter_mut().zip(heard) {
            if splitter.waits() && heard.elapsed() >= IDLE {
                splitter.flush(&time, &mut entries);
            }
        }
        if entries.len() >= BUFFER || ready == 0 && !entries.is_empty() {
            sink.write(&entries);
            entries.clear();
        }
    }
    if !entries.is_empty() {
        sink.write(&entries);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::super::LogLine;
    use super::*;

    fn lines(path: &std::path::Path) -> Vec<LogLine> {
        std::fs::read(path)
            .unwrap_or_default()
            .split(|&b| b == b'\n')
            .filter_map(LogLine::parse)
            .collect()
    }

    /// A writer of this log, and the container's ends of its two pipes.
    fn start(path: &std::path::Path) -> ([std::io::PipeWriter; 2], std::thread::JoinHandle<()>) {
        let (out_read, out) = std::io::pipe().unwrap();
        let (err_read, err) = std::io::pipe().unwrap();
        let mut sink = Sink::new(path.into(), 1 << 20);
        let pipes = [Some(OwnedFd::from(out_read)), Some(OwnedFd::from(err_read))];
        let writer = std::thread::spawn(move || copy(pipes, &mut sink));
        ([out, err], writer)
    }

    #[test]
    fn both_streams_arrive_and_a_quiet_prompt_does_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let ([mut out, mut err], writer) = start(&path);

        out.write_all(b"one\ntwo\nprompt> ").unwrap();
        err.write_all(b"oops\n").unwrap();
        let start = Instant::now();
        while lines(&path).len() < 4 && start.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut seen: Vec<_> = lines(&path)
            .into_iter()
            .map(|l| (l.stderr, l.partial, String::from_utf8(l.data).unwrap()))
            .collect();
        seen.sort();
        assert_eq!(
            seen,
            [
                (false, false, "one".into()),
                (false, false, "two".into()),
                (false, true, "prompt> ".into()),
                (true, false, "oops".into()),
            ]
        );
        drop((out, err));
        writer.join().unwrap();
    }

    #[test]
    fn a_prompt_is_shown_while_the_other_stream_is_busy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let ([mut out, mut err], writer) = start(&path);
        out.write_all(b"prompt> ").unwrap();
        let start = Instant::now();
        // Never quiet for as long as it takes to show a line without an end.
        while !lines(&path).iter().any(|l| !l.stderr) {
            assert!(start.elapsed() < Duration::from_secs(20));
            err.write_all(b"busy\n").unwrap();
            std::thread::sleep(Duration::from_millis(20));
        }
        drop((out, err));
        writer.join().unwrap();
    }
}
