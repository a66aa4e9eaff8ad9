//! Capabilities and security options.

use super::super::check::Check;
use crate::api::{closest, v1beta1};
use crate::model::{Capabilities, Seccomp, SecurityOptions};

/// Every capability of include/uapi/linux/capability.h up to Linux 6.x.
const CAPABILITIES: &[&str] = &[
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

/// Capability changes, names normalised to `CAP_X` or `ALL`.
pub(super) fn capabilities(
    check: &mut Check,
    path: &str,
    document: Option<v1beta1::Capabilities>,
) -> Capabilities {
    let v1beta1::Capabilities { drop, add } = document.unwrap_or_default();
    Capabilities {
        drop: names(check, &format!("{path}.drop"), drop),
        add: names(check, &format!("{path}.add"), add),
    }
}

fn names(check: &mut Check, path: &str, names: Vec<String>) -> Vec<String> {
    let mut out = Vec::new();
    for (i, text) in names.into_iter().enumerate() {
        let upper = text.to_ascii_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if bare == "ALL" {
            out.push("ALL".to_owned());
        } else if CAPABILITIES.contains(&bare) {
            out.push(format!("CAP_{bare}"));
        } else {
            let problem = check.bad(
                format!("{path}[{i}]"),
                "BadValue",
                format!("{text:?} is not a capability"),
            );
            if let Some(word) = closest(bare, CAPABILITIES) {
                problem.suggestion = format!("did you mean {word:?}?");
            }
        }
    }
    out
}

/// External form of capability changes.
pub(super) fn capabilities_to_external(from: &Capabilities) -> Option<v1beta1::Capabilities> {
    let Capabilities { drop, add } = from.clone();
    (*from != Capabilities::default()).then_some(v1beta1::Capabilities { drop, add })
}

/// `securityOpts`: `key`, `key=value` or `key:value`.
pub(super) fn options(check: &mut Check, path: &str, options: &[String]) -> SecurityOptions {
    let mut out = SecurityOptions::default();
    let mut seen: Vec<&str> = Vec::new();
    for (i, option) in options.iter().enumerate() {
        let at = format!("{path}[{i}]");
        let (key, value) = match option.split_once(['=', ':']) {
            Some((key, value)) => (key, Some(value)),
            None => (option.as_str(), None),
        };
        if seen.contains(&key) {
            check.bad(&at, "Duplicate", format!("{key:?} is given twice"));
        }
        seen.push(key);
        match (key, value) {
            ("no-new-privileges", None | Some("true")) => out.no_new_privileges = Some(true),
            ("no-new-privileges", Some("false")) => out.no_new_privileges = Some(false),
            ("no-new-privileges", Some(other)) => {
                check.bad(
                    &at,
                    "BadValue",
                    format!("{other:?} is neither true nor false"),
                );
            }
            ("seccomp", Some("unconfined")) => out.seccomp = Seccomp::Unconfined,
            ("seccomp", Some(profile)) if profile.starts_with('/') => {
                check.absolute(&at, profile);
                out.seccomp = Seccomp::Profile(profile.to_owned());
            }
            ("seccomp", _) => {
                check
                    .bad(&at, "BadValue", format!("{option:?} names no profile"))
                    .suggestion =
                    "write seccomp=unconfined or seccomp=<absolute path of a profile>".to_owned();
            }
            ("apparmor" | "label" | "selinux" | "systempaths", _) => {
                check.bad(&at, "NotSupported", format!("{key:?} is not supported"));
            }
            _ => {
                let problem = check.bad(
                    &at,
                    "BadValue",
                    format!("{option:?} is not a security option"),
                );
                let known = ["no-new-privileges", "seccomp"];
                if let Some(word) = closest(key, &known) {
                    problem.suggestion = format!("did you mean {word:?}?");
                }
            }
        }
    }
    out
}

/// External form of the security options.
pub(super) fn options_to_external(options: &SecurityOptions) -> Vec<String> {
    let SecurityOptions {
        no_new_privileges,
        seccomp,
    } = options;
    let privileges = no_new_privileges.map(|on| format!("no-new-privileges={on}"));
    let seccomp = match seccomp {
        Seccomp::Default => None,
        Seccomp::Unconfined => Some("seccomp=unconfined".to_owned()),
        Seccomp::Profile(path) => Some(format!("seccomp={path}")),
    };
    privileges.into_iter().chain(seccomp).collect()
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::Capability;

    use super::*;

    #[test]
    fn the_capability_list_is_that_of_the_runtime_spec() {
        for name in CAPABILITIES {
            assert!(name.parse::<Capability>().is_ok(), "{name}");
        }
        assert_eq!(CAPABILITIES.len(), 41); // CAP_LAST_CAP is 40
    }

    #[test]
    fn capabilities_are_normalised_and_strangers_refused() {
        let mut check = Check::default();
        let document = v1beta1::Capabilities {
            drop: vec!["all".to_owned()],
            add: vec![
                "net_admin".to_owned(),
                "CAP_CHOWN".to_owned(),
                "NET_ADMN".to_owned(),
            ],
        };
        let found = capabilities(&mut check, "c", Some(document));
        assert_eq!(found.drop, ["ALL"]);
        assert_eq!(found.add, ["CAP_NET_ADMIN", "CAP_CHOWN"]);
        let error = check.finish(Some(())).unwrap_err();
        assert_eq!(error.problems[0].path, "c.add[2]");
        assert!(error.problems[0].suggestion.contains("NET_ADMIN"));
    }

    #[test]
    fn options_grammar() {
        let read = |list: &[&str]| {
            let mut check = Check::default();
            let list: Vec<String> = list.iter().map(|s| (*s).to_owned()).collect();
            let found = options(&mut check, "s", &list);
            check.finish(Some(found))
        };
        assert_eq!(
            read(&["no-new-privileges:false", "seccomp=/etc/p.json"]).unwrap(),
            SecurityOptions {
                no_new_privileges: Some(false),
                seccomp: Seccomp::Profile("/etc/p.json".to_owned()),
            }
        );
        for bad in [
            "seccomp",
            "seccomp=p.json",
            "apparmor=x",
            "no-new-privilege",
            "no-new-privileges=1",
        ] {
            assert!(read(&[bad]).is_err(), "{bad}");
        }
        assert!(read(&["seccomp=unconfined", "seccomp=unconfined"]).is_err());
    }
}
