//! The `Kukeon` trait: the whole capability of the product. The in-process
//! controller and the gRPC client both implement it.

pub mod actor;
pub mod remote;
pub mod status;

pub use remote::Remote;

use async_trait::async_trait;
use futures::stream::BoxStream;

use crate::api::{Code, Error, Result, v1};

/// Progress and results of long work. Dropping it cancels the work at the next
/// step boundary.
pub type EventStream = BoxStream<'static, Result<v1::Event>>;

/// Everything that can be asked of kukeon, in-process or through the daemon.
#[async_trait]
pub trait Kukeon: Send + Sync + 'static {
    /// Versions.
    async fn version(&self, request: v1::VersionRequest) -> Result<v1::VersionResponse>;
    /// Health checks.
    async fn status(&self, request: v1::StatusRequest) -> Result<v1::StatusResponse>;
    /// Prepares the host.
    async fn init(&self, request: v1::InitRequest) -> Result<EventStream>;
    /// Removes everything kukeon made on the host.
    async fn uninstall(&self, request: v1::UninstallRequest) -> Result<EventStream>;
    /// Reconciles documents.
    async fn apply(&self, request: v1::ApplyRequest) -> Result<EventStream>;
    /// Returns objects.
    async fn get(&self, request: v1::GetRequest) -> Result<v1::GetResponse>;
    /// Deletes objects.
    async fn delete(&self, request: v1::DeleteRequest) -> Result<EventStream>;
    /// Sets and removes labels and annotations of one object.
    async fn mark(&self, request: v1::MarkRequest) -> Result<v1::ResourceResult>;
    /// Starts, stops, kills or restarts a cell.
    async fn transition(&self, request: v1::TransitionRequest) -> Result<EventStream>;
    /// Waits for a cell's work to end.
    async fn wait(&self, request: v1::WaitRequest) -> Result<v1::WaitResponse>;
    /// Runs a further process.
    async fn exec(
        &self,
        input: BoxStream<'static, Result<v1::ExecInput>>,
    ) -> Result<BoxStream<'static, Result<v1::ExecOutput>>>;
    /// Output of a container.
    async fn logs(
        &self,
        request: v1::LogsRequest,
    ) -> Result<BoxStream<'static, Result<v1::LogChunk>>>;
    /// Tags of a repository.
    async fn list_tags(&self, request: v1::ListTagsRequest) -> Result<v1::ListTagsResponse>;
    /// Images.
    async fn list_images(&self, request: v1::ListImagesRequest) -> Result<v1::ListImagesResponse>;
    /// One image.
    async fn inspect_image(
        &self,
        request: v1::InspectImageRequest,
    ) -> Result<v1::InspectImageResponse>;
    /// Removes an image.
    async fn delete_image(
        &self,
        request: v1::DeleteImageRequest,
    ) -> Result<v1::DeleteImageResponse>;
    /// Removes unused images.
    async fn prune_images(
        &self,
        request: v1::PruneImagesRequest,
    ) -> Result<v1::PruneImagesResponse>;
    /// Fetches an image.
    async fn pull_image(&self, request: v1::PullImageRequest) -> Result<EventStream>;
    /// Imports an archive.
    async fn load_image(
        &self,
        input: BoxStream<'static, Result<v1::LoadImageRequest>>,
    ) -> Result<EventStream>;
    /// Sends an image to a registry.
    async fn push_image(&self, _request: v1::PushImageRequest) -> Result<EventStream> {
        Err(no_registry())
    }
    /// Repositories of the registry.
    async fn list_registry(
        &self,
        _request: v1::ListRegistryRequest,
    ) -> Result<v1::ListRegistryResponse> {
        Err(no_registry())
    }
    /// Makes, changes or removes a login of the registry.
    async fn registry_login(
        &self,
        _request: v1::RegistryLoginRequest,
    ) -> Result<v1::RegistryLoginResponse> {
        Err(no_registry())
    }
    /// Reads the registry's content again.
    async fn verify_registry(
        &self,
        _request: v1::VerifyRegistryRequest,
    ) -> Result<v1::VerifyRegistryResponse> {
        Err(no_registry())
    }
    /// Removes what nothing in the registry needs.
    async fn collect_registry(
        &self,
        _request: v1::CollectRegistryRequest,
    ) -> Result<v1::CollectRegistryResponse> {
        Err(no_registry())
    }
    /// A repository as an archive.
    async fn export_repository(
        &self,
        _request: v1::ExportRepositoryRequest,
    ) -> Result<BoxStream<'static, Result<v1::ExportRepositoryResponse>>> {
        Err(no_registry())
    }
    /// Reads an archive into a repository.
    async fn import_repository(
        &self,
        _input: BoxStream<'static, Result<v1::ImportRepositoryRequest>>,
    ) -> Result<v1::ImportRepositoryResponse> {
        Err(no_registry())
    }
    /// Activates a Preparation.
    async fn promote(&self, _request: v1::PromoteRequest) -> Result<EventStream> {
        Err(no_releases())
    }
    /// Asks the controller of a release object to do something.
    async fn act(&self, _request: v1::ActRequest) -> Result<EventStream> {
        Err(no_releases())
    }
    /// Revisions and activations of a Recipe.
    async fn history(&self, _request: v1::HistoryRequest) -> Result<v1::HistoryResponse> {
        Err(no_releases())
    }
    /// What two Preparations differ in.
    async fn diff(&self, _request: v1::DiffRequest) -> Result<v1::DiffResponse> {
        Err(no_releases())
    }
    /// Content of a Preparation.
    async fn manifest(&self, _request: v1::ManifestRequest) -> Result<v1::ManifestResponse> {
        Err(no_releases())
    }
    /// Renders a Preparation again and compares.
    async fn verify_preparation(
        &self,
        _request: v1::VerifyPreparationRequest,
    ) -> Result<v1::VerifyPreparationResponse> {
        Err(no_releases())
    }
    /// Keeps a signature beside a Preparation's artifact.
    async fn sign_preparation(
        &self,
        _request: v1::SignPreparationRequest,
    ) -> Result<v1::SignPreparationResponse> {
        Err(no_releases())
    }
    /// Waits until a release object is as wanted.
    async fn wait_for(&self, _request: v1::WaitForRequest) -> Result<v1::ResourceResult> {
        Err(no_releases())
    }
    /// Connects a cluster with Argo CD.
    async fn connect_cluster(
        &self,
        _request: v1::ConnectClusterRequest,
    ) -> Result<v1::ConnectClusterResponse> {
        Err(no_releases())
    }
    /// Connected clusters, and whether they can be reached.
    async fn list_clusters(
        &self,
        _request: v1::ListClustersRequest,
    ) -> Result<v1::ListClustersResponse> {
        Err(no_releases())
    }
    /// Release objects as they are, then as they change, until it is dropped.
    async fn watch_releases(
        &self,
        _request: v1::WatchReleasesRequest,
    ) -> Result<BoxStream<'static, Result<v1::ReleaseChange>>> {
        Err(no_releases())
    }
    /// What a Recipe would render to.
    async fn preview(&self, _request: v1::PreviewRequest) -> Result<v1::PreviewResponse> {
        Err(no_releases())
    }
    /// Tags of a repository, or the files of a source.
    async fn browse_source(
        &self,
        _request: v1::BrowseSourceRequest,
    ) -> Result<v1::BrowseSourceResponse> {
        Err(no_releases())
    }
    /// Makes, changes, lists or removes accounts of the pages.
    async fn web_account(&self, _request: v1::WebAccountRequest) -> Result<v1::WebAccountResponse> {
        Err(no_releases())
    }
    /// Waits until cancelled work has reached a consistent state. In-process
    /// callers do so before they end; a daemon lives on anyway.
    async fn settle(&self) {}
}

/// What a capability answers that has no registry.
fn no_registry() -> Error {
    Error::new(
        Code::Unsupported,
        "NoRegistry",
        "a registry is not offered here",
    )
}

/// What a capability answers that does the runtime's part only.
fn no_releases() -> Error {
    Error::new(
        Code::Unsupported,
        "NoReleases",
        "releases are not offered here",
    )
}
