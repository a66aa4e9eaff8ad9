//! Promote, act, history, diff, manifest, wait: what people ask of releases.

use std::time::Duration;

use super::canonical::{self, Octal};
use super::external::{failure_for, object, result_for};
use super::promote::{Promotion, locked};
use super::serving::ready_of;
use super::stream::Emitter;
use super::{Delivery, actor, changes, namespace, not_found};
use crate::api::v1::{self, Action};
use crate::api::{Code, Error, Result};
use crate::model::delivery::{
    ActivationCause, AnyRelease, ConditionStatus, ConditionType, Conditions, PantryPhase,
    Preparation, Recipe, RecipePhase, ReleaseKind, ReleaseRef, Serving, ServingPhase, keys,
};
use crate::model::{Name, Value};
use crate::scheme::v1alpha1::{
    MAX_MESSAGE, activation_to_external, condition_type, revision_to_external,
};

/// How often an object is looked at that is waited for: what is ready is to be told at once.
pub(super) const LOOK: Duration = Duration::from_millis(20);

impl Delivery {
    /// Promotes or rolls back, and with `wait` follows it to its end.
    pub(super) async fn promote_request(
        &self,
        request: &v1::PromoteRequest,
        emit: &Emitter,
    ) -> Result<()> {
        check_message(&request.message)?;
        let recipe = self.recipe(&request.namespace, &request.recipe)?;
        let preparation = match (request.to.as_str(), request.rollback) {
            ("", true) => self.before(&recipe)?,
            ("", false) => recipe.status.latest_preparation.clone().ok_or_else(|| {
                let message = format!("{} has no preparation yet", recipe.at());
                Error::new(Code::Conflict, "PreparationNotFound", message)
                    .hint("`kuke describe recipe` or `-o wide` say why")
            })?,
            (text, _) => self.meant(&recipe, text)?,
        };
        let expected = Some(request.expected_current.clone()).filter(|e| !e.is_empty());
        let wanted = Promotion {
            namespace: recipe.meta.namespace.clone(),
            recipe: recipe.meta.name.clone(),
            preparation,
            expected,
            message: request.message.clone(),
            cause: match request.rollback {
                true => ActivationCause::Rollback,
                false => ActivationCause::Promote,
            },
            actor: actor::current(),
            dry_run: request.dry_run,
        };
        let promoted = self.promote_whole(&wanted).await?;
        let at = promoted.serving.at();
        let failed = !promoted.changed && promoted.serving.status.phase == ServingPhase::Failed;
        let action = match (promoted.changed, request.rollback) {
            (false, _) => "unchanged",
            (true, false) => "promoted",
            (true, true) => "rolled back",
        };
        emit.result(v1::ResourceResult {
            changes: vec![format!("active: {}", promoted.serving.spec.preparation)],
            object: Some(object(&promoted.serving.into())),
            ..result_for(&at, action)
        });
        if request.dry_run {
            return Ok(());
        }
        if failed {
            // Asked for again, so it is tried again.
            let looked = self.look(&at, true).await;
            self.or_later(&at, looked)?;
        }
        self.follow_serving(&at, request.wait, emit).await
    }

    /// Has a Serving looked at, and tells what became of it where that is awaited.
    async fn follow_serving(&self, at: &ReleaseRef, wait: bool, emit: &Emitter) -> Result<()> {
        self.enqueue(at);
        if !self.is_live() {
            // A failure is told by the object.
            let _ = self.settle_object(at).await;
        }
        if !wait {
            return Ok(());
        }
        let mut told = None;
        loop {
            let serving: Serving = self.read(at)?.ok_or_else(|| not_found(at))?;
            let current = serving.status.observed_generation == serving.meta.generation;
            let message = ready_of(&serving).1;
            if let Some(error) = failure_of(&serving) {
                emit.result(failure_for(at, &error));
                return Ok(());
            }
            match serving.status.phase {
                ServingPhase::Deployed if current => {
                    emit.result(v1::ResourceResult {
                        changes: vec![message.to_owned()],
                        object: Some(object(&serving.clone().into())),
                        ..result_for(at, "deployed")
                    });
                    return Ok(());
                }
                _ if told.as_deref() == Some(message) => {}
                _ => {
                    emit.progress(at.to_string(), message, false);
                    told = Some(message.to_owned());
                }
            }
            if emit.is_closed() {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Asks a controller to do something.
    pub(super) async fn act_request(&self, request: &v1::ActRequest, emit: &Emitter) -> Result<()> {
        check_message(&request.message)?;
        let kind: ReleaseKind = request.kind.parse().map_err(|()| {
            Error::invalid("UnknownKind", format!("unknown kind {:?}", request.kind))
        })?;
        let at = ReleaseRef::new(
            kind,
            &namespace(&request.namespace)?,
            &request.name.parse()?,
        );
        let serving = ReleaseRef {
            kind: ReleaseKind::Serving,
            ..at.clone()
        };
        match (request.action(), kind) {
            (Action::Refresh, ReleaseKind::Recipe) if request.dry_run => {
                Ok(self.rehearse_refresh(&at, emit).await?)
            }
            (Action::Resume, ReleaseKind::Recipe | ReleaseKind::Serving) if request.dry_run => {
                Ok(self.rehearse_resume(&serving, emit)?)
            }
            (Action::Sync, ReleaseKind::Recipe | ReleaseKind::Serving) if request.dry_run => {
                Ok(self.rehearse_sync(&serving, emit).await?)
            }
            (
                action @ (Action::Suspend | Action::Unsuspend),
                ReleaseKind::Recipe | ReleaseKind::Menu,
            ) if request.dry_run => self.suspend(&at, action == Action::Suspend, true, emit),
            (action, ReleaseKind::Recipe | ReleaseKind::Serving) if request.dry_run => {
                let what = action.as_str_name();
                let message = format!("{what} of a {kind} cannot be tried without doing it");
                Err(Error::new(Code::Unsupported, "NotSupported", message))
            }
            (Action::Refresh, ReleaseKind::Recipe) => {
                self.mark_refresh(&at, &request.message)?;
                self.tell_recipe(&at, "refreshed", emit).await
            }
            (Action::Suspend, ReleaseKind::Recipe | ReleaseKind::Menu) => {
                self.suspend(&at, true, false, emit)?;
                // One that is being rendered says that it is no longer at it.
                self.enqueue(&at);
                Ok(())
            }
            (Action::Unsuspend, ReleaseKind::Recipe | ReleaseKind::Menu) => {
                self.suspend(&at, false, false, emit)?;
                match kind {
                    ReleaseKind::Recipe => self.tell_recipe(&at, "", emit).await,
                    _ => {
                        self.enqueue(&at);
                        Ok(())
                    }
                }
            }
            (Action::Resume, ReleaseKind::Recipe | ReleaseKind::Serving) => {
                let action = match self.clear_hold(&serving)? {
                    true => "resumed",
                    false => "unchanged",
                };
                emit.result(result_for(&serving, action));
                let recipe = ReleaseRef {
                    kind: ReleaseKind::Recipe,
                    ..at
                };
                // Whether there is something newer to deploy; a failure is told by it.
                let _ = self.settle_object(&recipe).await;
                match request.wait {
                    true => self.follow_serving(&serving, true, emit).await,
                    false => Ok(()),
                }
            }
            (Action::Sync, ReleaseKind::Recipe | ReleaseKind::Serving) => {
                self.sync(&serving, request.wait, emit).await
            }
            (
                Action::Run | Action::Plan | Action::Retry | Action::Abort | Action::Force,
                ReleaseKind::Menu,
            ) => self.act_on_menu(&at, request, emit).await,
            (action, kind) => Err(Error::new(
                Code::Unsupported,
                "NotSupported",
                format!("{} is not offered for {kind}", action.as_str_name()),
            )),
        }
    }

    /// Brings a Serving to what it points at, and tells whether it is there.
    async fn sync(&self, at: &ReleaseRef, wait: bool, emit: &Emitter) -> Result<()> {
        let serving: Serving = self.read(at)?.ok_or_else(|| not_found(at))?;
        if let Some(lock) = &serving.status.lock {
            return Err(locked(at, lock));
        }
        let looked = self.look(at, true).await;
        self.or_later(at, looked)?;
        let serving: Serving = self.read(at)?.ok_or_else(|| not_found(at))?;
        // Where it is awaited, that tells of the failure.
        match failure_of(&serving).filter(|_| !wait) {
            Some(error) => emit.result(failure_for(at, &error)),
            None => {
                emit.result(result_for(at, "synced"));
                self.follow_serving(at, wait, emit).await?;
            }
        }
        Ok(())
    }

    fn mark_refresh(&self, at: &ReleaseRef, message: &str) -> Result<()> {
        self.transact(|| {
            let mut recipe: Recipe = self.read(at)?.ok_or_else(|| not_found(at))?;
            let now = jiff::Timestamp::now().to_string();
            let notes = &mut recipe.meta.annotations;
            notes.insert(keys::REFRESH.to_owned(), now);
            if !message.is_empty() {
                notes.insert(keys::COMMIT_MESSAGE.to_owned(), message.to_owned());
            }
            Ok((vec![recipe.into()], ()))
        })
    }

    /// Suspends or resumes; in a dry run only says whether that would change anything.
    fn suspend(&self, at: &ReleaseRef, on: bool, dry: bool, emit: &Emitter) -> Result<()> {
        let changed = self.transact(|| {
            let mut found = self.get(at)?;
            let flag = match &mut found {
                AnyRelease::Recipe(o) => &mut o.spec.suspend,
                AnyRelease::Menu(o) => &mut o.spec.suspend,
                _ => return Ok((Vec::new(), false)),
            };
            let changed = std::mem::replace(flag, on) != on;
            if changed {
                found.meta_mut().generation += 1;
            }
            let mut changes = vec![crate::store::ReleaseChange::Put(found)];
            if dry {
                changes.clear();
            }
            Ok((changes, changed))
        })?;
        let action = match (changed, on) {
            (false, _) => "unchanged",
            (true, true) => "suspended",
            (true, false) => "resumed",
        };
        emit.result(result_for(at, action));
        Ok(())
    }

    /// Looks at a Recipe now, and tells what came of it: a new Preparation, the
    /// old one, or why there is none.
    pub(super) async fn tell_recipe(
        &self,
        at: &ReleaseRef,
        action: &str,
        emit: &Emitter,
    ) -> Result<()> {
        let before: Option<Recipe> = self.read(at)?;
        let before = before.and_then(|r| r.status.latest_preparation);
        let done = self.settle_object(at).await;
        let Some(recipe) = self.read::<Recipe>(at)? else {
            return Ok(());
        };
        let ready = recipe.status.conditions.get(ConditionType::Ready);
        if recipe.spec.suspend {
            return Ok(());
        }
        // One that was changed while it was rendered is looked at once more.
        let over = recipe.status.phase != RecipePhase::Processing;
        let failed = ready.filter(|c| over && c.status == ConditionStatus::False);
        if let Some(condition) = failed {
            let message = format!("{at}: {}", condition.message);
            let error = Error::new(Code::Failed, condition.reason.clone(), message);
            emit.result(failure_for(at, &error));
            return Ok(());
        }
        if let Err(fault) = done {
            emit.result(failure_for(at, &fault.into()));
            return Ok(());
        }
        if !action.is_empty() {
            emit.result(result_for(at, action));
        }
        if let Some(latest) = recipe.status.latest_preparation {
            let prep = ReleaseRef::new(ReleaseKind::Preparation, &at.namespace, &latest);
            let action = match before == Some(latest) {
                true => "unchanged",
                false => "latest",
            };
            emit.result(v1::ResourceResult {
                object: self.store.release(&prep)?.as_ref().map(object),
                ..result_for(&prep, action)
            });
        }
        Ok(())
    }

    pub(super) fn history_of(&self, request: &v1::HistoryRequest) -> Result<v1::HistoryResponse> {
        let recipe = self.recipe(&request.namespace, &request.recipe)?;
        let serving = self.serving_of(&recipe)?;
        let status = serving
            .as_ref()
            .map(|s| s.status.clone())
            .unwrap_or_default();
        Ok(v1::HistoryResponse {
            revisions: recipe
                .status
                .revisions
                .iter()
                .map(revision_to_external)
                .collect(),
            activations: status
                .activations
                .iter()
                .map(activation_to_external)
                .collect(),
            active: serving.map_or_else(String::new, |s| s.spec.preparation.to_string()),
        })
    }

    /// Two Preparations, or the active one and the target.
    pub(super) async fn diff_of(&self, request: &v1::DiffRequest) -> Result<v1::DiffResponse> {
        let recipe = self.recipe(&request.namespace, &request.recipe)?;
        let serving = self.serving_of(&recipe)?;
        let active = serving.as_ref().map(|s| s.spec.preparation.clone());
        if request.live {
            return self.diff_live(&recipe, serving.as_ref()).await;
        }
        let named = |text: &str, default: Option<Name>| -> Result<Option<Name>> {
            match text {
                "" => Ok(default),
                text => self.meant(&recipe, text).map(Some),
            }
        };
        let from = named(&request.from, active)?;
        let to = named(&request.to, recipe.status.latest_preparation.clone())?;
        let (from, to) = from.zip(to).ok_or_else(|| {
            let message = format!("{} has nothing active, or no preparation", recipe.at());
            Error::new(Code::Conflict, "NothingToCompare", message)
                .hint("name two preparations; `kuke history` lists them")
        })?;
        let (a, b) = (
            self.text_of(&recipe.meta.namespace, &from).await?,
            self.text_of(&recipe.meta.namespace, &to).await?,
        );
        Ok(v1::DiffResponse {
            changes: changes::between(&documents(&a)?, &documents(&b)?),
            unified: super::unified::diff(from.as_str(), to.as_str(), &a, &b),
            from: from.to_string(),
            to: to.to_string(),
        })
    }

    async fn diff_live(
        &self,
        recipe: &Recipe,
        serving: Option<&Serving>,
    ) -> Result<v1::DiffResponse> {
        let serving = serving.ok_or_else(|| {
            let message = format!("{} has nothing active", recipe.at());
            Error::new(Code::Conflict, "NothingToCompare", message)
        })?;
        let drift = self.drift(serving, recipe).await?;
        Ok(v1::DiffResponse {
            from: "live".to_owned(),
            to: serving.spec.preparation.to_string(),
            unified: String::new(),
            changes: drift,
        })
    }

    /// The content of a Preparation.
    pub(super) async fn text_of(&self, namespace: &Name, name: &Name) -> Result<String> {
        let at = ReleaseRef::new(ReleaseKind::Preparation, namespace, name);
        let preparation: Preparation = self.read(&at)?.ok_or_else(|| not_found(&at))?;
        Ok(self.content_of(&preparation).await?)
    }

    /// The canonical manifest of a Preparation, from where its artifact is.
    pub(super) async fn content_of(
        &self,
        preparation: &Preparation,
    ) -> super::fault::Result<String> {
        let artifact = &preparation.spec.artifact;
        let place = self.place_of(&preparation.meta.namespace, artifact)?;
        self.artifacts.manifest(&place, artifact).await
    }

    pub(super) async fn manifest_of(
        &self,
        request: &v1::ManifestRequest,
    ) -> Result<v1::ManifestResponse> {
        let namespace = namespace(&request.namespace)?;
        let name: Name = request.preparation.parse()?;
        let at = ReleaseRef::new(ReleaseKind::Preparation, &namespace, &name);
        let preparation: Preparation = self.read(&at)?.ok_or_else(|| not_found(&at))?;
        Ok(v1::ManifestResponse {
            text: self.content_of(&preparation).await?,
            digest: preparation.spec.artifact.digest,
        })
    }

    /// Waits for a condition, or for the end of an object.
    pub(super) async fn wait_until(
        &self,
        request: &v1::WaitForRequest,
    ) -> Result<v1::ResourceResult> {
        let Ok(kind) = request.kind.parse::<ReleaseKind>() else {
            return self.wait_for_state(request).await;
        };
        if !request.state.is_empty() {
            let message = format!("a {kind} has conditions, no state");
            return Err(Error::invalid("UnknownCondition", message)
                .hint("for example --for=condition=Ready"));
        }
        let at = ReleaseRef::new(
            kind,
            &namespace(&request.namespace)?,
            &request.name.parse()?,
        );
        let gone = request.condition.is_empty();
        let condition = match request.condition.as_str() {
            "" => ConditionType::Ready,
            text => condition_type(text).ok_or_else(|| {
                Error::invalid("UnknownCondition", format!("unknown condition {text:?}"))
            })?,
        };
        let status = match request.status.as_str() {
            "" | "True" | "true" => ConditionStatus::True,
            "False" | "false" => ConditionStatus::False,
            "Unknown" | "unknown" => ConditionStatus::Unknown,
            other => {
                let message = format!("{other:?} is not True, False or Unknown");
                return Err(Error::invalid("BadStatus", message));
            }
        };
        loop {
            let found = self.store.release(&at)?;
            match (&found, gone) {
                (None, true) => return Ok(result_for(&at, "deleted")),
                (Some(_), true) | (None, false) => {}
                (Some(found), false) => {
                    let (observed, conditions) = state(found);
                    let met = conditions
                        .get(condition)
                        .is_some_and(|c| c.status == status && c.observed_generation == observed);
                    if met && observed == found.meta().generation {
                        return Ok(v1::ResourceResult {
                            object: Some(object(found)),
                            ..result_for(&at, "condition met")
                        });
                    }
                    let failed = match found {
                        AnyRelease::Recipe(recipe) => recipe.status.phase == RecipePhase::Failed,
                        AnyRelease::Pantry(pantry) => pantry.status.phase == PantryPhase::Failed,
                        _ => false,
                    };
                    if request.settled
                        && failed
                        && observed == found.meta().generation
                        && let Some(ready) = conditions.get(ConditionType::Ready)
                    {
                        let message = format!("{at}: {}", ready.message);
                        return Err(Error::new(Code::Failed, ready.reason.clone(), message));
                    }
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn recipe(&self, scope: &str, name: &str) -> Result<Recipe> {
        let at = ReleaseRef::new(ReleaseKind::Recipe, &namespace(scope)?, &name.parse()?);
        self.read(&at)?.ok_or_else(|| not_found(&at))
    }

    pub(super) fn serving_of(&self, recipe: &Recipe) -> Result<Option<Serving>> {
        let meta = &recipe.meta;
        let at = ReleaseRef::new(ReleaseKind::Serving, &meta.namespace, &meta.name);
        self.read(&at)
    }
}

/// A message for the history, which Recipe and Preparation have room for.
fn check_message(message: &str) -> Result<()> {
    match message.chars().count() {
        0..=MAX_MESSAGE => Ok(()),
        length => {
            let message =
                format!("the message has {length} characters, at most {MAX_MESSAGE} are allowed");
            Err(Error::invalid("MessageTooLong", message).hint("say it shorter"))
        }
    }
}

/// The documents of a manifest by what they are, to compare them.
pub(super) fn documents(text: &str) -> Result<Value> {
    let read = canonical::read("manifest.yaml", text.as_bytes(), Octal::Read)
        .map_err(|failure| Error::failed("ManifestInvalid", failure.message))?;
    let named = read.into_iter().map(|d| {
        let name = format!("{}/{}", d.field("kind"), d.metadata("name"));
        (name, d.value)
    });
    Ok(named.collect())
}

/// Observed generation and conditions of any object.
fn state(object: &AnyRelease) -> (i64, Conditions) {
    match object {
        AnyRelease::Recipe(o) => (o.status.observed_generation, o.status.conditions.clone()),
        AnyRelease::Preparation(o) => (o.status.observed_generation, o.status.conditions.clone()),
        AnyRelease::Serving(o) => (o.status.observed_generation, o.status.conditions.clone()),
        AnyRelease::Menu(o) => (o.status.observed_generation, o.status.conditions.clone()),
        AnyRelease::Pantry(o) => (o.status.observed_generation, o.status.conditions.clone()),
        AnyRelease::Kitchen(_) | AnyRelease::RecipeTemplate(_) => (0, Conditions::default()),
    }
}

/// Why a Serving failed at what is wanted of it now.
fn failure_of(serving: &Serving) -> Option<Error> {
    let current = serving.status.observed_generation == serving.meta.generation;
    let failed = current && serving.status.phase == ServingPhase::Failed;
    let (reason, message) = ready_of(serving);
    let at = serving.at();
    failed.then(|| Error::new(Code::Failed, reason, format!("{at}: {message}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_an_end() {
        assert_eq!(check_message(&"é".repeat(MAX_MESSAGE)), Ok(()));
        let error = check_message(&"x".repeat(MAX_MESSAGE + 1)).unwrap_err();
        assert_eq!(
            (error.code, &*error.reason),
            (Code::Invalid, "MessageTooLong")
        );
        assert!(error.message.contains("513"), "{error}");
    }
}
