//! Secrets on disk: 0600, made at first use.

use rustix::rand::GetRandomFlags;

use super::{Error, Result};
use crate::sys::beneath::{Root, Sync};

const MODE: u32 = 0o600;

/// Random bytes from the kernel.
pub fn secret<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        filled += rustix::rand::getrandom(&mut bytes[filled..], GetRandomFlags::empty())
            .map_err(|e| Error::setup("asking for random bytes")(e.to_string()))?;
    }
    Ok(bytes)
}

/// A file's content; made when there is none. Of two that make it at once both
/// get the same.
pub fn read_or_make(
    root: &Root,
    path: &str,
    make: impl FnOnce() -> Result<Vec<u8>>,
) -> Result<Vec<u8>> {
    if let Some((_, bytes)) = root.read(path)? {
        return Ok(bytes);
    }
    let made = make()?;
    if root.place(path, &made, MODE)? {
        return Ok(made);
    }
    root.read(path)?
        .map(|(_, bytes)| bytes)
        .ok_or_else(|| Error::setup(path)("it vanished".to_owned()))
}

/// Replaces a file.
pub fn write(root: &Root, path: &str, bytes: &[u8]) -> Result<()> {
    Ok(root.replace(path, bytes, MODE, Sync::Full)?)
}
