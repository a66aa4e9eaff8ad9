//! What the host has to say about a container: all reading that the pure part
//! of the spec builder must not do.

use oci_spec::runtime::{Capabilities, LinuxSeccomp};

use super::devices::Device;
use super::{Cause, capabilities, seccomp};
use crate::model::{MountKind, Seccomp};
use crate::runtime::ContainerRequest;

/// Facts of the host that decide over a spec.
#[derive(Debug, Clone)]
pub(super) struct Host {
    /// Capabilities that can be handed on.
    pub(super) capabilities: Capabilities,
    /// The device nodes the container gets.
    pub(super) devices: Vec<Device>,
    /// The kernel can make a tree of mounts read-only.
    pub(super) recursive_ro: bool,
    /// The score of the kernel's out-of-memory killer may be set to 0.
    pub(super) set_oom_score: bool,
    /// The user's own filter.
    pub(super) profile: Option<LinuxSeccomp>,
}

impl Host {
    /// Looks at everything the request names: devices, bind sources, profiles.
    /// Blocks.
    pub(super) fn look(request: &ContainerRequest) -> Result<Self, Cause> {
        let spec = &request.spec;
        for mount in &spec.mounts {
            let MountKind::Bind(source) = &mount.kind else {
                continue;
            };
            if !source.starts_with('/') {
                return Err(format!(
                    "bind source {source:?} (for {}) is not an absolute path",
                    mount.target
                ));
            }
            std::fs::metadata(source)
                .map_err(|e| format!("bind source {source} (for {}): {e}", mount.target))?;
        }
        for (source, target) in &request.files {
            std::fs::metadata(source)
                .map_err(|e| format!("file {} (for {target}): {e}", source.display()))?;
        }
        let mut devices: Vec<Device> = if spec.privileged {
            Device::all()?
        } else {
            Vec::new()
        };
        for path in &spec.devices {
            let device = Device::at(path)?;
            if devices.iter().all(|d| d.path != device.path) {
                devices.push(device);
            }
        }
        Ok(Self {
            capabilities: capabilities::available()?,
            devices,
            recursive_ro: kernel_at_least(5, 12),
            set_oom_score: own_oom_score() <= 0,
            profile: match &spec.security.seccomp {
                Seccomp::Profile(path) => Some(seccomp::profile(path)?),
                Seccomp::Default | Seccomp::Unconfined => None,
            },
        })
    }
}

fn kernel_at_least(major: u32, minor: u32) -> bool {
    let Ok(name) = nix::sys::utsname::uname() else {
        return false;
    };
    let release = name.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let mut next = || numbers.next().and_then(|n| n.parse::<u32>().ok());
    match (next(), next()) {
        (Some(a), Some(b)) => (a, b) >= (major, minor),
        _ => false,
    }
}

/// Lowering the score below what one was given needs CAP_SYS_RESOURCE, which a
/// host may lack; where we were given a raised one, containerd probably was too.
fn own_oom_score() -> i32 {
    let score = std::fs::read_to_string("/proc/self/oom_score_adj");
    score.ok().and_then(|s| s.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::tests::request;
    use super::*;
    use crate::model::Mount;

    #[test]
    fn missing_sources_are_named() {
        for (source, why) in [("/nowhere/at/all", "No such file"), ("here", "absolute")] {
            let mut request = request();
            request.spec.mounts = vec![Mount {
                kind: MountKind::Bind(source.into()),
                target: "/data".into(),
                read_only: true,
            }];
            let error = Host::look(&request).unwrap_err();
            assert!(error.contains(source) && error.contains(why), "{error}");
        }
        let mut request = request();
        request.files = vec![("/nowhere/hosts".into(), "/etc/hosts".into())];
        assert!(Host::look(&request).unwrap_err().contains("/nowhere/hosts"));
    }

    #[test]
    fn versions_are_compared_by_number() {
        assert!(kernel_at_least(2, 6));
        assert!(!kernel_at_least(99, 0));
    }
}
