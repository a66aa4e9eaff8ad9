//! Capabilities of a container (capabilities(7)).

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, LinuxCapabilitiesBuilder};

use super::{Cause, text};
use crate::model::ContainerSpec;

/// Every capability in the kernel's numbering (linux/capability.h).
const KNOWN: [Capability; 41] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setpcap,
    Capability::LinuxImmutable,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::NetAdmin,
    Capability::NetRaw,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::SysModule,
    Capability::SysRawio,
    Capability::SysChroot,
    Capability::SysPtrace,
    Capability::SysPacct,
    Capability::SysAdmin,
    Capability::SysBoot,
    Capability::SysNice,
    Capability::SysResource,
    Capability::SysTime,
    Capability::SysTtyConfig,
    Capability::Mknod,
    Capability::Lease,
    Capability::AuditWrite,
    Capability::AuditControl,
    Capability::Setfcap,
    Capability::MacOverride,
    Capability::MacAdmin,
    Capability::Syslog,
    Capability::WakeAlarm,
    Capability::BlockSuspend,
    Capability::AuditRead,
    Capability::Perfmon,
    Capability::Bpf,
    Capability::CheckpointRestore,
];

/// What a container gets unless it says otherwise: containerd's set.
const DEFAULT: [Capability; 14] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fsetid,
    Capability::Fowner,
    Capability::Mknod,
    Capability::NetRaw,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setfcap,
    Capability::Setpcap,
    Capability::NetBindService,
    Capability::SysChroot,
    Capability::Kill,
    Capability::AuditWrite,
];

/// Capabilities this process could hand on: its bounding set. The host (or
/// whoever started us) may have taken some away for good.
pub(super) fn available() -> Result<Capabilities, Cause> {
    let status = std::fs::read_to_string("/proc/self/status")
        .map_err(|e| format!("/proc/self/status: {e}"))?;
    parse_bounding(&status).ok_or_else(|| "/proc/self/status has no CapBnd line".into())
}

fn parse_bounding(status: &str) -> Option<Capabilities> {
    let mask = status.lines().find_map(|l| l.strip_prefix("CapBnd:"))?;
    let mask = u64::from_str_radix(mask.trim(), 16).ok()?;
    let set = KNOWN.iter().enumerate();
    Some(
        set.filter(|(bit, _)| mask >> bit & 1 == 1)
            .map(|(_, c)| *c)
            .collect(),
    )
}

/// The set of a container: its start (all when privileged), minus `drop`, plus
/// `add`. Adding by name what the host cannot give is an error; `ALL` means all it can.
pub(super) fn wanted(
    spec: &ContainerSpec,
    available: &Capabilities,
) -> Result<Capabilities, Cause> {
    let mut set: Capabilities = if spec.privileged {
        available.clone()
    } else {
        DEFAULT
            .iter()
            .copied()
            .filter(|c| available.contains(c))
            .collect()
    };
    for name in &spec.capabilities.drop {
        if is_all(name) {
            set.clear();
        } else {
            set.remove(&parse(name)?);
        }
    }
    for name in &spec.capabilities.add {
        if is_all(name) {
            set.extend(available);
            continue;
        }
        let capability = parse(name)?;
        if !available.contains(&capability) {
            return Err(format!(
                "capability CAP_{capability} cannot be added: this host does not offer it"
            ));
        }
        set.insert(capability);
    }
    Ok(set)
}

fn bare(name: &str) -> String {
    let upper = name.to_ascii_uppercase();
    upper.strip_prefix("CAP_").unwrap_or(&upper).to_owned()
}

fn is_all(name: &str) -> bool {
    bare(name) == "ALL"
}

fn parse(name: &str) -> Result<Capability, Cause> {
    bare(name)
        .parse()
        .map_err(|_| format!("capability {name:?} does not exist"))
}

/// The set as a process gets it. Inheritable and ambient stay empty: programs
/// gain nothing by them but what their files say.
pub(super) fn process(set: &Capabilities) -> Result<LinuxCapabilities, Cause> {
    LinuxCapabilitiesBuilder::default()
        .bounding(set.clone())
        .effective(set.clone())
        .permitted(set.clone())
        .inheritable(Capabilities::new())
        .ambient(Capabilities::new())
        .build()
        .map_err(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(drop: &[&str], add: &[&str]) -> ContainerSpec {
        let mut spec = ContainerSpec::new("web".parse().unwrap(), "bb");
        spec.capabilities.drop = drop.iter().map(|s| (*s).into()).collect();
        spec.capabilities.add = add.iter().map(|s| (*s).into()).collect();
        spec
    }

    fn all() -> Capabilities {
        KNOWN.into_iter().collect()
    }

    #[test]
    fn the_table_is_in_kernel_order() {
        assert_eq!(all().len(), 41);
        let status = "Name:\tx\nCapBnd:\t0000000000200001\n";
        assert_eq!(
            parse_bounding(status).unwrap(),
            [Capability::Chown, Capability::SysAdmin].into()
        );
        assert_eq!(
            parse_bounding("CapBnd:\t000001ffffffffff\n").unwrap(),
            all()
        );
        assert!(parse_bounding("CapEff:\t1\n").is_none());
        // Anchors at both ends of what has been numbered since.
        assert_eq!(KNOWN[12], Capability::NetAdmin);
        assert_eq!(KNOWN[27], Capability::Mknod);
        assert_eq!(KNOWN[40], Capability::CheckpointRestore);
    }

    #[test]
    fn drop_comes_before_add() {
        let set = wanted(&spec(&["ALL"], &["CAP_CHOWN", "net_admin"]), &all()).unwrap();
        assert_eq!(set, [Capability::Chown, Capability::NetAdmin].into());
        let set = wanted(&spec(&["CAP_CHOWN"], &["CAP_CHOWN"]), &all()).unwrap();
        assert!(set.contains(&Capability::Chown));
        let set = wanted(&spec(&["CAP_MKNOD"], &[]), &all()).unwrap();
        assert_eq!(set.len(), DEFAULT.len() - 1);
    }

    #[test]
    fn nothing_the_host_lacks_is_handed_on() {
        let mut few = all();
        few.remove(&Capability::SysResource);
        few.remove(&Capability::Mknod);
        let mut privileged = spec(&[], &["ALL"]);
        privileged.privileged = true;
        assert_eq!(wanted(&privileged, &few).unwrap(), few);
        assert_eq!(
            wanted(&spec(&[], &[]), &few).unwrap().len(),
            DEFAULT.len() - 1
        );
        let error = wanted(&spec(&[], &["CAP_SYS_RESOURCE"]), &few).unwrap_err();
        assert!(error.contains("CAP_SYS_RESOURCE"), "{error}");
    }

    #[test]
    fn unknown_names_are_refused() {
        for (drop, add) in [(["CAP_FLY"], ["ALL"]), (["ALL"], ["CAP_FLY"])] {
            let error = wanted(&spec(&drop, &add), &all()).unwrap_err();
            assert!(error.contains("CAP_FLY"), "{error}");
        }
    }

    #[test]
    fn this_process_has_a_bounding_set() {
        assert!(available().unwrap().len() <= 41);
    }
}
