//! What `resume`, `sync` and `refresh` would do, without doing it.

use super::external::{object, result_for};
use super::fault::{Fault, Result};
use super::recipe::inputs;
use super::render::{self, Plan};
use super::stream::Emitter;
use super::target::Target;
use super::{Delivery, not_found};
use crate::api::v1;
use crate::model::delivery::{Preparation, Recipe, ReleaseKind, ReleaseRef, Serving, keys};

impl Delivery {
    /// Whether there is a hold to be cleared.
    pub(super) fn rehearse_resume(&self, at: &ReleaseRef, emit: &Emitter) -> Result<()> {
        let serving: Serving = self.read(at)?.ok_or_else(|| not_found(at))?;
        let (action, changes) = match &serving.spec.hold {
            Some(hold) => ("resumed", vec![format!("hold: removed ({})", hold.reason)]),
            None => ("unchanged", Vec::new()),
        };
        emit.result(v1::ResourceResult {
            changes,
            object: Some(object(&serving.into())),
            ..result_for(at, action)
        });
        Ok(())
    }

    /// What applying the active Preparation again would change on its target.
    pub(super) async fn rehearse_sync(&self, at: &ReleaseRef, emit: &Emitter) -> Result<()> {
        let serving: Serving = self.read(at)?.ok_or_else(|| not_found(at))?;
        let recipe_at = ReleaseRef::new(ReleaseKind::Recipe, &at.namespace, &serving.spec.recipe);
        let recipe: Option<Recipe> = self.read(&recipe_at)?;
        let activation = self.activation(&serving, recipe.as_ref()).await?;
        let plan = self.targets.plan(&activation).await?;
        let mut told = v1::ResourceResult {
            object: Some(object(&serving.into())),
            ..result_for(
                at,
                if plan.is_empty() {
                    "unchanged"
                } else {
                    "planned"
                },
            )
        };
        for planned in &plan.objects {
            let resource = &planned.resource;
            let (verb, name) = (planned.action.as_str(), &resource.name);
            let kind = resource.kind.to_ascii_lowercase();
            told.steps.push(format!("{verb} {kind} {name:?}"));
            let changes = planned.changes.iter();
            told.changes
                .extend(changes.map(|change| format!("{kind} {name}: {change}")));
        }
        emit.result(told);
        Ok(())
    }

    /// Asks the source and renders where that is needed; nothing is stored.
    pub(super) async fn rehearse_refresh(&self, at: &ReleaseRef, emit: &Emitter) -> Result<()> {
        let mut recipe: Recipe = self.read(at)?.ok_or_else(|| not_found(at))?;
        let known = recipe.status.resolved_source_digest.clone();
        // As the mark of a refresh does.
        let notes = &mut recipe.meta.annotations;
        notes.insert(keys::REFRESH.to_owned(), String::new());
        let effective = self.effective(&recipe)?;
        let resolved = self.resolve(&recipe, &effective).await?;
        let mut changes = Vec::new();
        if known.as_ref() != Some(&resolved.digest) {
            let known = known.as_deref().unwrap_or("none");
            changes.push(format!("source: {known} -> {}", resolved.digest));
        }
        let inputs = inputs(&recipe, &effective, &resolved);
        let plan = Plan::of(&inputs).map_err(Fault::from)?;
        let made: Vec<Preparation> = self.list(ReleaseKind::Preparation, Some(&at.namespace))?;
        let same =
            |p: &&Preparation| p.spec.recipe == at.name && p.spec.config_hash == plan.config_hash();
        let digest = match made.iter().find(same) {
            Some(found) => found.spec.artifact.digest.clone(),
            None => {
                let content = match resolved.content.clone() {
                    Some(content) => content,
                    None => self.fetch(&recipe, &effective).await?,
                };
                let rendered = render::run(&inputs, &plan, &content).await?;
                rendered.artifact.digest().to_owned()
            }
        };
        let latest = recipe.status.latest_digest.as_ref();
        let action = match latest == Some(&digest) {
            true => "unchanged",
            false => {
                let latest = latest.map_or("none", String::as_str);
                changes.push(format!("artifact: {latest} -> {digest}"));
                "planned"
            }
        };
        emit.result(v1::ResourceResult {
            changes,
            ..result_for(at, action)
        });
        Ok(())
    }
}
