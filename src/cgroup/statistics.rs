//! Current use, from the files of the controllers that are there.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use super::{Error, Result, Statistics, files};

pub(super) fn read(cgroup: BorrowedFd<'_>, path: &str) -> Result<Statistics> {
    let file = |name: &str| {
        files::read(cgroup, name).or_else(|e| match e {
            // cgroup_disable=pressure and the like.
            Errno::OPNOTSUPP => Ok(None),
            e => Err(Error::file(path, name, e)),
        })
    };
    let number = |name: &str| Ok::<_, Error>(file(name)?.and_then(|t| t.trim().parse().ok()));
    let io = file("io.stat")?;
    Ok(Statistics {
        cpu_usec: file("cpu.stat")?
            .and_then(|t| keyed(&t, "usage_usec"))
            .unwrap_or(0),
        memory_bytes: number("memory.current")?,
        // `max` is no number.
        memory_limit: number("memory.max")?,
        pids: number("pids.current")?,
        oom_kills: file("memory.events")?.and_then(|t| keyed(&t, "oom_kill")),
        io_read_bytes: io.as_deref().map(|t| nested_sum(t, "rbytes")),
        io_write_bytes: io.as_deref().map(|t| nested_sum(t, "wbytes")),
    })
}

/// Value of a key in a flat keyed file (`key value` lines).
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        line.strip_prefix(key)?
            .strip_prefix(' ')?
            .trim()
            .parse()
            .ok()
    })
}

/// Sum of a key over the lines of a nested keyed file (`8:0 rbytes=1 wbytes=2`).
fn nested_sum(text: &str, key: &str) -> u64 {
    text.split_whitespace()
        .filter_map(|word| {
            word.strip_prefix(key)?
                .strip_prefix('=')?
                .parse::<u64>()
                .ok()
        })
        .fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn reads_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let fd = std::fs::File::open(dir.path()).unwrap();
        let put = |name, text| std::fs::write(dir.path().join(name), text).unwrap();
        put("cpu.stat", "usage_usec 1234\nuser_usec 1000\n");
        let bare = read(fd.as_fd(), "/x").unwrap();
        assert_eq!(
            bare,
            Statistics {
                cpu_usec: 1234,
                ..Statistics::default()
            }
        );
        put("memory.current", "4096\n");
        put("memory.max", "max\n");
        put(
            "memory.events",
            "low 0\nhigh 0\nmax 3\noom 2\noom_kill 1\noom_group_kill 9\n",
        );
        put("pids.current", "3\n");
        put(
            "io.stat",
            "8:0 rbytes=10 wbytes=1 rios=7\n8:16 rbytes=5 wbytes=2 dbytes=9\n",
        );
        let full = read(fd.as_fd(), "/x").unwrap();
        assert_eq!(
            full,
            Statistics {
                cpu_usec: 1234,
                memory_bytes: Some(4096),
                memory_limit: None,
                pids: Some(3),
                oom_kills: Some(1),
                io_read_bytes: Some(15),
                io_write_bytes: Some(3),
            }
        );
        put("memory.max", "8192\n");
        assert_eq!(read(fd.as_fd(), "/x").unwrap().memory_limit, Some(8192));
    }
}
