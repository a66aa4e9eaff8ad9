//! Byte ranges: of downloads (RFC 9110 §14) and of upload chunks (distribution
//! spec, "Pushing a blob in chunks").

/// What a `Range` header asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Everything: no header, or one that may be ignored.
    All,
    /// From, and so many bytes, at least one.
    Part(u64, u64),
    /// Nothing of it is there.
    Nothing,
}

/// Reads a `Range` header for content of `size` bytes. Several ranges at once
/// and other units are ignored, as RFC 9110 §14.2 allows.
pub(super) fn wanted(header: Option<&str>, size: u64) -> Wanted {
    let Some(range) = header.and_then(|h| h.trim().strip_prefix("bytes=")) else {
        return Wanted::All;
    };
    let Some((first, last)) = range.trim().split_once('-') else {
        return Wanted::All;
    };
    let number = |text: &str| -> Option<u64> {
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        Some(text.parse().unwrap_or(u64::MAX))
    };
    match (first.is_empty(), last.is_empty()) {
        (true, true) => Wanted::All,
        (true, false) => match number(last) {
            None => Wanted::All,
            Some(0) => Wanted::Nothing,
            Some(_) if size == 0 => Wanted::Nothing,
            Some(suffix) => {
                let length = suffix.min(size);
                Wanted::Part(size - length, length)
            }
        },
        (false, open) => {
            let Some(first) = number(first) else {
                return Wanted::All;
            };
            let last = if open { Some(u64::MAX) } else { number(last) };
            match last {
                None => Wanted::All,
                Some(last) if last < first => Wanted::All,
                Some(_) if first >= size => Wanted::Nothing,
                Some(last) => Wanted::Part(first, last.min(size - 1) - first + 1),
            }
        }
    }
}

/// Reads the `Content-Range` of a chunk: `<first>-<last>`, both included; the
/// unit and the total that RFC 9110 has are accepted too. None when it is
/// neither.
pub(super) fn chunk(header: &str) -> Option<(u64, u64)> {
    let range = header.trim();
    let range = range.strip_prefix("bytes").map_or(range, str::trim_start);
    let range = range.strip_prefix('=').unwrap_or(range);
    let range = range.split('/').next()?;
    let (first, last) = range.split_once('-')?;
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    if !digits(first) || !digits(last) {
        return None;
    }
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last && last < u64::MAX).then_some((first, last))
}

/// `Range` of a session with so many bytes. The spec has no way to say none.
pub(super) fn progress(size: u64) -> String {
    format!("0-{}", size.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn single_ranges() {
        for (header, wanted_part) in [
            ("bytes=0-0", Wanted::Part(0, 1)),
            ("bytes=0-9", Wanted::Part(0, 10)),
            ("bytes=0-99", Wanted::Part(0, 10)),
            ("bytes=3-5", Wanted::Part(3, 3)),
            ("bytes=9-", Wanted::Part(9, 1)),
            ("bytes=-3", Wanted::Part(7, 3)),
            ("bytes=-30", Wanted::Part(0, 10)),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=10-", Wanted::Nothing),
            ("bytes=10-11", Wanted::Nothing),
            ("bytes=99999999999999999999-", Wanted::Nothing),
            ("bytes=5-3", Wanted::All),
            ("bytes=0-1,3-4", Wanted::All),
            ("bytes=-", Wanted::All),
            ("bytes=x-", Wanted::All),
            ("lines=1-2", Wanted::All),
            ("", Wanted::All),
        ] {
            assert_eq!(wanted(Some(header), 10), wanted_part, "{header}");
        }
        assert_eq!(wanted(None, 10), Wanted::All);
        assert_eq!(wanted(Some("bytes=0-"), 0), Wanted::Nothing);
    }

    #[test]
    fn chunks() {
        assert_eq!(chunk("0-9"), Some((0, 9)));
        assert_eq!(chunk("bytes 5-9/10"), Some((5, 9)));
        assert_eq!(chunk("bytes=5-9/*"), Some((5, 9)));
        for bad in [
            "",
            "-",
            "5-",
            "-5",
            "9-5",
            "a-b",
            "+1-2",
            "1-18446744073709551615",
        ] {
            assert_eq!(chunk(bad), None, "{bad}");
        }
        assert_eq!(progress(0), "0-0");
        assert_eq!(progress(10), "0-9");
    }

    proptest! {
        #[test]
        fn parts_lie_within(text in "bytes=[0-9]{0,3}-[0-9]{0,3}", size in 0_u64..500) {
            if let Wanted::Part(from, length) = wanted(Some(&text), size) {
                prop_assert!(length > 0 && from + length <= size);
            }
        }
    }
}
