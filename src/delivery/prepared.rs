//! The Preparation of a render, as an object (delivery spec, section 6).

use jiff::Timestamp;

use super::effective::Effective;
use super::recipe::Resolved;
use super::render::Rendered;
use super::source::Content;
use super::verify::recorded;
use super::{Delivery, stamp_new};
use crate::model::Name;
use crate::model::delivery::{
    Artifact, ConditionStatus, ConditionType, GitSource, Preparation, PreparationPhase,
    PreparationSpec, PreparationStatus, Recipe, ReleaseKind, ReleaseMeta, ReleaseRef, keys,
};

/// Hexadecimal digits of the artifact's digest in a Preparation's name, and how
/// many more when that name is taken by another artifact.
const SHORT: usize = 12;
const LONGER: usize = 4;

impl Delivery {
    /// Name of the Preparation of an artifact, and the object where there is none yet.
    #[allow(
        clippy::too_many_arguments,
        reason = "every one is a part of the object"
    )]
    pub(super) fn preparation(
        &self,
        recipe: &Recipe,
        effective: &Effective,
        resolved: &Resolved,
        rendered: &Rendered,
        artifact: &Artifact,
        revision: i64,
        message: String,
        now: Timestamp,
    ) -> crate::api::Result<(Name, Option<Preparation>)> {
        let hex = artifact.digest.trim_start_matches("sha256:");
        let mut length = SHORT;
        let name = loop {
            let short = hex.get(..length).unwrap_or(hex);
            let name: Name = format!("{}-{short}", recipe.meta.name).parse()?;
            let at = ReleaseRef::new(ReleaseKind::Preparation, &recipe.meta.namespace, &name);
            match self.read::<Preparation>(&at)? {
                None => break name,
                Some(found) if found.spec.artifact.digest == artifact.digest => {
                    return Ok((name, None));
                }
                Some(_) => length += LONGER,
            }
        };
        let mut meta = ReleaseMeta::new(recipe.meta.namespace.clone(), name.clone());
        stamp_new(&mut meta);
        let version = label(&resolved.source.version);
        for (key, value) in [
            (keys::RECIPE, recipe.meta.name.to_string()),
            (keys::VERSION, version),
            (keys::AUTO_DEPLOY, effective.auto_deploy.to_string()),
        ] {
            if !value.is_empty() {
                meta.labels.insert(key.to_owned(), value);
            }
        }
        let mut status = PreparationStatus {
            observed_generation: 1,
            phase: PreparationPhase::Ready,
            ..Default::default()
        };
        let yes = ConditionStatus::True;
        let conditions = &mut status.conditions;
        conditions.set(ConditionType::Ready, yes, "Ready", "", 1, now);
        let spec = PreparationSpec {
            recipe: recipe.meta.name.clone(),
            source: resolved.source.clone(),
            renderer: rendered.renderer.clone(),
            config_hash: rendered.config_hash.clone(),
            artifact: artifact.clone(),
            commit_message: message,
            parent_digest: recipe.status.latest_digest.clone(),
            git_source: git_source(resolved.content.as_ref()),
            target: effective.target.clone(),
            resources: rendered.resources.clone(),
            revision,
            inputs: Some(recorded(recipe, effective)),
        };
        Ok((name, Some(Preparation { meta, spec, status })))
    }
}

/// A version as a legal label value.
fn label(version: &str) -> String {
    let legal = |c: char| match c.is_ascii_alphanumeric() || "._-".contains(c) {
        true => c,
        false => '-',
    };
    let text: String = version.chars().map(legal).take(63).collect();
    text.trim_matches(|c: char| !c.is_ascii_alphanumeric())
        .to_owned()
}

/// Source code behind an input, as its annotations tell.
fn git_source(content: Option<&Content>) -> GitSource {
    let Some(content) = content else {
        return GitSource::default();
    };
    let text = |key: &str, most: usize| {
        let key = format!("org.opencontainers.image.{key}");
        let found = content.annotations.get(&key).map(String::as_str);
        let text = found.unwrap_or_default();
        text.chars().take(most).collect::<String>()
    };
    let repo = match text("source", 2048) {
        empty if empty.is_empty() => text("url", 2048),
        source => source,
    };
    let revision = text("revision", 512);
    let commit = revision.rsplit([':', '@', '/']).next().unwrap_or_default();
    let is_commit = commit.len() >= 7 && commit.bytes().all(|b| b.is_ascii_hexdigit());
    GitSource {
        repo,
        tag: text("version", 256),
        commit: match is_commit && commit.len() <= 64 {
            true => commit.to_owned(),
            false => String::new(),
        },
    }
}
