//! FIFOs between us and a shim (fifo(7)).

use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use nix::sys::stat::Mode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::unix::pipe::{self, Receiver, Sender};
use tokio::sync::oneshot;

/// A private directory with the FIFOs of one exec; removed when dropped.
#[derive(Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// Makes `<parent>/<our pid>.<unique>`, and removes what dead processes left beside it.
    pub fn new(parent: &Path, unique: &str) -> io::Result<Self> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)?;
        std::fs::set_permissions(parent, std::fs::Permissions::from_mode(0o700))?;
        sweep(parent);
        let path = parent.join(format!("{}.{unique}", std::process::id()));
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    /// Makes a FIFO.
    pub fn fifo(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.0.join(name);
        nix::unistd::mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR)?;
        Ok(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // Nothing can be done about a failure here; the next sweep tries again.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Removes directories of processes that are gone. A recycled process id only
/// keeps one for longer.
fn sweep(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(pid) = name
            .to_str()
            .and_then(|n| n.split_once('.'))
            .map(|(p, _)| p)
        else {
            continue;
        };
        if pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Our end of an output FIFO.
#[derive(Debug)]
pub struct Output {
    receiver: Receiver,
    /// A writer of our own: without any writer a read says "end" although the
    /// shim has not opened its end yet.
    guard: Option<Sender>,
    drained: Option<oneshot::Sender<()>>,
}

/// Tells how far the reading of an [`Output`] is.
#[derive(Debug)]
pub struct Watch {
    fifo: Receiver,
    /// Resolves when the end was read or the reader was dropped.
    pub drained: oneshot::Receiver<()>,
}

impl Watch {
    /// Whether nothing lies in the FIFO to be read (ioctl_pipe(2), FIONREAD).
    pub fn empty(&self) -> bool {
        rustix::io::ioctl_fionread(&self.fifo).is_ok_and(|bytes| bytes == 0)
    }
}

impl Output {
    /// Opens the reading end. Never blocks.
    pub fn open(path: &Path) -> io::Result<(Self, Watch)> {
        let receiver = pipe::OpenOptions::new().open_receiver(path)?;
        let guard = pipe::OpenOptions::new().open_sender(path)?;
        let fifo = pipe::OpenOptions::new().open_receiver(path)?;
        let (tx, drained) = oneshot::channel();
        let output = Self {
            receiver,
            guard: Some(guard),
            drained: Some(tx),
        };
        Ok((output, Watch { fifo, drained }))
    }

    /// The shim has its end: from now on the end of its writing is the end.
    pub fn release(&mut self) {
        self.guard = None;
    }
}

impl AsyncRead for Output {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let wanted = buf.remaining() > 0;
        let result = Pin::new(&mut self.receiver).poll_read(cx, buf);
        match &result {
            Poll::Ready(Ok(())) if wanted && buf.filled().len() == before => self.drained = None,
            Poll::Ready(Err(_)) => self.drained = None,
            _ => {}
        }
        result
    }
}

/// Our end of an input FIFO. Shutting down or dropping it reports the end.
#[derive(Debug)]
pub struct Input {
    sender: Option<Sender>,
    closed: Option<oneshot::Sender<()>>,
}

impl Input {
    /// Opens the writing end; the receiver, which must be kept until the process
    /// has ended, stands in for the shim until it has opened the other.
    pub fn open(path: &Path) -> io::Result<(Self, Receiver, oneshot::Receiver<()>)> {
        let stand_in = pipe::OpenOptions::new().open_receiver(path)?;
        let sender = pipe::OpenOptions::new().open_sender(path)?;
        let (tx, rx) = oneshot::channel();
        let input = Self {
            sender: Some(sender),
            closed: Some(tx),
        };
        Ok((input, stand_in, rx))
    }

    fn sender(&mut self) -> io::Result<Pin<&mut Sender>> {
        self.sender
            .as_mut()
            .map(Pin::new)
            .ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }
}

impl AsyncWrite for Input {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.sender()?.poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Every write goes straight to the kernel.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.sender = None;
        if let Some(closed) = self.closed.take() {
            // Nobody waits any more once the process has ended.
            let _ = closed.send(());
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Input {
    fn drop(&mut self) {
        // Before `closed` resolves: the shim must not see a writer of ours after that.
        self.sender = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn output_ends_only_after_the_guard_is_released() {
        let parent = tempfile::tempdir().unwrap();
        let directory = Directory::new(parent.path(), "x").unwrap();
        let path = directory.fifo("out").unwrap();
        let (mut output, mut watch) = Output::open(&path).unwrap();
        let mut shim = pipe::OpenOptions::new().open_sender(&path).unwrap();
        shim.write_all(b"abc").await.unwrap();
        assert!(!watch.empty());
        let mut bytes = [0; 3];
        output.read_exact(&mut bytes).await.unwrap();
        let more = tokio::time::timeout(std::time::Duration::from_millis(20), output.read_u8());
        assert!(more.await.is_err());
        assert!(watch.empty());
        assert!(watch.drained.try_recv().is_err());
        output.release();
        drop(shim);
        assert_eq!(output.read(&mut bytes).await.unwrap(), 0);
        assert!(matches!(
            watch.drained.try_recv(),
            Err(oneshot::error::TryRecvError::Closed)
        ));
    }

    #[tokio::test]
    async fn input_waits_for_a_late_reader_and_reports_its_end() {
        let parent = tempfile::tempdir().unwrap();
        let directory = Directory::new(parent.path(), "x").unwrap();
        let path = directory.fifo("in").unwrap();
        let (mut input, _stand_in, closed) = Input::open(&path).unwrap();
        input.write_all(b"early").await.unwrap();
        let mut shim = pipe::OpenOptions::new().open_receiver(&path).unwrap();
        input.shutdown().await.unwrap();
        closed.await.unwrap();
        let mut text = String::new();
        shim.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "early");
        assert!(input.write_all(b"late").await.is_err());
    }

    #[test]
    fn only_what_dead_processes_left_is_swept() {
        let parent = tempfile::tempdir().unwrap();
        // Above the largest possible pid (PID_MAX_LIMIT is 2^22).
        let dead = parent.path().join("4999999.a");
        std::fs::create_dir(&dead).unwrap();
        let mine = Directory::new(parent.path(), "b").unwrap();
        sweep(parent.path());
        assert!(!dead.exists());
        assert!(mine.0.exists());
        let path = mine.0.clone();
        drop(mine);
        assert!(!path.exists());
    }
}
