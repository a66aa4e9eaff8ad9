//! What a source holds: tags of its repository, and files of one version.

use super::fault::Fault;
use super::recipe::access;
use super::source::{self, Content};
use super::{Delivery, namespace};
use crate::api::{Error, Result, v1};
use crate::model::delivery::OciRepository;
use crate::registry::client::{Access, Location, Registry};

/// Longest file that is shown, in bytes.
const LONGEST: usize = 1 << 20;

impl Delivery {
    pub(super) async fn browse(
        &self,
        request: &v1::BrowseSourceRequest,
    ) -> Result<v1::BrowseSourceResponse> {
        let (at, access) = self.place(request)?;
        if request.version.is_empty() {
            return Ok(v1::BrowseSourceResponse {
                tags: self.tags(&at, access).await?,
                ..Default::default()
            });
        }
        let content = match at.is_local() {
            true => self.artifacts.source(&at, &request.version, None).await?,
            false => {
                let from = source::oci::Repository::new(&at.host, &at.repository, access);
                let resolved = from.resolve(&request.version, None).await;
                let resolved = resolved.map_err(Fault::from)?;
                from.fetch(&resolved).await.map_err(Fault::from)?
            }
        };
        Ok(shown(content))
    }

    fn place(&self, request: &v1::BrowseSourceRequest) -> Result<(OciRepository, Access)> {
        if !request.pantry.is_empty() {
            let pantry = self.pantry(&namespace(&request.namespace)?, &request.pantry.parse()?)?;
            return Ok((pantry.spec.oci.clone(), access(&pantry.spec)));
        }
        let at = crate::scheme::v1alpha1::repository(&request.oci);
        let at = at.map_err(|e| Error::invalid("BadReference", e.to_string()))?;
        Ok((at, Access::default()))
    }

    async fn tags(&self, at: &OciRepository, access: Access) -> Result<Vec<String>> {
        if at.is_local() {
            let request = v1::ListRegistryRequest {
                repository: at.repository.clone(),
            };
            let found = self.inner.list_registry(request).await?;
            let all = found.repositories.into_iter().flat_map(|r| r.tags);
            return Ok(all.map(|t| t.name).filter(|t| !t.is_empty()).collect());
        }
        let location = Location {
            host: at.host.clone(),
            repository: at.repository.clone(),
            shown: at.to_string(),
        };
        let found = Registry::new(location, access).tags().await;
        Ok(found.map_err(|e| Fault::new("SourceUnavailable", e.to_string()))?)
    }
}

fn shown(content: Content) -> v1::BrowseSourceResponse {
    let files = content.tree.files().map(|(path, file)| {
        let text = match file.bytes.len() <= LONGEST {
            true => std::str::from_utf8(&file.bytes).unwrap_or_default(),
            false => "",
        };
        v1::SourceFile {
            path: path.to_owned(),
            size: i64::try_from(file.bytes.len()).unwrap_or(i64::MAX),
            text: text.to_owned(),
        }
    });
    v1::BrowseSourceResponse {
        files: files.collect(),
        tags: Vec::new(),
        annotations: content.annotations.clone(),
        digest: content.digest.clone(),
    }
}
