//! Images before anything else: a wrong reference must not take a cell down.

use std::collections::BTreeMap;

use futures::TryStreamExt;

use super::super::Problem;
use super::plan::Work;
use crate::api::v1::{self, event};
use crate::api::{Code, Error, Result};
use crate::client::Kukeon;
use crate::model::delivery::Resource;
use crate::model::{AnyObject, ContainerSpec, Name, PullPolicy};

/// What some images were needed for, by reference.
pub(super) type Needed = BTreeMap<String, (PullPolicy, Resource)>;

/// The images that have to be there for what a plan creates and changes.
pub(super) fn needed(work: &Work) -> Needed {
    let mut out = Needed::new();
    for step in work.due() {
        let containers: &[ContainerSpec] = match &step.wanted.object {
            AnyObject::Cell(cell) => &cell.spec.containers,
            AnyObject::Container(container) => std::slice::from_ref(&container.spec),
            _ => &[],
        };
        for spec in containers {
            let entry = out
                .entry(spec.image.clone())
                .or_insert_with(|| (spec.pull_policy, step.wanted.resource()));
            if spec.pull_policy == PullPolicy::Never {
                entry.0 = PullPolicy::Never;
            }
        }
    }
    out
}

/// Which of them have to be fetched, and which cannot be. In a realm that is
/// not there yet there are none.
pub(super) async fn missing(
    kukeon: &dyn Kukeon,
    realm: &Name,
    realm_is_there: bool,
    needed: &Needed,
) -> Result<(Needed, Vec<Problem>)> {
    let mut fetch = Needed::new();
    let mut problems = Vec::new();
    for (image, (policy, resource)) in needed {
        let there = realm_is_there && is_there(kukeon, realm, image).await?;
        match policy {
            PullPolicy::Never if there => {}
            PullPolicy::Never => problems.push(Problem {
                resource: resource.clone(),
                reason: "ImageNotFound".to_owned(),
                message: format!("the realm {realm} has no image {image}, and it is never pulled"),
                hint: format!("load it with `kuke image load --realm {realm}`"),
            }),
            PullPolicy::Missing if there => {}
            PullPolicy::Missing | PullPolicy::Always => {
                fetch.insert(image.clone(), (*policy, resource.clone()));
            }
        }
    }
    Ok((fetch, problems))
}

async fn is_there(kukeon: &dyn Kukeon, realm: &Name, image: &str) -> Result<bool> {
    let request = v1::InspectImageRequest {
        realm: realm.to_string(),
        name: image.to_owned(),
    };
    match kukeon.inspect_image(request).await {
        Ok(_) => Ok(true),
        Err(error) if error.code == Code::NotFound => Ok(false),
        // A reference that is none: the fetch says so, with its object.
        Err(error) if error.code == Code::Invalid => Ok(false),
        Err(error) => Err(error),
    }
}

/// Fetches images into a realm that is there, and tells those that failed.
pub(super) async fn fetch(
    kukeon: &dyn Kukeon,
    realm: &Name,
    images: &Needed,
) -> Result<Vec<Problem>> {
    let mut problems = Vec::new();
    for (image, (_, resource)) in images {
        match pull(kukeon, realm, image).await {
            Ok(()) => {}
            Err(error) if error.code == Code::Cancelled => return Err(error),
            Err(error) => problems.push(Problem {
                resource: resource.clone(),
                message: format!("image {image} for {}: {}", resource.name, error.message),
                reason: error.reason,
                hint: error.hint,
            }),
        }
    }
    Ok(problems)
}

async fn pull(kukeon: &dyn Kukeon, realm: &Name, image: &str) -> Result<()> {
    let request = v1::PullImageRequest {
        realm: realm.to_string(),
        name: image.to_owned(),
        platform: String::new(),
    };
    let mut events = kukeon.pull_image(request).await?;
    while let Some(event) = events.try_next().await? {
        let Some(event::Event::Result(result)) = event.event else {
            continue;
        };
        if let Some(error) = result.error {
            return Err(Error::from(error));
        }
    }
    Ok(())
}
