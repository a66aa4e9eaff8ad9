//! A USTAR archive with one file (POSIX.1-2024, pax, "ustar Interchange Format").

/// Record size.
const RECORD: usize = 512;

/// An archive of one file: mode 0644, ids and time 0, no names of owners.
pub(super) fn single(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut header = [0_u8; RECORD];
    let mut put =
        |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000644");
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{:011o}", bytes.len()));
    put(136, "00000000000");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\u{0}00");
    put(329, "0000000");
    put(337, "0000000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut out = Vec::with_capacity(bytes.len() + 4 * RECORD);
    out.extend_from_slice(&header);
    out.extend_from_slice(bytes);
    // Up to the next record, and two empty ones for the end.
    out.resize(out.len().next_multiple_of(RECORD) + 2 * RECORD, 0);
    out
}
