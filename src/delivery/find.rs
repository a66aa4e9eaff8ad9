//! `get`: one release object or a list.

use super::{Delivery, external, namespace};
use crate::api::selector::Selector;
use crate::api::{Result, v1};
use crate::model::Name;
use crate::model::delivery::{ReleaseKind, ReleaseRef};

impl Delivery {
    /// Objects of a kind; `scope.realm` is their namespace.
    pub(super) fn find(
        &self,
        kind: ReleaseKind,
        request: &v1::GetRequest,
    ) -> Result<v1::GetResponse> {
        let selector = request.selector.parse::<Selector>()?;
        let scope = request.scope.clone().unwrap_or_default();
        let (mut found, damaged) = match request.name.as_str() {
            "" => {
                let within: Option<Name> = match scope.realm.as_str() {
                    "" => None,
                    namespace => Some(namespace.parse()?),
                };
                self.store.releases_and_damaged(kind, within.as_ref())?
            }
            name => {
                let at = ReleaseRef::new(kind, &namespace(&scope.realm)?, &name.parse()?);
                (vec![self.get(&at)?], Vec::new())
            }
        };
        found.retain(|object| selector.matches(&object.meta().labels));
        Ok(v1::GetResponse {
            objects: found.iter().map(external::object).collect(),
            // Told beside the others, which they do not hide.
            damaged: damaged
                .into_iter()
                .map(|(at, error)| external::failure_for(&at, &error.into()))
                .collect(),
        })
    }
}
