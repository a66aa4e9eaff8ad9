//! Facts about processes (proc_pid_stat(5)).

/// What the kernel says of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Field 3: `R`, `S`, `D`, `Z` and so on.
    state: char,
    /// Field 4.
    pub parent: u32,
    /// Field 5, the process group.
    pub group: i32,
    /// Field 20.
    threads: u32,
    /// Field 22, the start time in ticks since boot.
    pub start: u64,
}

impl Stat {
    fn parse(line: &str) -> Option<Self> {
        // The name may hold blanks and parentheses; the last one ends it.
        let mut fields = line.rsplit_once(')')?.1.split_ascii_whitespace();
        Some(Self {
            state: fields.next()?.chars().next()?,
            parent: fields.next()?.parse().ok()?,
            group: fields.next()?.parse().ok()?,
            threads: fields.nth(14)?.parse().ok()?,
            start: fields.nth(1)?.parse().ok()?,
        })
    }

    /// Whether it has ended, although its parent did not ask for its end yet. A
    /// first thread can have ended before the others.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X') && self.threads <= 1
    }
}

/// What is known of a process; none when it is gone.
pub fn stat(pid: u32) -> Option<Stat> {
    Stat::parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// All processes that can be seen.
pub fn all() -> Vec<u32> {
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_ended_is_told() {
        let line = |state: &str, threads: u32| {
            format!("9 (a) b) {state} 1 7 9 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 {threads} 0 4711 5")
        };
        for (line, ended) in [
            (line("S", 1), false),
            (line("D", 4), false),
            (line("Z", 3), false),
            (line("Z", 1), true),
        ] {
            let stat = Stat::parse(&line).unwrap();
            assert_eq!((stat.parent, stat.group, stat.start), (1, 7, 4711));
            assert_eq!(stat.has_ended(), ended, "{line}");
        }
        assert_eq!(Stat::parse("9 (a"), None);
    }

    #[test]
    fn this_process_is_seen() {
        let pid = std::process::id();
        assert!(all().contains(&pid));
        let stat = stat(pid).unwrap();
        assert_eq!(stat.parent, std::os::unix::process::parent_id());
        assert!(stat.start > 0 && !stat.has_ended());
    }
}
