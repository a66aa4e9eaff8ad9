//! What a Recipe would render to, without storing anything.

use super::apply::Mode;
use super::fault::Fault;
use super::recipe::inputs;
use super::render::{self, Plan};
use super::requests::documents;
use super::{Delivery, changes, unified};
use crate::api::v1;
use crate::api::{Error, Result};
use crate::apply;
use crate::model::delivery::{AnyRelease, Recipe};

const SHOWN: &str = "recipe";

impl Delivery {
    /// Renders as the controller would, after the same checks as `apply`, and
    /// compares with the latest Preparation.
    pub(super) async fn preview_of(
        &self,
        request: &v1::PreviewRequest,
    ) -> Result<v1::PreviewResponse> {
        let recipe = self.tried(&request.manifest)?;
        let (effective, resolved) = self.sourced(&recipe).await?;
        let inputs = inputs(&recipe, &effective, &resolved);
        let plan = Plan::of(&inputs).map_err(Fault::from)?;
        let content = match resolved.content.clone() {
            Some(content) => content,
            None => self.fetch(&recipe, &effective).await?,
        };
        let rendered = render::run(&inputs, &plan, &content).await;
        let rendered = rendered.map_err(Fault::from)?;
        let text = rendered.manifest;
        let mut answer = v1::PreviewResponse {
            digest: rendered.artifact.digest().to_owned(),
            config_hash: rendered.config_hash,
            ..Default::default()
        };
        let latest = recipe.status.latest_preparation.as_ref();
        let before = match latest {
            Some(name) => self.text_of(&recipe.meta.namespace, name).await?,
            None => String::new(),
        };
        let from = latest.map(ToString::to_string).unwrap_or_default();
        answer.unified = unified::diff(&from, "preview", &before, &text);
        answer.changes = changes::between(&documents(&before)?, &documents(&text)?);
        answer.from = from;
        answer.text = text;
        Ok(answer)
    }

    async fn sourced(
        &self,
        recipe: &Recipe,
    ) -> Result<(super::effective::Effective, super::recipe::Resolved)> {
        let effective = self.effective(recipe)?;
        let resolved = self.resolve(recipe, &effective).await?;
        Ok((effective, resolved))
    }

    /// The Recipe as it would be after its document was applied.
    fn tried(&self, manifest: &[u8]) -> Result<Recipe> {
        let wanted = apply::read_all(&[(SHOWN, manifest)])?;
        let one = match (wanted.runtime.is_empty(), wanted.releases.len()) {
            (true, 1) => wanted.releases.into_iter().next(),
            _ => None,
        };
        let Some((_, AnyRelease::Recipe(recipe))) = one else {
            return Err(Error::invalid(
                "NotOneRecipe",
                "one document of kind Recipe can be previewed",
            ));
        };
        let mode = Mode {
            dry_run: true,
            create_only: false,
            expected_generation: None,
            expected: None,
            replace_edits: false,
        };
        match self.merged(AnyRelease::Recipe(recipe), mode)?.object {
            AnyRelease::Recipe(recipe) => Ok(*recipe),
            other => Err(Error::failed("NotARecipe", other.at().to_string())),
        }
    }
}
