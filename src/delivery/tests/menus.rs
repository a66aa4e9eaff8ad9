//! Menus that begin their runs by themselves.

use super::*;
use crate::model::delivery::{
    Hold, Menu, MenuMember, MenuPhase, MenuSpec, MenuStatus, MenuStrategy,
};

/// A Menu of `back` and `front`, and the two, made.
async fn lunch() -> World {
    lunch_on(TargetType::Kuke).await
}

/// The same with `front` on that target.
async fn lunch_on(target: TargetType) -> World {
    let world = World::new().await;
    world.make_cell("back").await;
    let none = Duration::ZERO;
    world.make("front", &text(target, "a"), target, none).await;
    let member = |of: &str| MenuMember {
        name: name(of),
        preparation: None,
        depends_on: Vec::new(),
    };
    world.put(Menu {
        meta: ReleaseMeta::new(name("shop"), name("lunch")),
        spec: MenuSpec {
            recipes: vec![member("back"), member("front")],
            strategy: MenuStrategy {
                health_timeout: Duration::from_secs(20),
                min_healthy: Duration::ZERO,
                ..MenuStrategy::default()
            },
            auto_deploy_latest: true,
            exclusive: true,
            suspend: false,
        },
        status: MenuStatus::default(),
    });
    world
}

/// What `front` has on a target, in a version.
fn text(target: TargetType, version: &str) -> String {
    match target {
        TargetType::Kuke => cell("front").replace("id: a", &format!("id: {version}")),
        TargetType::ArgoCd => {
            format!(
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: web}}\ndata: {{a: {version}}}\n"
            )
        }
    }
}

fn menu(world: &World) -> Menu {
    let found = world.delivery.read(&at(ReleaseKind::Menu, "lunch"));
    found.unwrap().unwrap()
}

fn runs(world: &World) -> usize {
    menu(world).status.runs.len()
}

/// Whether a member serves its latest.
fn is_new(world: &World, of: &str) -> bool {
    let latest = world.recipe(of).status.latest_preparation;
    let status = world.serving(of).status;
    status.lock.is_none() && status.observed_preparation == latest
}

/// Another latest.
async fn change(world: &World, of: &str, id: &str) {
    world.write(of, &cell(of).replace("id: a", &format!("id: {id}")));
    refresh(world, of).await;
}

/// The source is asked again.
async fn refresh(world: &World, of: &str) {
    world.edit(of, |recipe| {
        let empty = recipe.spec.allow_empty;
        recipe.spec.allow_empty = !empty;
    });
    let recipe = at(ReleaseKind::Recipe, of);
    let _ = world.delivery.settle_object(&recipe).await;
}

#[tokio::test]
async fn a_new_latest_begins_a_run_of_all() {
    let world = lunch().await;
    world.settle(ReleaseKind::Menu, "lunch").await;
    assert_eq!(
        (runs(&world), menu(&world).status.phase),
        (1, MenuPhase::Deployed)
    );
    assert!(is_new(&world, "back") && is_new(&world, "front"));

    // Its Recipe has the Menu looked at.
    change(&world, "front", "b").await;
    assert_eq!(runs(&world), 2);
    assert!(is_new(&world, "back") && is_new(&world, "front"));
    let before = menu(&world);
    world.settle(ReleaseKind::Menu, "lunch").await;
    assert_eq!(menu(&world), before, "there is nothing more to do");
}

#[tokio::test]
async fn no_run_begins_while_a_member_is_not_ready() {
    let world = lunch().await;
    world.settle(ReleaseKind::Menu, "lunch").await;
    world.write("back", "kind: [");
    refresh(&world, "back").await;
    assert_eq!(world.recipe("back").status.phase, RecipePhase::Failed);
    change(&world, "front", "b").await;
    world.settle(ReleaseKind::Menu, "lunch").await;
    assert_eq!(runs(&world), 1);
    assert!(!is_new(&world, "front"));

    // Also while nobody has looked at what is wanted of it by now.
    world.write("back", &cell("back").replace("id: a", "id: c"));
    world.edit("back", |recipe| recipe.spec.allow_empty = false);
    world.settle(ReleaseKind::Menu, "lunch").await;
    assert_eq!(runs(&world), 1);
    world.settle(ReleaseKind::Recipe, "back").await;
    assert_eq!(runs(&world), 2);
    assert!(is_new(&world, "back") && is_new(&world, "front"));
}

#[tokio::test]
async fn a_member_that_somebody_holds_stays_where_it_is() {
    let world = lunch().await;
    world.settle(ReleaseKind::Menu, "lunch").await;
    let mut serving = world.serving("front");
    serving.spec.hold = Some(Hold {
        reason: "rolled back".into(),
        actor: "me".into(),
        time: None,
    });
    let last = serving.status.activations.last_mut().unwrap();
    last.cause = ActivationCause::Rollback;
    let put = ReleaseChange::Put(serving.into());
    world.delivery.store.commit(vec![put]).unwrap();
    change(&world, "front", "b").await;
    assert_eq!(runs(&world), 1);
    assert!(!is_new(&world, "front"));

    let serving = at(ReleaseKind::Serving, "front");
    assert!(world.delivery.clear_hold(&serving).unwrap());
    world.settle(ReleaseKind::Recipe, "front").await;
    assert_eq!(runs(&world), 2);
    assert!(is_new(&world, "front"));
}

#[tokio::test]
async fn a_run_that_failed_does_not_begin_again_by_itself() {
    let world = lunch().await;
    world.settle(ReleaseKind::Menu, "lunch").await;
    world.machine.set_broken("front", true);
    change(&world, "front", "b").await;
    assert_eq!(menu(&world).status.phase, MenuPhase::RolledBack);
    let before = runs(&world);
    world.settle(ReleaseKind::Menu, "lunch").await;
    assert_eq!(runs(&world), before);
    // A change is another plan, although the members are held since.
    world.machine.set_broken("front", false);
    change(&world, "front", "c").await;
    assert_eq!(menu(&world).status.phase, MenuPhase::Deployed);
    assert!(is_new(&world, "back") && is_new(&world, "front"));
}

/// A cluster that is busy for longer than one call waits takes nothing back while
/// the run has time.
#[tokio::test]
async fn a_busy_cluster_has_the_time_of_the_run() {
    let world = lunch_on(TargetType::ArgoCd).await;
    let settle = async |world: &World| {
        let server = world.server.clone();
        let argocd = tokio::spawn(async move {
            loop {
                if let Some(app) = server.application("front") {
                    let wanted = &app["spec"]["source"]["targetRevision"];
                    if app["status"]["sync"]["revision"] != *wanted {
                        server.edit("front", super::servings::healthy);
                    }
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        world.settle(ReleaseKind::Menu, "lunch").await;
        argocd.abort();
    };
    settle(&world).await;
    assert_eq!(menu(&world).status.phase, MenuPhase::Deployed);

    // One apply asks five times.
    world.server.set(|s| s.busy_patches = 7);
    world.write("front", &text(TargetType::ArgoCd, "b"));
    world.edit("front", |recipe| recipe.spec.allow_empty = true);
    let recipe = at(ReleaseKind::Recipe, "front");
    world.delivery.look(&recipe, false).await.unwrap();
    settle(&world).await;
    world.server.set(|s| assert_eq!(s.busy_patches, 0));
    let status = menu(&world).status;
    let last = status.runs.last().unwrap();
    assert_eq!(
        (status.runs.len(), status.phase),
        (2, MenuPhase::Deployed),
        "{last:?}"
    );
    assert!(is_new(&world, "front"));

    // What it was going to change is kept with the run.
    let front = last.members.iter().find(|m| m.recipe.as_str() == "front");
    let changes = &front.unwrap().changes;
    assert!(
        changes.iter().any(|c| c == "update ConfigMap web"),
        "{changes:?}"
    );
    let first = status.runs[0].members.iter();
    let back = first.filter(|m| m.recipe.as_str() == "back");
    let lines: Vec<_> = back.flat_map(|m| m.changes.clone()).collect();
    assert!(
        lines.contains(&"create Cell shop/s/t/back".to_owned()),
        "{lines:?}"
    );
}
