//! Kubernetes objects: written from our documents, and read back into them.

mod container;
mod kept;
mod names;
mod network;
mod pod;
mod ports;
mod read;
mod realm;
#[cfg(test)]
mod tests;
mod write;

use std::collections::BTreeMap;

use serde_json::Value;

use super::loss::{self, Error, Loss};
use super::{Converted, Result, Source, stream};
use crate::api::{self, Problem};
use crate::apply;
use crate::model::AnyObject;
use crate::scheme::{self, Decoded, Secrets};

pub(super) use pod::ENDLESS;
pub use ports::{PORTS, Port, parse_ports, ports_text};
pub use read::from_kubernetes;

/// Raised whenever the same documents could become other objects.
pub const CONTRACT: u32 = 1;

/// Renders documents as Kubernetes objects, in a stable order: Namespaces,
/// Secrets, ServiceAccounts, NetworkPolicies, Services, then Jobs and
/// Deployments, each by namespace and name. Keys are sorted. A Container must
/// have been folded into its Cell (see [`apply::read`]). With [`Secrets::Hide`]
/// logins of a realm are refused, so that no password is in what is written.
///
/// # Errors
/// [`Error::Lost`] with every field that has no equivalent.
pub fn to_kubernetes(documents: &[AnyObject], secrets: Secrets) -> Result<Vec<Value>> {
    let (objects, losses, _) = write::objects(documents, secrets);
    match losses.is_empty() {
        true => Ok(objects),
        false => Err(Error::Lost(losses)),
    }
}

/// Renders texts that hold our documents as a stream of Kubernetes objects.
/// With `partial`, what has no equivalent is left out and told in the result.
///
/// # Errors
/// Documents that are wrong; without `partial` also [`Error::Lost`].
pub fn from_sources(sources: &[Source<'_>], partial: bool) -> Result<Converted> {
    // Losses that one document has by itself are shown where they stand.
    let mut placed: Vec<Loss> = Vec::new();
    for (source, bytes) in sources {
        api::decode_each(source, bytes, |document| {
            let place = document.place().to_owned();
            let object = scheme::decode(document).map_err(|error| error.problems)?;
            let found = alone(&object);
            match partial {
                false if !found.is_empty() => Err(found),
                _ => {
                    placed.extend(found.into_iter().map(|p| Loss::of(&place, p)));
                    Ok(())
                }
            }
        })?;
    }
    let objects = apply::read_all(sources)?.runtime;
    let objects: Vec<AnyObject> = objects.into_iter().map(|(_, o)| o).collect();
    let (values, losses, notes) = write::objects(&objects, Secrets::Keep);
    if !partial && !losses.is_empty() {
        return Err(Error::Lost(losses));
    }
    // What was placed already is not told again.
    let told: Vec<&Problem> = placed.iter().map(|loss| &loss.located.problem).collect();
    let rest: Vec<Loss> = losses
        .into_iter()
        .filter(|loss| !told.contains(&&loss.located.problem))
        .collect();
    placed.extend(rest);
    Ok(Converted {
        text: stream(&values)?,
        losses: placed,
        notes,
    })
}

/// Losses of a document that do not depend on the others.
fn alone(object: &Decoded) -> Vec<Problem> {
    let object = match object {
        Decoded::Runtime(object) => object,
        Decoded::Release(_) => {
            let message = "objects of delivery do not run anything themselves";
            let remedy = "convert the manifests that a Recipe names, or give it the target argocd";
            return vec![loss::lost("kind", message, remedy)];
        }
    };
    match object {
        AnyObject::Container(document) => {
            let mut losses = Vec::new();
            let known = Default::default();
            let mut named = kept::Named::new(&document.at, &known);
            container::write(&document.spec, "spec", 0, &mut named, &mut losses);
            losses
        }
        object => {
            let (_, losses, _) = write::objects(std::slice::from_ref(object), Secrets::Keep);
            losses.into_iter().map(|l| l.located.problem).collect()
        }
    }
}

/// Key/value pairs as they stand in objects.
type Labels = BTreeMap<String, String>;
