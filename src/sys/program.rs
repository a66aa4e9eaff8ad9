//! Keeps the resident memory of a process that has little to do small.

use std::path::Path;
use std::sync::OnceLock;

/// Bytes that a page fault may map of the program's code, where pages are no
/// larger. The kernel maps what it has of the 64 KiB around each
/// (`fault_around_bytes`), and what runs in a moment lies all over a large
/// program: most of that would never run.
const WINDOW: usize = 8 * 1024;

/// From now on a page fault maps little of the program's code. That costs more
/// faults: it is for a process that lives long.
#[allow(unsafe_code)] // madvise has no safe wrapper.
pub fn map_sparsely() {
    let window = window();
    for &(begin, end) in code() {
        // Nothing is mapped beyond the area (VMA) in which a fault lies, and
        // neighbours that differ in a flag are areas of their own. This flag
        // keeps pages out of core dumps, where code is not by default, and which
        // the program's file has anyway (core(5)).
        for at in (begin..end).step_by(2 * window) {
            let size = window.min(end - at);
            let at = std::ptr::without_provenance_mut(at);
            // SAFETY: the range lies in a mapping of this program's code, and
            // this advice of madvise(2) changes nothing but that flag.
            let done = unsafe { nix::libc::madvise(at, size, nix::libc::MADV_DONTDUMP) };
            if done != 0 {
                // No more areas are to be had: the rest is mapped as before.
                tracing::debug!(error = %std::io::Error::last_os_error(), "madvise");
                break;
            }
        }
    }
    unmap();
}

/// What [`WINDOW`] is on this machine.
fn window() -> usize {
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE);
    let page = page.ok().flatten().and_then(|size| size.try_into().ok());
    WINDOW.max(page.unwrap_or(WINDOW))
}

/// Takes the program's code out of this process' page tables; it stays in the
/// page cache, and what runs comes back at the first use.
#[allow(unsafe_code)] // madvise has no safe wrapper.
pub fn unmap() {
    for &(begin, end) in code() {
        let size = end - begin;
        let begin = std::ptr::without_provenance_mut(begin);
        // SAFETY: the range is a private mapping of a file, executable and not
        // writable, so the program has changed no page of it, and madvise(2)
        // reads it from the file again (without a debugger's breakpoints).
        let done = unsafe { nix::libc::madvise(begin, size, nix::libc::MADV_DONTNEED) };
        if done != 0 {
            tracing::debug!(error = %std::io::Error::last_os_error(), "madvise");
        }
    }
}

/// Address ranges of the program's code. They stay what they are while it runs.
fn code() -> &'static [(usize, usize)] {
    static CODE: OnceLock<Vec<(usize, usize)>> = OnceLock::new();
    CODE.get_or_init(|| {
        let (Ok(program), Ok(maps)) = (
            std::fs::read_link("/proc/self/exe"),
            std::fs::read_to_string("/proc/self/maps"),
        ) else {
            return Vec::new();
        };
        let ranges = maps.lines().filter_map(|line| code_of(line, &program));
        ranges.collect()
    })
}

/// Address range of a line of `/proc/PID/maps` (proc_pid_maps(5)) that is a
/// private, read-only mapping of the program's code.
fn code_of(line: &str, program: &Path) -> Option<(usize, usize)> {
    let mut fields = line.splitn(6, ' ');
    let (begin, end) = fields.next()?.split_once('-')?;
    let (mode, _offset, _device, _inode) = (
        fields.next()?,
        fields.next()?,
        fields.next()?,
        fields.next()?,
    );
    let path = Path::new(fields.next()?.trim_start());
    if mode != "r-xp" || path != program {
        return None;
    }
    let number = |text| usize::from_str_radix(text, 16).ok();
    let (begin, end) = (number(begin)?, number(end)?);
    (begin < end).then_some((begin, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_programs_own_code_is_given_back() {
        let program = Path::new("/usr/local/bin/kukeond");
        let line = |mode, path| {
            format!("1000-3000 {mode} 007a0000 fe:00 966743                     {path}")
        };
        let code = line("r-xp", "/usr/local/bin/kukeond");
        assert_eq!(code_of(&code, program), Some((0x1000, 0x3000)));
        for other in [
            line("rw-p", "/usr/local/bin/kukeond"),
            line("r--p", "/usr/local/bin/kukeond"),
            line("rwxp", "/usr/local/bin/kukeond"),
            line("r-xp", "/lib/ld.so"),
            line("r-xp", "[vdso]"),
            "1000-3000 rw-p 00000000 00:00 0".into(),
            "nonsense".into(),
            String::new(),
        ] {
            assert_eq!(code_of(&other, program), None, "{other}");
        }
    }

    #[test]
    fn the_program_goes_on_with_less() {
        let resident = || {
            let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
            statm.split(' ').nth(2).unwrap().parse::<u64>().unwrap()
        };
        let before = resident();
        map_sparsely();
        let after = resident();
        assert!(after < before, "{after} pages of files, {before} before");

        let program = std::fs::read_link("/proc/self/exe").unwrap();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let areas: Vec<_> = maps.lines().filter_map(|l| code_of(l, &program)).collect();
        assert!(areas.len() > 1, "{maps}");
        for (begin, end) in &areas {
            assert!(end - begin <= window(), "{begin:x}-{end:x}");
        }
        // A later look still takes all of it.
        let size = |ranges: &[(usize, usize)]| ranges.iter().map(|(b, e)| e - b).sum::<usize>();
        assert_eq!(size(code()), size(&areas));
        unmap();
    }
}
