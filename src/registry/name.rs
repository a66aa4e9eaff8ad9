//! Repositories, tags and references, and which of them are kept from change.

use std::fmt;
use std::str::FromStr;

use super::{Error, Result};
use crate::oci::Digest;
use crate::oci::grammar::{check_path, check_tag};

/// Directories in a repository's directory. A repository whose name has one of
/// these as a component is stored with [`ESCAPE`] after it.
pub(super) const PARTS: [&str; 4] = ["manifests", "blobs", "tags", "referrers"];
/// No component of a repository name ends with it.
pub(super) const ESCAPE: char = '_';
/// Repositories that only the daemon pushes to.
pub const PREPARATIONS: &str = "preparations/";
/// Type of the artifacts that Preparations stand for.
pub const PREPARATION_TYPE: &str = "application/vnd.kokumi.preparation.v1";

/// A repository name of the distribution spec's grammar.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository(String);

impl Repository {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is one of those that only the daemon pushes to.
    pub fn holds_preparations(&self) -> bool {
        self.0.starts_with(PREPARATIONS)
    }

    /// Its directory below the registry's.
    pub(super) fn dir(&self) -> String {
        let mut dir = String::from("repos");
        for part in self.0.split('/') {
            dir.push('/');
            dir.push_str(part);
            if PARTS.contains(&part) {
                dir.push(ESCAPE);
            }
        }
        dir
    }

    /// The component that a directory of that name stands for.
    pub(super) fn component(dir: &str) -> &str {
        dir.strip_suffix(ESCAPE).unwrap_or(dir)
    }
}

impl FromStr for Repository {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        check_path(name).map_err(|why| Error::NameInvalid {
            name: name.chars().take(80).collect(),
            why,
        })?;
        Ok(Self(name.to_owned()))
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A tag of the distribution spec's grammar.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(String);

impl Tag {
    /// The tag.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is given once and stays, in this repository: `rev-<n>` and
    /// twelve hexadecimal digits below `preparations/`.
    pub fn is_immutable_in(&self, repository: &Repository) -> bool {
        let digits = |text: &str, set: fn(u8) -> bool| !text.is_empty() && text.bytes().all(set);
        let revision = self
            .0
            .strip_prefix("rev-")
            .is_some_and(|n| digits(n, |b| b.is_ascii_digit()));
        let short =
            self.0.len() == 12 && digits(&self.0, |b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        repository.holds_preparations() && (revision || short)
    }
}

impl FromStr for Tag {
    type Err = Error;

    fn from_str(tag: &str) -> Result<Self> {
        check_tag(tag).map_err(|why| Error::TagInvalid {
            tag: tag.chars().take(80).collect(),
            why,
        })?;
        Ok(Self(tag.to_owned()))
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What names a manifest in a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// By tag.
    Tag(Tag),
    /// By digest.
    Digest(Digest),
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        // No tag has a colon.
        if text.contains(':') {
            Ok(Self::Digest(text.parse()?))
        } else {
            Ok(Self::Tag(text.parse()?))
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

impl From<Digest> for Reference {
    fn from(digest: Digest) -> Self {
        Self::Digest(digest)
    }
}

impl From<Tag> for Reference {
    fn from(tag: Tag) -> Self {
        Self::Tag(tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_repositories_share_a_file() {
        let dir = |name: &str| name.parse::<Repository>().unwrap().dir();
        assert_eq!(dir("a/b"), "repos/a/b");
        assert_eq!(dir("a/tags"), "repos/a/tags_");
        assert_eq!(dir("manifests/blobs/x"), "repos/manifests_/blobs_/x");
        assert!("a/tags_".parse::<Repository>().is_err());
        assert_eq!(Repository::component("tags_"), "tags");
        assert_eq!(Repository::component("a_b"), "a_b");
    }

    #[test]
    fn revisions_and_short_digests_stay() {
        let preparations: Repository = "preparations/default/web".parse().unwrap();
        let other: Repository = "preparations-of-mine/web".parse().unwrap();
        for (tag, stays) in [
            ("rev-1", true),
            ("rev-0012", true),
            ("0123456789ab", true),
            ("rev-", false),
            ("rev-x", false),
            ("active", false),
            ("0123456789aB", false),
            ("0123456789a", false),
            ("0123456789abc", false),
        ] {
            let tag: Tag = tag.parse().unwrap();
            assert_eq!(tag.is_immutable_in(&preparations), stays, "{tag}");
            assert!(!tag.is_immutable_in(&other), "{tag}");
        }
    }

    #[test]
    fn references_are_digests_or_tags() {
        let digest = Digest::sha256(b"x");
        assert_eq!(
            digest.as_str().parse::<Reference>().unwrap(),
            Reference::Digest(digest)
        );
        assert!(matches!("v1".parse(), Ok(Reference::Tag(_))));
        assert!("sha256:1".parse::<Reference>().is_err());
        assert!("..".parse::<Reference>().is_err());
    }
}
