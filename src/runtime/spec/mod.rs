//! OCI runtime spec of a container (runtime-spec 1.0.2).
//!
//! [`build`] looks at host and image, [`assemble`] makes the document of what it
//! found and does no I/O. Resource limits are not in it: the cgroup manager
//! writes them itself.

mod accounts;
mod capabilities;
mod devices;
mod host;
mod mounts;
mod process;
mod seccomp;
mod syscalls;
mod user;

use std::collections::HashMap;

use containerd_client::services::v1::snapshots::MountsRequest;
use containerd_client::services::v1::snapshots::snapshots_client::SnapshotsClient;
use oci_spec::image::{Arch, ImageConfiguration};
use oci_spec::runtime::{
    BoxBuilder, LinuxBuilder, LinuxNamespace, LinuxNamespaceBuilder, LinuxNamespaceType,
    LinuxResourcesBuilder, Process, ProcessBuilder, RootBuilder, Spec, SpecBuilder, User,
};

use self::host::Host;
use self::user::Wanted;
use super::{Connection, ContainerRequest, Error, ExecRequest, Result};
use crate::model::Seccomp;

/// What is wrong with a container, for [`Error::Spec`].
type Cause = String;

/// The error of a builder, which always has all it needs.
fn text(e: impl std::fmt::Display) -> Cause {
    e.to_string()
}

/// The runtime spec of a container. Its snapshot (key `request.id`) must exist;
/// it is looked into only when the user has to be looked up.
pub(crate) async fn build(
    c: &Connection,
    request: &ContainerRequest,
    image_config: &ImageConfiguration,
) -> Result<Spec> {
    let bad = |cause| Error::Spec {
        container: request.id.clone(),
        cause,
    };
    let of_image = image_config
        .config()
        .as_ref()
        .and_then(|i| i.user().as_deref());
    let wanted = request.spec.user.as_deref().or(of_image);
    let wanted = Wanted::parse(wanted.unwrap_or_default()).map_err(bad)?;
    let user = match wanted.without_lookup() {
        Some(user) => user.map_err(bad)?,
        None => {
            let accounts = snapshot_accounts(c, request).await?;
            wanted.resolve(&accounts, &request.image).map_err(bad)?
        }
    };
    let looked = request.clone();
    let host = blocking(move || Host::look(&looked)).await.map_err(bad)?;
    assemble(request, image_config, &host, user).map_err(bad)
}

/// The process of an exec: the container's own with the request's changes. A
/// user is looked up in the running container's files, found through the task's `pid`.
pub(crate) async fn exec_process(
    container: &Spec,
    pid: u32,
    request: &ExecRequest,
) -> Result<Process> {
    let bad = |cause| Error::Spec {
        container: request.id.clone(),
        cause,
    };
    let user = match &request.user {
        None => None,
        Some(user) => {
            let wanted = Wanted::parse(user).map_err(bad)?;
            let user = match wanted.without_lookup() {
                Some(user) => user,
                None => blocking(move || accounts::of_process(pid))
                    .await
                    .and_then(|accounts| wanted.resolve(&accounts, &request.id)),
            };
            Some(user.map_err(bad)?)
        }
    };
    exec(container, request, user).map_err(bad)
}

/// Runs what blocks where it may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Cause> + Send + 'static,
) -> Result<T, Cause> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) => Err(text(e)),
    }
}

/// Accounts in the container's snapshot.
async fn snapshot_accounts(c: &Connection, request: &ContainerRequest) -> Result<user::Accounts> {
    let doing = format!(
        "looking up the user of container {} in image {}",
        request.id, request.image
    );
    let query = MountsRequest {
        snapshotter: c.snapshotter.clone(),
        key: request.id.clone(),
    };
    let mounts = SnapshotsClient::new(c.channel.clone())
        .mounts(c.call(&request.namespace, query))
        .await
        .map_err(|s| c.error_on(&doing, &format!("snapshot {}", request.id), &s))?
        .into_inner()
        .mounts;
    blocking(move || accounts::of_snapshot(mounts))
        .await
        .map_err(|cause| Error::Other { what: doing, cause })
}

/// The document. Pure.
fn assemble(
    request: &ContainerRequest,
    image_config: &ImageConfiguration,
    host: &Host,
    user: User,
) -> Result<Spec, Cause> {
    let spec = &request.spec;
    let image = &image_config.config().clone().unwrap_or_default();
    let narrow = matches!(image_config.architecture(), Arch::i386 | Arch::ARM);
    let set = capabilities::wanted(spec, &host.capabilities)?;
    let mut process = ProcessBuilder::default()
        .terminal(false)
        .user(user)
        .args(process::argv(request, image)?)
        .env(process::environment(request, image)?)
        .cwd(process::working_dir(request, image)?)
        .capabilities(capabilities::process(&set)?)
        .no_new_privileges(spec.security.no_new_privileges.unwrap_or(!spec.privileged))
        .build()
        .map_err(text)?;
    // Raising a limit needs CAP_SYS_RESOURCE, which a host may lack: the process
    // keeps what containerd has.
    process.set_rlimits(None);
    if host.set_oom_score {
        // Not containerd's own, which is protected.
        process.set_oom_score_adj(Some(0));
    }

    let mut linux = LinuxBuilder::default()
        .namespaces(namespaces(request)?)
        .cgroups_path(request.cgroup_path.clone())
        .resources(
            LinuxResourcesBuilder::default()
                .devices(devices::rules(spec.privileged, &host.devices)?)
                .build()
                .map_err(text)?,
        )
        .devices(
            host.devices
                .iter()
                .map(devices::Device::node)
                .collect::<Result<Vec<_>, _>>()?,
        )
        .sysctl(sysctl(request))
        .build()
        .map_err(text)?;
    let filter = match &spec.security.seccomp {
        Seccomp::Profile(_) => host.profile.clone(),
        Seccomp::Default if !spec.privileged => Some(seccomp::default_profile(&set, narrow)?),
        Seccomp::Default | Seccomp::Unconfined => None,
    };
    linux.set_seccomp(filter);
    let paths = |list: &[&str]| {
        (!spec.privileged).then(|| list.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>())
    };
    linux.set_masked_paths(paths(mounts::MASKED));
    linux.set_readonly_paths(paths(mounts::READ_ONLY));

    let mut document = SpecBuilder::default()
        .version("1.0.2")
        .root(
            RootBuilder::default()
                .path("rootfs")
                .readonly(spec.read_only_root)
                .build()
                .map_err(text)?,
        )
        .mounts(mounts::mounts(request, host.recursive_ro)?)
        .process(process)
        .linux(linux)
        .annotations(annotations(request))
        .build()
        .map_err(text)?;
    // The host name is the UTS namespace's, set when that was made.
    document.set_hostname(None);
    Ok(document)
}

/// Own mount, process and cgroup view; the cell's network, IPC and host name. A
/// namespace that is not listed is the host's.
fn namespaces(request: &ContainerRequest) -> Result<Vec<LinuxNamespace>, Cause> {
    let (spec, sandbox) = (&request.spec, &request.sandbox);
    let new = |wanted: bool, kind| wanted.then_some((kind, None));
    let join = |path: &Option<_>, kind| path.clone().map(|path| (kind, Some(path)));
    [
        new(true, LinuxNamespaceType::Mount),
        new(!spec.host_pid, LinuxNamespaceType::Pid),
        new(!spec.host_cgroup, LinuxNamespaceType::Cgroup),
        join(&sandbox.net, LinuxNamespaceType::Network),
        join(&sandbox.ipc, LinuxNamespaceType::Ipc),
        join(&sandbox.uts, LinuxNamespaceType::Uts),
    ]
    .into_iter()
    .flatten()
    .map(|(kind, path)| {
        let builder = LinuxNamespaceBuilder::default().typ(kind);
        match path {
            Some(path) => builder.path(path),
            None => builder,
        }
        .build()
        .map_err(text)
    })
    .collect()
}

/// In a network of its own, any user may listen on any port and send pings.
fn sysctl(request: &ContainerRequest) -> HashMap<String, String> {
    if request.sandbox.net.is_none() {
        return HashMap::new();
    }
    [
        ("net.ipv4.ip_unprivileged_port_start", "0"),
        ("net.ipv4.ping_group_range", "0 2147483647"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

/// Annotations, none so far. The place for `io.containerd.runc.v2.group`, which
/// puts several containers under one shim.
fn annotations(_request: &ContainerRequest) -> HashMap<String, String> {
    HashMap::new()
}

/// The process of an exec. Pure.
fn exec(container: &Spec, request: &ExecRequest, user: Option<User>) -> Result<Process, Cause> {
    let mut process = container
        .process()
        .clone()
        .ok_or("its record has no process")?;
    match request.command.first() {
        Some(program) if !program.is_empty() => {}
        _ => return Err("there is no command to run".into()),
    }
    process.set_args(Some(request.command.clone()));
    if let Some(user) = user {
        process.set_user(user);
    }
    let mut env = process.env().clone().unwrap_or_default();
    process.set_terminal(Some(request.tty.is_some()));
    if let Some((rows, columns)) = request.tty {
        let size = BoxBuilder::default()
            .height(u64::from(rows))
            .width(u64::from(columns))
            .build()
            .map_err(text)?;
        process.set_console_size(Some(size));
        if !env.iter().any(|e| e.starts_with("TERM=")) {
            env.push("TERM=xterm".into());
        }
    }
    for entry in &request.env {
        process::set(&mut env, entry)?;
    }
    process.set_env(Some(env));
    match request.working_dir.as_deref() {
        None | Some("") => {}
        Some(dir) if dir.starts_with('/') => {
            process.set_cwd(dir.into());
        }
        Some(dir) => return Err(format!("working directory {dir:?} is not absolute")),
    }
    Ok(process)
}

#[cfg(test)]
mod tests;
