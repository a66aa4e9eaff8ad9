//! The grammars of the distribution spec ("Pulling manifests"): `<name>` of a
//! repository and `<reference>` as a tag. By hand, because compiling the usual
//! regular expressions takes longer than most verbs.

/// Longest repository name, in bytes.
pub const MAX_NAME: usize = 255;
/// Longest tag, in bytes.
pub const MAX_TAG: usize = 128;

/// Checks a repository name.
///
/// # Errors
/// What is wrong with it.
pub fn check_path(path: &str) -> Result<(), &'static str> {
    if path.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err("the repository must be lower case");
    }
    if path.len() > MAX_NAME {
        return Err("the repository is longer than 255 characters");
    }
    if path.split('/').all(is_component) {
        Ok(())
    } else {
        Err("the repository is malformed")
    }
}

/// Runs of `a-z0-9` joined by `.`, `_`, `__` or any number of `-`.
fn is_component(component: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let ends = [bytes.first(), bytes.last()];
    if !ends.iter().all(|end| end.is_some_and(|b| word(*b))) {
        return false;
    }
    bytes
        .split(|b| word(*b))
        .all(|gap| matches!(gap, b"" | b"." | b"_" | b"__") || gap.iter().all(|b| *b == b'-'))
}

/// Checks a tag.
///
/// # Errors
/// What is wrong with it.
pub fn check_tag(tag: &str) -> Result<(), &'static str> {
    let first = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let sane = tag.bytes().next().is_some_and(first)
        && tag.len() <= MAX_TAG
        && tag.bytes().all(|b| first(b) || matches!(b, b'.' | b'-'));
    if sane {
        Ok(())
    } else {
        Err("the tag is malformed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "a/b/c", "a.b_c__d---e/0", &"a".repeat(255)] {
            assert_eq!(check_path(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "A",
            "a..b",
            "a_",
            "_a",
            ".",
            "..",
            "a/../b",
            "a___b",
            "a b",
            "a\0",
            "ä",
            &"a".repeat(256),
        ] {
            assert!(check_path(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn tags() {
        for good in ["a", "_", "V1.0-x", &"t".repeat(128)] {
            assert_eq!(check_tag(good), Ok(()), "{good}");
        }
        for bad in ["", ".", "-a", "a/b", "a:b", "a b", &"t".repeat(129)] {
            assert!(check_tag(bad).is_err(), "{bad:?}");
        }
    }
}
