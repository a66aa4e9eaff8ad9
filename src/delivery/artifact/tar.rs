//! USTAR archives (POSIX.1-2024, pax, "ustar Interchange Format"): owners and
//! times are 0, so that the same files are the same bytes.

/// Record size.
const RECORD: usize = 512;
/// Longest name, and what may stand in front of it.
const NAME: usize = 100;
const PREFIX: usize = 155;

/// An archive of one file: mode 0644, ids and time 0, no names of owners.
pub(super) fn single(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 4 * RECORD);
    append(&mut out, name, false, bytes);
    finish(&mut out);
    out
}

/// Adds a file, with mode 0644 or 0755.
pub(in crate::delivery) fn append(out: &mut Vec<u8>, name: &str, executable: bool, bytes: &[u8]) {
    let (prefix, short) = match split(name) {
        Some(parts) => parts,
        None => {
            let record = long_name(name);
            entry(out, b'x', "", "pax", false, record.as_bytes());
            ("", "long")
        }
    };
    entry(out, b'0', prefix, short, executable, bytes);
}

/// Two empty records end an archive.
pub(in crate::delivery) fn finish(out: &mut Vec<u8>) {
    out.resize(out.len() + 2 * RECORD, 0);
}

fn entry(out: &mut Vec<u8>, kind: u8, prefix: &str, name: &str, executable: bool, bytes: &[u8]) {
    let mut header = [0_u8; RECORD];
    let mut put =
        |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, if executable { "0000755" } else { "0000644" });
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{:011o}", bytes.len()));
    put(136, "00000000000");
    put(148, "        ");
    put(257, "ustar\u{0}00");
    put(329, "0000000");
    put(337, "0000000");
    put(345, prefix);
    header[156] = kind;
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    out.extend_from_slice(&header);
    out.extend_from_slice(bytes);
    // Up to the next record.
    out.resize(out.len().next_multiple_of(RECORD), 0);
}

/// A name in the two fields of a header, where it fits.
fn split(name: &str) -> Option<(&str, &str)> {
    if name.len() <= NAME {
        return Some(("", name));
    }
    let mut slashes = name.match_indices('/').map(|(at, _)| at);
    let at = slashes.find(|at| *at > 0 && name.len() - at - 1 <= NAME)?;
    (at <= PREFIX).then(|| (&name[..at], &name[at + 1..]))
}

/// A pax record with a name that no header holds; it counts its own length.
fn long_name(name: &str) -> String {
    let rest = format!(" path={name}\n");
    let mut length = rest.len() + 1;
    while length.to_string().len() + rest.len() != length {
        length = length.to_string().len() + rest.len();
    }
    format!("{length}{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_where_they_fit() {
        let (front, back) = ("p".repeat(PREFIX), "n".repeat(NAME));
        assert_eq!(split("a/b"), Some(("", "a/b")));
        let both = format!("{front}/{back}");
        assert_eq!(split(&both), Some((front.as_str(), back.as_str())));
        assert_eq!(split(&format!("x{both}")), None);
        assert_eq!(split(&"n".repeat(NAME + 1)), None);
    }

    #[test]
    fn a_pax_record_counts_itself() {
        for length in [1, 80, 89, 90, 91, 92, 93, 984, 990] {
            let record = long_name(&"n".repeat(length));
            let told = record.split(' ').next().expect("a number");
            assert_eq!(told.parse(), Ok(record.len()), "{length}");
        }
    }
}
