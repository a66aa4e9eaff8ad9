//! containerd's filter language (its package `filters`): `field==value`, joined
//! by commas for "and".

use crate::model::Labels;

/// A filter for objects that carry all of the labels; none when there are no
/// labels, because an empty filter matches nothing.
pub fn labels(wanted: &Labels) -> Vec<String> {
    if wanted.is_empty() {
        return Vec::new();
    }
    let terms: Vec<String> = wanted
        .iter()
        .map(|(key, value)| format!("labels.{}=={}", quote(key), quote(value)))
        .collect();
    vec![terms.join(",")]
}

/// A quoted string as the language reads it (Go's rules for the two characters
/// that matter; labels hold no control characters).
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_and_quotes() {
        assert!(labels(&Labels::new()).is_empty());
        let wanted = Labels::from([
            ("kukeon.io/cell".into(), "web".into()),
            ("note".into(), "a \"b\" \\".into()),
        ]);
        assert_eq!(
            labels(&wanted),
            [r#"labels."kukeon.io/cell"=="web",labels."note"=="a \"b\" \\""#]
        );
    }
}
