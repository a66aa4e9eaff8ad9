//! The scope flags.

use clap::Args;

use super::kind::Kind;
use crate::api::v1::Scope;

/// Where an object lives.
#[derive(Debug, Clone, Default, Args)]
pub struct ScopeFlags {
    /// Realm
    #[arg(long, value_name = "NAME", help_heading = "Scope")]
    pub realm: Option<String>,
    /// Space
    #[arg(long, value_name = "NAME", help_heading = "Scope")]
    pub space: Option<String>,
    /// Stack
    #[arg(long, value_name = "NAME", help_heading = "Scope")]
    pub stack: Option<String>,
}

impl ScopeFlags {
    /// For one object: what is not given is `default`.
    pub fn single(&self) -> Scope {
        let or_default = |part: &Option<String>| part.clone().unwrap_or_else(|| "default".into());
        Scope {
            realm: or_default(&self.realm),
            space: or_default(&self.space),
            stack: or_default(&self.stack),
            cell: String::new(),
        }
    }

    /// For one object of a kind. Where it may be kept in a scope of any depth,
    /// only the realm is `default`.
    pub fn of(&self, kind: Kind) -> Scope {
        match kind.is_kept() {
            true => Scope {
                realm: self.single().realm,
                ..self.filter()
            },
            false => self.single(),
        }
    }

    /// For a list: what is not given does not filter.
    pub fn filter(&self) -> Scope {
        let or_any = |part: &Option<String>| part.clone().unwrap_or_default();
        Scope {
            realm: or_any(&self.realm),
            space: or_any(&self.space),
            stack: or_any(&self.stack),
            cell: String::new(),
        }
    }

    /// What is not given is taken from `KUKE_<VERB>_<KIND>_<FLAG>`.
    #[must_use]
    pub fn or_env(mut self, verb: &str, kind: &str, env: impl Fn(&str) -> Option<String>) -> Self {
        let prefix = format!("KUKE_{}_{}", verb, kind).to_ascii_uppercase();
        for (part, flag) in [
            (&mut self.realm, "REALM"),
            (&mut self.space, "SPACE"),
            (&mut self.stack, "STACK"),
        ] {
            if part.is_none() {
                *part = env(&format!("{prefix}_{flag}"));
            }
        }
        self
    }
}

/// Where an object of any kind lives: a release names its realm by its namespace.
#[derive(Debug, Clone, Default, Args)]
pub struct PlaceFlags {
    /// The scope without the namespace.
    #[command(flatten)]
    pub flags: ScopeFlags,
    /// Namespace of a release
    #[arg(
        long,
        short,
        value_name = "NAME",
        help_heading = "Scope",
        conflicts_with = "realm"
    )]
    pub namespace: Option<String>,
}

impl PlaceFlags {
    /// The scope, in the realm that the namespace names if one is given.
    pub fn scope(&self) -> ScopeFlags {
        let mut scope = self.flags.clone();
        if let Some(namespace) = &self.namespace {
            scope.realm = Some(namespace.clone());
        }
        scope
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_object_defaults_and_a_list_does_not_filter() {
        let flags = ScopeFlags {
            space: Some("s".into()),
            ..Default::default()
        };
        let single = flags.single();
        assert_eq!(
            (single.realm.as_str(), single.space.as_str()),
            ("default", "s")
        );
        let of = |kind| flags.of(kind).stack;
        assert_eq!(
            (of(Kind::Cell).as_str(), of(Kind::Secret).as_str()),
            ("default", "")
        );
        assert_eq!(flags.of(Kind::Secret).realm, "default");
        let filter = flags.filter();
        assert_eq!((filter.realm.as_str(), filter.space.as_str()), ("", "s"));
    }

    #[test]
    fn variables_of_a_kind_fill_in() {
        let env = |name: &str| (name == "KUKE_DELETE_CELL_SPACE").then(|| "e".to_owned());
        let flags = ScopeFlags::default().or_env("delete", "cell", env);
        assert_eq!(flags.space.as_deref(), Some("e"));
        assert_eq!(flags.realm, None);
    }

    #[test]
    fn a_namespace_goes_before_the_realm_of_the_environment() {
        let mut place = PlaceFlags {
            namespace: Some("n".into()),
            ..Default::default()
        };
        place.flags = place.flags.or_env("get", "recipe", |_| Some("e".into()));
        let scope = place.scope().filter();
        assert_eq!((scope.realm.as_str(), scope.space.as_str()), ("n", "e"));
    }
}
