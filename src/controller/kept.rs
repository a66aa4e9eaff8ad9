//! Secrets and volumes: which one a container means, who uses one, and what a
//! container is given of them.

use sha2::{Digest, Sha256};

use super::Controller;
use super::errors::{is_damage, not_found};
use crate::api::{Code, Error, Result};
use crate::model::{
    Cell, CellRef, ContainerSpec, KeptKind, KeptRef, KeptSource, Mount, MountKind, Name, ObjectRef,
    RealmRef, Secret, SecretTarget,
};
use crate::runtime::StagedFile;

/// Permission bits of a secret's file where the manifest does not say.
const MODE: u32 = 0o400;

/// Everything that a container names, each with its kind.
pub(super) fn sources(spec: &ContainerSpec) -> impl Iterator<Item = (KeptKind, &KeptSource)> {
    let volumes = spec.mounts.iter().filter_map(|mount| match &mount.kind {
        MountKind::Volume { source, .. } => Some((KeptKind::Volume, source)),
        _ => None,
    });
    let secrets = spec.secrets.iter().map(|s| (KeptKind::Secret, &s.source));
    volumes.chain(secrets)
}

impl Controller {
    /// The secret or volume that a container of a cell means: the first of the
    /// places that there is.
    fn find_source(
        &self,
        cell: &CellRef,
        kind: KeptKind,
        source: &KeptSource,
        planned: &[ObjectRef],
    ) -> Result<Option<KeptRef>> {
        for at in source.places(kind, cell) {
            let object = ObjectRef::from(at.clone());
            if planned.contains(&object) || self.store.exists(&object)? {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    fn source_of(&self, cell: &CellRef, kind: KeptKind, source: &KeptSource) -> Result<KeptRef> {
        let found = self.find_source(cell, kind, source, &[])?;
        found.ok_or_else(|| missing(cell, kind, source))
    }

    /// Fails when a cell names a secret or volume that is not there, and would
    /// not be after what is `planned`.
    pub(super) fn check_sources(&self, cell: &Cell, planned: &[ObjectRef]) -> Result<()> {
        for spec in &cell.spec.containers {
            for (kind, source) in sources(spec) {
                if self.find_source(&cell.at, kind, source, planned)?.is_none() {
                    return Err(missing(&cell.at, kind, source)
                        .context(format!("{}: container {}", cell.at, spec.id)));
                }
            }
        }
        Ok(())
    }

    /// The volumes that a cell wants made, and that are not there.
    pub(super) fn volumes_to_make(&self, cell: &Cell) -> Result<Vec<KeptRef>> {
        let mut out: Vec<KeptRef> = Vec::new();
        let mounts = cell.spec.containers.iter().flat_map(|c| &c.mounts);
        for mount in mounts {
            let MountKind::Volume {
                source,
                ensure: true,
            } = &mount.kind
            else {
                continue;
            };
            let found = self.find_source(&cell.at, KeptKind::Volume, source, &[])?;
            let scope = source.scope.clone();
            let scope = scope.unwrap_or_else(|| cell.at.stack().into());
            let at = scope.keeps(KeptKind::Volume, source.name.clone());
            if found.is_none() && !out.contains(&at) {
                out.push(at);
            }
        }
        Ok(out)
    }

    /// Cells whose spec names it. A volume that is hidden by a nearer one of the
    /// same name counts too: a container that was made before may still have it.
    pub(super) fn users_of(&self, at: &KeptRef) -> Result<Vec<CellRef>> {
        self.users(at, |_, error| Err(error))
    }

    /// As [`Controller::users_of`], without cells whose document is damaged.
    pub(super) fn readable_users_of(&self, at: &KeptRef) -> Result<Vec<CellRef>> {
        self.users(at, |cell, error| match is_damage(&error) {
            true => {
                tracing::warn!(%cell, %error, "left out");
                Ok(())
            }
            false => Err(error),
        })
    }

    fn users(
        &self,
        at: &KeptRef,
        unreadable: impl Fn(&CellRef, Error) -> Result<()>,
    ) -> Result<Vec<CellRef>> {
        let realm = RealmRef {
            realm: at.scope.names()[0].clone(),
        };
        let mut users = Vec::new();
        for space in self.store.spaces(&realm)? {
            for stack in self.store.stacks(&space)? {
                for cell in self.store.cells(&stack)? {
                    let cell = match self.store.cell(&cell).map_err(Error::from) {
                        Ok(Some(cell)) => cell,
                        Ok(None) => continue,
                        Err(error) => {
                            unreadable(&cell, error)?;
                            continue;
                        }
                    };
                    let mut named = cell.spec.containers.iter().flat_map(sources);
                    if named.any(|(kind, source)| self.may_mean(at, &cell.at, kind, source)) {
                        users.push(cell.at);
                    }
                }
            }
        }
        Ok(users)
    }

    fn may_mean(&self, at: &KeptRef, cell: &CellRef, kind: KeptKind, source: &KeptSource) -> bool {
        match kind == at.kind && source.name == at.name {
            false => false,
            true if kind == KeptKind::Volume => source.places(kind, cell).contains(at),
            true => match self.find_source(cell, kind, source, &[]) {
                Ok(found) => found.as_ref() == Some(at),
                Err(_) => true,
            },
        }
    }

    /// `VolumeInUse` or `SecretInUse` while a cell names it.
    pub(super) fn refuse_used(&self, at: &KeptRef) -> Result<()> {
        let users = self.users_of(at)?;
        if users.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = users.iter().take(5).map(ToString::to_string).collect();
        let more = match users.len() - names.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let what = at.kind.as_str();
        Err(Error::new(
            Code::Conflict,
            format!("{what}InUse"),
            format!("{at} is used by {}{more}", names.join(", ")),
        )
        .hint("delete those cells, or take it out of their manifests, first"))
    }

    /// The mounts of a container, volumes as the directories of their data.
    pub(super) fn host_mounts(&self, cell: &Cell, spec: &ContainerSpec) -> Result<Vec<Mount>> {
        let host = |mount: &Mount| -> Result<Mount> {
            let MountKind::Volume { source, .. } = &mount.kind else {
                return Ok(mount.clone());
            };
            let at = self.source_of(&cell.at, KeptKind::Volume, source)?;
            self.store.make_data(&at)?;
            let path = self.store.data_path(&at);
            Ok(Mount {
                kind: MountKind::Bind(path.display().to_string()),
                ..mount.clone()
            })
        };
        spec.mounts.iter().map(host).collect()
    }

    /// The variables that a container gets from secrets, `NAME=value`.
    pub(super) fn secret_env(&self, cell: &Cell, spec: &ContainerSpec) -> Result<Vec<String>> {
        let mut env = Vec::new();
        for secret in &spec.secrets {
            if secret.target == SecretTarget::Env {
                let value = self.secret_of(&cell.at, &secret.source)?;
                env.push(format!("{}={}", secret.name, value.data.0));
            }
        }
        Ok(env)
    }

    /// Where the files of a container's secrets are, and go.
    pub(super) fn secret_files(
        &self,
        cell: &Cell,
        spec: &ContainerSpec,
    ) -> Vec<(std::path::PathBuf, String)> {
        let paths = spec.secrets.iter().filter_map(|s| match &s.target {
            SecretTarget::File { path, .. } => Some(path.clone()),
            SecretTarget::Env => None,
        });
        paths
            .enumerate()
            .map(|(n, path)| (self.staging.path(&cell.at, &spec.id, n), path))
            .collect()
    }

    /// Gives volumes that nobody had before to the container's user, and puts
    /// the files of its secrets in place.
    pub(super) fn stage(&self, cell: &Cell, spec: &ContainerSpec, user: (u32, u32)) -> Result<()> {
        let (own_uid, own_gid) = user;
        for mount in &spec.mounts {
            if let MountKind::Volume { source, .. } = &mount.kind {
                let at = self.source_of(&cell.at, KeptKind::Volume, source)?;
                self.store.own_data(&at, own_uid, own_gid)?;
            }
        }
        let mut files = Vec::new();
        for secret in &spec.secrets {
            if let SecretTarget::File { uid, gid, mode, .. } = secret.target {
                let value = self.secret_of(&cell.at, &secret.source)?;
                files.push(StagedFile {
                    content: value.data.0.into_bytes(),
                    uid: uid.unwrap_or(own_uid),
                    gid: gid.unwrap_or(own_gid),
                    mode: mode.unwrap_or(MODE),
                });
            }
        }
        if files.is_empty() {
            return Ok(());
        }
        self.staging
            .stage(&cell.at, &spec.id, &files)
            .map_err(|error| staging_failed(&error))
    }

    pub(super) fn unstage(&self, cell: &CellRef, container: &Name) -> Result<()> {
        let done = self.staging.unstage(cell, container);
        done.map_err(|error| staging_failed(&error))
    }

    pub(super) fn remove_staging(&self, cell: &CellRef) -> Result<()> {
        let done = self.staging.remove(cell);
        done.map_err(|error| staging_failed(&error))
    }

    fn secret_of(&self, cell: &CellRef, source: &KeptSource) -> Result<Secret> {
        let at = self.source_of(cell, KeptKind::Secret, source)?;
        let found = self.store.secret(&at)?;
        found.ok_or_else(|| missing(cell, KeptKind::Secret, source))
    }

    /// What tells the present values of a container's secrets from others,
    /// without telling anything of them; none when it has no secrets.
    pub(super) fn secret_versions(&self, cell: &CellRef, spec: &ContainerSpec) -> Option<String> {
        if spec.secrets.is_empty() {
            return None;
        }
        let mut hasher = Sha256::new();
        for secret in &spec.secrets {
            // One that is missing is told when it is needed.
            let version = self.secret_of(cell, &secret.source).map(|s| s.version());
            hasher.update(version.unwrap_or_default());
            hasher.update("\n");
        }
        let hash = hasher.finalize();
        Some(hash.iter().take(16).map(|b| format!("{b:02x}")).collect())
    }
}

fn missing(cell: &CellRef, kind: KeptKind, source: &KeptSource) -> Error {
    let places = source.places(kind, cell);
    match places.as_slice() {
        [only] => not_found(&only.clone().into()),
        _ => {
            let what = kind.as_str();
            Error::new(
                Code::NotFound,
                format!("{what}NotFound"),
                format!(
                    "{} {:?} not found in the scopes of {cell}",
                    what.to_ascii_lowercase(),
                    source.name.as_str()
                ),
            )
        }
    }
    .hint(match kind {
        KeptKind::Volume => "apply it first or in the same request, or set ensure: true",
        KeptKind::Secret => "apply it first or in the same request, or use `kuke create secret`",
    })
}

fn staging_failed(error: &std::io::Error) -> Error {
    Error::failed(
        "SecretsNotStaged",
        format!("the files of secrets cannot be put in place: {error}"),
    )
}
