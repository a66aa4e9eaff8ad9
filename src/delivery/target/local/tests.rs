use std::sync::Arc;

use super::super::{Action, Activation, Health, Plan, Reason, Target, Withdrawal};
use super::Local;
use super::fake::Fake;
use crate::model::delivery::{self, Artifact, DeletionPolicy, Resource, keys};
use crate::model::{AnyObject, CellState, ContainerState, Labels};

const WEB: &str = "---\napiVersion: v1beta1\nkind: Cell\nmetadata: {name: web}\nspec: {realmId: shop, spaceId: s, stackId: t, containers: [{id: a, image: one}]}\n";
const API: &str = "---\napiVersion: v1beta1\nkind: Cell\nmetadata: {name: api}\nspec: {realmId: shop, spaceId: s, stackId: t, containers: [{id: a, image: one, restartPolicy: always}]}\n";

fn activation(manifest: &str, inventory: Vec<Resource>) -> Activation {
    Activation {
        namespace: "shop".parse().unwrap(),
        recipe: "site".parse().unwrap(),
        preparation: "site-0123456789ab".parse().unwrap(),
        artifact: Artifact::default(),
        manifest: manifest.as_bytes().to_vec(),
        commit_message: String::new(),
        target: delivery::Target::default(),
        allow_empty: false,
        registry_url: String::new(),
        inventory,
        defer_prune: false,
    }
}

/// A machine with the realm and the image, and its target.
fn machine() -> (Fake, Local) {
    let fake = Fake::default();
    fake.person("kind: Realm\nmetadata: {name: shop}\n");
    fake.image("one");
    (fake.clone(), Local::new(Arc::new(fake)))
}

async fn deploy(target: &Local, manifest: &str, inventory: Vec<Resource>) -> Vec<Resource> {
    let mut activation = activation(manifest, inventory);
    activation.inventory = target.apply(&activation).await.unwrap().inventory;
    target.prune(&activation).await.unwrap()
}

fn names(inventory: &[Resource]) -> Vec<String> {
    let name = |r: &Resource| format!("{}/{}", r.kind, r.name);
    inventory.iter().map(name).collect()
}

fn actions(plan: &Plan) -> Vec<(String, Action)> {
    let one =
        |o: &super::super::Planned| (format!("{}/{}", o.resource.kind, o.resource.name), o.action);
    plan.objects.iter().map(one).collect()
}

fn owned(labels: &Labels) -> bool {
    labels.get(keys::SERVING).is_some_and(|v| v == "site")
        && labels.get(keys::NAMESPACE).is_some_and(|v| v == "shop")
        && labels.get(keys::RECIPE).is_some_and(|v| v == "site")
}

#[tokio::test]
async fn what_is_made_is_labelled_and_made_once() {
    let (fake, target) = machine();
    let inventory = deploy(&target, WEB, Vec::new()).await;
    assert_eq!(
        fake.done(),
        [
            "created space \"s\" in shop",
            "created stack \"t\" in shop/s",
            "created cell \"web\" in shop/s/t",
        ]
    );
    assert_eq!(names(&inventory), ["Space/s", "Stack/t", "Cell/web"]);
    for kind in [("Space", "s"), ("Stack", "t"), ("Cell", "web")] {
        assert!(owned(&fake.object(kind.0, kind.1).unwrap().meta().labels));
    }
    assert!(!owned(&fake.object("Realm", "shop").unwrap().meta().labels));

    let again = deploy(&target, WEB, inventory.clone()).await;
    assert_eq!(again, inventory);
    assert!(fake.done().is_empty(), "the second time changes nothing");
    let seen = target.observe(&activation(WEB, inventory)).await.unwrap();
    assert!(seen.synced && seen.drift.is_empty());
    assert!(matches!(seen.health, Health::Ready(_)));
}

#[tokio::test]
async fn work_that_has_ended_is_not_begun_again() {
    let (fake, target) = machine();
    let once = WEB.replace("containers:", "autoDelete: true, containers:");
    let inventory = deploy(&target, &once, Vec::new()).await;
    fake.edit("Cell", "web", |o| {
        let AnyObject::Cell(cell) = o else { return };
        cell.status.state = CellState::Exited;
    });
    fake.done();
    deploy(&target, &once, inventory.clone()).await;
    assert!(fake.done().is_empty());
    let seen = target.observe(&activation(&once, inventory.clone())).await;
    assert!(matches!(seen.unwrap().health, Health::Ready(_)));

    // It removes itself after its work: another one is not wanted for that.
    let withdrawal = withdrawal(&inventory[2..], DeletionPolicy::Delete);
    target.withdraw(&withdrawal).await.unwrap();
    fake.done();
    deploy(&target, &once, inventory.clone()).await;
    assert!(fake.done().is_empty());
    let other = once.replace("image: one", "image: one, args: [x]");
    deploy(&target, &other, inventory).await;
    assert_eq!(fake.done(), ["created cell \"web\" in shop/s/t"]);
}

#[tokio::test]
async fn what_is_somebody_elses_is_left_alone() {
    let (fake, target) = machine();
    fake.person(WEB);
    let all = format!("{API}{WEB}");
    let wanted = activation(&all, Vec::new());
    let error = target.apply(&wanted).await.unwrap_err();
    assert_eq!(error.reason, Reason::OptInRequired);
    assert!(error.is_terminal());
    assert!(
        error
            .message
            .contains("cell \"web\" in shop/s/t was not made by a Serving")
    );
    assert!(error.hint.contains("allowed-recipe=shop/site"));
    assert!(fake.done().is_empty(), "nothing was changed");
    assert_eq!(target.plan(&wanted).await.unwrap_err(), error);
    assert_eq!(target.observe(&wanted).await.unwrap_err(), error);

    fake.edit("Cell", "web", |o| {
        let AnyObject::Cell(cell) = o else { return };
        let allow = (keys::ALLOWED_RECIPE.to_owned(), "shop/site".to_owned());
        cell.meta.annotations.extend([allow]);
        cell.meta
            .labels
            .extend([(keys::PRUNE.to_owned(), "disabled".to_owned())]);
    });
    let inventory = deploy(&target, &all, Vec::new()).await;
    let live = fake.object("Cell", "web").unwrap();
    assert!(owned(&live.meta().labels));
    // What people noted for us stays where it is.
    assert_eq!(live.meta().annotations[keys::ALLOWED_RECIPE], "shop/site");
    fake.done();
    let left = deploy(&target, API, inventory).await;
    assert!(fake.done().is_empty());
    assert!(names(&left).contains(&"Cell/web".to_owned()));
}

#[tokio::test]
async fn a_release_of_another_namespace_is_somebody_else() {
    let (_, target) = machine();
    deploy(&target, WEB, Vec::new()).await;
    let mut other = activation(WEB, Vec::new());
    other.namespace = "mall".parse().unwrap();
    other.target.kuke.realm = Some("shop".parse().unwrap());
    let error = target.apply(&other).await.unwrap_err();
    assert_eq!(error.reason, Reason::OptInRequired);
    assert_eq!(error.problems.len(), 2, "{error}");
    assert!(error.message.contains("does not allow it"), "{error}");
    assert!(
        error.message.contains("belongs to the Serving shop/site"),
        "{error}"
    );
}

#[tokio::test]
async fn another_realm_has_to_allow_it() {
    let (fake, target) = machine();
    let mut other = activation(WEB, Vec::new());
    other.namespace = "mall".parse().unwrap();
    other.target.kuke.realm = Some("shop".parse().unwrap());
    let error = target.plan(&other).await.unwrap_err();
    assert_eq!(error.reason, Reason::OptInRequired);
    fake.edit("Realm", "shop", |o| {
        let AnyObject::Realm(realm) = o else { return };
        let allow = (keys::ALLOWED_RECIPE.to_owned(), "mall/site".to_owned());
        realm.meta.annotations.extend([allow]);
    });
    target.apply(&other).await.unwrap();

    other.target.kuke.realm = Some("kuke-system".parse().unwrap());
    let error = target.plan(&other).await.unwrap_err();
    assert_eq!(error.reason, Reason::ManifestInvalid);
    let outside = activation(&WEB.replace("realmId: shop", "realmId: mall"), Vec::new());
    let error = target.plan(&outside).await.unwrap_err();
    assert_eq!(error.reason, Reason::ManifestInvalid);
    assert!(
        error.message.contains("outside of the realm shop"),
        "{error}"
    );
}

#[tokio::test]
async fn artifacts_that_cannot_be_used() {
    let (_, target) = machine();
    for (manifest, part) in [
        ("kind: Cell\nmetadata: {name: web", "manifest.yaml"),
        ("", "no documents"),
        (
            "apiVersion: delivery.kokumi.dev/v1alpha1\nkind: Menu\nmetadata: {name: m}\nspec: {recipes: [{name: a}, {name: b}]}\n",
            "menu",
        ),
        (
            "kind: Realm\nmetadata: {name: shop}\nspec: {registryCredentials: [{username: u, password: p}]}\n",
            "password",
        ),
        (
            "kind: Secret\nmetadata: {name: k, realm: shop}\nspec: {data: hush}\n",
            "secret \"k\" in shop holds its value, which an artifact must not",
        ),
        (
            "kind: Volume\nmetadata: {name: v, realm: other}\n",
            "outside of the realm shop",
        ),
    ] {
        let error = target.plan(&activation(manifest, Vec::new())).await;
        let error = error.unwrap_err();
        assert_eq!(error.reason, Reason::ManifestInvalid, "{error}");
        assert!(error.message.contains(part), "{error}");
        assert!(!error.to_string().contains("hush"), "{error}");
    }
    let mut empty = activation("", Vec::new());
    empty.allow_empty = true;
    assert!(target.plan(&empty).await.unwrap().is_empty());
}

#[tokio::test]
async fn after_a_failure_nothing_is_pruned() {
    let (fake, target) = machine();
    let inventory = deploy(&target, WEB, Vec::new()).await;
    fake.done();
    fake.set_broken("api", true);
    let next = activation(API, inventory);
    let error = target.apply(&next).await.unwrap_err();
    assert_eq!(error.reason, Reason::ApplyFailed);
    assert!(!error.is_terminal());
    assert_eq!(error.problems[0].resource.name, "api");
    assert_eq!(error.problems[0].reason, "Broken");
    let refused = target.prune(&next).await.unwrap_err();
    assert!(refused.message.contains("nothing is pruned"), "{refused}");
    assert!(fake.done().is_empty());

    fake.set_broken("api", false);
    let left = deploy(&target, API, next.inventory).await;
    assert_eq!(
        fake.done(),
        [
            "created cell \"api\" in shop/s/t",
            "deleted cell \"web\" in shop/s/t"
        ]
    );
    assert_eq!(names(&left), ["Space/s", "Stack/t", "Cell/api"]);
}

#[tokio::test]
async fn pruning_goes_from_the_inside_out_and_spares_others() {
    let (fake, target) = machine();
    let other = WEB.replace("spaceId: s", "spaceId: u");
    let inventory = deploy(&target, &format!("{WEB}{API}"), Vec::new()).await;
    // Somebody moves in, and somebody takes something over.
    fake.person(&WEB.replace("name: web", "name: guest"));
    fake.edit("Cell", "api", |o| {
        let AnyObject::Cell(cell) = o else { return };
        cell.meta
            .labels
            .insert(keys::SERVING.into(), "another".into());
    });
    fake.done();
    let mut next = activation(&other, inventory);
    let applied = target.apply(&next).await.unwrap();
    assert_eq!(names(&applied.awaiting), ["Cell/web", "Stack/t", "Space/s"]);
    next.inventory = applied.inventory.clone();
    next.defer_prune = true;
    assert_eq!(target.prune(&next).await.unwrap(), applied.inventory);
    next.defer_prune = false;
    fake.done();
    let left = target.prune(&next).await.unwrap();
    assert_eq!(names(&left), ["Space/u", "Stack/t", "Cell/web"]);
    let done = fake.done();
    assert_eq!(done[0], "deleted cell \"web\" in shop/s/t");
    assert_eq!(done.len(), 3, "{done:?}");
    for kind in [("Stack", "t"), ("Space", "s")] {
        // With guests inside it stays, without an owner.
        let labels = fake.object(kind.0, kind.1).unwrap().meta().labels.clone();
        assert!(!owned(&labels), "{labels:?}");
    }
    assert!(fake.object("Cell", "guest").is_some());
    assert!(fake.object("Cell", "api").is_some());
}

#[tokio::test]
async fn a_target_that_does_not_prune_keeps_all() {
    let (fake, target) = machine();
    let inventory = deploy(&target, WEB, Vec::new()).await;
    let mut next = activation(API, inventory);
    next.target.kuke.prune = false;
    let applied = target.apply(&next).await.unwrap();
    assert!(applied.awaiting.is_empty());
    next.inventory = applied.inventory;
    assert_eq!(target.prune(&next).await.unwrap(), next.inventory);
    assert!(fake.object("Cell", "web").is_some());
}

#[tokio::test]
async fn volumes_come_before_cells_and_stay_when_they_are_retained() {
    let volume = |name: &str, reclaim: &str| {
        format!(
            "---\nkind: Volume\nmetadata: {{name: {name}, realm: shop, space: s, stack: t}}\nspec: {{reclaimPolicy: {reclaim}}}\n"
        )
    };
    let (fake, target) = machine();
    let all = format!(
        "{WEB}{}{}",
        volume("goes", "Delete"),
        volume("stays", "Retain")
    );
    let inventory = deploy(&target, &all, Vec::new()).await;
    assert_eq!(
        names(&inventory),
        [
            "Space/s",
            "Stack/t",
            "Volume/goes",
            "Volume/stays",
            "Cell/web"
        ]
    );
    assert!(owned(&fake.object("Volume", "goes").unwrap().meta().labels));
    fake.done();
    // Again: nothing to do.
    assert_eq!(deploy(&target, &all, inventory.clone()).await, inventory);
    assert!(fake.done().is_empty());
    let other = API.replace("stackId: t", "stackId: u");
    deploy(&target, &other, inventory).await;
    let done = fake.done();
    assert!(
        done.contains(&"deleted volume \"goes\" in shop/s/t".to_owned()),
        "{done:?}"
    );
    let cell = done.iter().position(|d| d.contains("deleted cell \"web\""));
    let goes = done
        .iter()
        .position(|d| d.contains("deleted volume \"goes\""));
    assert!(cell < goes, "{done:?}");
    assert!(fake.object("Volume", "stays").is_some());
    assert!(fake.object("Stack", "t").is_some(), "its data is in there");
}

#[tokio::test]
async fn images_come_before_anything_else() {
    let (fake, target) = machine();
    let new = WEB.replace("image: one", "image: two");
    let wanted = activation(&new, Vec::new());
    assert_eq!(target.plan(&wanted).await.unwrap().images, ["shop/two"]);
    assert!(fake.done().is_empty());
    fake.set_broken("two", true);
    let error = target.apply(&wanted).await.unwrap_err();
    assert_eq!(error.reason, Reason::ApplyFailed);
    assert_eq!(error.problems[0].reason, "RegistryUnavailable");
    assert!(fake.done().is_empty());
    fake.set_broken("two", false);
    let plan = target.prepare(&wanted).await.unwrap();
    assert!(plan.images.is_empty());
    assert_eq!(fake.done(), ["pulled two"]);
    assert_eq!(actions(&plan)[2], ("Cell/web".to_owned(), Action::Create));

    let never = new.replace("image: two", "image: three, imagePullPolicy: never");
    let error = target
        .plan(&activation(&never, Vec::new()))
        .await
        .unwrap_err();
    assert_eq!(error.problems[0].reason, "ImageNotFound");
    assert!(error.hint.contains("kuke image load"), "{error}");
}

#[tokio::test]
async fn into_a_new_realm_images_come_after_it() {
    let fake = Fake::default();
    let target = Local::new(Arc::new(fake.clone()));
    let inventory = deploy(&target, WEB, Vec::new()).await;
    assert_eq!(
        fake.done(),
        [
            "created space \"s\" in shop",
            "created stack \"t\" in shop/s",
            "pulled one",
            "created cell \"web\" in shop/s/t",
        ]
    );
    // The realm was made on the way; images of others may be in it.
    target
        .withdraw(&withdrawal(&inventory, DeletionPolicy::Delete))
        .await
        .unwrap();
    assert!(fake.object("Space", "s").is_none());
    assert!(fake.object("Realm", "shop").is_some());
}

#[tokio::test]
async fn drift_names_fields() {
    let (fake, target) = machine();
    let inventory = deploy(&target, &format!("{WEB}{API}"), Vec::new()).await;
    // A person's manifest without labels does not take the cell from us.
    fake.person(&WEB.replace("image: one", "image: two"));
    let gone: Vec<Resource> = inventory
        .iter()
        .filter(|r| r.name == "api")
        .cloned()
        .collect();
    target
        .withdraw(&withdrawal(&gone, DeletionPolicy::Delete))
        .await
        .unwrap();
    let wanted = activation(&format!("{WEB}{API}"), inventory);
    let seen = target.observe(&wanted).await.unwrap();
    assert!(!seen.synced);
    assert_eq!(
        seen.drift,
        [
            "cell \"web\" in shop/s/t: spec.containers[a].image: \"two\" → \"one\"",
            "cell \"api\" in shop/s/t: it is not there",
        ]
    );
    assert!(matches!(seen.health, Health::Waiting(_)));
    target.apply(&wanted).await.unwrap();
    assert!(target.observe(&wanted).await.unwrap().synced);
}

#[tokio::test]
async fn health_follows_the_cells() {
    let (fake, target) = machine();
    let inventory = deploy(&target, &format!("{WEB}{API}"), Vec::new()).await;
    let wanted = activation(&format!("{WEB}{API}"), inventory);
    for (cell, state, ready, part) in [
        ("web", CellState::Degraded, None, "it is Degraded"),
        ("web", CellState::Pending, None, "it is Pending"),
        ("web", CellState::Stopped, Some(false), "it is Stopped"),
        ("web", CellState::Failed, Some(false), "it is Failed"),
        (
            "web",
            CellState::Error,
            Some(false),
            "cannot open | the door",
        ),
        ("api", CellState::Exited, Some(false), "is to be restarted"),
        ("web", CellState::Exited, Some(true), ""),
    ] {
        for name in ["web", "api"] {
            fake.edit("Cell", name, |o| {
                let AnyObject::Cell(found) = o else { return };
                found.status.state = if name == cell {
                    state
                } else {
                    CellState::Ready
                };
                found.status.containers[0].state = ContainerState::Error;
                found.status.containers[0].exit_code = Some(3);
            });
        }
        let health = target.observe(&wanted).await.unwrap().health;
        let told = format!("{health:?}");
        assert!(told.contains(part), "{told}");
        match ready {
            None => assert!(matches!(health, Health::Waiting(_)), "{told}"),
            Some(true) => assert!(matches!(health, Health::Ready(_)), "{told}"),
            Some(false) => {
                assert!(
                    matches!(health, Health::Failed(Reason::Unhealthy, _)),
                    "{told}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_container_joins_somebody_elses_cell_by_leave() {
    let (fake, target) = machine();
    fake.person(WEB);
    let sidecar = "---\napiVersion: v1beta1\nkind: Container\nmetadata: {name: b}\nspec: {realmId: shop, spaceId: s, stackId: t, cellId: web, image: one}\n";
    let error = target
        .plan(&activation(sidecar, Vec::new()))
        .await
        .unwrap_err();
    assert_eq!(error.reason, Reason::OptInRequired);
    fake.edit("Cell", "web", |o| {
        let AnyObject::Cell(cell) = o else { return };
        cell.meta
            .annotations
            .insert(keys::ALLOWED_RECIPE.into(), "site".into());
    });
    let inventory = deploy(&target, sidecar, Vec::new()).await;
    assert_eq!(names(&inventory), ["Container/b"]);
    let plan = target
        .plan(&activation(sidecar, inventory.clone()))
        .await
        .unwrap();
    assert_eq!(
        actions(&plan),
        [("Container/b".to_owned(), Action::Unchanged)]
    );
    fake.done();
    target
        .withdraw(&withdrawal(&inventory, DeletionPolicy::Delete))
        .await
        .unwrap();
    assert_eq!(
        fake.done(),
        ["deleted container \"b\" of cell \"web\" in shop/s/t"]
    );
}

fn withdrawal(inventory: &[Resource], policy: DeletionPolicy) -> Withdrawal {
    Withdrawal {
        namespace: "shop".parse().unwrap(),
        recipe: "site".parse().unwrap(),
        policy,
        inventory: inventory.to_vec(),
    }
}

#[tokio::test]
async fn withdrawing_removes_or_lets_go() {
    let (fake, target) = machine();
    let inventory = deploy(&target, WEB, Vec::new()).await;
    fake.done();
    let orphan = withdrawal(&inventory, DeletionPolicy::Orphan);
    assert!(target.withdraw(&orphan).await.unwrap().is_empty());
    let live = fake.object("Cell", "web").unwrap();
    assert!(live.meta().labels.is_empty(), "{:?}", live.meta().labels);
    fake.done();
    // What was let go is nobody's: a withdrawal does not touch it.
    let delete = withdrawal(&inventory, DeletionPolicy::Delete);
    target.withdraw(&delete).await.unwrap();
    assert!(fake.done().is_empty());

    let (fake, target) = machine();
    let inventory = deploy(&target, WEB, Vec::new()).await;
    fake.done();
    fake.set_broken("web", true);
    let delete = withdrawal(&inventory, DeletionPolicy::Delete);
    let error = target.withdraw(&delete).await.unwrap_err();
    assert_eq!(error.problems[0].reason, "Broken");
    assert!(fake.done().is_empty());
    fake.set_broken("web", false);
    target.withdraw(&delete).await.unwrap();
    assert_eq!(
        fake.done(),
        [
            "deleted cell \"web\" in shop/s/t",
            "deleted stack \"t\" in shop/s",
            "deleted space \"s\" in shop",
        ]
    );
}
