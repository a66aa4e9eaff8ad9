//! The Recipe controller: from intent to a stored artifact (delivery spec,
//! section 2).

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use super::artifact::Record;
use super::artifacts::{Artifacts, Place};
use super::effective::Effective;
use super::fault::{Fault, Result};
use super::polls::must_ask;
use super::promote::{Promotion, Taken};
use super::render::{Inputs, Plan, Rendered};
use super::source::{self, Content};
use super::work::Next;
use super::{Delivery, actor, render};
use crate::model::delivery::{
    ActivationCause, Artifact, ConditionStatus, ConditionType, Destination, Menu, OciRepository,
    Pantry, PantrySpec, Preparation, PreparationSource, Recipe, RecipePhase, ReleaseKind,
    ReleaseRef, Revision, Serving, SourceFrom, SourceKind, keys,
};
use crate::model::{Labels, Name};
use crate::registry::client::Access;

/// How long a Preparation that waits for its signature, or for its artifact, is
/// left alone.
pub(super) const SIGNATURE_PROBE: Duration = Duration::from_secs(30);

/// What a source resolved to.
pub(super) struct Resolved {
    pub digest: String,
    pub source: PreparationSource,
    /// The files, where they had to be read anyway.
    pub content: Option<Content>,
}

/// What the inputs came to.
enum Cooked {
    /// The latest Preparation has these inputs already.
    Same,
    /// An older one has.
    Again(Name, Artifact),
    /// It was rendered and stored.
    New(Box<Rendered>, Artifact),
}

impl Delivery {
    /// Brings one Recipe to where it should be.
    pub(super) async fn reconcile_recipe(&self, at: &ReleaseRef) -> Result<Next> {
        let Some(recipe) = self.read::<Recipe>(at)? else {
            self.asked.forget(at);
            self.mark_revisions(at, None).await;
            return Ok(Next::Rest);
        };
        if recipe.meta.deletion.is_some() {
            self.asked.forget(at);
            return self.finish_recipe(&recipe).await;
        }
        if recipe.spec.suspend {
            self.let_go(&recipe)?;
            return Ok(Next::Rest);
        }
        // Of Preparations that are there: whatever becomes of the next one.
        let waits = self.approvals(&recipe).await? == Taken::Waits;
        let cooked = async {
            let effective = self.effective(&recipe)?;
            let resolved = self.resolve(&recipe, &effective).await?;
            let cooked = self.cook(&recipe, &effective, &resolved).await?;
            Ok::<_, Fault>((effective, resolved, cooked))
        };
        match cooked.await {
            Ok((effective, resolved, cooked)) => {
                self.record(&recipe, &effective, &resolved, cooked).await?;
                // What was lost may have come back.
                let waits = waits && self.approvals(&recipe).await? == Taken::Waits;
                let mut next = self.deploy(at, effective.auto_deploy).await?;
                if waits {
                    next = next.or_after(SIGNATURE_PROBE);
                }
                Ok(match effective.source.poll_interval {
                    pause if pause.is_zero() => next,
                    pause => next.or_after(pause),
                })
            }
            Err(fault) => {
                self.say_failed(at, &recipe, &fault)?;
                self.mark_revisions(at, None).await;
                match fault.transient {
                    true => Err(fault),
                    false if waits => Ok(Next::Rest.or_after(SIGNATURE_PROBE)),
                    false => Ok(Next::Rest),
                }
            }
        }
    }

    /// Asks the source where it has to be asked (step 2).
    pub(super) async fn resolve(&self, recipe: &Recipe, effective: &Effective) -> Result<Resolved> {
        let source = &effective.source;
        let (kind, reference) = match &source.from {
            SourceFrom::Oci(at) => (SourceKind::Oci, at.to_string()),
            SourceFrom::Path(path) => (SourceKind::Path, path.clone()),
            SourceFrom::Pantry(name) => {
                let pantry = self.pantry(&recipe.meta.namespace, name)?;
                (SourceKind::Pantry, pantry.spec.oci.to_string())
            }
        };
        let version = source.version.clone().unwrap_or_default();
        // A template or a Pantry may name another one since.
        let elsewhere = recipe.status.resolved_source != Some(place(&reference, &version));
        let age = self.asked.age(&recipe.at());
        let known = match elsewhere || must_ask(recipe, source.poll_interval, age) {
            true => None,
            false => recipe.status.resolved_source_digest.clone(),
        };
        let (digest, content) = match known {
            Some(digest) => (digest, None),
            None => {
                let content = self.fetch(recipe, effective).await?;
                (content.digest.clone(), Some(content))
            }
        };
        if let Some(pin) = &source.digest
            && *pin != digest
        {
            let message = format!("{reference} has the digest {digest}, pinned is {pin}");
            return Err(Fault::new("SourceDigestMismatch", message)
                .hint("change spec.source.digest if the new content is wanted"));
        }
        Ok(Resolved {
            source: PreparationSource {
                kind,
                reference,
                version,
                base_digest: digest.clone(),
            },
            digest,
            content,
        })
    }

    /// The files of a source.
    pub(super) async fn fetch(&self, recipe: &Recipe, effective: &Effective) -> Result<Content> {
        let source = &effective.source;
        let version = source.version.as_deref().unwrap_or_default();
        let (at, access) = match &source.from {
            SourceFrom::Path(path) => return self.read_path(path).await,
            SourceFrom::Oci(at) => (at.clone(), Access::default()),
            SourceFrom::Pantry(name) => {
                let pantry = self.pantry(&recipe.meta.namespace, name)?;
                (pantry.spec.oci.clone(), access(&pantry.spec))
            }
        };
        self.read_repository(&at, access, version, source.digest.as_deref())
            .await
    }

    /// The files of an artifact.
    pub(super) async fn read_repository(
        &self,
        at: &OciRepository,
        access: Access,
        version: &str,
        pin: Option<&str>,
    ) -> Result<Content> {
        if at.is_local() {
            return self.artifacts.source(at, version, pin).await;
        }
        let repository = source::oci::Repository::new(&at.host, &at.repository, access);
        let resolved = repository.resolve(version, pin).await?;
        Ok(repository.fetch(&resolved).await?)
    }

    /// A file or directory of this host.
    pub(super) async fn read_path(&self, path: &str) -> Result<Content> {
        let roots = self.source_roots()?;
        let path = PathBuf::from(path);
        let read = tokio::task::spawn_blocking(move || {
            source::local::read(&roots, &path).map(Content::of_tree)
        });
        let read = read.await.map_err(|e| Fault::store(e.to_string()))?;
        Ok(read?)
    }

    /// Directories below which `source.path` may point.
    fn source_roots(&self) -> Result<Vec<PathBuf>> {
        let roots = self.kitchen()?.map(|kitchen| kitchen.spec.source_roots);
        let roots = roots.unwrap_or_default();
        if roots.is_empty() {
            return Ok(vec![PathBuf::from(DEFAULT_ROOT)]);
        }
        Ok(roots.into_iter().map(PathBuf::from).collect())
    }

    /// Steps 3 to 5: as little as is needed.
    async fn cook(
        &self,
        recipe: &Recipe,
        effective: &Effective,
        resolved: &Resolved,
    ) -> Result<Cooked> {
        let inputs = inputs(recipe, effective, resolved);
        let plan = Plan::of(&inputs)?;
        let made: Vec<Preparation> =
            self.list(ReleaseKind::Preparation, Some(&recipe.meta.namespace))?;
        let same = |p: &&Preparation| {
            p.spec.recipe == recipe.meta.name && p.spec.config_hash == plan.config_hash()
        };
        let found = made.iter().find(same);
        let again = |found: &Preparation| {
            let latest = recipe.status.latest_preparation.as_ref() == Some(&found.meta.name);
            match latest {
                true => Cooked::Same,
                false => Cooked::Again(found.meta.name.clone(), found.spec.artifact.clone()),
            }
        };
        if let Some(found) = found {
            // From the disk: what is in memory alone would be lost with it.
            match self.whole(found).await {
                Ok(_) => return Ok(again(found)),
                // Nobody knows whether it is there: no reason to render.
                Err(fault) if fault.transient => {
                    return Err(Fault::store(fault.message).hint(fault.hint));
                }
                Err(_) => {}
            }
        }
        let fetched;
        let content = match &resolved.content {
            Some(content) => content,
            None => {
                fetched = self.fetch(recipe, effective).await?;
                &fetched
            }
        };
        // What failed is tried again as it is: why it failed stays to be seen, also
        // while a refresh that was asked for is tried again by itself.
        let failed = recipe.status.phase == RecipePhase::Failed
            && recipe.status.observed_generation == recipe.meta.generation;
        if !failed {
            self.say_processing(recipe)?;
        }
        let rendered = render::run(&inputs, &plan, content).await?;
        let to = match found {
            // A Preparation never changes: what was lost comes back where it was.
            Some(found) => self.place_of(&recipe.meta.namespace, &found.spec.artifact)?,
            None => self.destination(recipe)?,
        };
        super::STEP.hit();
        let artifact = self.artifacts.push(&to, &rendered.artifact).await?;
        super::STEP.hit();
        Ok(match found.filter(|f| f.spec.artifact == artifact) {
            Some(found) => again(found),
            None => Cooked::New(Box::new(rendered), artifact),
        })
    }

    /// Where new artifacts of a Recipe go.
    fn destination(&self, recipe: &Recipe) -> Result<Place> {
        let namespace = &recipe.meta.namespace;
        match &recipe.spec.destination {
            None => {
                let own = Artifacts::repository(namespace, &recipe.meta.name);
                self.place_at(namespace, &own)
            }
            Some(Destination::Oci(at)) => self.place_at(namespace, at),
            Some(Destination::Pantry(name)) => {
                let at = ReleaseRef::new(ReleaseKind::Pantry, namespace, name);
                let pantry: Option<Pantry> = self.read(&at)?;
                let pantry = pantry.ok_or_else(|| {
                    let message = format!("destination of {}: {at} not found", recipe.at());
                    Fault::store(message).hint("apply the Pantry, or change spec.destination")
                })?;
                Ok(Place {
                    access: access(&pantry.spec),
                    at: pantry.spec.oci,
                })
            }
        }
    }

    /// Step 6, and the revision's record beside the artifact.
    async fn record(
        &self,
        seen: &Recipe,
        effective: &Effective,
        resolved: &Resolved,
        cooked: Cooked,
    ) -> Result<()> {
        let at = seen.at();
        let actor = actor::current();
        let tagged = match &cooked {
            Cooked::Same => 0,
            Cooked::Again(_, artifact) | Cooked::New(_, artifact) => {
                self.last_tagged(&at, artifact).await
            }
        };
        let revision = self.transact(|| {
            let now = Timestamp::now();
            let Some(mut recipe) = self.read::<Recipe>(&at)? else {
                return Ok((Vec::new(), None));
            };
            // Somebody changed what is wanted: that is looked at next.
            if recipe.meta.generation != seen.meta.generation || recipe.meta.deletion.is_some() {
                self.enqueue(&at);
                return Ok((Vec::new(), None));
            }
            let mut changes = Vec::new();
            let mut revision = None;
            let (name, artifact) = match &cooked {
                Cooked::Same => (None, None),
                Cooked::Again(name, artifact) => (Some(name.clone()), Some(artifact.clone())),
                Cooked::New(rendered, artifact) => {
                    let number = recipe.status.revision.max(tagged) + 1;
                    let message = message_of(&recipe, seen);
                    let (name, new) = self.preparation(
                        &recipe, effective, resolved, rendered, artifact, number, message, now,
                    )?;
                    changes.extend(new.map(|p| p.into()));
                    let status = &recipe.status;
                    let hash = Some(&rendered.config_hash);
                    // Only its artifact had been lost: nothing new was made.
                    match status.latest_preparation.as_ref() == Some(&name)
                        && status.latest_config_hash.as_ref() == hash
                    {
                        true => (None, None),
                        false => (Some(name), Some(artifact.clone())),
                    }
                }
            };
            if let (Some(name), Some(artifact)) = (name, artifact) {
                let number = recipe.status.revision.max(tagged) + 1;
                let hash = self.hash_of(&cooked, &at, &name)?;
                let entry = Revision {
                    number,
                    preparation: name.clone(),
                    config_hash: hash.clone(),
                    message: message_of(&recipe, seen),
                    actor: actor.clone(),
                    time: Some(now),
                };
                let parent = recipe.status.latest_digest.clone();
                recipe.status.revision = number;
                recipe.status.revisions.push(entry.clone());
                recipe.status.latest_preparation = Some(name);
                recipe.status.latest_digest = Some(artifact.digest.clone());
                recipe.status.latest_config_hash = Some(hash);
                revision = Some((entry, parent));
            }
            // Without a revision it was for nothing, and not for what comes next.
            for key in [keys::COMMIT_MESSAGE, keys::REFRESH] {
                use_up(&mut recipe.meta.annotations, &seen.meta.annotations, key);
            }
            let status = &mut recipe.status;
            if resolved.content.is_some() {
                let same = status.resolved_source_digest.as_ref() == Some(&resolved.digest);
                if !same || status.resolved_at.is_none() {
                    status.resolved_at = Some(now);
                }
                status.resolved_source_digest = Some(resolved.digest.clone());
                let source = &resolved.source;
                status.resolved_source = Some(place(&source.reference, &source.version));
            }
            let generation = recipe.meta.generation;
            status.observed_generation = generation;
            status.phase = RecipePhase::Ready;
            let latest = text(status.latest_preparation.as_ref());
            for (kind, message) in [
                (ConditionType::Ready, format!("the latest is {latest}")),
                (ConditionType::SourceResolved, resolved.digest.clone()),
                (ConditionType::Rendered, String::new()),
                (ConditionType::Stored, String::new()),
            ] {
                let yes = ConditionStatus::True;
                let conditions = &mut status.conditions;
                conditions.set(kind, yes, "Ready", &message, generation, now);
            }
            changes.push(recipe.into());
            Ok((changes, revision))
        })?;
        if resolved.content.is_some() {
            self.asked.note(&at);
        }
        let fresh = revision.map(|(entry, parent)| Record {
            recipe: format!("{}/{}", at.namespace, at.name),
            revision: entry.number,
            message: entry.message,
            parent,
            base_name: resolved.source.reference.clone(),
            actor: entry.actor,
            time: entry.time.map(|t| t.to_string()).unwrap_or_default(),
            files: match &cooked {
                Cooked::New(rendered, _) => rendered.files.clone(),
                _ => Vec::new(),
            },
        });
        self.mark_revisions(&at, fresh).await;
        Ok(())
    }

    fn hash_of(&self, cooked: &Cooked, at: &ReleaseRef, name: &Name) -> crate::api::Result<String> {
        if let Cooked::New(rendered, _) = cooked {
            return Ok(rendered.config_hash.clone());
        }
        let at = ReleaseRef::new(ReleaseKind::Preparation, &at.namespace, name);
        let found: Option<Preparation> = self.read(&at)?;
        found
            .map(|p| p.spec.config_hash)
            .ok_or_else(|| super::not_found(&at))
    }

    /// Preparations that were approved by label are activated.
    async fn approvals(&self, recipe: &Recipe) -> Result<Taken> {
        let taken = self.take_approvals(recipe).await?;
        if taken == Taken::Promoted {
            let at = recipe.at();
            let serving = ReleaseRef::new(ReleaseKind::Serving, &at.namespace, &at.name);
            self.enqueue(&serving);
        }
        Ok(taken)
    }

    /// Step 7: auto-deploy. What has to be signed first is looked at again.
    async fn deploy(&self, at: &ReleaseRef, automatic: bool) -> Result<Next> {
        let Some(recipe) = self.read::<Recipe>(at)? else {
            return Ok(Next::Rest);
        };
        let serving_at = ReleaseRef::new(ReleaseKind::Serving, &at.namespace, &at.name);
        self.enqueue_menus(at)?;
        let Some(latest) = recipe
            .status
            .latest_preparation
            .clone()
            .filter(|_| automatic)
        else {
            return Ok(Next::Rest);
        };
        let serving: Option<Serving> = self.read(&serving_at)?;
        if let Some(serving) = &serving
            && (serving.spec.hold.is_some()
                || serving.status.lock.is_some()
                || serving.spec.preparation == latest)
        {
            return Ok(Next::Rest);
        }
        if self.menu_owning(at)?.is_some() {
            return Ok(Next::Rest);
        }
        let latest_at = ReleaseRef::new(ReleaseKind::Preparation, &at.namespace, &latest);
        if let Some(preparation) = self.read::<Preparation>(&latest_at)?
            && let Err(fault) = self.signed(&preparation).await
        {
            tracing::info!(object = %latest_at, reason = fault.reason, error = %fault, "it is not deployed yet");
            return Ok(Next::Rest.or_after(SIGNATURE_PROBE));
        }
        let promoted = self.promote_to(&Promotion {
            namespace: at.namespace.clone(),
            recipe: at.name.clone(),
            preparation: latest,
            expected: None,
            message: String::new(),
            cause: ActivationCause::Auto,
            actor: actor::CONTROLLER.to_owned(),
            dry_run: false,
        });
        match promoted {
            Ok(promoted) if promoted.changed => self.enqueue(&serving_at),
            Ok(_) => {}
            // Somebody was quicker, and decides now.
            Err(error) if matches!(&*error.reason, "BeingDeleted" | "ServingLocked") => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Next::Rest)
    }

    /// The Menu that alone decides when a Recipe is deployed.
    pub(super) fn menu_owning(&self, recipe: &ReleaseRef) -> crate::api::Result<Option<Name>> {
        let menus: Vec<Menu> = self.list_whole(ReleaseKind::Menu, Some(&recipe.namespace))?;
        let owns = |menu: &&Menu| {
            menu.spec.exclusive && menu.spec.recipes.iter().any(|m| m.name == recipe.name)
        };
        Ok(menus.iter().find(owns).map(|menu| menu.meta.name.clone()))
    }

    /// Step 8: pointers and what is serving stay.
    fn say_failed(&self, at: &ReleaseRef, seen: &Recipe, fault: &Fault) -> Result<()> {
        let failed = match fault.reason.as_str() {
            reason if reason.starts_with("Source") => ConditionType::SourceResolved,
            "StoreFailed" => ConditionType::Stored,
            _ => ConditionType::Rendered,
        };
        self.transact(|| {
            let Some(mut recipe) = self.read::<Recipe>(at)? else {
                return Ok((Vec::new(), ()));
            };
            if recipe.meta.generation != seen.meta.generation {
                self.enqueue(at);
                return Ok((Vec::new(), ()));
            }
            let now = Timestamp::now();
            let generation = recipe.meta.generation;
            recipe.status.observed_generation = generation;
            recipe.status.phase = RecipePhase::Failed;
            for kind in [ConditionType::Ready, failed] {
                let no = ConditionStatus::False;
                let conditions = &mut recipe.status.conditions;
                conditions.set(kind, no, &fault.reason, &fault.text(), generation, now);
            }
            Ok((vec![recipe.into()], ()))
        })?;
        Ok(())
    }
}

/// Where paths may point unless the Kitchen names other roots.
const DEFAULT_ROOT: &str = "/srv";

/// Everything that a render of a Recipe depends on.
pub(super) fn inputs<'a>(
    recipe: &'a Recipe,
    effective: &'a Effective,
    resolved: &'a Resolved,
) -> Inputs<'a> {
    Inputs {
        recipe: &recipe.meta.name,
        namespace: &recipe.meta.namespace,
        source_kind: resolved.source.kind,
        source_digest: &resolved.digest,
        sub_path: &effective.source.sub_path,
        render: &effective.render,
        patches: &effective.patches,
        edits: &recipe.spec.edits,
        target: &effective.target,
        allow_empty: recipe.spec.allow_empty,
    }
}

/// What is asked, as the status of a Recipe keeps it.
fn place(reference: &str, version: &str) -> String {
    format!("{reference} {version}").trim_end().to_owned()
}

fn message_of(recipe: &Recipe, seen: &Recipe) -> String {
    if let Some(message) = seen.meta.annotations.get(keys::COMMIT_MESSAGE) {
        return message.clone();
    }
    match recipe.status.revision {
        0 => "initial".to_owned(),
        _ if seen.status.observed_generation == seen.meta.generation => {
            "automatic: the source changed".to_owned()
        }
        _ => "automatic: the recipe changed".to_owned(),
    }
}

fn text(name: Option<&Name>) -> &str {
    name.map_or("", Name::as_str)
}

/// How a Pantry's repository may be used.
pub(super) fn access(pantry: &PantrySpec) -> Access {
    Access {
        credentials: vec![crate::model::RegistryCredential {
            server: pantry.oci.host.clone(),
            username: pantry.username.clone(),
            password: pantry.password.clone(),
        }]
        .into_iter()
        .filter(|login| !login.username.is_empty())
        .collect(),
        ca: pantry.ca.clone(),
        plain_http: pantry.plain_http,
    }
}

/// Removes a mark that was heeded. One that came since is for the next look.
fn use_up(now: &mut Labels, seen: &Labels, key: &str) {
    if now.get(key) == seen.get(key) {
        now.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_that_came_meanwhile_stays() {
        let mark = |value: &str| Labels::from([(keys::REFRESH.to_owned(), value.to_owned())]);
        let left = |mut now: Labels, seen: Labels| {
            use_up(&mut now, &seen, keys::REFRESH);
            now
        };
        assert_eq!(left(mark("1"), mark("1")), Labels::new());
        assert_eq!(left(mark("2"), mark("1")), mark("2"));
        assert_eq!(left(mark("1"), Labels::new()), mark("1"));
    }
}
