//! Finding out whether a chart's output depends on the time. No process can be
//! given another wall clock, so the second of the two runs gets templates in
//! which the clock's functions give another time: only output that really
//! depends on it differs, not templates that merely mention it.

/// What stands for `now` in the second run.
const NOW: &str = r#"(toDate "2006-01-02" "1999-12-31")"#;
/// What stands for `ago`, which gives the time that passed.
const AGO: &str = r#"printf "long before %v""#;

/// A template with another time. `None` where it does not ask for the time.
pub(super) fn shifted(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut changed = false;
    while let Some(start) = rest.find("{{") {
        let (before, action) = rest.split_at(start);
        out.push_str(before);
        let end = end_of(action);
        changed |= shift(&action[..end], &mut out);
        rest = &action[end..];
    }
    out.push_str(rest);
    changed.then_some(out)
}

/// Length of an action, its braces included.
fn end_of(action: &str) -> usize {
    let bytes = action.as_bytes();
    let mut at = 2;
    while at < bytes.len() {
        at = match bytes[at] {
            b'"' | b'`' | b'\'' => skip_quoted(bytes, at),
            b'/' if bytes[at..].starts_with(b"/*") => {
                action[at..].find("*/").map_or(bytes.len(), |n| at + n + 2)
            }
            b'}' if bytes[at..].starts_with(b"}}") => return at + 2,
            _ => at + 1,
        };
    }
    bytes.len()
}

/// Place behind a quoted text that begins at `at`.
fn skip_quoted(bytes: &[u8], at: usize) -> usize {
    let quote = bytes[at];
    let mut at = at + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if quote != b'`' => at += 2,
            // Only raw text goes over several lines.
            b'\n' if quote != b'`' => return at + 1,
            b if b == quote => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// Copies an action with the clock's functions replaced.
fn shift(action: &str, out: &mut String) -> bool {
    let bytes = action.as_bytes();
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let mut changed = false;
    let (mut at, mut copied) = (0, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'"' | b'`' | b'\'' => at = skip_quoted(bytes, at).min(bytes.len()),
            b if word(b) => {
                let start = at;
                while at < bytes.len() && word(bytes[at]) {
                    at += 1;
                }
                let other = match &bytes[start..at] {
                    b"now" => NOW,
                    b"ago" => AGO,
                    _ => continue,
                };
                // Fields and variables may have any name.
                if start > 0 && matches!(bytes[start - 1], b'.' | b'$') {
                    continue;
                }
                out.push_str(&action[copied..start]);
                out.push_str(other);
                copied = at;
                changed = true;
            }
            _ => at += 1,
        }
    }
    out.push_str(&action[copied..]);
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_functions_are_replaced() {
        for text in [
            "",
            "now",
            "{{ .now }}",
            "{{ $now := 1 }}",
            "{{ \"now\" }}",
            "{{ `now\n}} now` }}",
            "{{ known }}",
            "{{ /* now }} */ x }}{{ y }}now",
            "{{ .Values.x.now | quote }}",
            "{{",
            "{{ \"\\\" now\" }}",
        ] {
            // A comment may change: it is no output.
            let shifted = shifted(text);
            assert!(
                shifted.is_none() || text.contains("/*"),
                "{text:?}: {shifted:?}"
            );
        }
        let cases = [
            (
                "a {{ now }} b",
                "a {{ (toDate \"2006-01-02\" \"1999-12-31\") }} b",
            ),
            (
                "{{now|date \"now\"}}",
                "{{(toDate \"2006-01-02\" \"1999-12-31\")|date \"now\"}}",
            ),
            ("{{ .x | ago }}", "{{ .x | printf \"long before %v\" }}"),
            (
                "é{{ (now).Unix }}",
                "é{{ ((toDate \"2006-01-02\" \"1999-12-31\")).Unix }}",
            ),
        ];
        for (text, wanted) in cases {
            assert_eq!(shifted(text).as_deref(), Some(wanted));
        }
    }
}
