//! Functions of a Go template replaced by others, by its text alone: comments,
//! quoted text, fields and variables are left as they are.

/// Which functions of a template are replaced, and by what.
pub(super) struct Rules {
    /// Functions with what stands for their name.
    pub other: &'static [(&'static str, &'static str)],
    /// Functions of which a list is made, of their name and their arguments.
    pub asking: &'static [&'static str],
    /// What that list is given to.
    pub call: &'static str,
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
