//! Mounts of a container.

use std::path::{Component, Path};

use oci_spec::runtime::{Mount, MountBuilder};

use super::{Cause, text};
use crate::model::MountKind;
use crate::runtime::ContainerRequest;

/// Paths of the kernel that would show or give away the host.
pub(super) const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Paths of the kernel that may be read only.
pub(super) const READ_ONLY: &[&str] = &[
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// All mounts in the order they are made. `recursive_ro`: the kernel can make a
/// whole tree of mounts read-only (mount_setattr(2), Linux 5.12).
pub(super) fn mounts(request: &ContainerRequest, recursive_ro: bool) -> Result<Vec<Mount>, Cause> {
    let mut own = Vec::new();
    for tmpfs in &request.spec.tmpfs {
        let target = target(&tmpfs.path)?;
        own.push(memory(target, &tmpfs.options, tmpfs.size_bytes, 0)?);
    }
    for mount in &request.spec.mounts {
        let target = target(&mount.target)?;
        own.push(match &mount.kind {
            MountKind::Bind(source) => bind(source, target, mount.read_only, recursive_ro)?,
            MountKind::Volume { source, .. } => {
                return Err(format!("volume {} has no directory", source.name));
            }
            MountKind::Tmpfs { size_bytes, mode } => {
                let options: &[String] = if mount.read_only { &["ro".into()] } else { &[] };
                memory(target, options, *size_bytes, *mode)?
            }
        });
    }
    for (source, target) in &request.secrets {
        let source = source
            .to_str()
            .ok_or_else(|| format!("file {} has a name that is not UTF-8", source.display()))?;
        own.push(bind(source, self::target(target)?, true, recursive_ro)?);
    }
    // A mount inside another comes after it, in whatever order they were written.
    own.sort_by_key(|m| m.destination().components().count());
    for (i, mount) in own.iter().enumerate() {
        if own[..i]
            .iter()
            .any(|m| m.destination() == mount.destination())
        {
            return Err(format!(
                "two mounts have the same target {}",
                mount.destination().display()
            ));
        }
    }

    let mut all = kernel(request.spec.privileged)?;
    for (source, target) in &request.files {
        let source = source
            .to_str()
            .ok_or_else(|| format!("file {} has a name that is not UTF-8", source.display()))?;
        all.push(bind(source, target, true, recursive_ro)?);
    }
    // What the user mounts somewhere replaces what we would.
    all.retain(|m| own.iter().all(|o| o.destination() != m.destination()));
    all.append(&mut own);
    Ok(all)
}

/// The file systems every container has.
fn kernel(privileged: bool) -> Result<Vec<Mount>, Cause> {
    let access = if privileged { "rw" } else { "ro" };
    let base = ["nosuid", "noexec", "nodev"];
    let with = |more: &[&'static str]| [&base[..], more].concat();
    let shm = with(&["mode=1777", "size=65536k"]);
    let rest = ["nosuid", "strictatime", "mode=755", "size=65536k"];
    let pts = [
        "nosuid",
        "noexec",
        "newinstance",
        "ptmxmode=0666",
        "mode=0620",
        "gid=5",
    ];
    [
        ("/proc", "proc", "proc", &base[..]),
        ("/dev", "tmpfs", "tmpfs", &rest),
        ("/dev/pts", "devpts", "devpts", &pts),
        ("/dev/shm", "tmpfs", "shm", &shm),
        ("/dev/mqueue", "mqueue", "mqueue", &base),
        ("/sys", "sysfs", "sysfs", &with(&[access])),
        (
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &with(&["relatime", access]),
        ),
        ("/run", "tmpfs", "tmpfs", &rest),
    ]
    .into_iter()
    .map(|(target, kind, source, options)| mount(target, kind, source, options))
    .collect()
}

fn bind(source: &str, target: &str, read_only: bool, recursive_ro: bool) -> Result<Mount, Cause> {
    let mut options = vec!["rbind", "rprivate"];
    if read_only {
        options.push("ro");
        if recursive_ro {
            options.push("rro");
        }
    } else {
        options.push("rw");
    }
    mount(target, "bind", source, &options)
}

fn memory(target: &str, options: &[String], size: u64, mode: u32) -> Result<Mount, Cause> {
    for option in options {
        if option.is_empty() || option.contains([',', '\0']) {
            return Err(format!("tmpfs {target}: option {option:?} is not valid"));
        }
    }
    let size = (size > 0).then(|| format!("size={size}"));
    let mode = (mode > 0).then(|| format!("mode={mode:o}"));
    let mut all: Vec<&str> = options.iter().map(String::as_str).collect();
    all.extend(size.as_deref());
    all.extend(mode.as_deref());
    // Last, so that no option takes them back.
    all.extend(["nosuid", "nodev"]);
    mount(target, "tmpfs", "tmpfs", &all)
}

fn mount(target: &str, kind: &str, source: &str, options: &[&str]) -> Result<Mount, Cause> {
    MountBuilder::default()
        .destination(target)
        .typ(kind)
        .source(source)
        .options(options.iter().map(|o| (*o).to_owned()).collect::<Vec<_>>())
        .build()
        .map_err(text)
}

/// A target is absolute, plain and not the root itself.
fn target(path: &str) -> Result<&str, Cause> {
    let plain = Path::new(path)
        .components()
        .all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
    let trimmed = path.trim_end_matches('/');
    if !path.starts_with('/') || !plain || trimmed.is_empty() || path.contains('\0') {
        return Err(format!(
            "mount target {path:?} must be an absolute path below / without .."
        ));
    }
    Ok(trimmed)
}

#[cfg(test)]
mod tests {
    use super::super::tests::request;
    use super::*;
    use crate::model::{Mount as Wanted, Tmpfs};

    fn targets(mounts: &[Mount]) -> Vec<&str> {
        mounts
            .iter()
            .map(|m| m.destination().to_str().unwrap())
            .collect()
    }

    fn options(mounts: &[Mount], target: &str) -> Vec<String> {
        let at = mounts.iter().find(|m| m.destination() == Path::new(target));
        at.unwrap().options().clone().unwrap()
    }

    fn wanted(kind: MountKind, target: &str, read_only: bool) -> Wanted {
        Wanted {
            kind,
            target: target.into(),
            read_only,
        }
    }

    #[test]
    fn the_kernels_file_systems_come_first_and_are_closed() {
        let mounts = mounts(&request(), true).unwrap();
        assert_eq!(
            targets(&mounts)[..8],
            [
                "/proc",
                "/dev",
                "/dev/pts",
                "/dev/shm",
                "/dev/mqueue",
                "/sys",
                "/sys/fs/cgroup",
                "/run"
            ]
        );
        for target in ["/sys", "/sys/fs/cgroup"] {
            assert!(options(&mounts, target).contains(&"ro".into()), "{target}");
        }
    }

    #[test]
    fn privileged_may_write_to_sysfs_and_cgroups() {
        let mut request = request();
        request.spec.privileged = true;
        let mounts = mounts(&request, true).unwrap();
        for target in ["/sys", "/sys/fs/cgroup"] {
            let options = options(&mounts, target);
            assert!(options.contains(&"rw".into()) && !options.contains(&"ro".into()));
        }
    }

    #[test]
    fn files_are_read_only_and_give_way_to_the_users_mounts() {
        let mut request = request();
        request.files = vec![
            ("/run/k/hosts".into(), "/etc/hosts".into()),
            ("/run/k/resolv".into(), "/etc/resolv.conf".into()),
        ];
        request.spec.mounts = vec![wanted(MountKind::Bind("/my".into()), "/etc/hosts", false)];
        let mounts = mounts(&request, false).unwrap();
        assert_eq!(targets(&mounts)[8..], ["/etc/resolv.conf", "/etc/hosts"]);
        assert_eq!(
            options(&mounts, "/etc/resolv.conf"),
            ["rbind", "rprivate", "ro"]
        );
        assert_eq!(options(&mounts, "/etc/hosts"), ["rbind", "rprivate", "rw"]);
    }

    #[test]
    fn a_mount_inside_another_comes_after_it() {
        let mut request = request();
        request.spec.mounts = vec![
            wanted(MountKind::Bind("/a".into()), "/data/in/deep", true),
            wanted(MountKind::Bind("/b".into()), "/data/", true),
        ];
        request.spec.tmpfs = vec![Tmpfs {
            path: "/data/in".into(),
            ..Tmpfs::default()
        }];
        let mounts = mounts(&request, true).unwrap();
        assert_eq!(
            targets(&mounts)[8..],
            ["/data", "/data/in", "/data/in/deep"]
        );
        assert_eq!(
            options(&mounts, "/data"),
            ["rbind", "rprivate", "ro", "rro"]
        );
    }

    #[test]
    fn memory_file_systems_never_carry_devices_or_set_user_bits() {
        let mut request = request();
        request.spec.tmpfs = vec![Tmpfs {
            path: "/run".into(),
            size_bytes: 4096,
            options: vec!["dev".into(), "suid".into(), "uid=5".into()],
        }];
        request.spec.mounts = vec![wanted(
            MountKind::Tmpfs {
                size_bytes: 0,
                mode: 0o1777,
            },
            "/scratch",
            false,
        )];
        let mounts = mounts(&request, true).unwrap();
        assert_eq!(
            options(&mounts, "/run"),
            ["dev", "suid", "uid=5", "size=4096", "nosuid", "nodev"]
        );
        assert_eq!(
            options(&mounts, "/scratch"),
            ["mode=1777", "nosuid", "nodev"]
        );
        // The user's /run took the place of ours.
        assert_eq!(targets(&mounts).iter().filter(|t| **t == "/run").count(), 1);
    }

    #[test]
    fn bad_and_doubled_targets_are_refused_by_name() {
        for bad in ["", "data", "/", "//", "/a/../b", "/a/\0"] {
            let mut request = request();
            request.spec.mounts = vec![wanted(MountKind::Bind("/x".into()), bad, false)];
            let error = mounts(&request, true).unwrap_err();
            assert!(error.contains(&format!("{bad:?}")), "{error}");
        }
        let mut request = request();
        request.spec.mounts = vec![
            wanted(MountKind::Bind("/x".into()), "/data", false),
            wanted(MountKind::Bind("/y".into()), "/data/", false),
        ];
        assert!(mounts(&request, true).unwrap_err().contains("/data"));
    }
}
