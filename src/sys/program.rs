//! Keeps the resident memory of a process that has little to do small.

use std::path::Path;

/// Takes the program's code out of this process' page tables; it stays in the
/// page cache, and what runs comes back at the first use, 64 KiB at a time.
#[allow(unsafe_code)] // madvise has no safe wrapper.
pub fn unmap() {
    let (Ok(program), Ok(maps)) = (
        std::fs::read_link("/proc/self/exe"),
        std::fs::read_to_string("/proc/self/maps"),
    ) else {
        return;
    };
    for (begin, end) in maps.lines().filter_map(|line| code_of(line, &program)) {
        let begin = std::ptr::without_provenance_mut(begin);
        // SAFETY: the range is a private mapping of a file, executable and not
        // writable, so no page of it differs from the file, and madvise(2) reads
        // it from there again.
        let done =
            unsafe { nix::libc::madvise(begin, end - begin.addr(), nix::libc::MADV_DONTNEED) };
        if done != 0 {
            tracing::debug!(error = %std::io::Error::last_os_error(), "madvise");
        }
    }
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
    fn the_program_goes_on_afterwards() {
        let resident = || {
            let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
            statm.split(' ').nth(2).unwrap().parse::<u64>().unwrap()
        };
        let before = resident();
        unmap();
        let after = resident();
        assert!(after < before, "{after} pages of files, {before} before");
    }
}
