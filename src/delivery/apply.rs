//! `apply`: documents of releases become objects; documents of the runtime in
//! the same stream go to the inner capability.

use futures::StreamExt;

use super::external::{failure_for, object, result_for, wanted};
use super::stream::Emitter;
use super::{Delivery, actor, changes, foreign, stamp_new};
use crate::api::v1::{self, event};
use crate::api::{Code, Error, Result, v1beta1, yaml};
use crate::apply::{self, Wanted};
use crate::client::EventStream;
use crate::model::delivery::{AnyRelease, Preparation, ReleaseKind, ReleaseMeta, ReleaseRef, keys};
use crate::model::{AnyObject, Labels, duration};
use crate::scheme::{self, Secrets};
use crate::store::ReleaseChange;

/// How one request is applied.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mode {
    pub(super) dry_run: bool,
    pub(super) create_only: bool,
    /// The generation in which an object must be.
    pub(super) expected_generation: Option<i64>,
    /// Version that the object must be in.
    pub(super) expected: Option<i64>,
    /// No edits are wanted where there are none in the document.
    pub(super) replace_edits: bool,
}

/// What applying one object came to.
#[derive(Debug)]
pub(super) struct Applied {
    pub(super) action: &'static str,
    pub(super) changes: Vec<String>,
    pub(super) object: AnyRelease,
}

impl Delivery {
    /// Reads the whole request first; nothing is applied when a part is wrong.
    /// The runtime's documents come first, since releases may refer to them.
    pub(super) async fn apply_mixed(&self, request: v1::ApplyRequest) -> Result<EventStream> {
        let Wanted { runtime, releases } =
            apply::read_in(&sources(&request.files), &request.namespace)?;
        if releases.is_empty() {
            return self.inner.apply(request).await;
        }
        Ok(self.stream(|me, emit| async move {
            me.apply_runtime(runtime, &request, &emit).await?;
            me.apply_releases(releases, &request, &emit).await
        }))
    }

    /// Hands the runtime's documents on, and their results back under the
    /// numbers they had in the request.
    async fn apply_runtime(
        &self,
        objects: Vec<(u32, AnyObject)>,
        request: &v1::ApplyRequest,
        emit: &Emitter,
    ) -> Result<()> {
        if objects.is_empty() {
            return Ok(());
        }
        let numbers: Vec<u32> = objects.iter().map(|(number, _)| *number).collect();
        let texts: Result<Vec<String>> = objects.iter().map(|(_, o)| document(o)).collect();
        let inner = v1::ApplyRequest {
            files: vec![v1::ManifestFile {
                source: "request".to_owned(),
                text: texts?.join("---\n").into_bytes(),
            }],
            ..request.clone()
        };
        let mut events = self.inner.apply(inner).await?;
        while let Some(told) = events.next().await {
            let mut told = told?;
            if let Some(event::Event::Result(result)) = &mut told.event
                && let Some(number) = numbers.get(result.index as usize)
            {
                result.index = *number;
            }
            emit.event(told);
        }
        Ok(())
    }

    async fn apply_releases(
        &self,
        mut objects: Vec<(u32, AnyRelease)>,
        request: &v1::ApplyRequest,
        emit: &Emitter,
    ) -> Result<()> {
        let mode = Mode {
            dry_run: request.dry_run,
            create_only: request.create_only,
            expected_generation: request.expected_generation,
            expected: request.expected_version,
            replace_edits: request.replace_edits,
        };
        objects.sort_by_key(|(_, object)| object.kind());
        let mut preparations = Vec::new();
        for (index, release) in objects {
            let at = release.at();
            let done = self.apply_release(release, mode);
            let saved = done.is_ok() && !mode.dry_run;
            let mut told = match done {
                Ok(done) => v1::ResourceResult {
                    changes: done.changes,
                    object: Some(object(&done.object)),
                    ..result_for(&at, done.action)
                },
                Err(error) => failure_for(&at, &error),
            };
            told.index = index;
            emit.result(told);
            match at.kind {
                _ if !saved => {}
                // Of those that are approved together the newest revision wins:
                // nobody looks before all are.
                ReleaseKind::Preparation => preparations.push(at),
                _ => self.follow_up(&at, emit).await?,
            }
        }
        for at in preparations {
            self.follow_up(&at, emit).await?;
        }
        Ok(())
    }

    /// What an applied object sets going. A Recipe is rendered at once, so that
    /// whoever applied it is told what came of it.
    async fn follow_up(&self, at: &ReleaseRef, emit: &Emitter) -> Result<()> {
        let namespace = Some(&at.namespace);
        match at.kind {
            ReleaseKind::Recipe => self.tell_recipe(at, "", emit).await?,
            ReleaseKind::Preparation => self.approval_may_wait(at).await?,
            ReleaseKind::RecipeTemplate | ReleaseKind::Pantry => {
                self.look_after(at).await;
                for at in self.store.release_refs(ReleaseKind::Recipe, namespace)? {
                    self.look_after(&at).await;
                }
            }
            ReleaseKind::Kitchen => {
                for at in self.store.release_refs(ReleaseKind::Recipe, None)? {
                    self.look_after(&at).await;
                }
            }
            ReleaseKind::Serving | ReleaseKind::Menu => self.look_after(at).await,
        }
        Ok(())
    }

    /// Has the Recipe of a Preparation looked at, which takes approvals.
    pub(super) async fn approval_may_wait(&self, at: &ReleaseRef) -> Result<()> {
        let Some(preparation) = self.read::<Preparation>(at)? else {
            return Ok(());
        };
        let recipe = &preparation.spec.recipe;
        let recipe = ReleaseRef::new(ReleaseKind::Recipe, &at.namespace, recipe);
        self.look_after(&recipe).await;
        Ok(())
    }

    /// Has an object looked at: soon by the loop, or now without one.
    async fn look_after(&self, at: &ReleaseRef) {
        self.enqueue(at);
        if !self.is_live()
            && let Err(fault) = self.settle_object(at).await
        {
            tracing::debug!(object = %at, error = %fault, "left as it is");
        }
    }

    /// Saves one object as it is wanted.
    pub(super) fn apply_release(&self, release: AnyRelease, mode: Mode) -> Result<Applied> {
        self.transact(|| {
            let applied = self.merged(release.clone(), mode)?;
            let changes = match mode.dry_run || applied.action == "unchanged" {
                true => Vec::new(),
                false => vec![ReleaseChange::Put(applied.object.clone())],
            };
            Ok((changes, applied))
        })
    }

    /// The object as it will be, made of what is there and what is wanted.
    pub(super) fn merged(&self, mut new: AnyRelease, mode: Mode) -> Result<Applied> {
        let at = new.at();
        could_end(&new)?;
        let Some(old) = self.store.release(&at)? else {
            if matches!(new, AnyRelease::Preparation(_) | AnyRelease::Serving(_)) {
                return Err(made_by_controllers(&at));
            }
            if let Some(expected) = mode.expected {
                return Err(stale(&at, 0, expected));
            }
            if mode.expected_generation.is_some() {
                return Err(Error::changed(&at));
            }
            stamp_new(new.meta_mut());
            return Ok(Applied {
                action: "created",
                changes: Vec::new(),
                object: new,
            });
        };
        if let Some(expected) = mode.expected
            && old.meta().resource_version != expected
        {
            return Err(stale(&at, old.meta().resource_version, expected));
        }
        if mode.create_only {
            let hint = "choose another name, or change it with `kuke apply`";
            return Err(Error::new(
                Code::Conflict,
                format!("{}Exists", at.kind),
                format!("{at} already exists"),
            )
            .hint(hint));
        }
        if mode
            .expected_generation
            .is_some_and(|g| g != old.meta().generation)
        {
            return Err(Error::changed(&at));
        }
        refuse_deleted(&at, old.meta())?;
        let object = over(&old, new, &at, mode.replace_edits)?;
        let (was, is) = (wanted(&old)?, wanted(&object)?);
        let changes = changes::between(&was, &is);
        let mut object = object;
        if was.get("spec") != is.get("spec") {
            object.meta_mut().generation += 1;
        }
        Ok(Applied {
            action: match object == old {
                true => "unchanged",
                false => "updated",
            },
            changes,
            object,
        })
    }
}

/// What is wanted, with what only controllers write taken from what is there.
fn over(
    old: &AnyRelease,
    new: AnyRelease,
    at: &ReleaseRef,
    replace_edits: bool,
) -> Result<AnyRelease> {
    let (labels, annotations) = {
        let meta = new.meta();
        (meta.labels.clone(), meta.annotations.clone())
    };
    let mut object = old.clone();
    let meta = object.meta_mut();
    meta.labels = labels;
    let before = std::mem::replace(&mut meta.annotations, annotations);
    carry_over(before, &mut meta.annotations);
    match (&mut object, new) {
        (AnyRelease::Kitchen(now), AnyRelease::Kitchen(new)) => now.spec = new.spec,
        (AnyRelease::RecipeTemplate(now), AnyRelease::RecipeTemplate(new)) => now.spec = new.spec,
        (AnyRelease::Menu(now), AnyRelease::Menu(new)) => now.spec = new.spec,
        (AnyRelease::Pantry(now), AnyRelease::Pantry(new)) => {
            let kept = std::mem::take(&mut now.spec.password);
            let same = now.spec.username == new.spec.username;
            now.spec = new.spec;
            // Answers hide the password: one that is not given stays.
            if same && now.spec.password.is_empty() {
                now.spec.password = kept;
            }
        }
        (AnyRelease::Recipe(now), AnyRelease::Recipe(new)) => {
            let edits = std::mem::take(&mut now.spec.edits);
            now.spec = new.spec;
            // Edits are written by editors: a manifest without any leaves them.
            if now.spec.edits.is_empty() && !replace_edits {
                now.spec.edits = edits;
            }
        }
        (AnyRelease::Preparation(now), AnyRelease::Preparation(new)) => {
            if now.spec != new.spec {
                return Err(Error::new(
                    Code::Conflict,
                    "ImmutablePreparation",
                    format!("{at} is immutable: its spec cannot be changed"),
                )
                .hint("change its Recipe: that makes a new Preparation"));
            }
            only_ours(at, old.meta(), &now.meta)?;
            keep_approver(old.meta(), &mut now.meta);
        }
        (AnyRelease::Serving(now), AnyRelease::Serving(new)) if now.spec != new.spec => {
            return Err(made_by_controllers(at));
        }
        // The kind is part of the reference.
        _ => {}
    }
    Ok(object)
}

/// A Menu none of whose runs could end well is refused when it is given: what is
/// stored already can be read all the same.
fn could_end(release: &AnyRelease) -> Result<()> {
    let AnyRelease::Menu(menu) = release else {
        return Ok(());
    };
    let strategy = &menu.spec.strategy;
    if strategy.min_healthy < strategy.health_timeout {
        return Ok(());
    }
    let message = format!(
        "{}: spec.strategy.minHealthy ({}) has to be shorter than healthTimeout ({}), within which it counts",
        menu.at(),
        duration::show(strategy.min_healthy),
        duration::show(strategy.health_timeout)
    );
    Err(Error::invalid("OutOfRange", message))
}

/// Refuses other marks of a Preparation than those of releases.
pub(super) fn only_ours(at: &ReleaseRef, old: &ReleaseMeta, new: &ReleaseMeta) -> Result<()> {
    let same = foreign(&old.labels).eq(foreign(&new.labels))
        && foreign(&old.annotations).eq(foreign(&new.annotations));
    if same {
        return Ok(());
    }
    let message = format!(
        "{at}: only labels and annotations of {} can change",
        keys::PREFIX
    );
    Err(Error::new(Code::Conflict, "ImmutablePreparation", message))
}

/// Remembers who asks for a promotion by label: it is done later, by a controller.
/// What a manifest says of it does not count.
pub(super) fn keep_approver(before: &ReleaseMeta, now: &mut ReleaseMeta) {
    let asks = |meta: &ReleaseMeta| {
        let label = meta.labels.get(keys::APPROVE_DEPLOY);
        label.is_some_and(|value| value == "true")
    };
    let key = keys::APPROVED_BY;
    let approver = match asks(now) && !asks(before) {
        true => Some(actor::current()),
        false => before.annotations.get(key).cloned(),
    };
    match approver {
        Some(approver) => now.annotations.insert(key.to_owned(), approver),
        None => now.annotations.remove(key),
    };
}

pub(super) fn refuse_deleted(at: &ReleaseRef, meta: &ReleaseMeta) -> Result<()> {
    match meta.deletion {
        None => Ok(()),
        Some(_) => {
            let message = format!("{at} is being deleted");
            Err(Error::new(Code::Conflict, "BeingDeleted", message)
                .hint("try again when it is gone"))
        }
    }
}

/// The object is not in the version that whoever changes it has seen.
pub(super) fn stale(at: &ReleaseRef, now: i64, expected: i64) -> Error {
    let message = format!("{at} is in version {now}, expected was {expected}");
    Error::new(Code::Conflict, "VersionChanged", message)
        .hint("somebody changed it meanwhile: look again, then repeat")
}

fn made_by_controllers(at: &ReleaseRef) -> Error {
    let hint = "apply a Recipe; `kuke promote` and `kuke rollback` choose what is active";
    Error::new(
        Code::Conflict,
        "ManagedObject",
        format!("{at} is written by kukeon itself"),
    )
    .hint(hint)
}

/// The files of a request as they are read.
pub(super) fn sources(files: &[v1::ManifestFile]) -> Vec<apply::Source<'_>> {
    files
        .iter()
        .map(|file| (file.source.as_str(), file.text.as_slice()))
        .collect()
}

/// A runtime object as the document it came from.
pub(super) fn document(object: &AnyObject) -> Result<String> {
    match object {
        AnyObject::Realm(o) => yaml::to_string(&scheme::realm_to_external(o, Secrets::Keep)),
        AnyObject::Space(o) => yaml::to_string(&scheme::space_to_external(o)),
        AnyObject::Stack(o) => yaml::to_string(&scheme::stack_to_external(o)),
        AnyObject::Cell(o) => yaml::to_string(&scheme::cell_to_external(o)),
        AnyObject::Volume(o) => yaml::to_string(&scheme::volume_to_external(o)),
        AnyObject::Secret(o) => yaml::to_string(&scheme::secret_to_external(o, Secrets::Keep)),
        AnyObject::Container(c) => {
            let mut spec = scheme::container_spec_to_external(&c.spec);
            spec.realm_id = c.at.realm.to_string();
            spec.space_id = c.at.space.to_string();
            spec.stack_id = c.at.stack.to_string();
            spec.cell_id = c.at.cell.to_string();
            yaml::to_string(&v1beta1::Container {
                api_version: scheme::v1beta1::VERSION.to_owned(),
                kind: "Container".to_owned(),
                metadata: Some(v1beta1::Metadata {
                    name: c.spec.id.to_string(),
                    ..Default::default()
                }),
                spec: Some(spec),
                status: None,
            })
        }
    }
}

/// What somebody asked a controller for is not taken back by a manifest.
fn carry_over(before: Labels, now: &mut Labels) {
    let refresh = before.contains_key(keys::REFRESH);
    for (key, value) in before {
        let message = refresh && key == keys::COMMIT_MESSAGE;
        if message || keys::ASKED.contains(&key.as_str()) {
            now.entry(key).or_insert(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::promote::tests::preparation;

    fn marks(of: &[(&str, &str)]) -> Labels {
        let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        of.iter().map(own).collect()
    }

    #[tokio::test]
    async fn whoever_set_the_label_approved_it() {
        let old = preparation("web", "web-1");
        let at = old.at();
        // As a manifest that was got before, with whatever it claims.
        let mut labelled = old.clone();
        let label = (keys::APPROVE_DEPLOY.to_owned(), "true".to_owned());
        labelled.meta.labels.extend([label]);
        let claim = (keys::APPROVED_BY.to_owned(), "root".to_owned());
        labelled.meta.annotations.extend([claim]);
        let apply = |who: &str, old: &AnyRelease, new: &Preparation| {
            let (old, new) = (old.clone(), AnyRelease::from(new.clone()));
            let at = at.clone();
            actor::scope(who.to_owned(), async move {
                over(&old, new, &at, false).unwrap()
            })
        };
        let by = |of: &AnyRelease| of.meta().annotations.get(keys::APPROVED_BY).cloned();
        let first = apply("ann", &old.clone().into(), &labelled).await;
        assert_eq!(by(&first).as_deref(), Some("ann"));
        // The label is still there: it is not another's now.
        let second = apply("bob", &first, &labelled).await;
        assert_eq!(by(&second).as_deref(), Some("ann"));
        // Used up, and set once more.
        let mut done = second;
        done.meta_mut().labels.remove(keys::APPROVE_DEPLOY);
        let kept = apply("bob", &done, &old).await;
        assert_eq!(by(&kept).as_deref(), Some("ann"));
        let third = apply("bob", &kept, &labelled).await;
        assert_eq!(by(&third).as_deref(), Some("bob"));
        // Without an approval there is no approver to claim.
        let mut claims = labelled;
        claims.meta.labels.clear();
        assert_eq!(by(&apply("bob", &old.into(), &claims).await), None);
    }

    #[test]
    fn a_manifest_takes_back_nothing_that_was_asked_for() {
        let mut now = marks(&[("note", "new")]);
        let before = marks(&[("note", "old"), ("gone", "old"), (keys::ABORT, "3")]);
        carry_over(before, &mut now);
        assert_eq!(now, marks(&[("note", "new"), (keys::ABORT, "3")]));
        // A message goes with the refresh that it was for.
        let message = [(keys::COMMIT_MESSAGE, "why"), (keys::REFRESH, "now")];
        for (before, kept) in [(&message[..1], false), (&message[..], true)] {
            let mut now = Labels::new();
            carry_over(marks(before), &mut now);
            assert_eq!(now.contains_key(keys::COMMIT_MESSAGE), kept);
        }
    }
}
