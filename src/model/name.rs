//! The one type for names: a DNS label (RFC 1123, section 2.1), at most 63 bytes.

use std::fmt;
use std::str::FromStr;

/// A validated object name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

/// Why a string is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was given.
    #[error("name is invalid: it is empty")]
    Empty,
    /// More than 63 bytes.
    #[error("name is invalid: {0:?} has {1} characters, at most 63 are allowed")]
    TooLong(String, usize),
    /// A character outside `a-z`, `0-9` and `-`, or `-` at either end.
    #[error(
        "name is invalid: {0:?} must consist of a-z, 0-9 and '-', and start and end with a letter or digit"
    )]
    Grammar(String),
}

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > 63 {
            let shown: String = text.chars().take(80).collect();
            return Err(NameError::TooLong(shown, text.chars().count()));
        }
        let bytes = text.as_bytes();
        let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let ends = alnum(bytes[0]) && alnum(bytes[bytes.len() - 1]);
        if !ends || !bytes.iter().all(|&b| alnum(b) || b == b'-') {
            return Err(NameError::Grammar(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_dns_labels() {
        let longest = "a".repeat(63);
        for good in ["a", "0", "web-1", "a--b", longest.as_str()] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
    }

    #[test]
    fn refuses_everything_else() {
        let long = "a".repeat(64);
        for bad in [
            "",
            ".",
            "..",
            "-a",
            "a-",
            "A",
            "a_b",
            "a/b",
            "a b",
            "a\n",
            "ä",
            long.as_str(),
        ] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
    }
}
