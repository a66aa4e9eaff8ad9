//! The kernel's switch of forwarding between links (ip-sysctl.rst, `ip_forward`).
//! It belongs to nobody, so it is turned off again only by the instance that
//! turned it on, in the same boot, and when no bridge is left that may need it.

use std::fs;
use std::path::Path;

use super::{Error, Result, cache, netlink};

const SWITCH: &str = "/proc/sys/net/ipv4/ip_forward";
const BOOT: &str = "/proc/sys/kernel/random/boot_id";
/// File in the state directory: the boot in which we turned it on.
const NOTE: &str = "forwarding";

/// Turns forwarding on; `state` is the instance's own directory.
pub(super) fn enable(state: &Path) -> Result<()> {
    if fs::read(SWITCH).is_ok_and(|now| now.trim_ascii() == b"1") {
        return Ok(());
    }
    let note = state.join(NOTE);
    // Before the switch: a note too many costs nothing.
    let boot = fs::read(BOOT).unwrap_or_default();
    cache::replace(&note, &boot, false)
        .map_err(|e| Error::host(format!("writing {}", note.display()), e))?;
    fs::write(SWITCH, "1").map_err(|e| Error::host(format!("writing 1 to {SWITCH}"), e))
}

/// Turns forwarding off if nobody but this instance, whose links are gone, was
/// seen to want it.
pub(super) fn restore(state: &Path) -> Result<()> {
    let ours = match (fs::read(state.join(NOTE)), fs::read(BOOT)) {
        (Ok(noted), Ok(now)) => noted == now,
        _ => false,
    };
    let failed = |e| Error::host("turning forwarding off again", e);
    if !ours || netlink::links().map_err(failed)?.iter().any(|l| l.bridge) {
        return Ok(());
    }
    fs::write(SWITCH, "0").map_err(failed)
}
