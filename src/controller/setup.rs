//! init, uninstall and status of the host.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::Controller;
use super::errors::is_damage;
use super::stream::{Emitter, or_default, result_for};
use crate::api::{Error, Result, v1};
use crate::apply;
use crate::model::{Name, ObjectRef, RealmRef};
use crate::runtime::HELLO_IMAGE;

impl Controller {
    /// Makes the default hierarchy and the built-in image. Repeatable.
    pub(super) async fn init_host(&self, request: &v1::InitRequest, emit: &Emitter) -> Result<()> {
        self.require_containerd().await?;
        let realm: Name = or_default(&request.realm).parse()?;
        let space: Name = or_default(&request.space).parse()?;
        let manifest = format!(
            "apiVersion: v1beta1\nkind: Realm\nmetadata: {{name: {realm}}}\nspec: {{}}\n---\n\
             apiVersion: v1beta1\nkind: Space\nmetadata: {{name: {space}}}\n\
             spec: {{realmId: {realm}}}\n---\n\
             apiVersion: v1beta1\nkind: Stack\nmetadata: {{name: default}}\n\
             spec: {{realmId: {realm}, spaceId: {space}}}\n"
        );
        let mut missing = Vec::new();
        for (index, object) in apply::read(&[("init", manifest.as_bytes())])? {
            // What exists is kept as the user made it.
            if self.store.exists(&object.at())? {
                emit.result(result_for(&object.at(), "unchanged"));
            } else {
                missing.push((index, object));
            }
        }
        let quiet = v1::ApplyRequest {
            detach: true,
            ..v1::ApplyRequest::default()
        };
        self.apply_all(missing, &quiet, emit).await?;
        let namespace = self.image_namespace(realm.as_str())?;
        let program = &self.settings.program;
        let new = self
            .runtime
            .ensure_builtin_image(&namespace, program)
            .await?;
        emit.result(v1::ResourceResult {
            kind: "Image".to_owned(),
            name: HELLO_IMAGE.to_owned(),
            scope: Some(v1::Scope {
                realm: realm.to_string(),
                ..v1::Scope::default()
            }),
            action: if new { "created" } else { "unchanged" }.to_owned(),
            ..v1::ResourceResult::default()
        });
        self.first_web_account(emit).await
    }

    /// Deletes every object, then what is left of this instance on the host.
    /// Goes on after a failure and tells all of them.
    pub(super) async fn remove_everything(&self, emit: &Emitter) -> Result<()> {
        let mut failures: Vec<Error> = Vec::new();
        let request = v1::DeleteRequest {
            cascade: true,
            ignore_not_found: true,
            ..Default::default()
        };
        for realm in self.store.realms()? {
            let at: ObjectRef = realm.into();
            match self.delete_tree(&at, &request, emit).await {
                Ok(_) => emit.result(result_for(&at, "deleted")),
                // What a damaged document described is found by its marks.
                Err(error) if is_damage(&error) => {
                    tracing::warn!(%error, "goes with the rest");
                }
                Err(error) => failures.push(error),
            }
        }
        failures.extend(self.sweep().await);
        if failures.is_empty() {
            for (what, done) in self.remove_instance().await {
                match done {
                    Ok(left) => emit.result(host_result(what, left)),
                    Err(error) => failures.push(error.context(what)),
                }
            }
        }
        match failures.len() {
            0 => Ok(()),
            1 => Err(failures.remove(0)),
            _ => {
                let all: Vec<String> = failures.iter().map(ToString::to_string).collect();
                Err(Error::failed("UninstallFailed", all.join("\n"))
                    .hint("repair what is named and repeat; what was removed stays removed"))
            }
        }
    }

    /// Namespaces and sandboxes that carry this instance's mark but belong to
    /// no object of the store any more.
    async fn sweep(&self) -> Vec<Error> {
        let mut failures = Vec::new();
        let instance = self.settings.instance();
        match self.runtime.namespaces().await {
            Err(error) => failures.push(error.into()),
            Ok(namespaces) => {
                for (name, labels) in namespaces {
                    if labels.get(crate::model::label::INSTANCE) == Some(&instance)
                        && let Err(error) = self.runtime.remove_namespace(&name).await
                    {
                        failures.push(error.into());
                    }
                }
            }
        }
        match self.network.sandboxes().await {
            Err(error) => failures.push(error.into()),
            Ok(cells) => {
                for cell in cells {
                    if let Err(error) = self.network.remove_sandbox(&cell).await {
                        failures.push(error.into());
                    }
                }
            }
        }
        failures
    }

    /// Removes what the instance shares, each part with what was left of it
    /// because it is not kukeon's.
    async fn remove_instance(&self) -> Vec<(&'static str, Result<Vec<String>>)> {
        let cgroups = self.cgroups.clone();
        let root = self.settings.cgroup_root.clone();
        let cgroup = super::execute::blocking(move || cgroups.remove(&root)).await;
        let containerd = crate::runtime::launch::shut_down(&self.settings).await;
        let network = self.network.remove_instance().await;
        // The root goes last: it is empty only when everything else went.
        let runtime = remove_runtime_dir(&self.settings.runtime_dir);
        let store = self.store.remove_all();
        let shown = |paths: Vec<PathBuf>| paths.iter().map(|p| p.display().to_string()).collect();
        vec![
            (
                "cgroup tree",
                cgroup
                    .and_then(|r| r.map_err(Error::from))
                    .map(|()| Vec::new()),
            ),
            (
                "managed containerd",
                containerd.map(|_| Vec::new()).map_err(Error::from),
            ),
            ("network", network.map(|()| Vec::new()).map_err(Error::from)),
            ("runtime directory", runtime.map(|()| Vec::new())),
            ("run path", store.map(shown).map_err(Error::from)),
        ]
    }

    /// What `kuke status` shows of host and state.
    pub(super) async fn checks(&self) -> v1::StatusResponse {
        let mut checks = Vec::new();
        let daemon = if self.is_live() {
            "kukeond runs"
        } else {
            "in-process, no daemon asked"
        };
        checks.push(ok("daemon", "socket", daemon.to_owned()));
        checks.push(match self.containerd_version().await {
            Ok(version) => ok("host", "containerd", format!("version {version}")),
            Err(error) => fail("host", "containerd", &error),
        });
        checks.push(match self.cgroups.controllers() {
            Ok(controllers) => cgroup_check(self.cgroups.mount_point(), &controllers),
            Err(error) => fail("host", "cgroup-v2", &error.into()),
        });
        checks.push(match self.network.plugins() {
            Ok(found) => ok("host", "cni-plugins", found),
            Err(error) => fail("host", "cni-plugins", &error.into()),
        });
        checks.push(ok(
            "state",
            "run-dir",
            self.settings.run_path.display().to_string(),
        ));
        match self.store.problems() {
            Ok(problems) if problems.is_empty() => {}
            Ok(problems) => {
                for problem in problems {
                    checks.push(fail("state", "documents", &problem.into()));
                }
            }
            Err(error) => checks.push(fail("state", "documents", &error.into())),
        }
        checks.extend(self.realm_checks().await);
        v1::StatusResponse {
            ok: checks.iter().all(|c| c.status != "FAIL"),
            checks,
        }
    }

    async fn containerd_version(&self) -> Result<String> {
        Ok(self.runtime.server_version().await?)
    }

    async fn realm_checks(&self) -> Vec<v1::Check> {
        let mut checks = Vec::new();
        let (Ok(namespaces), Ok(realms)) = (self.runtime.namespaces().await, self.store.realms())
        else {
            return checks;
        };
        let mut known = Vec::new();
        for at in realms {
            if let Ok(Some(realm)) = self.store.realm(&at) {
                known.push(self.settings.namespace(&realm));
                checks.push(self.storage_check(&at, known.last()).await);
            }
        }
        let instance = self.settings.instance();
        for (name, labels) in namespaces {
            let ours = labels.get(crate::model::label::INSTANCE) == Some(&instance);
            if ours && !known.contains(&name) {
                checks.push(v1::Check {
                    status: "WARN".to_owned(),
                    detail: format!("containerd namespace {name} belongs to no realm"),
                    remediation: "`kuke uninstall` removes it; so does `ctr namespaces rm`"
                        .to_owned(),
                    ..ok("state", "containerd-ns", String::new())
                });
            }
        }
        checks
    }

    async fn storage_check(&self, at: &RealmRef, namespace: Option<&String>) -> v1::Check {
        let name = at.realm.to_string();
        let counted = async {
            let runtime = &self.runtime;
            let namespace = namespace.map(String::as_str).unwrap_or_default();
            let images = runtime.images(namespace).await?;
            let containers = runtime.containers(namespace, &Default::default()).await?;
            let bytes: u64 = images.iter().map(|i| i.size).sum();
            Ok::<_, Error>(format!(
                "{} images ({} MiB), {} containers",
                images.len(),
                bytes >> 20,
                containers.len()
            ))
        };
        match counted.await {
            Ok(detail) => ok("storage", &name, detail),
            Err(error) => fail("storage", &name, &error),
        }
    }
}

fn ok(section: &str, name: &str, detail: String) -> v1::Check {
    v1::Check {
        section: section.to_owned(),
        name: name.to_owned(),
        status: "OK".to_owned(),
        detail,
        remediation: String::new(),
    }
}

fn fail(section: &str, name: &str, error: &Error) -> v1::Check {
    v1::Check {
        status: "FAIL".to_owned(),
        remediation: error.hint.clone(),
        ..ok(section, name, error.message.clone())
    }
}

fn cgroup_check(
    mount: &std::path::Path,
    controllers: &std::collections::BTreeSet<String>,
) -> v1::Check {
    let list: Vec<&str> = controllers.iter().map(String::as_str).collect();
    let missing: Vec<&str> = ["cpu", "memory", "pids"]
        .into_iter()
        .filter(|c| !controllers.contains(*c))
        .collect();
    let detail = format!("{} (controllers: {})", mount.display(), list.join(" "));
    let check = ok("host", "cgroup-v2", detail);
    if missing.is_empty() {
        return check;
    }
    v1::Check {
        status: "WARN".to_owned(),
        remediation: format!(
            "limits that need {} are refused; boot with systemd.unified_cgroup_hierarchy=1 to have them",
            missing.join(", ")
        ),
        ..check
    }
}

fn host_result(what: &str, left: Vec<String>) -> v1::ResourceResult {
    let action = match left.is_empty() {
        true => "removed",
        false => "kept",
    };
    let left = left
        .into_iter()
        .map(|path| format!("left, not kukeon's: {path}"));
    v1::ResourceResult {
        kind: "Host".to_owned(),
        name: what.to_owned(),
        action: action.to_owned(),
        changes: left.collect(),
        ..v1::ResourceResult::default()
    }
}

/// Removes what a killed process may have left in the runtime directory, and
/// the directory when it is empty then.
fn remove_runtime_dir(dir: &Path) -> Result<()> {
    let failed = |what: &Path, error: std::io::Error| {
        Error::failed(
            "RemoveFailed",
            format!("removing {}: {error}", what.display()),
        )
    };
    let exec = dir.join("exec");
    match std::fs::remove_dir_all(&exec) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(&exec, error)),
        _ => {}
    }
    for name in [
        "kukeond.sock",
        "kukeond.pid",
        "kukeond.lock",
        "registry.sock",
    ] {
        let file = dir.join(name);
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(&file, error)),
            _ => {}
        }
    }
    match std::fs::remove_dir(dir) {
        // Somebody else's file is told with the run path.
        Err(error)
            if !matches!(
                error.kind(),
                ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty
            ) =>
        {
            Err(failed(dir, error))
        }
        _ => Ok(()),
    }
}
