//! Roles of the one binary that are not verbs: programs that containerd, a
//! container or the daemon starts (log writer, containerd launcher, hello server).

pub mod hello;

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the role named by the first argument (`args` is without the program's
/// name). `None` when it names none. Called before anything else is set up:
/// roles must start quickly and stay small.
pub fn dispatch(args: &[OsString]) -> Option<ExitCode> {
    let (role, rest) = args.split_first()?;
    match role.to_str()? {
        crate::runtime::log::WRITER_ROLE => Some(crate::runtime::log::writer_main(rest)),
        hello::ROLE => Some(hello::main(rest)),
        crate::runtime::launch::ROLE => Some(crate::runtime::launch::launcher_main(rest)),
        _ => None,
    }
}
