//! One line of a log file: `<RFC 3339 UTC, nanoseconds> stdout|stderr F|P <bytes>\n`,
//! the form the Kubernetes container runtime interface defines.

use jiff::Timestamp;

/// Longest content of one line; a longer one is written as several with tag `P`.
pub const MAX_CONTENT: usize = 16 * 1024;

/// One line of container output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When it was read from the container's pipe.
    pub timestamp: Timestamp,
    /// Standard error instead of standard output.
    pub stderr: bool,
    /// The line goes on in the next entry of the same stream; no line break follows.
    pub partial: bool,
    /// The bytes, without the line break.
    pub data: Vec<u8>,
}

impl LogLine {
    /// Reads one line of a log file, without its `\n`. `None` when it is damaged
    /// (a power cut leaves torn lines behind).
    pub fn parse(line: &[u8]) -> Option<Self> {
        let (timestamp, rest) = split(line)?;
        let (stream, rest) = split(rest)?;
        let (tag, data) = split(rest)?;
        Some(Self {
            timestamp: std::str::from_utf8(timestamp).ok()?.parse().ok()?,
            stderr: match stream {
                b"stdout" => false,
                b"stderr" => true,
                _ => return None,
            },
            partial: match tag {
                b"F" => false,
                b"P" => true,
                _ => return None,
            },
            data: data.to_vec(),
        })
    }
}

/// Splits at the first blank.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|&b| b == b' ')?;
    Some((&bytes[..at], &bytes[at + 1..]))
}
