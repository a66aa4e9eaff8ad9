//! What an account may do where.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::registry::Repository;

/// Something that is done to a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Reading.
    Pull,
    /// Adding, and moving tags.
    Push,
    /// Removing.
    Delete,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Pull, Self::Push, Self::Delete];

    /// As in scopes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Delete => "delete",
        }
    }
}

/// A set of actions.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Actions(Vec<Action>);

impl Actions {
    /// Whether an action is among them.
    pub fn has(&self, action: Action) -> bool {
        self.0.contains(&action)
    }

    /// Adds one.
    pub fn add(&mut self, action: Action) {
        if !self.has(action) {
            self.0.push(action);
        }
    }

    /// Reads names between commas; `*` is all. What is not known grants nothing.
    pub(super) fn lenient(text: &str) -> Self {
        let mut actions = Self::default();
        for word in text.split(',') {
            for action in Action::ALL {
                if word == "*" || word == action.as_str() {
                    actions.add(action);
                }
            }
        }
        actions
    }
}

/// Actions in the repositories of a pattern: a name, `*` for one component,
/// and `**` at the end for everything below (alone: everything).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// Pattern.
    pub repositories: String,
    /// What may be done there.
    pub actions: Actions,
}

impl Rule {
    /// Whether it allows an action in a repository.
    pub fn allows(&self, action: Action, repository: &Repository) -> bool {
        self.actions.has(action) && matches(&self.repositories, repository.as_str())
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    let mut names = name.split('/');
    let mut patterns = pattern.split('/').peekable();
    while let Some(part) = patterns.next() {
        if part == "**" && patterns.peek().is_none() {
            return names.next().is_some();
        }
        match names.next() {
            Some(name) if part == "*" || part == name => {}
            _ => return false,
        }
    }
    names.next().is_none()
}

impl FromStr for Rule {
    type Err = String;

    /// Reads `PATTERN=ACTION,ACTION`; without actions it is pull and push.
    fn from_str(text: &str) -> Result<Self, String> {
        let (pattern, actions) = text.split_once('=').unwrap_or((text, "pull,push"));
        let known = |word: &str| word == "*" || Action::ALL.iter().any(|a| a.as_str() == word);
        if let Some(word) = actions.split(',').find(|word| !known(word)) {
            return Err(format!(
                "{word:?} is no action; there are pull, push, delete and *"
            ));
        }
        let sample = pattern.replace("**", "x").replace('*', "x");
        if sample.parse::<Repository>().is_err() {
            return Err(format!("{pattern:?} is no pattern of repositories"));
        }
        Ok(Self {
            repositories: pattern.to_owned(),
            actions: Actions::lenient(actions),
        })
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = self.actions.0.iter().map(|a| a.as_str()).collect();
        write!(f, "{}={}", self.repositories, words.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, wanted) in [
            ("**", "a", true),
            ("**", "a/b/c", true),
            ("a", "a", true),
            ("a", "a/b", false),
            ("a", "ab", false),
            ("a/**", "a/b", true),
            ("a/**", "a/b/c", true),
            ("a/**", "a", false),
            ("a/**", "ab/c", false),
            ("a/*", "a/b", true),
            ("a/*", "a/b/c", false),
            ("*/b", "a/b", true),
            ("*", "a/b", false),
        ] {
            assert_eq!(matches(pattern, name), wanted, "{pattern} {name}");
        }
    }

    #[test]
    fn rules_are_read_strictly() {
        let rule: Rule = "team/**=pull,delete".parse().unwrap();
        assert_eq!(rule.to_string(), "team/**=pull,delete");
        let repository = "team/a".parse().unwrap();
        assert!(rule.allows(Action::Delete, &repository));
        assert!(!rule.allows(Action::Push, &repository));
        assert_eq!("a".parse::<Rule>().unwrap().to_string(), "a=pull,push");
        for bad in ["", "=pull", "a=", "a=write", "A=pull", "a//b", "../x"] {
            assert!(bad.parse::<Rule>().is_err(), "{bad}");
        }
    }
}
