//! `$(NAME)` in commands and values, as the kubelet expands it.

/// Expands references to variables; what is not defined stays as it is, and
/// `$$` is `$`.
pub(super) fn expand(text: &str, variables: &[(String, String)]) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(more) = after.strip_prefix('$') {
            out.push('$');
            rest = more;
        } else if let Some((name, more)) = after.strip_prefix('(').and_then(|r| r.split_once(')')) {
            match variables.iter().rev().find(|(key, _)| key == name) {
                Some((_, value)) => out.push_str(value),
                None => out.push_str(&format!("$({name})")),
            }
            rest = more;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::super::container::escaped;
    use super::*;

    #[test]
    fn references() {
        let variables = [("A".to_owned(), "1".to_owned())];
        for (text, expected) in [
            ("x$(A)y", "x1y"),
            ("$(B)", "$(B)"),
            ("$$(A)", "$(A)"),
            ("$A $ $(A", "$A $ $(A"),
        ] {
            assert_eq!(expand(text, &variables), expected);
        }
    }

    proptest! {
        #[test]
        fn what_was_escaped_comes_back(text in "[$()Aa]{0,12}") {
            let variables = [("A".to_owned(), "1".to_owned()), (String::new(), "2".to_owned())];
            prop_assert_eq!(expand(&escaped(&text), &variables), text);
        }
    }
}
