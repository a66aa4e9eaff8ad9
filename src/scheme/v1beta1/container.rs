//! What is wanted of a container, the same inside a Cell and on its own.

use super::super::check::Check;
use super::image::check_image;
use super::{mount, secret, security};
use crate::api::v1beta1;
use crate::model::{ContainerSpec, PullPolicy, Resources, RestartPolicy};
use crate::scheme::Error;

const RESTART: &[(&str, RestartPolicy)] = &[
    ("always", RestartPolicy::Always),
    ("on-failure", RestartPolicy::OnFailure),
    ("never", RestartPolicy::Never),
];

const PULL: &[(&str, PullPolicy)] = &[
    ("always", PullPolicy::Always),
    ("missing", PullPolicy::Missing),
    ("never", PullPolicy::Never),
];

/// Longest pause or grace, in seconds: a day.
const DAY: i64 = 86_400;

/// Smallest memory limit, in bytes. Below it not even the runtime's own first
/// process fits, so a smaller number is a unit that was forgotten.
const MIN_MEMORY: i64 = 1 << 20;

/// Container spec from its external form; `path` is where it stands in the document.
pub fn container_spec_to_model(
    path: &str,
    document: v1beta1::ContainerSpec,
) -> Result<ContainerSpec, Error> {
    let mut check = Check::default();
    let spec = read_container(&mut check, path, document);
    check.finish(spec)
}

/// External form of a container spec, without the ids of the parents.
pub fn container_spec_to_external(spec: &ContainerSpec) -> v1beta1::ContainerSpec {
    write_container(spec)
}

/// None when the id is not a name; every problem is in `check`.
pub(super) fn read_container(
    check: &mut Check,
    path: &str,
    document: v1beta1::ContainerSpec,
) -> Option<ContainerSpec> {
    let v1beta1::ContainerSpec {
        id,
        realm_id: _,
        space_id: _,
        stack_id: _,
        cell_id: _,
        root,
        image,
        command,
        args,
        working_dir,
        env,
        user,
        restart_policy,
        restart_backoff_seconds,
        restart_max_retries,
        privileged,
        host_network,
        host_pid,
        host_cgroup,
        read_only_root_filesystem,
        capabilities,
        security_opts,
        devices,
        tmpfs,
        resources,
        volumes,
        stop_grace_seconds,
        image_pull_policy,
        secrets,
        ports,
    } = document;
    let at = |field: &str| format!("{path}.{field}");
    let id = check.name(&at("id"), &id);
    check_image(check, &at("image"), &image);
    check.no_nul(&at("command"), &command);
    for (i, arg) in args.iter().enumerate() {
        check.no_nul(&format!("{path}.args[{i}]"), arg);
    }
    if !working_dir.is_empty() {
        check.absolute(&at("workingDir"), &working_dir);
    }
    for (i, pair) in env.iter().enumerate() {
        check_env(check, &format!("{path}.env[{i}]"), pair);
    }
    check_user(check, &at("user"), &user);
    let policy = check.word(&at("restartPolicy"), &restart_policy, RESTART);
    let backoff = number(
        check,
        &at("restartBackoffSeconds"),
        restart_backoff_seconds,
        0,
        DAY,
    );
    if backoff.is_some() && policy == RestartPolicy::Never {
        check
            .bad(
                at("restartBackoffSeconds"),
                "Contradiction",
                "has no effect without restarts",
            )
            .suggestion = "set restartPolicy to always or on-failure".to_owned();
    }
    let retries = number(
        check,
        &at("restartMaxRetries"),
        restart_max_retries,
        1,
        i64::from(u32::MAX),
    );
    if retries.is_some() && policy != RestartPolicy::OnFailure {
        check
            .bad(
                at("restartMaxRetries"),
                "Contradiction",
                "only limits restartPolicy on-failure",
            )
            .suggestion = "set restartPolicy to on-failure, or leave it out".to_owned();
    }
    let grace = number(check, &at("stopGraceSeconds"), stop_grace_seconds, 0, DAY);
    let pull_policy = check.word(&at("imagePullPolicy"), &image_pull_policy, PULL);
    let capabilities = security::capabilities(check, &at("capabilities"), capabilities);
    let security = security::options(check, &at("securityOpts"), &security_opts);
    mount::devices(check, &at("devices"), &devices);
    let tmpfs = mount::tmpfs(check, &at("tmpfs"), tmpfs);
    let mounts = mount::volumes(check, &at("volumes"), volumes);
    let secrets = secret::secrets(check, &at("secrets"), secrets, &env);
    mount::targets(check, path, &tmpfs, &mounts, &secrets);
    let ports = secret::ports(check, &at("ports"), &ports);
    let resources = read_resources(check, &at("resources"), resources);
    Some(ContainerSpec {
        id: id?,
        root,
        image,
        command: text(command),
        args,
        working_dir: text(working_dir),
        env,
        user: text(user),
        restart_policy: policy,
        restart_backoff_seconds: backoff,
        restart_max_retries: retries,
        stop_grace_seconds: grace,
        pull_policy,
        privileged,
        host_network,
        host_pid,
        host_cgroup,
        read_only_root: read_only_root_filesystem,
        capabilities,
        security,
        devices,
        tmpfs,
        resources,
        mounts,
        secrets,
        ports,
    })
}

pub(super) fn write_container(spec: &ContainerSpec) -> v1beta1::ContainerSpec {
    let ContainerSpec {
        id,
        root,
        image,
        command,
        args,
        working_dir,
        env,
        user,
        restart_policy,
        restart_backoff_seconds,
        restart_max_retries,
        stop_grace_seconds,
        pull_policy,
        privileged,
        host_network,
        host_pid,
        host_cgroup,
        read_only_root,
        capabilities,
        security,
        devices,
        tmpfs,
        resources,
        mounts,
        secrets,
        ports,
    } = spec;
    v1beta1::ContainerSpec {
        id: id.to_string(),
        realm_id: String::new(),
        space_id: String::new(),
        stack_id: String::new(),
        cell_id: String::new(),
        root: *root,
        image: image.clone(),
        command: command.clone().unwrap_or_default(),
        args: args.clone(),
        working_dir: working_dir.clone().unwrap_or_default(),
        env: env.clone(),
        user: user.clone().unwrap_or_default(),
        restart_policy: match restart_policy {
            RestartPolicy::Never => String::new(),
            RestartPolicy::OnFailure => "on-failure".to_owned(),
            RestartPolicy::Always => "always".to_owned(),
        },
        restart_backoff_seconds: restart_backoff_seconds.map(i64::from),
        restart_max_retries: restart_max_retries.map(i64::from),
        privileged: *privileged,
        host_network: *host_network,
        host_pid: *host_pid,
        host_cgroup: *host_cgroup,
        read_only_root_filesystem: *read_only_root,
        capabilities: security::capabilities_to_external(capabilities),
        security_opts: security::options_to_external(security),
        devices: devices.clone(),
        tmpfs: tmpfs.iter().map(mount::tmpfs_to_external).collect(),
        resources: write_resources(*resources),
        volumes: mounts.iter().map(mount::volume_to_external).collect(),
        stop_grace_seconds: stop_grace_seconds.map(i64::from),
        image_pull_policy: match pull_policy {
            PullPolicy::Missing => String::new(),
            PullPolicy::Always => "always".to_owned(),
            PullPolicy::Never => "never".to_owned(),
        },
        secrets: secrets.iter().map(secret::secret_to_external).collect(),
        ports: ports.iter().map(ToString::to_string).collect(),
    }
}

fn text(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn number(check: &mut Check, path: &str, value: Option<i64>, min: i64, max: i64) -> Option<u32> {
    value
        .filter(|&value| check.range(path, value, min, max))
        .and_then(|value| u32::try_from(value).ok())
}

fn check_env(check: &mut Check, path: &str, pair: &str) {
    check.no_nul(path, pair);
    match pair.split_once('=') {
        None => {
            check
                .bad(
                    path,
                    "BadEnv",
                    format!("{pair:?} is not of the form NAME=value"),
                )
                .suggestion = "for an empty value write NAME=".to_owned();
        }
        Some((name, _)) if name.is_empty() || name.contains(|c: char| c.is_whitespace()) => {
            check.bad(path, "BadEnv", format!("{name:?} is not a variable name"));
        }
        Some(_) => {}
    }
}

fn check_user(check: &mut Check, path: &str, user: &str) {
    let part = |text: &str| {
        let numeric = text.bytes().all(|b| b.is_ascii_digit());
        let odd = |c: char| c.is_whitespace() || c.is_control() || c == '/';
        // (uid_t)-1 means "no change" to the kernel.
        let in_range = !numeric || text.parse::<u32>().is_ok_and(|id| id != u32::MAX);
        !text.is_empty() && !text.contains(odd) && in_range
    };
    if !user.is_empty() && (user.matches(':').count() > 1 || !user.split(':').all(part)) {
        check
            .bad(path, "BadUser", format!("{user:?} is not a user"))
            .suggestion = "write uid, uid:gid, name or name:group".to_owned();
    }
}

fn read_resources(
    check: &mut Check,
    path: &str,
    resources: Option<v1beta1::Resources>,
) -> Resources {
    let v1beta1::Resources {
        memory_limit_bytes,
        cpu_shares,
        pids_limit,
    } = resources.unwrap_or_default();
    let mut limit = |field: &str, value: i64, min: i64, max: i64| {
        (value != 0 && check.range(&format!("{path}.{field}"), value, min, max))
            .then(|| value.unsigned_abs())
    };
    Resources {
        memory_bytes: limit("memoryLimitBytes", memory_limit_bytes, MIN_MEMORY, i64::MAX),
        cpu_shares: limit("cpuShares", cpu_shares, 2, 262_144),
        pids: limit("pidsLimit", pids_limit, 1, i64::MAX),
    }
}

fn write_resources(resources: Resources) -> Option<v1beta1::Resources> {
    if resources == Resources::default() {
        return None;
    }
    let Resources {
        memory_bytes,
        cpu_shares,
        pids,
    } = resources;
    let number = |limit: Option<u64>| limit.map_or(0, |n| i64::try_from(n).unwrap_or(i64::MAX));
    Some(v1beta1::Resources {
        memory_limit_bytes: number(memory_bytes),
        cpu_shares: number(cpu_shares),
        pids_limit: number(pids),
    })
}
