//! What pages show of objects.

use std::collections::BTreeMap;

use serde_json::json;

use crate::api::delivery::v1alpha1 as v;
use crate::web::object;
use crate::web::request::DEFAULT;

/// Characters of a digest that are shown in lists.
const SHORT: usize = 19;

/// Filters of the templates.
pub mod filters {
    /// How long ago a time was, for people; what is no time stays as it is.
    #[askama::filter_fn]
    pub fn ago(text: &str, _: &dyn askama::Values) -> askama::Result<String> {
        Ok(super::ago(text, jiff::Timestamp::now()))
    }
}

fn ago(text: &str, now: jiff::Timestamp) -> String {
    let Ok(time) = text.parse::<jiff::Timestamp>() else {
        return text.to_owned();
    };
    let seconds = now.duration_since(time).as_secs().max(0);
    match seconds {
        0..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..172_800 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

/// A condition.
#[derive(Debug, Clone, Default)]
pub struct Condition {
    pub kind: String,
    pub status: String,
    pub reason: String,
    pub message: String,
    pub since: String,
}

impl From<v::Condition> for Condition {
    fn from(c: v::Condition) -> Self {
        Self {
            kind: c.r#type,
            status: c.status,
            reason: c.reason,
            message: c.message,
            since: c.last_transition_time,
        }
    }
}

/// `name`, or `namespace/name` outside the default one.
pub fn full(meta: &v::Metadata) -> String {
    match meta.namespace.as_str() {
        "" | DEFAULT => meta.name.clone(),
        namespace => format!("{namespace}/{}", meta.name),
    }
}

/// Path of an object below a list.
pub fn path(meta: &v::Metadata) -> String {
    let namespace = match meta.namespace.as_str() {
        "" => DEFAULT,
        namespace => namespace,
    };
    format!("{namespace}/{}", meta.name)
}

/// What a button that changes the pointer does.
#[derive(Debug, Clone)]
pub struct Choice {
    pub url: String,
    pub body: String,
    pub ask: String,
    /// It goes back: the target's revision is older than that of what is active.
    pub rollback: bool,
    /// The one that is meant most often.
    pub main: bool,
}

/// A Recipe, with its Serving.
#[derive(Debug, Clone)]
pub struct Recipe {
    pub full: String,
    pub href: String,
    pub api: String,
    pub version: i64,
    pub phase: String,
    pub reason: String,
    pub message: String,
    pub latest: String,
    pub latest_href: String,
    pub active: String,
    pub source: String,
    pub policy: &'static str,
    pub suspended: bool,
    pub created: String,
    /// Activating the latest, where it is not active.
    pub choice: Option<Choice>,
    numbers: BTreeMap<String, i64>,
}

impl Recipe {
    /// Of a Recipe and what is active of it.
    pub fn of(recipe: &v::Recipe, serving: Option<&v::Serving>, deploys: bool) -> Self {
        let meta = recipe.metadata.clone().unwrap_or_default();
        let spec = recipe.spec.clone().unwrap_or_default();
        let status = recipe.status.clone().unwrap_or_default();
        let ready = object::condition(&status.conditions, "Ready");
        let active = serving.and_then(|s| s.spec.clone()).unwrap_or_default();
        let path = path(&meta);
        let namespace = path.split('/').next().unwrap_or(DEFAULT);
        let numbers = status
            .revisions
            .iter()
            .map(|r| (r.preparation.clone(), r.number));
        let mut row = Self {
            full: full(&meta),
            href: format!("/recipes/{path}"),
            api: format!("/api/v1/recipes/{path}"),
            version: meta.resource_version,
            phase: match status.phase.as_str() {
                "" => "Pending".to_owned(),
                phase => phase.to_owned(),
            },
            reason: ready.reason,
            message: ready.message,
            latest_href: format!(
                "/preparations/{namespace}/{}",
                status.latest_preparation_name
            ),
            latest: status.latest_preparation_name,
            active: active.preparation_name,
            source: source(&spec),
            policy: match spec.auto_deploy_latest {
                Some(true) => "Automatic",
                Some(false) => "Manual",
                None if spec.template_ref.is_some() => "As the template",
                None => "Manual",
            },
            suspended: spec.suspend,
            created: meta.created_at.clone(),
            choice: None,
            numbers: numbers.collect(),
        };
        row.choice = row.point(&row.latest, deploys);
        row
    }

    /// The button that makes a Preparation active; none where it is already, or
    /// nobody here may.
    pub fn point(&self, to: &str, deploys: bool) -> Option<Choice> {
        if !deploys || to.is_empty() || to == self.active {
            return None;
        }
        let number = |name: &str| self.numbers.get(name).copied().unwrap_or(0);
        let rollback = number(to) < number(&self.active);
        let (verb, word) = match rollback {
            true => ("rollback", "Roll back"),
            false => ("promote", "Promote"),
        };
        let body = match self.active.as_str() {
            "" => json!({ "preparation": to }),
            active => json!({ "preparation": to, "expectedCurrent": active }),
        };
        Some(Choice {
            url: format!("{}/{verb}", self.api),
            body: body.to_string(),
            ask: format!("{word} {} to {to}?", self.full),
            rollback,
            main: to == self.latest,
        })
    }

    /// Number of a Preparation's newest revision.
    pub fn number(&self, preparation: &str) -> i64 {
        self.numbers.get(preparation).copied().unwrap_or(0)
    }

    /// Preparations, the newest first, as they can be chosen.
    pub fn names(&self) -> Vec<(String, String)> {
        let mut all: Vec<_> = self
            .numbers
            .iter()
            .map(|(name, number)| (*number, name))
            .collect();
        all.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
        let mark = |name: &str| match (name == self.active, name == self.latest) {
            (true, _) => " (active)",
            (_, true) => " (latest)",
            _ => "",
        };
        let shown = |(number, name): (i64, &String)| {
            (name.clone(), format!("rev-{number} {name}{}", mark(name)))
        };
        all.into_iter().map(shown).collect()
    }
}

/// Where a Recipe's input comes from, in a line.
fn source(spec: &v::RecipeSpec) -> String {
    if let Some(template) = &spec.template_ref {
        return format!("template {}", template.name);
    }
    let source = spec.source.clone().unwrap_or_default();
    let from = match (source.pantry_ref, source.oci.is_empty()) {
        (Some(pantry), _) => format!("pantry {}", pantry.name),
        (None, false) => source.oci,
        (None, true) => source.path,
    };
    match source.version.as_str() {
        "" => from,
        version => format!("{from}:{version}"),
    }
}

/// Recipes of a list, each with its Serving.
pub fn rows(recipes: &[v::Recipe], servings: &[v::Serving], deploys: bool) -> Vec<Recipe> {
    let key = |meta: &Option<v::Metadata>| path(&meta.clone().unwrap_or_default());
    let by: BTreeMap<String, &v::Serving> =
        servings.iter().map(|s| (key(&s.metadata), s)).collect();
    let row = |r: &v::Recipe| Recipe::of(r, by.get(&key(&r.metadata)).copied(), deploys);
    recipes.iter().map(row).collect()
}

/// The beginning of a digest.
pub fn short(digest: &str) -> String {
    digest.chars().take(SHORT).collect()
}

/// A web address that may be linked to; others are only shown.
pub fn link(address: &str) -> Option<String> {
    let rest = address
        .strip_prefix("https://")
        .or_else(|| address.strip_prefix("http://"))?;
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\'' | '<' | '>' | '\\');
    (!rest.is_empty() && rest.chars().all(plain)).then(|| address.to_owned())
}

/// Where the source code of a Preparation is looked at: the tag, else the commit.
pub fn code(git: &v::GitSource) -> Option<String> {
    let repo = link(git.repo.trim_end_matches('/').trim_end_matches(".git"))?;
    let host = repo.split("://").nth(1)?.split('/').next()?.to_owned();
    let at = match (git.tag.as_str(), git.commit_hash.as_str()) {
        ("", "") => return Some(repo),
        ("", commit) => commit,
        (tag, _) => tag,
    };
    let tree = match host.as_str() {
        "gitlab.com" => "-/tree",
        "bitbucket.org" => "src",
        "codeberg.org" if git.tag.is_empty() => "src/commit",
        "codeberg.org" => "src/tag",
        "github.com" => "tree",
        _ => return Some(repo),
    };
    link(&format!("{repo}/{tree}/{at}"))
}

/// A line of a unified difference.
#[derive(Debug, Clone)]
pub struct Line {
    pub class: &'static str,
    pub text: String,
}

/// The lines of a unified difference.
pub fn lines(unified: &str) -> Vec<Line> {
    let class = |line: &str| match line.chars().next() {
        _ if line.starts_with("+++") || line.starts_with("---") => "hunk",
        Some('@') => "hunk",
        Some('+') => "add",
        Some('-') => "del",
        _ => "same",
    };
    let line = |text: &str| Line {
        class: class(text),
        text: text.to_owned(),
    };
    unified.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(active: &str) -> Recipe {
        let revision = |number, preparation: &str| v::Revision {
            number,
            preparation: preparation.into(),
            ..Default::default()
        };
        let recipe = v::Recipe {
            metadata: Some(v::Metadata {
                name: "web".into(),
                ..Default::default()
            }),
            status: Some(v::RecipeStatus {
                latest_preparation_name: "c".into(),
                revisions: vec![
                    revision(1, "a"),
                    revision(2, "b"),
                    revision(3, "c"),
                    revision(4, "a"),
                ],
                ..Default::default()
            }),
            ..Default::default()
        };
        let serving = v::Serving {
            spec: Some(v::ServingSpec {
                preparation_name: active.into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        Recipe::of(&recipe, Some(&serving), true)
    }

    #[test]
    fn the_button_says_rollback_when_it_goes_back() {
        let row = recipe("c");
        assert!(row.point("b", true).unwrap().rollback);
        // It was rendered again since.
        assert!(!row.point("a", true).unwrap().rollback);
        assert!(row.point("c", true).is_none());
        assert!(row.point("b", false).is_none());
        let first = recipe("").point("b", true).unwrap();
        assert!(!first.rollback && first.url.ends_with("/default/web/promote"));
    }

    #[test]
    fn only_web_addresses_are_linked_to() {
        for bad in [
            "javascript:alert(1)",
            "https://",
            "https://a\"b",
            "data:x",
            "//a",
            "",
        ] {
            assert_eq!(link(bad), None, "{bad}");
        }
        let git = |repo: &str, tag: &str, commit: &str| v::GitSource {
            repo: repo.into(),
            tag: tag.into(),
            commit_hash: commit.into(),
        };
        let of = |g: v::GitSource| code(&g).unwrap_or_default();
        assert_eq!(
            of(git("https://github.com/a/b.git", "v1", "c")),
            "https://github.com/a/b/tree/v1"
        );
        assert_eq!(
            of(git("https://github.com.evil/a", "v1", "")),
            "https://github.com.evil/a"
        );
        assert_eq!(of(git("javascript:x", "v1", "")), "");
    }

    #[test]
    fn times_are_for_people() {
        let now = "2026-01-02T00:00:00Z".parse().unwrap();
        for (text, wanted) in [
            ("2026-01-01T23:59:50Z", "10 s ago"),
            ("2026-01-01T23:00:00Z", "1 h ago"),
            ("2025-12-01T00:00:00Z", "32 d ago"),
            ("2027-01-01T00:00:00Z", "0 s ago"),
            ("", ""),
        ] {
            assert_eq!(ago(text, now), wanted);
        }
    }
}
