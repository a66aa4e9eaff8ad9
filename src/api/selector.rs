//! Label selectors: `k=v`, `k==v`, `k!=v`, `k`, `!k`; a comma means and.

use std::collections::BTreeMap;
use std::str::FromStr;

use super::Error;

/// A parsed selector. The default matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector {
    clauses: Vec<Clause>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Clause {
    Equal(String, String),
    /// Also true when the key is absent.
    NotEqual(String, String),
    Exists(String),
    Absent(String),
}

impl Selector {
    /// Whether labels fulfil every clause.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.clauses.iter().all(|clause| match clause {
            Clause::Equal(key, value) => labels.get(key) == Some(value),
            Clause::NotEqual(key, value) => labels.get(key) != Some(value),
            Clause::Exists(key) => labels.contains_key(key),
            Clause::Absent(key) => !labels.contains_key(key),
        })
    }

    /// Whether it matches everything.
    pub fn is_empty(&self) -> bool {
        self.clauses.is_empty()
    }
}

impl FromStr for Selector {
    type Err = Error;

    /// An empty text matches everything; an empty clause, key or value is an error.
    fn from_str(text: &str) -> Result<Self, Error> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let clauses = text.split(',').map(|part| clause(part.trim(), text));
        Ok(Self {
            clauses: clauses.collect::<Result<_, _>>()?,
        })
    }
}

fn clause(part: &str, text: &str) -> Result<Clause, Error> {
    let wrong = |what: &str| {
        Error::invalid(
            "BadSelector",
            format!("selector {text:?} is invalid: {what}"),
        )
        .hint("write key=value, key!=value, key or !key, with commas between")
    };
    let key = |key: &str| match key.trim() {
        "" => Err(wrong("a key is empty")),
        key if key.contains(|c: char| c.is_whitespace() || "=!".contains(c)) => {
            Err(wrong(&format!("{key:?} is not a key")))
        }
        key => Ok(key.to_owned()),
    };
    let value = |value: &str| match value.trim() {
        "" => Err(wrong("a value is empty")),
        value if value.contains('=') => Err(wrong(&format!("{value:?} is not a value"))),
        value => Ok(value.to_owned()),
    };
    if part.is_empty() {
        return Err(wrong("a clause is empty"));
    }
    if let Some((k, v)) = part.split_once("!=") {
        return Ok(Clause::NotEqual(key(k)?, value(v)?));
    }
    if let Some((k, v)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return Ok(Clause::Equal(key(k)?, value(v)?));
    }
    match part.strip_prefix('!') {
        Some(k) => Ok(Clause::Absent(key(k)?)),
        None => Ok(Clause::Exists(key(part)?)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(selector: &str) -> bool {
        let labels = [("app", "web"), ("tier", "front"), ("blank", "")];
        let labels = labels.map(|(k, v)| (k.to_owned(), v.to_owned()));
        selector
            .parse::<Selector>()
            .unwrap()
            .matches(&labels.into())
    }

    #[test]
    fn what_matches() {
        for yes in [
            "",
            "app=web",
            "app==web",
            "app = web",
            "app!=db",
            "none!=x",
            "app",
            "!none",
            "blank",
            "app=web,tier=front",
            "app=web, !none",
        ] {
            assert!(matches(yes), "{yes}");
        }
        for no in [
            "app=db",
            "app!=web",
            "none",
            "!app",
            "app=web,tier=back",
            "none=x",
        ] {
            assert!(!matches(no), "{no}");
        }
    }

    #[test]
    fn what_is_refused() {
        for bad in [
            ",", "a=1,", "=x", "a=", "a==", "a!=", "!", "a=b=c", "a b", "!a=b", "a===b",
        ] {
            let error = bad.parse::<Selector>().unwrap_err();
            assert_eq!(error.reason, "BadSelector", "{bad}");
            assert!(error.message.contains(bad), "{bad}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_text_is_a_selector_or_an_error(text in "\\PC{0,20}") {
            let _ = text.parse::<Selector>();
        }
    }
}
