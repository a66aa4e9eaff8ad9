//! `observe`: what is on the host, read through the managers.

use super::Controller;
use super::context::{CellContext, Parents};
use super::hostfiles;
use crate::api::Result;
use crate::model::{
    Cell, CellRef, Labels, ObjectRef, ObservedCell, ObservedContainer, ObservedScope, label,
};

impl Controller {
    /// Facts about a cell and everything that is owned by it.
    pub(super) async fn observe_cell(&self, context: &CellContext) -> Result<ObservedCell> {
        let cell = &context.cell;
        let runtime = &self.runtime;
        let labels = self.owner_labels(&cell.at);
        let (records, images, sandbox) = tokio::join!(
            runtime.containers(&context.parents.namespace, &labels),
            runtime.image_digests(&context.parents.namespace),
            self.network.observe_sandbox(&cell.at, cell.host_network()),
        );
        Ok(self.assemble(cell, records?, images?, sandbox?))
    }

    fn assemble(
        &self,
        cell: &Cell,
        records: Vec<ObservedContainer>,
        images: std::collections::BTreeMap<String, String>,
        sandbox: crate::model::ObservedSandbox,
    ) -> ObservedCell {
        let path = self.settings.cgroup_path(&cell.at.clone().into());
        let mut observed = ObservedCell {
            now: jiff::Timestamp::now(),
            cgroup: self.cgroups.exists(&path),
            sandbox,
            host_files: self.has_host_files(&cell.at.clone().into()),
            images,
            staging: self.staging.exists(&cell.at),
            staged: self.staging.staged(&cell.at),
            ..ObservedCell::default()
        };
        let options = self.options(None);
        for spec in &cell.spec.containers {
            if let Some(versions) = self.secret_versions(&cell.at, spec) {
                observed.secrets.insert(spec.id.clone(), versions);
            }
            let path = self.settings.container_cgroup_path(&cell.at, &spec.id);
            if !self.cgroups.exists(&path) {
                continue;
            }
            observed.container_cgroups.insert(spec.id.clone());
            let limits = super::plan::effective_limits(spec, &options);
            // A cgroup that cannot be read now is set again rather than trusted.
            if !self.cgroups.has_limits(&path, &limits).unwrap_or(false) {
                observed.limits_differ.insert(spec.id.clone());
            }
        }
        for record in records {
            // A record without a valid container label is not one of ours.
            if let Some(name) = record
                .labels
                .get(label::CONTAINER)
                .and_then(|n| n.parse().ok())
            {
                observed.containers.insert(name, record);
            }
        }
        observed
    }

    fn has_host_files(&self, at: &ObjectRef) -> bool {
        let there = |name: &&str| self.store.file_path(at, name).is_file();
        hostfiles::NAMES.iter().all(there)
    }

    /// Facts about a realm, space or stack.
    pub(super) async fn observe_scope(
        &self,
        at: &ObjectRef,
        parents: &Parents,
    ) -> Result<ObservedScope> {
        let mut observed = ObservedScope {
            cgroup: self.cgroups.exists(&self.settings.cgroup_path(at)),
            children: self.store.children(at)?,
            ..ObservedScope::default()
        };
        match at {
            ObjectRef::Realm(_) => {
                let namespaces = self.runtime.namespaces().await?;
                observed.namespace = namespaces.contains_key(&parents.namespace);
            }
            ObjectRef::Space(_) => {
                if let Some(network) = &parents.network {
                    observed.network = self.network.observe_network(network).await?;
                }
            }
            ObjectRef::Stack(_) | ObjectRef::Cell(_) | ObjectRef::Kept(_) => {}
        }
        Ok(observed)
    }

    /// The labels that every containerd object of a cell carries.
    pub(super) fn owner_labels(&self, at: &CellRef) -> Labels {
        let pairs = [
            (label::INSTANCE, self.settings.instance()),
            (label::REALM, at.realm.to_string()),
            (label::SPACE, at.space.to_string()),
            (label::STACK, at.stack.to_string()),
            (label::CELL, at.cell.to_string()),
        ];
        pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
    }
}
