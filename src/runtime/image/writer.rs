//! One write into the content store: a stream of pieces, then a commit.

use std::time::{Duration, Instant};

use containerd_client::services::v1::{
    StatusRequest, WriteAction, WriteContentRequest, WriteContentResponse,
};
use containerd_client::tonic::{Code, Status, Streaming};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::store::Store;
use crate::runtime::{Error, Result};

/// Bytes of one piece. containerd takes messages of up to 16 MiB.
pub(crate) const PIECE: usize = 1 << 20;

/// How long to wait for another writer that makes no headway.
const STALLED: Duration = Duration::from_secs(60);

/// An open write. Dropping it leaves what came so far for a later one, as far
/// as the lease allows.
pub(crate) struct Writer {
    store: Store,
    key: String,
    total: u64,
    offset: u64,
    requests: mpsc::Sender<WriteContentRequest>,
    answers: Streaming<WriteContentResponse>,
}

impl Writer {
    /// Opens or resumes the write called `key`; `None` when the expected blob
    /// is already there. Waits while another client writes under this key.
    pub(crate) async fn open(
        store: &Store,
        key: &str,
        expected: Option<&str>,
        total: u64,
    ) -> Result<Option<Self>> {
        let mut seen = (0, Instant::now());
        loop {
            match Self::attempt(store, key, expected, total).await {
                Ok(writer) => return Ok(Some(writer)),
                Err(status) if status.code() == Code::AlreadyExists => return Ok(None),
                Err(status) if is_locked(&status) => {
                    let offset = Self::progress_of(store, key).await;
                    if offset != seen.0 {
                        seen = (offset, Instant::now());
                    } else if seen.1.elapsed() > STALLED {
                        return Err(Error::InUse(format!(
                            "{key} is being written by another client, which has stalled"
                        )));
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(status) => return Err(store.fail(format!("writing {key}"), &status)),
            }
        }
    }

    async fn attempt(
        store: &Store,
        key: &str,
        expected: Option<&str>,
        total: u64,
    ) -> std::result::Result<Self, Status> {
        let (requests, receiver) = mpsc::channel(1);
        // containerd answers the call itself only with the first message, so
        // that has to be under way before.
        let stat = WriteContentRequest {
            action: WriteAction::Stat.into(),
            r#ref: key.to_owned(),
            total: i64::try_from(total).unwrap_or(i64::MAX),
            expected: expected.unwrap_or_default().to_owned(),
            ..WriteContentRequest::default()
        };
        // The channel has room for one and its receiver is here.
        let _ = requests.send(stat).await;
        let request = store.patient(ReceiverStream::new(receiver));
        let mut answers = store.content().write(request).await?.into_inner();
        let status = answers.message().await?.ok_or_else(broken_off)?;
        Ok(Self {
            store: store.clone(),
            key: key.to_owned(),
            total,
            offset: u64::try_from(status.offset).unwrap_or(0),
            requests,
            answers,
        })
    }

    async fn progress_of(store: &Store, key: &str) -> i64 {
        let request = store.request(StatusRequest {
            r#ref: key.to_owned(),
        });
        let answer = store.content().status(request).await;
        answer
            .ok()
            .and_then(|a| a.into_inner().status)
            .map_or(0, |s| s.offset)
    }

    /// Bytes that are in.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Adds bytes.
    pub(crate) async fn write(&mut self, mut data: Vec<u8>) -> Result<()> {
        while !data.is_empty() {
            let rest = data.split_off(data.len().min(PIECE));
            let expected = self.offset + data.len() as u64;
            let answer = self.call(WriteAction::Write, data, "").await?;
            if u64::try_from(answer.offset) != Ok(expected) {
                return Err(Error::Other {
                    what: format!("writing {}", self.key),
                    cause: format!("containerd is at {} instead of {expected}", answer.offset),
                });
            }
            self.offset = expected;
            data = rest;
        }
        Ok(())
    }

    /// Digest of the bytes that are in.
    pub(crate) async fn digest(&mut self) -> Result<String> {
        Ok(self.call(WriteAction::Stat, vec![], "").await?.digest)
    }

    /// Stores the blob, which must have this digest.
    pub(crate) async fn commit(mut self, digest: &str) -> Result<()> {
        match self.call(WriteAction::Commit, vec![], digest).await {
            Ok(_) | Err(Error::Exists(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Drops the write with what came so far.
    pub(crate) async fn abort(self) -> Result<()> {
        let Self { store, key, .. } = self;
        store.abort(&key).await
    }

    async fn call(
        &mut self,
        action: WriteAction,
        data: Vec<u8>,
        expected: &str,
    ) -> Result<WriteContentResponse> {
        let request = WriteContentRequest {
            action: action.into(),
            r#ref: self.key.clone(),
            total: i64::try_from(self.total).unwrap_or(i64::MAX),
            expected: expected.to_owned(),
            // Also on a commit: offset 0 would truncate what is there.
            offset: i64::try_from(self.offset).unwrap_or(i64::MAX),
            data,
            ..WriteContentRequest::default()
        };
        // A closed channel means a failed call: the answer below tells why.
        let _ = self.requests.send(request).await;
        match self.answers.message().await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(self.failed(&broken_off())),
            Err(status) => Err(self.failed(&status)),
        }
    }

    fn failed(&self, status: &Status) -> Error {
        self.store.fail(format!("writing {}", self.key), status)
    }
}

fn broken_off() -> Status {
    Status::unavailable("containerd ended the write")
}

/// containerd's words for a key that has a writer: `ref … locked`.
fn is_locked(status: &Status) -> bool {
    status.code() == Code::Unavailable && status.message().contains("locked")
}
