//! A connection to one containerd.

use std::path::PathBuf;

use containerd_client::tonic::Request;
use containerd_client::tonic::transport::Channel;

/// A channel to containerd's gRPC socket. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The channel; service clients are made from it.
    pub channel: Channel,
    /// Endpoint, for messages.
    pub socket: PathBuf,
    /// Snapshotter in use.
    pub snapshotter: String,
}

impl Connection {
    /// Wraps a message for one namespace. containerd wants the header on every
    /// call, also on those that do not look at it.
    pub fn request<T>(&self, namespace: &str, message: T) -> Request<T> {
        let mut request = Request::new(message);
        // Namespaces are ASCII: they are made of validated names and a validated suffix.
        if let Ok(value) = namespace.parse() {
            request.metadata_mut().insert("containerd-namespace", value);
        }
        request
    }
}
