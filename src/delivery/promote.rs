//! The one operation that changes what is active: promotion, rollback,
//! approval by label, auto-deploy and Menus all come through here (delivery
//! spec, section 7).

use jiff::Timestamp;

use super::signed::SIGNATURE_REQUIRED;
use super::{Delivery, actor, not_found, stamp_new};
use crate::api::{Code, Error, Result};
use crate::model::Name;
use crate::model::delivery::{
    ActivationCause, ActivationRecord, ConditionStatus, ConditionType, Hold, Policy, Preparation,
    PreparationPhase, Recipe, ReleaseKind, ReleaseMeta, ReleaseRef, Serving, ServingPhase,
    ServingSpec, ServingStatus, keys,
};
use crate::store::ReleaseChange;

/// What is to become active, and why.
#[derive(Debug, Clone)]
pub(super) struct Promotion {
    pub namespace: Name,
    pub recipe: Name,
    pub preparation: Name,
    /// Preparation that must be active now.
    pub expected: Option<String>,
    pub message: String,
    pub cause: ActivationCause,
    pub actor: String,
    pub dry_run: bool,
}

/// What a promotion came to.
#[derive(Debug, Clone)]
pub(super) struct Promoted {
    pub serving: Serving,
    pub changed: bool,
}

/// What became of approvals by label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// There are none, or their time has not come.
    Nothing,
    /// The artifact cannot be read.
    Waits,
    /// They were used up.
    Promoted,
}

impl Delivery {
    /// Moves the pointer to what can be activated: an artifact that is lost or
    /// damaged is refused before anything changes.
    pub(super) async fn promote_whole(&self, wanted: &Promotion) -> Result<Promoted> {
        let at = |kind, name: &Name| ReleaseRef::new(kind, &wanted.namespace, name);
        let serving: Option<Serving> = self.read(&at(ReleaseKind::Serving, &wanted.recipe))?;
        let moves = serving.is_none_or(|s| s.spec.preparation != wanted.preparation);
        let prep_at = at(ReleaseKind::Preparation, &wanted.preparation);
        // What is not there, or another's, is refused with its own words below.
        if moves && let Some(preparation) = self.read::<Preparation>(&prep_at)? {
            self.acceptable(&preparation).await.map_err(|fault| {
                let name = &wanted.recipe;
                if fault.reason == SIGNATURE_REQUIRED {
                    let hint = format!("{}; nothing was changed", fault.hint);
                    return Error::from(fault).hint(hint);
                }
                let hint = match fault.hint.as_str() {
                    "" => String::new(),
                    hint => format!("{hint}; "),
                };
                Error::from(fault).hint(format!(
                    "{hint}nothing was changed; `kuke recipe refresh {name}` makes the latest \
                     again, `kuke history {name}` lists the others"
                ))
            })?;
        }
        self.promote_to(wanted)
    }

    /// Moves the pointer, with history and hold, in one transaction.
    pub(super) fn promote_to(&self, wanted: &Promotion) -> Result<Promoted> {
        self.transact(|| {
            let (mut changes, promoted) = self.pointer(wanted)?;
            if wanted.dry_run || !promoted.changed {
                changes.clear();
            }
            Ok((changes, promoted))
        })
    }

    /// The changes of a promotion, to be committed alone or with others.
    pub(super) fn pointer(&self, wanted: &Promotion) -> Result<(Vec<ReleaseChange>, Promoted)> {
        let at = |kind, name: &Name| ReleaseRef::new(kind, &wanted.namespace, name);
        let recipe_at = at(ReleaseKind::Recipe, &wanted.recipe);
        let recipe: Recipe = self
            .read(&recipe_at)?
            .ok_or_else(|| not_found(&recipe_at))?;
        if recipe.meta.deletion.is_some() {
            let message = format!("{recipe_at} is being deleted");
            return Err(Error::new(Code::Conflict, "BeingDeleted", message));
        }
        let prep_at = at(ReleaseKind::Preparation, &wanted.preparation);
        let preparation: Preparation = self.read(&prep_at)?.ok_or_else(|| Error {
            reason: "PreparationNotFound".into(),
            ..not_found(&prep_at)
        })?;
        if preparation.spec.recipe != wanted.recipe {
            let owner = &preparation.spec.recipe;
            let message = format!("{prep_at} belongs to recipe {owner}, not {}", wanted.recipe);
            return Err(Error::new(Code::Conflict, "WrongRecipe", message));
        }
        if preparation.status.phase != PreparationPhase::Ready {
            let message = format!("{prep_at} is not ready");
            return Err(Error::new(Code::Conflict, "PreparationNotReady", message));
        }
        let serving_at = at(ReleaseKind::Serving, &wanted.recipe);
        let old: Option<Serving> = self.read(&serving_at)?;
        if let Some(old) = &old {
            refuse(old, wanted)?;
        }
        let current = old.as_ref().map(|s| s.spec.preparation.clone());
        if let Some(expected) = &wanted.expected
            && current.as_ref().map_or("", Name::as_str) != expected
        {
            let now = current.as_ref().map_or("none", Name::as_str);
            let message = format!("{serving_at}: active is {now}, expected was {expected}");
            return Err(Error::new(Code::Conflict, "CurrentChanged", message)
                .hint("look again with `kuke history`, then repeat"));
        }
        let now = Timestamp::now();
        let mut serving = old
            .clone()
            .unwrap_or_else(|| unsaved(&wanted.namespace, &wanted.recipe, &wanted.preparation));
        let latest = recipe.status.latest_preparation.as_ref() == Some(&wanted.preparation);
        serving.spec.hold = match (latest, wanted.cause, &serving.spec.hold) {
            // A failed one is held although it goes back to what is the latest.
            (true, cause, _) if cause != ActivationCause::Failure => None,
            (_, _, Some(hold)) if current.as_ref() == Some(&wanted.preparation) => {
                Some(hold.clone())
            }
            (_, cause, _) => Some(Hold {
                reason: hold_reason(cause, wanted),
                actor: wanted.actor.clone(),
                time: Some(now),
            }),
        };
        let automatic = self.effective(&recipe).is_ok_and(|e| e.auto_deploy);
        serving.spec.policy = match automatic {
            true => Policy::Automatic,
            false => Policy::Manual,
        };
        serving.spec.preparation = wanted.preparation.clone();
        let moved = current.as_ref() != Some(&wanted.preparation);
        if moved {
            serving.status.activations.push(ActivationRecord {
                number: serving.status.activations.last().map_or(0, |a| a.number) + 1,
                preparation: wanted.preparation.clone(),
                digest: preparation.spec.artifact.digest.clone(),
                previous: current,
                cause: wanted.cause,
                message: wanted.message.clone(),
                actor: wanted.actor.clone(),
                time: Some(now),
            });
            serving.status.phase = ServingPhase::Pending;
            serving.status.tell_source(&preparation.spec.source);
            serving.status.returns_to = None;
        }
        match &old {
            None => stamp_new(&mut serving.meta),
            Some(old) if old.spec != serving.spec => serving.meta.generation += 1,
            Some(_) => {}
        }
        if moved {
            let generation = serving.meta.generation;
            let message = format!("{} is to be activated", wanted.preparation);
            let (ready, status) = (ConditionType::Ready, ConditionStatus::False);
            let conditions = &mut serving.status.conditions;
            conditions.set(ready, status, "Pending", &message, generation, now);
        }
        let changed = old.as_ref() != Some(&serving);
        let change = ReleaseChange::Put(serving.clone().into());
        Ok((vec![change], Promoted { serving, changed }))
    }

    /// Which Preparation a person means: a name, `rev-<n>` or a digest.
    pub(super) fn meant(&self, recipe: &Recipe, text: &str) -> Result<Name> {
        let namespace = &recipe.meta.namespace;
        let unknown = |hint: &str| {
            let message = format!("{} has no preparation {text:?}", recipe.at());
            Error::new(Code::NotFound, "PreparationNotFound", message).hint(hint)
        };
        let hint = format!("`kuke history {}` lists them", recipe.meta.name);
        let own: Vec<Preparation> = self.list(ReleaseKind::Preparation, Some(namespace))?;
        let found = named(recipe, &own, text).ok_or_else(|| unknown(&hint))?;
        Ok(found.clone())
    }

    /// The default of a rollback: what was active before.
    pub(super) fn before(&self, recipe: &Recipe) -> Result<Name> {
        let at = ReleaseRef::new(
            ReleaseKind::Serving,
            &recipe.meta.namespace,
            &recipe.meta.name,
        );
        let serving: Serving = self.read(&at)?.ok_or_else(|| not_found(&at))?;
        let now = &serving.spec.preparation;
        let healthy = [
            serving.status.observed_preparation,
            serving.status.previous_preparation,
        ];
        let healthy = healthy.into_iter().flatten().find(|name| name != now);
        let history = serving.status.activations.iter().rev();
        let mut history = history.map(|a| &a.preparation).filter(|name| *name != now);
        healthy.or_else(|| history.next().cloned()).ok_or_else(|| {
            let message = format!("{at} was never at another preparation");
            Error::new(Code::Conflict, "NoPrevious", message)
                .hint("name one with --to; `kuke history` lists them")
        })
    }

    /// Clears the hold, so that auto-deploy goes on.
    pub(super) fn clear_hold(&self, at: &ReleaseRef) -> Result<bool> {
        self.transact(|| {
            let mut serving: Serving = self.read(at)?.ok_or_else(|| not_found(at))?;
            if serving.spec.hold.take().is_none() {
                return Ok((Vec::new(), false));
            }
            serving.meta.generation += 1;
            if serving.status.phase == ServingPhase::Deployed {
                // The pointer did not move: what was observed still holds.
                let generation = serving.meta.generation;
                serving.status.observed_generation = generation;
                serving.status.conditions.holds_for(generation);
            }
            Ok((vec![serving.into()], true))
        })
    }

    /// Preparations of a Recipe that carry an approval, the newest revision first.
    pub(super) fn approved(&self, recipe: &Recipe) -> Result<Vec<Preparation>> {
        let own: Vec<Preparation> =
            self.list(ReleaseKind::Preparation, Some(&recipe.meta.namespace))?;
        let approved = |p: &Preparation| {
            p.spec.recipe == recipe.meta.name
                && p.status.phase == PreparationPhase::Ready
                && p.meta.labels.get(keys::APPROVE_DEPLOY).map(String::as_str) == Some("true")
        };
        let mut found: Vec<_> = own.into_iter().filter(approved).collect();
        let number = |p: &Preparation| {
            let revisions = recipe.status.revisions.iter().rev();
            let mut own = revisions.filter(|r| r.preparation == p.meta.name);
            own.next().map_or(p.spec.revision, |r| r.number)
        };
        found.sort_by_key(|p| std::cmp::Reverse(number(p)));
        Ok(found)
    }

    /// Promotes what was approved by label, and uses the approvals up in the same
    /// transaction. While a Menu holds the Serving the labels wait, as they do
    /// while the artifact cannot be read.
    pub(super) async fn take_approvals(&self, recipe: &Recipe) -> Result<Taken> {
        let Some(checked) = self.approved(recipe)?.into_iter().next() else {
            return Ok(Taken::Nothing);
        };
        if let Err(fault) = self.acceptable(&checked).await {
            tracing::warn!(object = %checked.at(), reason = fault.reason, error = %fault, "its approval waits");
            return Ok(Taken::Waits);
        }
        let taken = self.transact(|| {
            let approved = self.approved(recipe)?;
            let Some(newest) = approved.first() else {
                return Ok((Vec::new(), Taken::Nothing));
            };
            if newest.meta.name != checked.meta.name {
                // Approved meanwhile, and not looked at yet.
                self.enqueue(&recipe.at());
                return Ok((Vec::new(), Taken::Waits));
            }
            let actor = approver(&newest.meta);
            let (mut changes, _) = self.pointer(&Promotion {
                namespace: recipe.meta.namespace.clone(),
                recipe: recipe.meta.name.clone(),
                preparation: newest.meta.name.clone(),
                expected: None,
                message: "approved by label".to_owned(),
                cause: ActivationCause::Label,
                actor,
                dry_run: false,
            })?;
            let now = Timestamp::now().to_string();
            for (i, mut preparation) in approved.into_iter().enumerate() {
                let meta: &mut ReleaseMeta = &mut preparation.meta;
                let actor = approver(meta);
                meta.labels.remove(keys::APPROVE_DEPLOY);
                let at = match i {
                    0 => now.clone(),
                    _ => format!("{now} (superseded)"),
                };
                meta.annotations.insert(keys::APPROVED_AT.to_owned(), at);
                meta.annotations.insert(keys::APPROVED_BY.to_owned(), actor);
                if i > 0 {
                    tracing::info!(object = %preparation.at(), reason = "Superseded", "an approval was used up");
                }
                changes.push(preparation.into());
            }
            Ok((changes, Taken::Promoted))
        });
        match taken {
            Err(error) if error.reason == "ServingLocked" => Ok(Taken::Nothing),
            other => other,
        }
    }
}

/// The Preparation of a Recipe that a text names. One of a Recipe called `rev` is
/// no revision, whatever its name begins with.
fn named<'a>(recipe: &'a Recipe, all: &'a [Preparation], text: &str) -> Option<&'a Name> {
    let is = |p: &&Preparation| {
        p.spec.recipe == recipe.meta.name
            && (p.meta.name == *text || p.spec.artifact.digest == text)
    };
    let own = || all.iter().find(is).map(|found| &found.meta.name);
    revision_named(recipe, text).or_else(own)
}

/// The Preparation of the revision that `rev-<n>` names.
pub(super) fn revision_named<'a>(recipe: &'a Recipe, text: &str) -> Option<&'a Name> {
    let number: i64 = text.strip_prefix("rev-")?.parse().ok()?;
    let mut revisions = recipe.status.revisions.iter();
    let found = revisions.find(|revision| revision.number == number);
    found.map(|revision| &revision.preparation)
}

/// Who set the label of an approval that waits.
fn approver(meta: &ReleaseMeta) -> String {
    let known = meta.annotations.get(keys::APPROVED_BY);
    known.cloned().unwrap_or_else(actor::current)
}

/// A Serving that nobody may move now.
fn refuse(serving: &Serving, wanted: &Promotion) -> Result<()> {
    let at = serving.at();
    if serving.meta.deletion.is_some() {
        let message = format!("{at} is being deleted");
        return Err(Error::new(Code::Conflict, "BeingDeleted", message));
    }
    match &serving.status.lock {
        Some(lock) if wanted.cause != ActivationCause::Menu => Err(locked(&at, lock)),
        _ => Ok(()),
    }
}

/// The refusal of what a Menu's run forbids meanwhile.
pub(super) fn locked(at: &ReleaseRef, lock: &str) -> Error {
    let message = format!("{at} is held by the menu run {lock}");
    Error::new(Code::Conflict, "ServingLocked", message)
        .hint("wait for its end, or `kuke menu abort`")
}

/// A Serving that was not saved yet.
pub(super) fn unsaved(namespace: &Name, recipe: &Name, preparation: &Name) -> Serving {
    let mut meta = ReleaseMeta::new(namespace.clone(), recipe.clone());
    meta.finalizers = vec![keys::FINALIZER.to_owned()];
    meta.labels
        .insert(keys::RECIPE.to_owned(), recipe.to_string());
    Serving {
        meta,
        spec: ServingSpec {
            recipe: recipe.clone(),
            preparation: preparation.clone(),
            policy: Policy::Manual,
            hold: None,
        },
        status: ServingStatus::default(),
    }
}

fn hold_reason(cause: ActivationCause, wanted: &Promotion) -> String {
    match cause {
        ActivationCause::Failure => "went back by itself after a failure".to_owned(),
        _ => format!("{} is not the latest", wanted.preparation),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::delivery::{Artifact, PreparationSpec, RecipeStatus, Revision};

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    /// A Recipe with a revision for each of these; the last one is the latest.
    pub fn recipe(of: &str, preparations: &[&str]) -> Recipe {
        let revision = |(i, preparation): (usize, &&str)| Revision {
            number: i as i64 + 1,
            preparation: name(preparation),
            config_hash: String::new(),
            message: String::new(),
            actor: String::new(),
            time: None,
        };
        Recipe {
            meta: ReleaseMeta::new(name("shop"), name(of)),
            spec: Default::default(),
            status: RecipeStatus {
                latest_preparation: preparations.last().map(|latest| name(latest)),
                revisions: preparations.iter().enumerate().map(revision).collect(),
                ..RecipeStatus::default()
            },
        }
    }

    /// A Preparation with a digest of its own.
    pub fn preparation(of: &str, called: &str) -> Preparation {
        let digest = crate::oci::Digest::sha256(called.as_bytes()).to_string();
        Preparation {
            meta: ReleaseMeta::new(name("shop"), name(called)),
            spec: PreparationSpec {
                recipe: name(of),
                source: Default::default(),
                renderer: Default::default(),
                config_hash: String::new(),
                artifact: Artifact {
                    digest,
                    ..Artifact::default()
                },
                commit_message: String::new(),
                parent_digest: None,
                git_source: Default::default(),
                target: Default::default(),
                resources: Vec::new(),
                revision: 1,
                inputs: None,
            },
            status: Default::default(),
        }
    }

    #[test]
    fn a_preparation_is_named_in_three_ways() {
        let both = ["rev-0123456789ab", "rev-012345678901"];
        let recipe = recipe("rev", &both);
        let mut all: Vec<_> = both.iter().map(|p| preparation("rev", p)).collect();
        all.push(preparation("other", "other-1"));
        let named = |text: &str| named(&recipe, &all, text).map(Name::as_str);
        for (text, wanted) in [("rev-1", both[0]), ("rev-2", both[1])] {
            assert_eq!(named(text), Some(wanted));
            assert_eq!(named(wanted), Some(wanted));
            let digest = preparation("rev", wanted).spec.artifact.digest;
            assert_eq!(named(&digest), Some(wanted));
        }
        for text in ["rev-3", "rev-", "rev-x", "other-1", ""] {
            assert_eq!(named(text), None, "{text:?}");
        }
    }
}
