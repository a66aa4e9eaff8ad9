//! One entry of a log file: `<RFC 3339 UTC, nanoseconds> stdout|stderr F|P <bytes>\n`,
//! the form the Kubernetes container runtime interface defines.

use jiff::Timestamp;

/// Longest content of one entry; a longer line is written as several with tag `P`.
pub const MAX_CONTENT: usize = 16 * 1024;

/// Longest entry: content, line break and a head of at most 48 bytes.
pub(super) const MAX_ENTRY: usize = MAX_CONTENT + 64;

/// One entry of container output.
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
    /// Reads one entry of a log file, without its `\n`. `None` when it is damaged
    /// (a power cut leaves torn entries behind).
    pub fn parse(entry: &[u8]) -> Option<Self> {
        let (timestamp, rest) = split(entry)?;
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

/// Appends one entry to `out`. `time` is [`stamp`]'s form, `content` has no line break.
pub(super) fn put(out: &mut Vec<u8>, time: &str, stream: &str, partial: bool, content: &[u8]) {
    out.extend_from_slice(time.as_bytes());
    out.push(b' ');
    out.extend_from_slice(stream.as_bytes());
    out.extend_from_slice(if partial { b" P " } else { b" F " });
    out.extend_from_slice(content);
    out.push(b'\n');
}

/// A moment with all nine digits of its nanoseconds.
pub(super) fn stamp(time: Timestamp) -> String {
    format!("{time:.9}")
}

/// Cuts one of the container's streams into entries.
#[derive(Debug)]
pub(super) struct Splitter {
    stream: &'static str,
    /// Bytes of a line whose end has not come yet; shorter than [`MAX_CONTENT`].
    pending: Vec<u8>,
    /// The last entry had the tag `P`.
    open: bool,
}

impl Splitter {
    /// For the stream of this name.
    pub(super) fn new(stream: &'static str) -> Self {
        Self {
            stream,
            pending: Vec::new(),
            open: false,
        }
    }

    /// Takes the next bytes and appends the entries that are complete with them.
    pub(super) fn push(&mut self, time: &str, mut bytes: &[u8], out: &mut Vec<u8>) {
        while !bytes.is_empty() {
            let room = MAX_CONTENT - self.pending.len();
            let look = &bytes[..bytes.len().min(room + 1)];
            if let Some(end) = look.iter().position(|&b| b == b'\n') {
                self.entry(time, false, &bytes[..end], out);
                bytes = &bytes[end + 1..];
            } else if look.len() > room {
                self.entry(time, true, &bytes[..room], out);
                bytes = &bytes[room..];
            } else {
                self.pending.extend_from_slice(bytes);
                return;
            }
        }
    }

    /// Whether bytes wait for the end of their line.
    pub(super) fn waits(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Appends what waits without its line's end: a prompt shall be seen.
    pub(super) fn flush(&mut self, time: &str, out: &mut Vec<u8>) {
        if self.waits() {
            self.entry(time, true, b"", out);
        }
    }

    /// The stream has ended: ends the last line as well, so that a later start's
    /// output does not become its continuation.
    pub(super) fn finish(&mut self, time: &str, out: &mut Vec<u8>) {
        if self.waits() || self.open {
            self.entry(time, false, b"", out);
        }
    }

    fn entry(&mut self, time: &str, partial: bool, rest: &[u8], out: &mut Vec<u8>) {
        if self.pending.is_empty() {
            put(out, time, self.stream, partial, rest);
        } else {
            self.pending.extend_from_slice(rest);
            put(out, time, self.stream, partial, &self.pending);
            self.pending.clear();
        }
        self.open = partial;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TIME: &str = "2026-11-22T04:28:00.000000001Z";

    fn lines(out: &[u8]) -> Vec<LogLine> {
        out.split(|&b| b == b'\n')
            .filter(|l| !l.is_empty())
            .map(|l| {
                LogLine::parse(l).unwrap_or_else(|| panic!("{:?}", String::from_utf8_lossy(l)))
            })
            .collect()
    }

    #[test]
    fn an_entry_is_written_in_the_documented_form() {
        let mut out = Vec::new();
        let time: Timestamp = "2026-11-22T04:28:00.5Z".parse().unwrap();
        put(&mut out, &stamp(time), "stderr", false, b"a b");
        assert_eq!(out, b"2026-11-22T04:28:00.500000000Z stderr F a b\n");
    }

    #[test]
    fn damaged_entries_are_refused() {
        for bad in [
            "",
            "2026-11-22T04:28:00Z",
            "2026-11-22T04:28:00Z stdout",
            "2026-11-22T04:28:00Z stdout F",
            "2026-11-22T04:28:00Z stdin F x",
            "2026-11-22T04:28:00Z stdout X x",
            "yesterday stdout F x",
            "\0\0\0\0",
        ] {
            assert_eq!(LogLine::parse(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn a_line_of_exactly_the_limit_is_one_entry_and_one_more_byte_makes_two() {
        for (length, want) in [
            (MAX_CONTENT, vec![(MAX_CONTENT, false)]),
            (MAX_CONTENT + 1, vec![(MAX_CONTENT, true), (1, false)]),
            (
                2 * MAX_CONTENT,
                vec![(MAX_CONTENT, true), (MAX_CONTENT, false)],
            ),
        ] {
            let mut out = Vec::new();
            let mut text = vec![b'x'; length];
            text.push(b'\n');
            Splitter::new("stdout").push(TIME, &text, &mut out);
            let got: Vec<_> = lines(&out)
                .iter()
                .map(|l| (l.data.len(), l.partial))
                .collect();
            assert_eq!(got, want);
        }
    }

    #[test]
    fn a_prompt_is_shown_and_its_line_ended_with_the_stream() {
        let mut out = Vec::new();
        let mut splitter = Splitter::new("stdout");
        splitter.push(TIME, b"login: ", &mut out);
        assert!(out.is_empty());
        splitter.flush(TIME, &mut out);
        splitter.flush(TIME, &mut out);
        splitter.finish(TIME, &mut out);
        splitter.finish(TIME, &mut out);
        let got: Vec<_> = lines(&out)
            .into_iter()
            .map(|l| (l.data, l.partial))
            .collect();
        assert_eq!(got, [(b"login: ".to_vec(), true), (Vec::new(), false)]);
    }

    proptest! {
        /// However the pipe cuts the bytes, and whenever idle flushes come, the
        /// entries give the bytes back.
        #[test]
        fn nothing_is_lost(
            chunks in prop::collection::vec((prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..40), any::<bool>(), 0usize..3), 0..20),
        ) {
            let mut splitter = Splitter::new("stdout");
            let (mut out, mut input) = (Vec::new(), Vec::new());
            for (chunk, flush, long) in chunks {
                let mut chunk = chunk;
                chunk.extend(std::iter::repeat_n(b'z', long * 10_000));
                input.extend_from_slice(&chunk);
                splitter.push(TIME, &chunk, &mut out);
                if flush {
                    splitter.flush(TIME, &mut out);
                }
            }
            splitter.finish(TIME, &mut out);
            if !input.is_empty() && !input.ends_with(b"\n") {
                input.push(b'\n');
            }
            let mut back = Vec::new();
            for line in lines(&out) {
                prop_assert!(line.data.len() <= MAX_CONTENT);
                back.extend_from_slice(&line.data);
                if !line.partial {
                    back.push(b'\n');
                }
            }
            prop_assert_eq!(back, input);
        }

        /// What is written is read back as it was.
        #[test]
        fn parse_is_the_inverse_of_put(
            nanos in -1_000_000_000_000_000_000i128..4_000_000_000_000_000_000,
            stderr: bool,
            partial: bool,
            data in prop::collection::vec(any::<u8>().prop_filter("line break", |b| *b != b'\n'), 0..200),
        ) {
            let timestamp = Timestamp::from_nanosecond(nanos).unwrap();
            let mut out = Vec::new();
            put(&mut out, &stamp(timestamp), if stderr { "stderr" } else { "stdout" }, partial, &data);
            prop_assert_eq!(out.pop(), Some(b'\n'));
            prop_assert_eq!(LogLine::parse(&out), Some(LogLine { timestamp, stderr, partial, data }));
        }

        /// No bytes make the parser panic.
        #[test]
        fn parse_takes_anything(entry in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = LogLine::parse(&entry);
        }
    }
}
