//! Limits: which file, which value, written and read back.
//!
//! `memory.swap.max` stays as the kernel has it. The manifest promises a limit
//! of memory; whether a cell may swap is the host's choice until there is a
//! field for it.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use super::{Error, Result, files};
use crate::model::Resources;

/// Most tasks a kernel can have (`PID_MAX_LIMIT`, linux/threads.h); `pids.max`
/// refuses more.
const PIDS_LIMIT: u64 = 4 * 1024 * 1024;

/// One limit as a file of the kernel.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Limit {
    /// Field of the manifest, below a container.
    pub field: &'static str,
    pub controller: &'static str,
    pub file: &'static str,
    /// What is asked for, in the file's unit; none for no limit.
    pub value: Option<u64>,
    /// What stands for no limit.
    pub none: &'static str,
}

impl Limit {
    fn text(&self) -> String {
        self.value
            .map_or_else(|| self.none.to_owned(), |v| v.to_string())
    }

    /// Whether the kernel keeps what was written. `memory.max` is kept in whole
    /// pages, and shown as `max` from the largest number of pages on.
    fn is_kept(&self, actual: &str) -> bool {
        let actual = actual.trim();
        match self.value {
            Some(wanted) if self.controller == "memory" => {
                let page = rustix::param::page_size() as u64;
                match actual.parse::<u64>() {
                    Ok(actual) => actual == wanted - wanted % page,
                    Err(_) => actual == "max" && wanted > i64::MAX as u64 - page,
                }
            }
            _ => actual == self.text(),
        }
    }
}

/// All limits of a container, set or not.
pub(super) fn limits(of: &Resources) -> [Limit; 3] {
    [
        Limit {
            field: "resources.memoryLimitBytes",
            controller: "memory",
            file: "memory.max",
            value: of.memory_bytes,
            none: "max",
        },
        Limit {
            field: "resources.cpuShares",
            controller: "cpu",
            file: "cpu.weight",
            value: of.cpu_shares.map(weight),
            none: "100",
        },
        Limit {
            field: "resources.pidsLimit",
            controller: "pids",
            file: "pids.max",
            value: of.pids.filter(|&n| n <= PIDS_LIMIT),
            none: "max",
        },
    ]
}

/// `cpu.weight` (1..=10000) for v1 shares (2..=262144): the linear mapping that
/// OCI runtimes use, so that a value means the same through either.
pub(super) fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9_999 / 262_142
}

/// Writes the limits that differ and reads each back.
pub(super) fn apply(cgroup: BorrowedFd<'_>, path: &str, of: &Resources) -> Result<()> {
    for limit in limits(of) {
        let failed = |e: Errno| Error::file(path, limit.file, e);
        let Some(now) = files::read(cgroup, limit.file).map_err(failed)? else {
            if limit.value.is_none() {
                continue;
            }
            let offered = files::read(cgroup, "cgroup.controllers").map_err(failed)?;
            let Some(offered) = offered else {
                return Err(Error::NotFound(path.to_owned()));
            };
            return Err(missing(&limit, offered.split_whitespace()));
        };
        if limit.is_kept(&now) {
            continue;
        }
        files::write(cgroup, limit.file, &limit.text()).map_err(failed)?;
        let now = files::read(cgroup, limit.file).map_err(failed)?;
        let now = now.unwrap_or_default();
        if !limit.is_kept(&now) {
            return Err(Error::NotApplied {
                path: path.to_owned(),
                file: limit.file.to_owned(),
                wanted: limit.text(),
                actual: now.trim().to_owned(),
            });
        }
    }
    Ok(())
}

/// Whether exactly these limits are in force. A file that is not there limits nothing.
pub(super) fn hold(cgroup: BorrowedFd<'_>, path: &str, of: &Resources) -> Result<bool> {
    for limit in limits(of) {
        let now = files::read(cgroup, limit.file).map_err(|e| Error::file(path, limit.file, e))?;
        let holds = now.map_or(limit.value.is_none(), |now| limit.is_kept(&now));
        if !holds {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The error for a limit without its controller.
pub(super) fn missing<'a>(limit: &Limit, offered: impl Iterator<Item = &'a str>) -> Error {
    let offered: Vec<&str> = offered.collect();
    let table = std::fs::read_to_string("/proc/cgroups").unwrap_or_default();
    Error::MissingController {
        limit: limit.field.to_owned(),
        controller: limit.controller.to_owned(),
        offered: match offered.as_slice() {
            [] => "none".to_owned(),
            some => some.join(", "),
        },
        remedy: remedy(limit, &table),
    }
}

/// What to do, from the kernel's table of controllers (cgroups(7), /proc/cgroups:
/// name, v1 hierarchy or 0, cgroups, enabled).
fn remedy(limit: &Limit, table: &str) -> String {
    let Limit {
        field, controller, ..
    } = limit;
    let row = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .find(|row| row.first() == Some(controller));
    let how = match row.as_deref() {
        Some([_, "0", _, "1"]) => format!(
            "have the cgroup above kukeon's delegate it (cgroup.subtree_control, \"+{controller}\")"
        ),
        Some([_, _, _, "1"]) => format!(
            "boot with systemd.unified_cgroup_hierarchy=1, or cgroup_no_v1={controller}: cgroup v1 uses the controller now"
        ),
        Some([_, _, _, "0"]) => {
            format!("boot without cgroup_disable={controller}, or with cgroup_enable={controller}")
        }
        _ => "use a kernel that has the controller".to_owned(),
    };
    format!("remove {field}, or {how}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn weights_cover_the_range() {
        for (shares, expected) in [
            (0, 1),
            (2, 1),
            (28, 1),
            (29, 2),
            (1024, 39),
            (262_144, 10_000),
            (u64::MAX, 10_000),
        ] {
            assert_eq!(weight(shares), expected, "{shares}");
        }
        let mut last = 0;
        for shares in 2..=262_144 {
            assert!(weight(shares) >= last && weight(shares) <= 10_000);
            last = weight(shares);
        }
    }

    #[test]
    fn what_the_kernel_keeps() {
        let of = |memory| Resources {
            memory_bytes: Some(memory),
            ..Resources::default()
        };
        let [memory, ..] = limits(&of(10_000_000));
        assert!(memory.is_kept("9998336\n"));
        assert!(!memory.is_kept("10000000\n"));
        assert!(!memory.is_kept("max\n"));
        let [memory, ..] = limits(&of(u64::MAX));
        assert!(memory.is_kept("max\n"));
        let [memory, cpu, pids] = limits(&Resources::default());
        assert!(memory.is_kept("max\n") && pids.is_kept("max\n") && cpu.is_kept("100\n"));
        assert!(!memory.is_kept("4096\n") && !pids.is_kept("1\n") && !cpu.is_kept("1\n"));
    }

    #[test]
    fn more_tasks_than_a_kernel_has_is_no_limit() {
        let of = |pids| Resources {
            pids: Some(pids),
            ..Resources::default()
        };
        assert_eq!(limits(&of(PIDS_LIMIT))[2].text(), "4194304");
        assert_eq!(limits(&of(PIDS_LIMIT + 1))[2].text(), "max");
    }

    #[test]
    fn the_remedy_fits_the_cause() {
        let [memory, ..] = limits(&Resources::default());
        for (row, word) in [
            ("memory\t0\t5\t1", "cgroup.subtree_control"),
            ("memory\t4\t23\t1", "cgroup_no_v1=memory"),
            ("memory\t0\t1\t0", "cgroup_disable=memory"),
            ("cpu\t0\t1\t1", "kernel that has"),
        ] {
            let table = format!("#subsys_name\thierarchy\tnum_cgroups\tenabled\n{row}\n");
            let text = remedy(&memory, &table);
            assert!(text.contains(word), "{row}: {text}");
            assert!(text.contains("resources.memoryLimitBytes"));
        }
    }

    #[test]
    fn writes_limits_and_lifts_them() {
        let dir = tempfile::tempdir().unwrap();
        let fd = std::fs::File::open(dir.path()).unwrap();
        let wanted = Resources {
            memory_bytes: Some(8192),
            cpu_shares: Some(1024),
            pids: Some(7),
        };
        // No file of the controller.
        std::fs::write(dir.path().join("cgroup.controllers"), "cpu pids\n").unwrap();
        let error = apply(fd.as_fd(), "/x", &wanted).unwrap_err();
        let Error::MissingController {
            controller,
            offered,
            ..
        } = error
        else {
            panic!("{error}");
        };
        assert_eq!(
            (controller.as_str(), offered.as_str()),
            ("memory", "cpu, pids")
        );
        // Plain files keep what is written.
        for (file, now) in [
            ("memory.max", "max\n"),
            ("cpu.weight", "100\n"),
            ("pids.max", "max\n"),
        ] {
            std::fs::write(dir.path().join(file), now).unwrap();
        }
        apply(fd.as_fd(), "/x", &wanted).unwrap();
        let read = |file| std::fs::read_to_string(dir.path().join(file)).unwrap();
        assert_eq!(
            [read("memory.max"), read("cpu.weight"), read("pids.max")],
            ["8192", "39", "7"]
        );
        apply(fd.as_fd(), "/x", &Resources::default()).unwrap();
        assert_eq!(
            [read("memory.max"), read("cpu.weight"), read("pids.max")],
            ["max", "100", "max"]
        );
    }
}
