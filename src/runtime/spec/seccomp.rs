//! The system call filter of a container.

use oci_spec::runtime::{
    Arch, Capabilities, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompBuilder, LinuxSeccompOperator, LinuxSyscall, LinuxSyscallBuilder,
};

use super::syscalls::{ALWAYS, CLONE_NAMESPACES, FAMILIES, PERSONALITIES, WITH};
use super::{Cause, text};

/// Largest profile file that is read, in bytes.
const MAX_PROFILE: u64 = 1024 * 1024;

/// The built-in profile for a container with these capabilities. `narrow`: the
/// image is made for the 32-bit sibling of this machine's architecture. Its calls
/// are then allowed too; otherwise they end the process, because that second way
/// into the kernel costs every start milliseconds and nobody uses it.
pub(super) fn default_profile(
    bounding: &Capabilities,
    narrow: bool,
) -> Result<LinuxSeccomp, Cause> {
    let mut names: Vec<&str> = ALWAYS
        .iter()
        .flat_map(|group| group.iter().copied())
        .collect();
    for (capability, group) in WITH {
        if bounding.contains(capability) {
            names.extend(*group);
        }
    }
    names.sort_unstable();
    names.dedup();
    let free = |name: &str| names.binary_search(&name).is_ok();

    let mut rules = Vec::new();
    if !free("clone") {
        // Threads and processes, but no new namespaces.
        // s390x has the first two arguments the other way round.
        let flags = usize::from(std::env::consts::ARCH == "s390x");
        let no_flag = masked(flags, CLONE_NAMESPACES, 0)?;
        rules.push(rule(
            &["clone"],
            LinuxSeccompAction::ScmpActAllow,
            vec![no_flag],
        )?);
    }
    if !free("clone3") {
        // Its flags are behind a pointer no filter can follow; libraries fall
        // back to `clone` on this answer.
        let mut absent = rule(&["clone3"], LinuxSeccompAction::ScmpActErrno, Vec::new())?;
        absent.set_errno_ret(Some(nix::errno::Errno::ENOSYS as u32));
        rules.push(absent);
    }
    for (name, values) in [("socket", FAMILIES), ("personality", PERSONALITIES)] {
        for &value in values {
            // Both take 32 bits; what is above them must not decide.
            let same = masked(0, 0xffff_ffff, value)?;
            rules.push(rule(&[name], LinuxSeccompAction::ScmpActAllow, vec![same])?);
        }
    }
    rules.insert(
        0,
        rule(&names, LinuxSeccompAction::ScmpActAllow, Vec::new())?,
    );

    LinuxSeccompBuilder::default()
        .default_action(LinuxSeccompAction::ScmpActErrno)
        .architectures(architectures(std::env::consts::ARCH, narrow))
        .syscalls(rules)
        .build()
        .map_err(text)
}

/// A profile in a host file, in the runtime specification's form.
pub(super) fn profile(path: &str) -> Result<LinuxSeccomp, Cause> {
    use std::io::Read as _;

    let failed = |e: &dyn std::fmt::Display| format!("seccomp profile {path}: {e}");
    if !path.starts_with('/') {
        return Err(failed(&"the path must be absolute"));
    }
    let file = std::fs::File::open(path).map_err(|e| failed(&e))?;
    if !file.metadata().map_err(|e| failed(&e))?.is_file() {
        return Err(failed(&"it is not a regular file"));
    }
    let mut json = Vec::new();
    file.take(MAX_PROFILE + 1)
        .read_to_end(&mut json)
        .map_err(|e| failed(&e))?;
    if json.len() as u64 > MAX_PROFILE {
        return Err(failed(&format!("it is larger than {MAX_PROFILE} bytes")));
    }
    serde_json::from_slice(&json).map_err(|e| failed(&e))
}

fn architectures(host: &str, narrow: bool) -> Vec<Arch> {
    let (native, sibling) = match host {
        "x86_64" => (Arch::ScmpArchX86_64, Some(Arch::ScmpArchX86)),
        "aarch64" => (Arch::ScmpArchAarch64, Some(Arch::ScmpArchArm)),
        _ => (Arch::ScmpArchNative, None),
    };
    let sibling = sibling.filter(|_| narrow);
    [native].into_iter().chain(sibling).collect()
}

fn rule(
    names: &[&str],
    action: LinuxSeccompAction,
    args: Vec<LinuxSeccompArg>,
) -> Result<LinuxSyscall, Cause> {
    let rule = LinuxSyscallBuilder::default()
        .names(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>())
        .action(action);
    let rule = if args.is_empty() {
        rule
    } else {
        rule.args(args)
    };
    rule.build().map_err(text)
}

/// Argument `index`, of which only the bits of `mask` count, is `value`.
fn masked(index: usize, mask: u64, value: u64) -> Result<LinuxSeccompArg, Cause> {
    LinuxSeccompArgBuilder::default()
        .index(index)
        .value(mask)
        .value_two(value)
        .op(LinuxSeccompOperator::ScmpCmpMaskedEq)
        .build()
        .map_err(text)
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::Capability;

    use super::*;

    fn names(profile: &LinuxSeccomp) -> Vec<String> {
        let rules = profile.syscalls().as_ref().unwrap();
        rules
            .iter()
            .filter(|r| r.action() == LinuxSeccompAction::ScmpActAllow && r.args().is_none())
            .flat_map(|r| r.names().clone())
            .collect()
    }

    #[test]
    fn a_call_is_in_one_group_only() {
        let mut all: Vec<&str> = ALWAYS.iter().flat_map(|g| g.iter().copied()).collect();
        all.sort_unstable();
        let before = all.clone();
        all.dedup();
        assert_eq!(all, before);
        for (_, group) in WITH {
            for name in *group {
                assert!(!all.contains(name), "{name} is allowed anyway");
            }
        }
    }

    #[test]
    fn dangerous_calls_need_their_capability() {
        let none = names(&default_profile(&Capabilities::new(), false).unwrap());
        for name in [
            "mount",
            "unshare",
            "setns",
            "bpf",
            "reboot",
            "chroot",
            "clone",
            "clone3",
            "socket",
            "keyctl",
            "io_uring_setup",
            "userfaultfd",
            "kexec_load",
            "init_module",
            "socketcall",
        ] {
            assert!(!none.iter().any(|n| n == name), "{name}");
        }
        let admin = names(&default_profile(&[Capability::SysAdmin].into(), false).unwrap());
        for name in ["mount", "unshare", "setns", "clone", "clone3"] {
            assert!(admin.iter().any(|n| n == name), "{name}");
        }
        assert!(!admin.iter().any(|n| n == "init_module" || n == "socket"));
    }

    #[test]
    fn the_32_bit_calls_come_with_a_32_bit_image() {
        assert_eq!(architectures("x86_64", false), [Arch::ScmpArchX86_64]);
        let both = [Arch::ScmpArchX86_64, Arch::ScmpArchX86];
        assert_eq!(architectures("x86_64", true), both);
        assert_eq!(architectures("vax", true), [Arch::ScmpArchNative]);
    }

    #[test]
    fn with_sys_admin_no_rule_contradicts_the_free_calls() {
        let profile = default_profile(&[Capability::SysAdmin].into(), false).unwrap();
        let rules = profile.syscalls().as_ref().unwrap();
        let clone = rules
            .iter()
            .filter(|r| r.names().iter().any(|n| n.starts_with("clone")));
        assert_eq!(clone.count(), 1);
    }

    #[test]
    fn profiles_come_from_absolute_regular_files_of_the_right_form() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.json");
        let good =
            serde_json::to_vec(&default_profile(&Capabilities::new(), false).unwrap()).unwrap();
        std::fs::write(&path, good).unwrap();
        let path = path.to_str().unwrap();
        assert_eq!(
            profile(path).unwrap(),
            default_profile(&Capabilities::new(), false).unwrap()
        );
        for (bad, why) in [
            ("p.json", "absolute"),
            ("/nowhere/p.json", "No such file"),
            ("/dev/null", "regular"),
        ] {
            let error = profile(bad).unwrap_err();
            assert!(error.contains(why) && error.contains(bad), "{error}");
        }
        std::fs::write(path, "{\"defaultAction\": 3}").unwrap();
        assert!(profile(path).unwrap_err().contains(path));
    }
}
