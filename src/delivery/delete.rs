//! `delete` (delivery spec, section 10): what is still needed is not deleted.

use std::time::Duration;

use futures::StreamExt;

use super::apply::{document, sources};
use super::external::{failure_for, result_for};
use super::promote::{locked, revision_named};
use super::requests::LOOK;
use super::stream::Emitter;
use super::work::Next;
use super::{Delivery, namespace};
use crate::api::{Code, Error, Result, v1};
use crate::apply::{self, Wanted};
use crate::client::EventStream;
use crate::model::Name;
use crate::model::delivery::{
    Destination, Menu, Preparation, Recipe, RecipeTemplate, ReleaseKind, ReleaseMeta, ReleaseRef,
    Serving, SourceFrom, keys,
};
use crate::store::ReleaseChange;

/// How long the end of a workload is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

impl Delivery {
    pub(super) async fn delete_mixed(&self, request: v1::DeleteRequest) -> Result<EventStream> {
        if let Ok(kind) = request.kind.parse::<ReleaseKind>() {
            let scope = request.scope.clone().unwrap_or_default();
            let at = ReleaseRef::new(kind, &namespace(&scope.realm)?, &request.name.parse()?);
            return Ok(self.stream(|me, emit| async move {
                me.delete_releases(vec![at], &request, &emit).await;
                Ok(())
            }));
        }
        if !request.kind.is_empty() {
            refuse_rehearsal(&request)?;
            return self.inner.delete(request).await;
        }
        let namespace = request.scope.clone().unwrap_or_default().realm;
        let Wanted {
            runtime,
            mut releases,
        } = apply::read_in(&sources(&request.files), &namespace)?;
        if !runtime.is_empty() {
            refuse_rehearsal(&request)?;
        }
        if releases.is_empty() {
            return self.inner.delete(request).await;
        }
        // What others need goes last.
        releases.sort_by_key(|(_, object)| std::cmp::Reverse(object.kind()));
        let texts: Result<Vec<String>> = runtime.iter().map(|(_, o)| document(o)).collect();
        let texts = texts?;
        Ok(self.stream(|me, emit| async move {
            let refs = releases.iter().map(|(_, object)| object.at()).collect();
            me.delete_releases(refs, &request, &emit).await;
            if texts.is_empty() {
                return Ok(());
            }
            let rest = v1::DeleteRequest {
                files: vec![v1::ManifestFile {
                    source: "request".to_owned(),
                    text: texts.join("---\n").into_bytes(),
                }],
                ..request
            };
            let mut events = me.inner.delete(rest).await?;
            while let Some(told) = events.next().await {
                emit.event(told?);
            }
            Ok(())
        }))
    }

    async fn delete_releases(
        &self,
        refs: Vec<ReleaseRef>,
        request: &v1::DeleteRequest,
        emit: &Emitter,
    ) {
        for at in refs {
            let told = match self.delete_checked(&at, request, emit).await {
                Ok(()) => result_for(&at, "deleted"),
                Err(error) if error.code == Code::NotFound && request.ignore_not_found => {
                    result_for(&at, "not found")
                }
                Err(error) => failure_for(&at, &error),
            };
            emit.result(told);
        }
    }

    async fn delete_checked(
        &self,
        at: &ReleaseRef,
        request: &v1::DeleteRequest,
        emit: &Emitter,
    ) -> Result<()> {
        if let Some(expected) = request.expected_version {
            let now = self.get(at)?.meta().resource_version;
            if now != expected {
                return Err(super::apply::stale(at, now, expected));
            }
        }
        self.delete_release(at, request, emit).await
    }

    /// Deletes one object; in a dry run everything but the change itself.
    async fn delete_release(
        &self,
        at: &ReleaseRef,
        request: &v1::DeleteRequest,
        emit: &Emitter,
    ) -> Result<()> {
        let uid = self.get(at)?.meta().uid.clone();
        if request.purge_artifacts && at.kind != ReleaseKind::Recipe {
            let message = format!("{at} has no artifacts of its own");
            return Err(
                Error::invalid("NotARecipe", message).hint("purge artifacts with their recipe")
            );
        }
        let dry = request.dry_run;
        match at.kind {
            ReleaseKind::Kitchen => self.remove(at, dry),
            ReleaseKind::Pantry => {
                self.refuse_used(at, |recipe| uses_pantry(recipe, at))?;
                self.remove(at, dry)
            }
            ReleaseKind::RecipeTemplate => {
                self.refuse_used(at, |recipe| recipe.spec.template.as_ref() == Some(&at.name))?;
                self.remove(at, dry)
            }
            ReleaseKind::Preparation => self.delete_preparation(at, dry),
            ReleaseKind::Menu => self.delete_menu(at, dry),
            ReleaseKind::Recipe => self.mark_recipe(at, request),
            ReleaseKind::Serving => self.change_unless(dry, || {
                self.get(at)?;
                Ok(self.marked_serving(at)?.into_iter().collect())
            }),
        }?;
        match (at.kind, dry) {
            (ReleaseKind::Recipe | ReleaseKind::Serving, false) => {
                self.gone(at, &uid, request.wait.then_some(emit)).await
            }
            _ => Ok(()),
        }
    }

    fn remove(&self, at: &ReleaseRef, dry: bool) -> Result<()> {
        self.change_unless(dry, || {
            let version = self.get(at)?.meta().resource_version;
            Ok(vec![ReleaseChange::Remove(at.clone(), version)])
        })
    }

    /// A transaction, or only its checks.
    fn change_unless(
        &self,
        dry: bool,
        mut change: impl FnMut() -> Result<Vec<ReleaseChange>>,
    ) -> Result<()> {
        self.transact(|| {
            let mut changes = change()?;
            if dry {
                changes.clear();
            }
            Ok((changes, ()))
        })
    }

    /// Refuses while a Recipe of the same namespace refers to the object, or may
    /// do so because it cannot be read.
    fn refuse_used(&self, at: &ReleaseRef, uses: impl Fn(&Recipe) -> bool) -> Result<()> {
        let recipes: Vec<Recipe> = self.list_whole(ReleaseKind::Recipe, Some(&at.namespace))?;
        let mut users: Vec<String> = recipes
            .iter()
            .filter(|recipe| uses(recipe))
            .map(|recipe| format!("recipe {}", recipe.meta.name))
            .collect();
        if at.kind == ReleaseKind::Pantry {
            let templates: Vec<RecipeTemplate> =
                self.list_whole(ReleaseKind::RecipeTemplate, Some(&at.namespace))?;
            let using = templates
                .iter()
                .filter(|t| matches!(&t.spec.source.from, SourceFrom::Pantry(n) if *n == at.name));
            users.extend(using.map(|t| format!("template {}", t.meta.name)));
        }
        if users.is_empty() {
            return Ok(());
        }
        Err(Error::new(
            Code::Conflict,
            "StillReferenced",
            format!("{at} is needed by {}", users.join(", ")),
        )
        .hint("change or delete those first"))
    }

    /// Refused while active, previous, latest or pinned by a Menu (section 6).
    fn delete_preparation(&self, at: &ReleaseRef, dry: bool) -> Result<()> {
        self.change_unless(dry, || {
            let Some(preparation) = self.read::<Preparation>(at)? else {
                return Err(super::not_found(at));
            };
            let recipe_at =
                ReleaseRef::new(ReleaseKind::Recipe, &at.namespace, &preparation.spec.recipe);
            let serving_at = ReleaseRef::new(
                ReleaseKind::Serving,
                &at.namespace,
                &preparation.spec.recipe,
            );
            let recipe = self.read::<Recipe>(&recipe_at)?;
            let serving = self.read::<Serving>(&serving_at)?;
            let menus = self.list_whole::<Menu>(ReleaseKind::Menu, Some(&at.namespace))?;
            if let Some(what) = need(&preparation, recipe.as_ref(), serving.as_ref(), &menus) {
                let message = format!("{at} is {what}");
                return Err(Error::new(Code::Conflict, "PreparationInUse", message)
                    .hint("promote another one first"));
            }
            let version = preparation.meta.resource_version;
            Ok(vec![ReleaseChange::Remove(at.clone(), version)])
        })
    }

    /// Marks a Recipe and its Serving for their end: the Serving goes first, then
    /// the Preparations. Their artifacts stay unless they are to be purged.
    fn mark_recipe(&self, at: &ReleaseRef, request: &v1::DeleteRequest) -> Result<()> {
        // A Recipe is taken out although a Menu has it.
        let force = request.cascade;
        if request.purge_artifacts {
            self.refuse_elsewhere(at)?;
        }
        self.change_unless(request.dry_run, || {
            let menus: Vec<Menu> = match force {
                true => Vec::new(),
                false => self.list_whole(ReleaseKind::Menu, Some(&at.namespace))?,
            };
            let menu = menus.iter().find(|menu| {
                menu.spec
                    .recipes
                    .iter()
                    .any(|member| member.name == at.name)
            });
            if let Some(menu) = menu {
                let message = format!("{at} is a member of menu {}", menu.meta.name);
                return Err(Error::new(Code::Conflict, "RecipeInMenu", message)
                    .hint("take it out of the Menu, or add --force"));
            }
            let mut object = self.get(at)?;
            mark(object.meta_mut());
            if request.purge_artifacts {
                let notes = &mut object.meta_mut().annotations;
                notes.insert(keys::PURGE.to_owned(), "true".to_owned());
            }
            let mut changes = vec![ReleaseChange::Put(object)];
            changes.extend(self.marked_serving(at)?);
            Ok(changes)
        })
    }

    /// Preparations of a Recipe.
    fn made_by(&self, at: &ReleaseRef) -> Result<Vec<Preparation>> {
        let mut made: Vec<Preparation> =
            self.list(ReleaseKind::Preparation, Some(&at.namespace))?;
        made.retain(|preparation| preparation.spec.recipe == at.name);
        Ok(made)
    }

    /// Refuses to purge what is in a registry of somebody else's, and what a
    /// Preparation that cannot be read may be made of.
    fn refuse_elsewhere(&self, at: &ReleaseRef) -> Result<()> {
        let all: Vec<Preparation> = self.list_whole(ReleaseKind::Preparation, None)?;
        let own = |p: &&Preparation| p.meta.namespace == at.namespace && p.spec.recipe == at.name;
        for preparation in all.iter().filter(own) {
            let artifact = &preparation.spec.artifact;
            if !self.place_of(&at.namespace, artifact)?.at.is_local() {
                let message = format!("{} is not in the embedded registry", artifact.oci_ref);
                return Err(Error::new(Code::Unsupported, "NotSupported", message)
                    .hint("delete the recipe without its artifacts, and those where they are"));
            }
        }
        Ok(())
    }

    /// Deletes the artifacts of a Recipe that no other Preparation is made of. One
    /// that cannot be read may be, so all stays until it is repaired or removed.
    async fn purge(&self, at: &ReleaseRef) -> super::fault::Result<()> {
        let all: Vec<Preparation> = self.list_whole(ReleaseKind::Preparation, None)?;
        let (own, others): (Vec<_>, Vec<_>) = all
            .iter()
            .partition(|p| p.meta.namespace == at.namespace && p.spec.recipe == at.name);
        for preparation in own {
            let artifact = &preparation.spec.artifact;
            if !others.iter().any(|p| p.spec.artifact == *artifact) {
                self.artifacts.purge(artifact).await?;
            }
        }
        Ok(())
    }

    /// The Serving of a Recipe, marked for its end; refused while a Menu holds it.
    fn marked_serving(&self, at: &ReleaseRef) -> Result<Option<ReleaseChange>> {
        let at = ReleaseRef::new(ReleaseKind::Serving, &at.namespace, &at.name);
        let Some(mut serving) = self.read::<Serving>(&at)? else {
            return Ok(None);
        };
        if let Some(lock) = &serving.status.lock {
            return Err(locked(&at, lock));
        }
        mark(&mut serving.meta);
        Ok(Some(serving.into()))
    }

    /// Works until the marked object of this uid is gone. What takes longer goes on
    /// in the loop, and is told as a conflict, unless somebody waits however long:
    /// then what fails for a while is tried again, too.
    async fn gone(&self, at: &ReleaseRef, uid: &str, waits: Option<&Emitter>) -> Result<()> {
        let serving = ReleaseRef::new(ReleaseKind::Serving, &at.namespace, &at.name);
        let mut until = tokio::time::Instant::now() + PATIENCE;
        let mut again = false;
        // Another one of the name may have been made since.
        let is_there =
            || Ok::<_, Error>(self.store.release(at)?.is_some_and(|o| o.meta().uid == uid));
        while is_there()? {
            if std::mem::replace(&mut again, true) {
                // Whoever holds it up may do so for long.
                tokio::time::sleep(LOOK).await;
            }
            let waited_for =
                waits.is_some_and(|emit| !emit.is_closed()) && !self.ending.is_cancelled();
            for part in [&serving, at] {
                let driven = self.drive_until(part, until).await;
                match self.or_later(part, driven) {
                    Err(fault) if fault.transient && waited_for => break,
                    done => done?,
                }
            }
            if tokio::time::Instant::now() >= until || (waits.is_some() && !waited_for) {
                if waited_for {
                    until = tokio::time::Instant::now() + PATIENCE;
                    continue;
                }
                self.enqueue(&serving);
                let message = format!("{at} is still on its way out");
                return Err(Error::new(Code::Timeout, "StillDeleting", message)
                    .hint("its end goes on; `kuke get serving -o wide` shows what it waits for"));
            }
        }
        Ok(())
    }

    /// The last part of a Recipe's end: with its Serving gone, the Preparations go.
    pub(super) async fn finish_recipe(&self, recipe: &Recipe) -> super::fault::Result<Next> {
        let at = recipe.at();
        if recipe.meta.annotations.contains_key(keys::PURGE) && self.serving_of(recipe)?.is_none() {
            // Before the objects that tell of them.
            self.purge(&at).await?;
            super::STEP.hit();
        }
        let done = self.transact(|| {
            if self.serving_of(recipe)?.is_some() {
                return Ok((self.marked_serving(&at)?.into_iter().collect(), false));
            }
            let Some(now) = self.read::<Recipe>(&at)? else {
                return Ok((Vec::new(), true));
            };
            let version = now.meta.resource_version;
            let mut changes = vec![ReleaseChange::Remove(at.clone(), version)];
            let own = self.made_by(&at)?;
            changes.extend(
                own.iter()
                    .map(|p| ReleaseChange::Remove(p.at(), p.meta.resource_version)),
            );
            Ok((changes, true))
        })?;
        if !done {
            let serving = ReleaseRef::new(ReleaseKind::Serving, &at.namespace, &at.name);
            self.enqueue(&serving);
        }
        Ok(Next::Rest)
    }

    /// Members are left as they are; refused mid-run.
    fn delete_menu(&self, at: &ReleaseRef, dry: bool) -> Result<()> {
        self.change_unless(dry, || {
            let Some(menu) = self.read::<Menu>(at)? else {
                return Err(super::not_found(at));
            };
            if let Some(run) = &menu.status.current_run {
                let message = format!("{at} is in run {run}");
                return Err(Error::new(Code::Conflict, "MenuRunning", message)
                    .hint("wait for its end, or `kuke menu abort`"));
            }
            let version = menu.meta.resource_version;
            Ok(vec![ReleaseChange::Remove(at.clone(), version)])
        })
    }
}

/// Why a Preparation is needed: active, previous, latest or pinned by a Menu.
fn need(
    preparation: &Preparation,
    recipe: Option<&Recipe>,
    serving: Option<&Serving>,
    menus: &[Menu],
) -> Option<String> {
    let name = &preparation.meta.name;
    let is = |other: Option<&Name>| other == Some(name);
    if recipe.is_some_and(|recipe| is(recipe.status.latest_preparation.as_ref())) {
        return Some("the latest of its recipe".to_owned());
    }
    if let Some(serving) = serving {
        if is(Some(&serving.spec.preparation)) || is(serving.status.observed_preparation.as_ref()) {
            return Some("active".to_owned());
        }
        if is(serving.status.previous_preparation.as_ref()) {
            return Some("what a rollback goes back to".to_owned());
        }
    }
    let menu = menus.iter().find(|menu| pins(menu, recipe, preparation))?;
    Some(format!("pinned by menu {}", menu.meta.name))
}

/// Whether a member of a Menu names the Preparation in any of the ways there are.
fn pins(menu: &Menu, recipe: Option<&Recipe>, preparation: &Preparation) -> bool {
    let name = &preparation.meta.name;
    menu.spec.recipes.iter().any(|member| {
        let Some(pin) = member.preparation.as_deref() else {
            return false;
        };
        let revision = || recipe.and_then(|recipe| revision_named(recipe, pin));
        member.name == preparation.spec.recipe
            && (pin == name.as_str()
                || pin == preparation.spec.artifact.digest
                || revision() == Some(name))
    })
}

/// What is not a release is deleted, or not asked for.
fn refuse_rehearsal(request: &v1::DeleteRequest) -> Result<()> {
    if !request.dry_run && !request.purge_artifacts {
        return Ok(());
    }
    let message = "a dry run and the purge of artifacts are offered for releases only";
    Err(Error::invalid("NotARelease", message))
}

/// Marks an object for its end.
fn mark(meta: &mut ReleaseMeta) {
    meta.deletion.get_or_insert_with(jiff::Timestamp::now);
    if meta.finalizers.is_empty() {
        meta.finalizers.push(keys::FINALIZER.to_owned());
    }
}

fn uses_pantry(recipe: &Recipe, at: &ReleaseRef) -> bool {
    let source = recipe.spec.source.as_ref().map(|source| &source.from);
    matches!(source, Some(SourceFrom::Pantry(name)) if *name == at.name)
        || matches!(&recipe.spec.destination, Some(Destination::Pantry(name)) if *name == at.name)
}

#[cfg(test)]
mod tests {
    use super::super::promote::unsaved;
    use super::*;
    use crate::delivery::promote::tests::{preparation, recipe};
    use crate::model::delivery::{MenuMember, MenuSpec, MenuStatus, MenuStrategy};

    fn menu(member: &str, pin: Option<&str>) -> Menu {
        let spec = MenuSpec {
            recipes: vec![MenuMember {
                name: member.parse().unwrap(),
                preparation: pin.map(str::to_owned),
                depends_on: Vec::new(),
            }],
            strategy: MenuStrategy::default(),
            auto_deploy_latest: false,
            exclusive: true,
            suspend: false,
        };
        Menu {
            meta: ReleaseMeta::new("shop".parse().unwrap(), "lunch".parse().unwrap()),
            spec,
            status: MenuStatus::default(),
        }
    }

    #[test]
    fn what_is_needed_is_not_deleted() {
        // Revision 1 is web-1, and so on; web-4 is the latest.
        let recipe = recipe("web", &["web-1", "web-2", "web-3", "web-4"]);
        let name = |text: &str| text.parse::<Name>().unwrap();
        let mut serving = unsaved(&name("shop"), &name("web"), &name("web-1"));
        serving.status.observed_preparation = Some(name("web-1"));
        serving.status.previous_preparation = Some(name("web-2"));
        let of = |wanted: &str, menus: &[Menu]| {
            let preparation = preparation("web", wanted);
            need(&preparation, Some(&recipe), Some(&serving), menus).unwrap_or_default()
        };
        assert_eq!(of("web-4", &[]), "the latest of its recipe");
        assert_eq!(of("web-1", &[]), "active");
        assert_eq!(of("web-2", &[]), "what a rollback goes back to");
        assert_eq!(of("web-3", &[]), "");
        let digest = preparation("web", "web-3").spec.artifact.digest;
        for pin in ["web-3", "rev-3", &digest] {
            let pinned = [menu("web", None), menu("web", Some(pin))];
            assert_eq!(of("web-3", &pinned), "pinned by menu lunch", "{pin}");
            // That member names its own.
            assert_eq!(of("web-3", &[menu("other", Some(pin))]), "", "{pin}");
        }
        for pin in [None, Some("rev-1"), Some("rev-9"), Some("web-1")] {
            assert_eq!(of("web-3", &[menu("web", pin)]), "", "{pin:?}");
        }
        // The pointer moved, and what runs is still the one before.
        serving.spec.preparation = name("web-4");
        let active = need(&preparation("web", "web-1"), None, Some(&serving), &[]);
        assert_eq!(active.as_deref(), Some("active"));
    }
}
