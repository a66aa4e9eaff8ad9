//! Secrets on disk: below `auth/`, 0600, made at first use.

use rustix::rand::GetRandomFlags;

use crate::registry::{Error, Result, Storage};
use crate::sys::beneath::join;

const DIR: &str = "auth";
const MODE: u32 = 0o600;

/// Place of a file.
pub(super) fn path(name: &str) -> String {
    join(DIR, name)
}

/// Random bytes from the kernel.
pub fn secret<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        filled += rustix::rand::getrandom(&mut bytes[filled..], GetRandomFlags::empty())
            .map_err(|e| Error::io("asking for random bytes")(e.into()))?;
    }
    Ok(bytes)
}

/// A file's content; made when there is none. Of two that make it at once both
/// get the same.
pub fn read_or_make(
    storage: &Storage,
    name: &str,
    make: impl FnOnce() -> Result<Vec<u8>>,
) -> Result<Vec<u8>> {
    let path = path(name);
    if let Some((_, bytes)) = storage.root().read(&path)? {
        return Ok(bytes);
    }
    let made = make()?;
    if storage.root().place(&path, &made, MODE)? {
        return Ok(made);
    }
    storage
        .root()
        .read(&path)?
        .map(|(_, bytes)| bytes)
        .ok_or_else(|| Error::Setup {
            what: path,
            why: "it vanished".to_owned(),
        })
}

/// Replaces a file.
pub(super) fn write(storage: &Storage, name: &str, bytes: &[u8]) -> Result<()> {
    let sync = crate::sys::beneath::Sync::Full;
    storage.root().replace(&path(name), bytes, MODE, sync)?;
    Ok(())
}
