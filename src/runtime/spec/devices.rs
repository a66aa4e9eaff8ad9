//! Device nodes and device rules of a container.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use nix::sys::stat::{major, minor};
use oci_spec::runtime::{
    LinuxDevice, LinuxDeviceBuilder, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType,
};

use super::{Cause, text};

/// A device node of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Device {
    /// Path on the host and in the container.
    pub(super) path: PathBuf,
    /// Block instead of character device.
    pub(super) block: bool,
    pub(super) major: i64,
    pub(super) minor: i64,
    /// Permission bits.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Device {
    /// A node the spec asks for.
    pub(super) fn at(path: &str) -> Result<Self, Cause> {
        if !path.starts_with("/dev/") || path.split('/').any(|p| p == "..") {
            return Err(format!("device {path:?} is not a path below /dev"));
        }
        let meta = std::fs::metadata(path).map_err(|e| format!("device {path}: {e}"))?;
        Self::of(Path::new(path), &meta).ok_or_else(|| format!("{path} is not a device node"))
    }

    fn of(path: &Path, meta: &std::fs::Metadata) -> Option<Self> {
        let kind = meta.file_type();
        (kind.is_block_device() || kind.is_char_device()).then(|| Self {
            path: path.to_owned(),
            block: kind.is_block_device(),
            major: major(meta.rdev()) as i64,
            minor: minor(meta.rdev()) as i64,
            mode: meta.mode() & 0o7777,
            uid: meta.uid(),
            gid: meta.gid(),
        })
    }

    /// Every node of the host, for a privileged container. Left out are the
    /// console and directories that the container has of its own.
    pub(super) fn all() -> Result<Vec<Self>, Cause> {
        let mut found = Vec::new();
        let mut todo = vec![PathBuf::from("/dev")];
        while let Some(dir) = todo.pop() {
            let entries = std::fs::read_dir(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
            for entry in entries.flatten() {
                let path = entry.path();
                let own = [
                    "/dev/pts",
                    "/dev/shm",
                    "/dev/mqueue",
                    "/dev/fd",
                    "/dev/console",
                ];
                let name = entry.file_name();
                if own.iter().any(|o| path == Path::new(o)) || name == ".udev" {
                    continue;
                }
                // A node that has just gone, or a link, is no node.
                let Ok(meta) = std::fs::symlink_metadata(&path) else {
                    continue;
                };
                if meta.is_dir() {
                    todo.push(path);
                } else {
                    found.extend(Self::of(&path, &meta));
                }
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    fn kind(&self) -> LinuxDeviceType {
        if self.block {
            LinuxDeviceType::B
        } else {
            LinuxDeviceType::C
        }
    }

    /// The node as the runtime makes it in the container.
    pub(super) fn node(&self) -> Result<LinuxDevice, Cause> {
        LinuxDeviceBuilder::default()
            .path(self.path.clone())
            .typ(self.kind())
            .major(self.major)
            .minor(self.minor)
            .file_mode(self.mode)
            .uid(self.uid)
            .gid(self.gid)
            .build()
            .map_err(text)
    }

    fn rule(&self) -> Result<LinuxDeviceCgroup, Cause> {
        rule(Some((self.kind(), self.major, Some(self.minor))), true)
    }
}

/// `None` is every device.
fn rule(
    device: Option<(LinuxDeviceType, i64, Option<i64>)>,
    allow: bool,
) -> Result<LinuxDeviceCgroup, Cause> {
    let mut builder = LinuxDeviceCgroupBuilder::default()
        .allow(allow)
        .access("rwm");
    if let Some((kind, major, minor)) = device {
        builder = builder.typ(kind).major(major);
        if let Some(minor) = minor {
            builder = builder.minor(minor);
        }
    }
    builder.build().map_err(text)
}

/// Rules of the device cgroup: nothing, but for the harmless nodes every
/// container has (null, zero, full, random, urandom, tty, console, ptmx, pts),
/// and those asked for. A privileged container may use all.
pub(super) fn rules(privileged: bool, devices: &[Device]) -> Result<Vec<LinuxDeviceCgroup>, Cause> {
    if privileged {
        return Ok(vec![rule(None, true)?]);
    }
    let character = |major, minor| rule(Some((LinuxDeviceType::C, major, minor)), true);
    let mut rules = vec![rule(None, false)?];
    for minor in [3, 5, 7, 8, 9] {
        rules.push(character(1, Some(minor))?);
    }
    for minor in [0, 1, 2] {
        rules.push(character(5, Some(minor))?);
    }
    rules.push(character(136, None)?);
    for device in devices {
        rules.push(device.rule()?);
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_described_as_the_host_has_it() {
        let device = Device::at("/dev/zero").unwrap();
        assert_eq!((device.block, device.major, device.minor), (false, 1, 5));
        let node = device.node().unwrap();
        assert_eq!(node.path(), Path::new("/dev/zero"));
        assert_eq!(node.typ(), LinuxDeviceType::C);
    }

    #[test]
    fn what_is_no_device_is_refused_by_name() {
        for bad in [
            "/etc/passwd",
            "dev/null",
            "/dev/../etc/passwd",
            "/dev/nope",
            "/dev/pts",
        ] {
            let error = Device::at(bad).unwrap_err();
            assert!(error.contains(bad), "{error}");
        }
    }

    #[test]
    fn everything_else_is_denied_first() {
        let rules = rules(false, &[Device::at("/dev/zero").unwrap()]).unwrap();
        let json = serde_json::to_value(&rules).unwrap();
        assert_eq!(
            json[0],
            serde_json::json!({"allow": false, "access": "rwm"})
        );
        assert_eq!(
            json[rules.len() - 1],
            serde_json::json!({"allow": true, "type": "c", "major": 1, "minor": 5, "access": "rwm"})
        );
        assert!(rules[1..].iter().all(LinuxDeviceCgroup::allow));
    }

    #[test]
    fn a_privileged_container_gets_the_hosts_nodes_but_not_its_console() {
        let all = Device::all().unwrap();
        assert!(all.iter().any(|d| d.path == Path::new("/dev/null")));
        assert!(
            !all.iter()
                .any(|d| d.path.starts_with("/dev/pts") || d.path == Path::new("/dev/console"))
        );
    }
}
