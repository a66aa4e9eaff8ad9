//! The controller: observe, plan, execute; implements `Kukeon` in-process.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use tokio_util::sync::CancellationToken;

use crate::api::{Error, Result, v1};
use crate::client::{EventStream, Kukeon};
use crate::model::Settings;

/// The in-process implementation of everything.
pub struct Controller {
    settings: Settings,
}

impl Controller {
    /// Opens store and managers. Finds containerd, or brings one up, at first use.
    pub async fn open(settings: Settings) -> Result<Arc<Self>> {
        Ok(Arc::new(Self { settings }))
    }

    /// Settings in use.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The daemon's loop: reconciles what containerd events and API calls
    /// enqueue, and everything every `resync`. Ends after `stop` is cancelled
    /// and the work in hand is done.
    pub async fn run(self: Arc<Self>, resync: Option<Duration>, stop: CancellationToken) {
        let _ = resync;
        stop.cancelled().await;
    }
}

fn missing<T>() -> Result<T> {
    Err(Error::failed("Unimplemented", "not there yet"))
}

#[async_trait]
impl Kukeon for Controller {
    async fn version(&self, _request: v1::VersionRequest) -> Result<v1::VersionResponse> {
        missing()
    }
    async fn status(&self, _request: v1::StatusRequest) -> Result<v1::StatusResponse> {
        missing()
    }
    async fn init(&self, _request: v1::InitRequest) -> Result<EventStream> {
        missing()
    }
    async fn uninstall(&self, _request: v1::UninstallRequest) -> Result<EventStream> {
        missing()
    }
    async fn apply(&self, _request: v1::ApplyRequest) -> Result<EventStream> {
        missing()
    }
    async fn get(&self, _request: v1::GetRequest) -> Result<v1::GetResponse> {
        missing()
    }
    async fn delete(&self, _request: v1::DeleteRequest) -> Result<EventStream> {
        missing()
    }
    async fn transition(&self, _request: v1::TransitionRequest) -> Result<EventStream> {
        missing()
    }
    async fn wait(&self, _request: v1::WaitRequest) -> Result<v1::WaitResponse> {
        missing()
    }
    async fn exec(
        &self,
        _input: BoxStream<'static, Result<v1::ExecInput>>,
    ) -> Result<BoxStream<'static, Result<v1::ExecOutput>>> {
        missing()
    }
    async fn logs(
        &self,
        _request: v1::LogsRequest,
    ) -> Result<BoxStream<'static, Result<v1::LogChunk>>> {
        missing()
    }
    async fn list_images(&self, _request: v1::ListImagesRequest) -> Result<v1::ListImagesResponse> {
        missing()
    }
    async fn inspect_image(
        &self,
        _request: v1::InspectImageRequest,
    ) -> Result<v1::InspectImageResponse> {
        missing()
    }
    async fn delete_image(
        &self,
        _request: v1::DeleteImageRequest,
    ) -> Result<v1::DeleteImageResponse> {
        missing()
    }
    async fn prune_images(
        &self,
        _request: v1::PruneImagesRequest,
    ) -> Result<v1::PruneImagesResponse> {
        missing()
    }
    async fn pull_image(&self, _request: v1::PullImageRequest) -> Result<EventStream> {
        missing()
    }
    async fn load_image(
        &self,
        _input: BoxStream<'static, Result<v1::LoadImageRequest>>,
    ) -> Result<EventStream> {
        missing()
    }
}
