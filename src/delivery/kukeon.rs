//! `Kukeon`, with releases: each call is a few lines; the work is in the files beside.

use async_trait::async_trait;
use futures::stream::BoxStream;

use super::Delivery;
use super::target::links;
use crate::api::{Result, v1};
use crate::client::{EventStream, Kukeon};

#[async_trait]
impl Kukeon for Delivery {
    async fn version(&self, request: v1::VersionRequest) -> Result<v1::VersionResponse> {
        self.inner.version(request).await
    }

    async fn status(&self, request: v1::StatusRequest) -> Result<v1::StatusResponse> {
        self.inner.status(request).await
    }

    async fn init(&self, request: v1::InitRequest) -> Result<EventStream> {
        self.inner.init(request).await
    }

    async fn uninstall(&self, request: v1::UninstallRequest) -> Result<EventStream> {
        self.inner.uninstall(request).await
    }

    async fn apply(&self, request: v1::ApplyRequest) -> Result<EventStream> {
        self.apply_mixed(request).await
    }

    async fn get(&self, request: v1::GetRequest) -> Result<v1::GetResponse> {
        match request.kind.parse() {
            Ok(kind) => self.find(kind, &request),
            Err(()) => self.inner.get(request).await,
        }
    }

    async fn delete(&self, request: v1::DeleteRequest) -> Result<EventStream> {
        self.delete_mixed(request).await
    }

    async fn mark(&self, request: v1::MarkRequest) -> Result<v1::ResourceResult> {
        match request.kind.parse() {
            Ok(kind) => self.mark_release(kind, &request).await,
            Err(()) => self.inner.mark(request).await,
        }
    }

    async fn transition(&self, request: v1::TransitionRequest) -> Result<EventStream> {
        self.inner.transition(request).await
    }

    async fn wait(&self, request: v1::WaitRequest) -> Result<v1::WaitResponse> {
        self.inner.wait(request).await
    }

    async fn exec(
        &self,
        input: BoxStream<'static, Result<v1::ExecInput>>,
    ) -> Result<BoxStream<'static, Result<v1::ExecOutput>>> {
        self.inner.exec(input).await
    }

    async fn logs(
        &self,
        request: v1::LogsRequest,
    ) -> Result<BoxStream<'static, Result<v1::LogChunk>>> {
        self.inner.logs(request).await
    }

    async fn list_tags(&self, request: v1::ListTagsRequest) -> Result<v1::ListTagsResponse> {
        self.inner.list_tags(request).await
    }

    async fn push_image(&self, request: v1::PushImageRequest) -> Result<EventStream> {
        self.inner.push_image(request).await
    }

    async fn list_registry(
        &self,
        request: v1::ListRegistryRequest,
    ) -> Result<v1::ListRegistryResponse> {
        self.inner.list_registry(request).await
    }

    async fn registry_login(
        &self,
        request: v1::RegistryLoginRequest,
    ) -> Result<v1::RegistryLoginResponse> {
        self.inner.registry_login(request).await
    }

    async fn verify_registry(
        &self,
        request: v1::VerifyRegistryRequest,
    ) -> Result<v1::VerifyRegistryResponse> {
        self.inner.verify_registry(request).await
    }

    async fn collect_registry(
        &self,
        request: v1::CollectRegistryRequest,
    ) -> Result<v1::CollectRegistryResponse> {
        self.inner.collect_registry(request).await
    }

    async fn export_repository(
        &self,
        request: v1::ExportRepositoryRequest,
    ) -> Result<BoxStream<'static, Result<v1::ExportRepositoryResponse>>> {
        self.inner.export_repository(request).await
    }

    async fn import_repository(
        &self,
        input: BoxStream<'static, Result<v1::ImportRepositoryRequest>>,
    ) -> Result<v1::ImportRepositoryResponse> {
        self.inner.import_repository(input).await
    }

    async fn list_images(&self, request: v1::ListImagesRequest) -> Result<v1::ListImagesResponse> {
        self.inner.list_images(request).await
    }

    async fn inspect_image(
        &self,
        request: v1::InspectImageRequest,
    ) -> Result<v1::InspectImageResponse> {
        self.inner.inspect_image(request).await
    }

    async fn delete_image(
        &self,
        request: v1::DeleteImageRequest,
    ) -> Result<v1::DeleteImageResponse> {
        self.inner.delete_image(request).await
    }

    async fn prune_images(
        &self,
        request: v1::PruneImagesRequest,
    ) -> Result<v1::PruneImagesResponse> {
        self.inner.prune_images(request).await
    }

    async fn pull_image(&self, request: v1::PullImageRequest) -> Result<EventStream> {
        self.inner.pull_image(request).await
    }

    async fn load_image(
        &self,
        input: BoxStream<'static, Result<v1::LoadImageRequest>>,
    ) -> Result<EventStream> {
        self.inner.load_image(input).await
    }

    async fn promote(&self, request: v1::PromoteRequest) -> Result<EventStream> {
        Ok(self.stream(|me, emit| async move { me.promote_request(&request, &emit).await }))
    }

    async fn act(&self, request: v1::ActRequest) -> Result<EventStream> {
        Ok(self.stream(|me, emit| async move { me.act_request(&request, &emit).await }))
    }

    async fn history(&self, request: v1::HistoryRequest) -> Result<v1::HistoryResponse> {
        self.history_of(&request)
    }

    async fn diff(&self, request: v1::DiffRequest) -> Result<v1::DiffResponse> {
        self.diff_of(&request).await
    }

    async fn manifest(&self, request: v1::ManifestRequest) -> Result<v1::ManifestResponse> {
        self.manifest_of(&request).await
    }

    async fn verify_preparation(
        &self,
        request: v1::VerifyPreparationRequest,
    ) -> Result<v1::VerifyPreparationResponse> {
        self.verify_preparation_of(&request).await
    }

    async fn sign_preparation(
        &self,
        request: v1::SignPreparationRequest,
    ) -> Result<v1::SignPreparationResponse> {
        self.sign_preparation_of(&request).await
    }

    async fn wait_for(&self, request: v1::WaitForRequest) -> Result<v1::ResourceResult> {
        self.wait_until(&request).await
    }

    async fn connect_cluster(
        &self,
        request: v1::ConnectClusterRequest,
    ) -> Result<v1::ConnectClusterResponse> {
        let kitchen = self.kitchen()?;
        let registry = kitchen.map(|k| k.spec.registry_url).unwrap_or_default();
        links::connect(
            self.targets.clusters(),
            self.inner.as_ref(),
            request,
            &registry,
        )
        .await
    }

    async fn list_clusters(
        &self,
        request: v1::ListClustersRequest,
    ) -> Result<v1::ListClustersResponse> {
        links::list(self.targets.clusters(), request).await
    }

    async fn watch_releases(
        &self,
        _request: v1::WatchReleasesRequest,
    ) -> Result<BoxStream<'static, Result<v1::ReleaseChange>>> {
        Ok(self.watch())
    }

    async fn preview(&self, request: v1::PreviewRequest) -> Result<v1::PreviewResponse> {
        self.preview_of(&request).await
    }

    async fn browse_source(
        &self,
        request: v1::BrowseSourceRequest,
    ) -> Result<v1::BrowseSourceResponse> {
        self.browse(&request).await
    }

    async fn web_account(&self, request: v1::WebAccountRequest) -> Result<v1::WebAccountResponse> {
        self.inner.web_account(request).await
    }

    async fn settle(&self) {
        self.ending.cancel();
        let own = async {
            self.tasks.close();
            self.tasks.wait().await;
            self.tasks.reopen();
        };
        // Some of it waits for what the other lets go, such as a grace.
        futures::join!(own, self.inner.settle());
        // What had a part in both may have ended last here.
        self.inner.settle().await;
    }
}
