//! `Kukeon`, in-process: each call is a few lines; the work is in the room beside.

use async_trait::async_trait;
use futures::stream::BoxStream;

use super::Controller;
use crate::api::{Result, v1};
use crate::client::{EventStream, Kukeon};

#[async_trait]
impl Kukeon for Controller {
    async fn version(&self, _request: v1::VersionRequest) -> Result<v1::VersionResponse> {
        let containerd = self.runtime.server_version().await.unwrap_or_default();
        Ok(v1::VersionResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            containerd,
            daemon: self.is_live(),
        })
    }

    async fn status(&self, _request: v1::StatusRequest) -> Result<v1::StatusResponse> {
        Ok(self.checks().await)
    }

    async fn init(&self, request: v1::InitRequest) -> Result<EventStream> {
        Ok(self.stream(|me, emit| async move { me.init_host(&request, &emit).await }))
    }

    async fn uninstall(&self, _request: v1::UninstallRequest) -> Result<EventStream> {
        Ok(self.stream(|me, emit| async move { me.remove_everything(&emit).await }))
    }

    async fn apply(&self, request: v1::ApplyRequest) -> Result<EventStream> {
        let documents = Self::decode(&request)?;
        Ok(self.stream(|me, emit| async move { me.apply_all(documents, &request, &emit).await }))
    }

    async fn get(&self, request: v1::GetRequest) -> Result<v1::GetResponse> {
        self.find(&request).await
    }

    async fn delete(&self, request: v1::DeleteRequest) -> Result<EventStream> {
        let targets = Self::delete_targets(&request)?;
        Ok(self.stream(|me, emit| async move { me.delete_all(targets, &request, &emit).await }))
    }

    async fn mark(&self, request: v1::MarkRequest) -> Result<v1::ResourceResult> {
        self.mark_object(&request).await
    }

    async fn transition(&self, request: v1::TransitionRequest) -> Result<EventStream> {
        Ok(self.stream(|me, emit| async move { me.change_run_state(&request, &emit).await }))
    }

    async fn wait(&self, request: v1::WaitRequest) -> Result<v1::WaitResponse> {
        self.wait_for_end(&request).await
    }

    async fn exec(
        &self,
        input: BoxStream<'static, Result<v1::ExecInput>>,
    ) -> Result<BoxStream<'static, Result<v1::ExecOutput>>> {
        self.run_process(input).await
    }

    async fn logs(
        &self,
        request: v1::LogsRequest,
    ) -> Result<BoxStream<'static, Result<v1::LogChunk>>> {
        self.read_logs(&request).await
    }

    async fn list_tags(&self, request: v1::ListTagsRequest) -> Result<v1::ListTagsResponse> {
        self.tags_of(&request).await
    }

    async fn push_image(&self, request: v1::PushImageRequest) -> Result<EventStream> {
        Ok(self.stream(|me, emit| async move { me.send_image(&request, &emit).await }))
    }

    async fn list_registry(
        &self,
        request: v1::ListRegistryRequest,
    ) -> Result<v1::ListRegistryResponse> {
        self.repositories(request).await
    }

    async fn registry_login(
        &self,
        request: v1::RegistryLoginRequest,
    ) -> Result<v1::RegistryLoginResponse> {
        self.change_login(request).await
    }

    async fn web_account(&self, request: v1::WebAccountRequest) -> Result<v1::WebAccountResponse> {
        self.change_web_account(request).await
    }

    async fn verify_registry(
        &self,
        _request: v1::VerifyRegistryRequest,
    ) -> Result<v1::VerifyRegistryResponse> {
        self.verify_content().await
    }

    async fn collect_registry(
        &self,
        request: v1::CollectRegistryRequest,
    ) -> Result<v1::CollectRegistryResponse> {
        self.collect_content(request).await
    }

    async fn export_repository(
        &self,
        request: v1::ExportRepositoryRequest,
    ) -> Result<BoxStream<'static, Result<v1::ExportRepositoryResponse>>> {
        self.export(request)
    }

    async fn import_repository(
        &self,
        input: BoxStream<'static, Result<v1::ImportRepositoryRequest>>,
    ) -> Result<v1::ImportRepositoryResponse> {
        self.import(input).await
    }

    async fn list_images(&self, request: v1::ListImagesRequest) -> Result<v1::ListImagesResponse> {
        self.images_of(&request).await
    }

    async fn inspect_image(
        &self,
        request: v1::InspectImageRequest,
    ) -> Result<v1::InspectImageResponse> {
        self.image_of(&request).await
    }

    async fn delete_image(
        &self,
        request: v1::DeleteImageRequest,
    ) -> Result<v1::DeleteImageResponse> {
        let namespace = self.image_namespace(&request.realm)?;
        let name = self.runtime.remove_image(&namespace, &request.name).await?;
        Ok(v1::DeleteImageResponse { name })
    }

    async fn prune_images(
        &self,
        request: v1::PruneImagesRequest,
    ) -> Result<v1::PruneImagesResponse> {
        let namespace = self.image_namespace(&request.realm)?;
        let report = self.runtime.prune_images(&namespace).await?;
        Ok(v1::PruneImagesResponse {
            images: report.images,
            leases_released: report.leases_released,
            leases_retained: report.leases_retained,
        })
    }

    async fn pull_image(&self, request: v1::PullImageRequest) -> Result<EventStream> {
        Ok(self.stream(|me, emit| async move { me.fetch_image(&request, &emit).await }))
    }

    async fn load_image(
        &self,
        input: BoxStream<'static, Result<v1::LoadImageRequest>>,
    ) -> Result<EventStream> {
        Ok(self.stream(|me, emit| async move { me.import_image(input, &emit).await }))
    }

    async fn settle(&self) {
        Controller::settle(self).await;
    }
}
