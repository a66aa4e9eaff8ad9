//! Finding out whether a chart's output depends on the time. No process can be
//! given another wall clock, so the second of the two runs gets templates in
//! which the clock's functions give another time, and random ones another
//! number: only output that really depends on them differs, not templates that
//! merely mention them.

/// What stands for `now` in the second run. Raw quotes: the text may stand
/// within others.
const NOW: &str = "(toDate `2006-01-02` `1999-12-31`)";

/// Functions that never give the same in the second run. What they give has the
/// type that the template goes on with.
const OTHER: &[(&str, &str)] = &[
    ("now", NOW),
    // They give the time that passed.
    ("ago", "printf `long before %v`"),
    // Few digits may come twice by chance.
    ("randInt", "add 987654321"),
    ("randAlphaNum", "printf `random %v`"),
    ("randAlpha", "printf `random %v`"),
    ("randAscii", "printf `random %v`"),
    ("randNumeric", "printf `random %v`"),
    ("randBytes", "printf `random %v`"),
    ("shuffle", "printf `shuffled %v`"),
];

/// Functions that ask for the time where their argument is of a type they do not
/// know, and `tpl`, whose text may be put together only when it runs. In the
/// second run [`HELPER`] looks at what they are given.
const ASKING: &[&str] = &[
    "date",
    "dateInZone",
    "date_in_zone",
    "htmlDate",
    "htmlDateInZone",
    "durationRound",
    "tpl",
];

/// Where [`HELPER`] is put.
pub(super) const HELPER_FILE: &str = "templates/_kukeon-clock.tpl";

/// What the second run calls instead of the functions in [`ASKING`], with a list
/// of their name and their arguments. Text that was put together is not shifted:
/// it may not name a function of the clock at all, but in comments. Those are
/// taken out first; actions are kept as they are, so that a text in one that
/// looks like a comment hides nothing.
pub(super) const HELPER: &str = r#"{{- define "kukeon.clock" -}}
{{- $name := index . 0 -}}
{{- $one := index . 1 -}}
{{- $times := list "time.Time" "*time.Time" "int64" "int" "int32" -}}
{{- if eq $name "tpl" -}}
{{- $bare := regexReplaceAll "(?s)\\{\\{(?:-\\s)?/\\*.*?\\*/(?:\\s-)?\\}\\}|(\\{\\{(?:[^}\"`']|\"(?:[^\"\\\\]|\\\\.)*\"|`[^`]*`|'(?:[^'\\\\]|\\\\.)*')*\\}\\})" $one "${1}" -}}
{{- if regexMatch "\\{\\{(?:(?:[^}\"`]|\"(?:[^\"\\\\]|\\\\.)*\"|`[^`]*`|'(?:[^'\\\\]|\\\\.)*')*?[^.$\\w\"`}])?(?:now|ago|date|dateInZone|date_in_zone|htmlDate|htmlDateInZone|durationRound|tpl|rand[A-Z]\\w*|shuffle)\\b" $bare -}}
asks for the time
{{- else -}}
{{- tpl $one (index . 2) -}}
{{- end -}}
{{- else if eq $name "durationRound" -}}
{{- if typeIs "time.Time" $one -}}
asks for the time
{{- else -}}
{{- durationRound $one -}}
{{- end -}}
{{- else if eq $name "htmlDate" -}}
{{- if has (printf "%T" $one) $times -}}
{{- htmlDate $one -}}
{{- else -}}
asks for the time
{{- end -}}
{{- else if eq $name "htmlDateInZone" -}}
{{- if has (printf "%T" $one) $times -}}
{{- htmlDateInZone $one (index . 2) -}}
{{- else -}}
asks for the time
{{- end -}}
{{- else if not (has (printf "%T" (index . 2)) $times) -}}
asks for the time
{{- else if eq $name "date" -}}
{{- date $one (index . 2) -}}
{{- else -}}
{{- dateInZone $one (index . 2) (index . 3) -}}
{{- end -}}
{{- end -}}
"#;

/// Which functions of a template are replaced, and by what.
pub(super) struct Rules {
    /// Functions with what stands for their name.
    pub other: &'static [(&'static str, &'static str)],
    /// Functions of which a list is made, of their name and their arguments.
    pub asking: &'static [&'static str],
    /// What that list is given to.
    pub call: &'static str,
}

const RULES: Rules = Rules {
    other: OTHER,
    asking: ASKING,
    call: " | include `kukeon.clock`",
};

/// A template at another time. `None` where it does not ask for the time.
pub(super) fn shifted(text: &str) -> Option<String> {
    replaced(text, &RULES)
}

/// A template with functions replaced. `None` where it has none of them.
pub(super) fn replaced(text: &str, rules: &Rules) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut changed = false;
    while let Some(start) = rest.find("{{") {
        let (before, action) = rest.split_at(start);
        out.push_str(before);
        let end = end_of(action);
        changed |= shift(&action[..end], rules, &mut out);
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
            b'"' | b'`' | b'\'' | b'\\' => skip_quoted(bytes, at),
            b'/' if bytes[at..].starts_with(b"/*") => skip_comment(action, at),
            b'}' if bytes[at..].starts_with(b"}}") => return at + 2,
            _ => at + 1,
        };
    }
    bytes.len()
}

/// Place behind a comment that begins at `at`.
fn skip_comment(action: &str, at: usize) -> usize {
    let rest = &action[at..];
    at + rest.find("*/").map_or(rest.len(), |end| end + 2)
}

/// Place behind a quoted text that begins at `at`.
fn skip_quoted(bytes: &[u8], at: usize) -> usize {
    let quote = bytes[at];
    if quote == b'\\' {
        return skip_escaped(bytes, at);
    }
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

/// The same for `\"`, as quotes are written in a template that stands within
/// quotes itself, in values for instance.
fn skip_escaped(bytes: &[u8], at: usize) -> usize {
    let quote = b"\\\"";
    if !bytes[at..].starts_with(quote) {
        return at + 1;
    }
    let mut at = at + quote.len();
    while at < bytes.len() {
        at = match &bytes[at..] {
            rest if rest.starts_with(quote) => return at + quote.len(),
            // A backslash of the template, and what it stands before.
            [b'\\', b'\\', b'\\', ..] => at + 4,
            [b'\\', b'\\', ..] => at + 3,
            [b'\n', ..] => return at + 1,
            _ => at + 1,
        };
    }
    bytes.len()
}

/// Place behind the last word of an action.
fn body_of(action: &str) -> usize {
    let body = action.strip_suffix("}}").unwrap_or(action);
    let trimmed = body.strip_suffix('-').unwrap_or(body);
    // Only behind a space it is the mark that trims.
    match trimmed.ends_with(|c: char| c.is_ascii_whitespace()) {
        true => trimmed.trim_ascii_end().len(),
        false => body.trim_ascii_end().len(),
    }
}

/// Copies an action with functions replaced.
fn shift(action: &str, rules: &Rules, out: &mut String) -> bool {
    let bytes = action.as_bytes();
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let mut changed = false;
    let (mut at, mut copied) = (0, 0);
    // Parentheses that are open, and in which of them a command has to end
    // with the call.
    let (mut depth, mut calls) = (0, Vec::new());
    let body = body_of(action);
    while at < body {
        match bytes[at] {
            b'"' | b'`' | b'\'' | b'\\' => at = skip_quoted(bytes, at).min(body),
            b'/' if bytes[at..].starts_with(b"/*") => at = skip_comment(action, at).min(body),
            b'(' => {
                depth += 1;
                at += 1;
            }
            end @ (b')' | b'|') => {
                if calls.pop_if(|call| *call == depth).is_some() {
                    out.push_str(&action[copied..at]);
                    out.push_str(rules.call);
                    copied = at;
                }
                if end == b')' {
                    depth -= 1;
                }
                at += 1;
            }
            b if word(b) => {
                let start = at;
                while at < body && word(bytes[at]) {
                    at += 1;
                }
                // Fields and variables may have any name.
                if start > 0 && matches!(bytes[start - 1], b'.' | b'$') {
                    continue;
                }
                let name = &action[start..at];
                let other = rules.other.iter().find(|(known, _)| *known == name);
                let asks = rules.asking.contains(&name);
                if other.is_none() && !asks {
                    continue;
                }
                out.push_str(&action[copied..start]);
                match other {
                    Some((_, other)) => out.push_str(other),
                    None => {
                        out.push_str(&format!("list `{name}`"));
                        calls.push(depth);
                    }
                }
                copied = at;
                changed = true;
            }
            _ => at += 1,
        }
    }
    out.push_str(&action[copied..body]);
    for _ in calls {
        out.push_str(rules.call);
    }
    out.push_str(&action[body..]);
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHER_NOW: &str = "(toDate `2006-01-02` `1999-12-31`)";

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
            "{{ /* now */ x }}{{ y }}now",
            "{{- /* don't (tpl | date }} */ -}}{{/* now */}}",
            "{{ .Values.x.now | quote }}",
            "{{",
            "{{ \"\\\" now\" }}",
            "{{ .date.tpl | quote }}",
            "{{ printf \\\"now\\\" }}",
        ] {
            assert_eq!(shifted(text), None, "{text:?}");
        }
        let cases = [
            ("a {{ now }} b", "a {{ NOW }} b"),
            ("{{ .x | ago }}", "{{ .x | printf `long before %v` }}"),
            ("é{{ (now).Unix }}", "é{{ (NOW).Unix }}"),
            // As it stands in values.
            (
                "\"{{ printf \\\"a\\\\\\\"b\\\" now }}\"",
                "\"{{ printf \\\"a\\\\\\\"b\\\" NOW }}\"",
            ),
            ("{{ randInt 0 2 }}", "{{ add 987654321 0 2 }}"),
        ];
        for (text, wanted) in cases {
            let wanted = wanted.replace("NOW", OTHER_NOW);
            assert_eq!(shifted(text), Some(wanted));
        }
    }

    #[test]
    fn what_may_ask_for_the_time_is_looked_at() {
        let cases = [
            ("{{now|date \"now\"}}", "{{NOW|list `date` \"now\" | CALL}}"),
            (
                "{{- date \"x\" .y -}}",
                "{{- list `date` \"x\" .y | CALL -}}",
            ),
            (
                "{{ (tpl .a (dict \"x\" (htmlDate .y)) | quote) }}",
                "{{ (list `tpl` .a (dict \"x\" (list `htmlDate` .y | CALL))  | CALL| quote) }}",
            ),
            (
                "{{ if eq (.x | durationRound) \"1d\" }}",
                "{{ if eq (.x | list `durationRound` | CALL) \"1d\" }}",
            ),
            (
                "\"{{ .t | date \\\"2006\\\" }}\"",
                "\"{{ .t | list `date` \\\"2006\\\" | CALL }}\"",
            ),
        ];
        for (text, wanted) in cases {
            let wanted = wanted
                .replace("NOW", OTHER_NOW)
                .replace("CALL", "include `kukeon.clock`");
            assert_eq!(shifted(text), Some(wanted));
        }
    }
}
