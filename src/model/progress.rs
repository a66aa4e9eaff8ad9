//! Progress of long work.

use std::sync::Arc;

/// A message about long work; later ones with the same id replace earlier ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// What is worked on.
    pub id: String,
    /// What is done to it.
    pub text: String,
    /// Bytes done.
    pub current: u64,
    /// Bytes in all; 0 when unknown.
    pub total: u64,
    /// This id is finished.
    pub done: bool,
    /// What was asked for is recorded, and stays so without the caller.
    pub recorded: bool,
}

/// Where progress goes. Cheap to clone; never blocks.
#[derive(Clone, Default)]
pub struct ProgressSink(Option<Arc<dyn Fn(Progress) + Send + Sync>>);

impl ProgressSink {
    /// A sink that calls `f`.
    pub fn new(f: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(f)))
    }

    /// A sink that drops everything.
    pub fn none() -> Self {
        Self(None)
    }

    /// Sends one message.
    pub fn send(&self, progress: Progress) {
        if let Some(f) = &self.0 {
            f(progress);
        }
    }
}
