//! containerd's content and image stores, in one namespace and (for whoever
//! adds to them) under one lease.

use std::collections::HashMap;

use containerd_client::services::v1::content_client::ContentClient;
use containerd_client::services::v1::images_client::ImagesClient;
use containerd_client::services::v1::{
    AbortRequest, CreateImageRequest, DeleteImageRequest, GetImageRequest, Image, Info,
    InfoRequest, ListImagesRequest, ReadContentRequest, UpdateImageRequest, UpdateRequest,
};
use containerd_client::tonic::transport::Channel;
use containerd_client::tonic::{Code, Request, Status};
use prost_types::FieldMask;

use super::digest;
use super::document::{Descriptor, MAX_DOCUMENT};
use super::writer::Writer;
use crate::runtime::{Connection, Error, Result};

/// Longest answer that is taken; lists of thousands of objects come in one.
const MAX_MESSAGE: usize = 64 << 20;

/// Content and images of one namespace.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    pub(crate) connection: Connection,
    pub(crate) namespace: String,
    lease: Option<String>,
}

impl Store {
    /// Store of a namespace, without a lease: for reading.
    pub(crate) fn new(connection: &Connection, namespace: &str) -> Self {
        Self {
            connection: connection.clone(),
            namespace: namespace.to_owned(),
            lease: None,
        }
    }

    /// The same under a lease, which keeps what is written through it.
    pub(crate) fn leased(&self, lease: &str) -> Self {
        Self {
            lease: Some(lease.to_owned()),
            ..self.clone()
        }
    }

    /// The same without a lease. An unfinished write then survives the end of
    /// the work (containerd keeps it for a day), which lets a later one resume.
    pub(crate) fn unleased(&self) -> Self {
        Self {
            lease: None,
            ..self.clone()
        }
    }

    /// Id of the lease.
    pub(crate) fn lease(&self) -> Option<&str> {
        self.lease.as_deref()
    }

    /// Wraps a message with namespace and lease, with the ordinary deadline.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        self.under_lease(self.connection.call(&self.namespace, message))
    }

    /// The same for what may rightly take long: streams, unpacking, collecting.
    pub(crate) fn patient<T>(&self, message: T) -> Request<T> {
        self.under_lease(self.connection.request(&self.namespace, message))
    }

    fn under_lease<T>(&self, mut request: Request<T>) -> Request<T> {
        // Lease ids are ours and ASCII.
        if let Some(value) = self.lease.as_ref().and_then(|id| id.parse().ok()) {
            request.metadata_mut().insert("containerd-lease", value);
        }
        request
    }

    pub(crate) fn content(&self) -> ContentClient<Channel> {
        ContentClient::new(self.connection.channel.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    fn images(&self) -> ImagesClient<Channel> {
        ImagesClient::new(self.connection.channel.clone()).max_decoding_message_size(MAX_MESSAGE)
    }

    /// What a failed call means.
    pub(crate) fn fail(&self, what: impl Into<String>, status: &Status) -> Error {
        let what = what.into();
        let message = status.message();
        let lower = message.to_ascii_lowercase();
        let storage = ["no space left", "read-only file system", "disk quota"];
        if status.code() == Code::ResourceExhausted || storage.iter().any(|s| lower.contains(s)) {
            return Error::Storage(format!("{what}: {message}"));
        }
        match status.code() {
            Code::NotFound => Error::NotFound(what),
            Code::AlreadyExists => Error::Exists(what),
            _ => self.connection.error(what, status),
        }
    }

    /// Size and labels of a blob, if it is there.
    pub(crate) async fn info(&self, digest: &str) -> Result<Option<Info>> {
        let request = self.request(InfoRequest {
            digest: digest.to_owned(),
        });
        match self.content().info(request).await {
            Ok(answer) => Ok(answer.into_inner().info),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(self.fail(format!("blob {digest}"), &status)),
        }
    }

    /// A whole document; never more than [`MAX_DOCUMENT`] bytes.
    pub(crate) async fn document(&self, digest: &str) -> Result<Vec<u8>> {
        let what = || format!("blob {digest}");
        let request = self.patient(ReadContentRequest {
            digest: digest.to_owned(),
            offset: 0,
            size: 0,
        });
        let answer = self.content().read(request).await;
        let mut parts = answer.map_err(|s| self.fail(what(), &s))?.into_inner();
        let mut bytes = Vec::new();
        while let Some(part) = parts.message().await.map_err(|s| self.fail(what(), &s))? {
            bytes.extend_from_slice(&part.data);
            if bytes.len() as u64 > MAX_DOCUMENT {
                return Err(Error::Other {
                    what: what(),
                    cause: format!("it is no document: larger than {MAX_DOCUMENT} bytes"),
                });
            }
        }
        Ok(bytes)
    }

    /// Adds labels to a blob.
    pub(crate) async fn label(
        &self,
        digest: &str,
        labels: impl IntoIterator<Item = (String, String)>,
    ) -> Result<()> {
        let labels: HashMap<String, String> = labels.into_iter().collect();
        if labels.is_empty() {
            return Ok(());
        }
        let paths = labels.keys().map(|key| format!("labels.{key}")).collect();
        let request = self.request(UpdateRequest {
            info: Some(Info {
                digest: digest.to_owned(),
                labels,
                ..Info::default()
            }),
            update_mask: Some(FieldMask { paths }),
        });
        let answer = self.content().update(request).await;
        answer.map_err(|s| self.fail(format!("labels of blob {digest}"), &s))?;
        Ok(())
    }

    /// Stores a document that is at hand.
    pub(crate) async fn put(&self, media_type: &str, bytes: Vec<u8>) -> Result<Descriptor> {
        let descriptor = Descriptor::of(media_type, &bytes);
        let key = format!(
            "{}-{}",
            self.lease().unwrap_or("document"),
            descriptor.digest
        );
        if let Some(mut writer) =
            Writer::open(self, &key, Some(&descriptor.digest), descriptor.size).await?
        {
            // Another namespace may have lent us the bytes already.
            if writer.offset() == 0 {
                writer.write(bytes).await?;
            }
            writer.commit(&descriptor.digest).await?;
        }
        Ok(descriptor)
    }

    /// Drops an unfinished write. One that is not there is no error.
    pub(crate) async fn abort(&self, key: &str) -> Result<()> {
        let request = self.request(AbortRequest {
            r#ref: key.to_owned(),
        });
        match self.content().abort(request).await {
            Err(s) if s.code() != Code::NotFound => Err(self.fail("unfinished write", &s)),
            _ => Ok(()),
        }
    }

    /// An image record by its exact name.
    pub(crate) async fn image(&self, name: &str) -> Result<Option<Image>> {
        let request = self.request(GetImageRequest {
            name: name.to_owned(),
        });
        match self.images().get(request).await {
            Ok(answer) => Ok(answer.into_inner().image),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(self.fail(format!("image {name}"), &status)),
        }
    }

    /// All image records.
    pub(crate) async fn all_images(&self) -> Result<Vec<Image>> {
        let request = self.request(ListImagesRequest { filters: vec![] });
        let answer = self.images().list(request).await;
        let answer = answer.map_err(|s| self.fail("images", &s))?;
        Ok(answer.into_inner().images)
    }

    /// Makes a name point at a target; labels are added to those it has.
    pub(crate) async fn set_image(
        &self,
        name: &str,
        target: &Descriptor,
        labels: HashMap<String, String>,
    ) -> Result<()> {
        let mut paths = vec!["target".to_owned()];
        paths.extend(labels.keys().map(|key| format!("labels.{key}")));
        let mut target = target.to_api();
        // Annotations say how the archive called it: of no use once it is named.
        target.annotations.clear();
        let image = Some(Image {
            name: name.to_owned(),
            labels,
            target: Some(target),
            ..Image::default()
        });
        let what = || format!("image {name}");
        let request = self.request(CreateImageRequest {
            image: image.clone(),
            source_date_epoch: None,
        });
        match self.images().create(request).await {
            Ok(_) => return Ok(()),
            Err(status) if status.code() == Code::AlreadyExists => {}
            Err(status) => return Err(self.fail(what(), &status)),
        }
        let request = self.request(UpdateImageRequest {
            image,
            update_mask: Some(FieldMask { paths }),
            source_date_epoch: None,
        });
        let answer = self.images().update(request).await;
        answer.map_err(|s| self.fail(what(), &s))?;
        Ok(())
    }

    /// Removes a name; false when it was not there.
    pub(crate) async fn delete_image(&self, name: &str, sync: bool) -> Result<bool> {
        let request = self.patient(DeleteImageRequest {
            name: name.to_owned(),
            sync,
            target: None,
        });
        match self.images().delete(request).await {
            Ok(_) => Ok(true),
            Err(status) if status.code() == Code::NotFound => Ok(false),
            Err(status) => Err(self.fail(format!("image {name}"), &status)),
        }
    }

    /// Reads a document and checks it against its descriptor.
    pub(crate) async fn checked(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let bytes = self.document(&descriptor.digest).await?;
        digest::expect("blob", &descriptor.digest, &bytes)?;
        Ok(bytes)
    }
}
