//! Servings at rest: Argo CD that goes and comes back, Applications that others
//! change, drift.

use serde_json::{Value, json};

use super::*;
use crate::model::AnyObject;
use crate::model::delivery::{ConditionStatus, ServingPhase};

const MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web}\ndata: {a: b}\n";

/// Argo CD has looked at the Application, and all is well.
pub(super) fn healthy(app: &mut Value) {
    let revision = app["spec"]["source"]["targetRevision"].clone();
    app["status"] = json!({
        "sync": { "status": "Synced", "revision": revision },
        "health": { "status": "Healthy" },
    });
}

/// A release that is deployed on the cluster, with the loop at work.
async fn deployed() -> (World, CancellationToken, JoinHandle<()>) {
    let world = World::new().await;
    let none = Duration::ZERO;
    world.make("web", MAP, TargetType::ArgoCd, none).await;
    let (stop, run) = world.run();
    world.point("web");
    world.delivery.enqueue(&at(ReleaseKind::Serving, "web"));
    eventually("the Application", || {
        world.server.application("web").is_some()
    })
    .await;
    world.server.edit("web", healthy);
    eventually("it is deployed", || phase(&world) == ServingPhase::Deployed).await;
    // The first look of whoever watches it is over.
    eventually("it is watched", || world.delivery.watched.count() == 1).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    (world, stop, run)
}

/// The same without the loop: whoever wants a look asks for it.
async fn deployed_by_hand() -> (World, ReleaseRef) {
    let world = World::new().await;
    let none = Duration::ZERO;
    world.make("web", MAP, TargetType::ArgoCd, none).await;
    world.point("web");
    let serving = at(ReleaseKind::Serving, "web");
    world.delivery.look(&serving, false).await.unwrap();
    world.server.edit("web", healthy);
    world.settle(ReleaseKind::Serving, "web").await;
    assert_eq!(phase(&world), ServingPhase::Deployed);
    (world, serving)
}

fn phase(world: &World) -> ServingPhase {
    world.serving("web").status.phase
}

fn ready(world: &World) -> Condition {
    world.condition("web", ConditionType::Ready)
}

#[tokio::test]
async fn an_application_that_others_change_is_put_back_at_once() {
    let (world, stop, run) = deployed().await;
    world
        .server
        .set(|s| s.objects.retain(|path, _| !path.ends_with("/web")));
    eventually("it is made again", || {
        world.server.application("web").is_some()
    })
    .await;
    world.server.edit("web", healthy);
    let synced = || world.condition("web", ConditionType::Synced);
    eventually("it is well", || {
        synced().status == ConditionStatus::True && ready(&world).reason == "Deployed"
    })
    .await;

    let edited = |app: &mut Value| app["spec"]["project"] = "theirs".into();
    world.server.edit("web", edited);
    let project = || world.server.application("web").unwrap()["spec"]["project"].clone();
    eventually("it is put back", || project() == "default").await;

    world.server.edit("web", |app| {
        app["status"]["health"]["status"] = "Degraded".into()
    });
    eventually("it is told", || ready(&world).reason == "Degraded").await;
    world.server.edit("web", healthy);
    eventually("it is well", || ready(&world).reason == "Deployed").await;

    stop.cancel();
    run.await.unwrap();
    assert_eq!(world.delivery.watched.count(), 0);
    world.delivery.tasks.close();
    world.delivery.tasks.wait().await;
}

/// A server that cannot be watched from any version is not asked over and over.
#[tokio::test]
async fn a_watch_that_ends_at_once_is_not_asked_again_at_once() {
    let (world, stop, run) = deployed().await;
    world.server.set(|s| s.expired = true);
    // It ends the watch that is open.
    world
        .server
        .edit("web", |app| app["status"]["reconciledAt"] = "now".into());
    eventually("the change is seen", || world.server.looks() > 0).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    world.server.set(|s| s.lists = 0);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut lists = 0;
    world.server.set(|s| lists = s.lists);
    assert!(lists <= 1, "{lists}");
    stop.cancel();
    run.await.unwrap();
}

#[tokio::test]
async fn a_watch_writes_nothing_and_ends_with_its_serving() {
    let (world, stop, run) = deployed().await;
    let before = world.serving("web");
    world.server.looks();
    world.server.sent();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(world.server.looks(), 0, "nobody asks while nothing changes");
    world
        .server
        .edit("web", |app| app["status"]["reconciledAt"] = "now".into());
    eventually("the change is seen", || world.server.looks() > 0).await;
    assert_eq!(world.serving("web"), before);
    let sent = world.server.sent();
    assert!(sent.iter().all(|(path, _)| path.contains("dryRun=All")));

    let mut serving = before;
    serving.meta.deletion = Some(jiff::Timestamp::now());
    let change = ReleaseChange::Put(serving.into());
    world.delivery.store.commit(vec![change]).unwrap();
    world.delivery.enqueue(&at(ReleaseKind::Serving, "web"));
    // As Argo CD does once the workload is gone.
    eventually("it is let go", || {
        let app = world.server.application("web");
        app.is_some_and(|app| app["metadata"]["deletionTimestamp"].is_string())
    })
    .await;
    world
        .server
        .set(|s| s.objects.retain(|path, _| !path.ends_with("/web")));
    eventually("nobody watches", || world.delivery.watched.count() == 0).await;
    stop.cancel();
    run.await.unwrap();
}

/// A cluster that is busy for a moment is not one that is away.
#[tokio::test]
async fn a_busy_cluster_is_asked_again() {
    let (world, serving) = deployed_by_hand().await;
    world.server.set(|s| s.busy = 3);
    world.delivery.look(&serving, false).await.unwrap();
    assert_eq!(phase(&world), ServingPhase::Deployed);
    world.server.set(|s| assert_eq!(s.busy, 0));
}

/// Nor one whose connection is cut, or that has an accident.
#[tokio::test]
async fn a_cluster_that_has_an_accident_is_asked_again() {
    let (world, serving) = deployed_by_hand().await;
    for status in [0, 500, 502] {
        world.server.set(|s| s.accidents = (3, status));
        world.delivery.look(&serving, false).await.unwrap();
        assert_eq!(phase(&world), ServingPhase::Deployed, "{status}");
        world.server.set(|s| assert_eq!(s.accidents.0, 0));
    }
}

#[tokio::test]
async fn a_deployed_application_that_stays_ill_has_failed() {
    let (world, serving) = deployed_by_hand().await;
    let look = || world.delivery.look(&serving, false);
    let ill = |app: &mut Value| {
        app["status"]["health"] = json!({ "status": "Degraded", "message": "0 of 1 ready" });
    };
    // Argo CD cannot look, which says nothing of the workload.
    world.edit("web", |recipe| {
        let target = recipe.spec.target.as_mut().unwrap();
        target.argocd.wait_timeout = Duration::from_millis(1);
    });
    world.server.edit("web", |app| {
        app["status"]["sync"]["status"] = "Unknown".into()
    });
    for _ in 0..2 {
        look().await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(phase(&world), ServingPhase::Deployed);
    assert_eq!(ready(&world).reason, "Progressing");
    world.server.edit("web", healthy);
    world.edit("web", |recipe| {
        let target = recipe.spec.target.as_mut().unwrap();
        target.argocd.wait_timeout = Duration::from_secs(300);
    });
    look().await.unwrap();

    world.server.edit("web", ill);
    let super::super::work::Next::Later(left) = look().await.unwrap() else {
        panic!("it is looked at once its time is over");
    };
    assert!(left <= Duration::from_secs(300) && left > Duration::from_secs(200));
    assert_eq!(phase(&world), ServingPhase::Deployed);
    assert_eq!(ready(&world).reason, "Degraded");

    world.edit("web", |recipe| {
        let target = recipe.spec.target.as_mut().unwrap();
        target.argocd.wait_timeout = Duration::from_millis(1);
    });
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(look().await.unwrap(), super::super::work::Next::Rest);
    assert_eq!(phase(&world), ServingPhase::Failed);
    assert_eq!(ready(&world).reason, "HealthTimeout");
    assert!(ready(&world).message.contains("0 of 1 ready"));
    let failed = world.serving("web");
    look().await.unwrap();
    assert_eq!(world.serving("web"), failed, "another look writes nothing");

    // Somebody deletes it to have it made again.
    world
        .server
        .set(|s| s.objects.retain(|path, _| !path.ends_with("/web")));
    world.edit("web", |recipe| {
        let target = recipe.spec.target.as_mut().unwrap();
        target.argocd.wait_timeout = Duration::from_secs(300);
    });
    look().await.unwrap();
    assert!(world.server.application("web").is_some());
    world.server.edit("web", healthy);
    world.settle(ReleaseKind::Serving, "web").await;
    assert_eq!(phase(&world), ServingPhase::Deployed);
    assert_eq!(ready(&world).reason, "Deployed");
}

/// While a Serving waits to become healthy, a watch that is cut is not asked
/// for again at once.
#[tokio::test]
async fn a_gate_does_not_ask_without_a_pause() {
    let world = World::new().await;
    world
        .make("web", MAP, TargetType::ArgoCd, Duration::ZERO)
        .await;
    world.server.set(|s| s.expired = true);
    let (stop, run) = world.run();
    world.point("web");
    world.delivery.enqueue(&at(ReleaseKind::Serving, "web"));
    eventually("the Application", || {
        world.server.application("web").is_some()
    })
    .await;
    world.server.set(|s| s.lists = 0);
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut lists = 0;
    world.server.set(|s| lists = s.lists);
    assert!((1..=4).contains(&lists), "{lists}");
    stop.cancel();
    run.await.unwrap();
}

#[tokio::test]
async fn a_deployed_serving_tells_that_argocd_is_away_and_comes_back() {
    let (world, serving) = deployed_by_hand().await;
    let look = || world.delivery.look(&serving, false);

    world.server.set(|s| s.down = true);
    // Not an error that is tried again with a back-off: its own pace.
    let probe = super::super::work::Next::Later(Duration::from_secs(30));
    assert_eq!(look().await.unwrap(), probe);
    assert_eq!(phase(&world), ServingPhase::Failed);
    assert_eq!(ready(&world).reason, "ArgoCDUnavailable");
    let synced = world.condition("web", ConditionType::Synced);
    assert_eq!(synced.status, ConditionStatus::Unknown);
    let failed = world.serving("web");
    assert_eq!(look().await.unwrap(), probe);
    assert_eq!(world.serving("web"), failed, "the probe writes nothing");

    world.server.set(|s| s.down = false);
    let before = world.server.application("web");
    world.settle(ReleaseKind::Serving, "web").await;
    assert_eq!(phase(&world), ServingPhase::Deployed);
    assert_eq!(ready(&world).status, ConditionStatus::True);
    assert_eq!(
        world.server.application("web"),
        before,
        "what runs is as it was"
    );
}

#[tokio::test]
async fn a_deployed_application_that_somebody_takes_over_is_terminal() {
    let (world, serving) = deployed_by_hand().await;
    let look = || world.delivery.look(&serving, false);

    let ours = world.server.application("web").unwrap()["metadata"].clone();
    world.server.edit("web", |app| {
        app["metadata"]["labels"] = json!({});
        app["metadata"]["annotations"] = json!({});
    });
    let theirs = world.server.application("web");
    let rest = super::super::work::Next::Rest;
    assert_eq!(look().await.unwrap(), rest);
    assert_eq!(phase(&world), ServingPhase::Failed);
    assert_eq!(ready(&world).reason, "OptInRequired");
    assert_eq!(look().await.unwrap(), rest);
    assert_eq!(world.server.application("web"), theirs, "it is left alone");

    world.server.edit("web", |app| {
        app["metadata"]["labels"] = ours["labels"].clone();
        app["metadata"]["annotations"] = ours["annotations"].clone();
    });
    world.settle(ReleaseKind::Serving, "web").await;
    assert_eq!(phase(&world), ServingPhase::Deployed);
}

#[tokio::test]
async fn drift_that_stays_is_told_field_by_field() {
    let world = World::new().await;
    world.make_cell("web").await;
    world.edit("web", |recipe| {
        let target = recipe.spec.target.as_mut().unwrap();
        target.kuke.self_heal = false;
    });
    world.settle(ReleaseKind::Recipe, "web").await;
    world.promote("web").await;
    assert_eq!(phase(&world), ServingPhase::Deployed);
    world.machine.edit("Cell", "web", |object| {
        let AnyObject::Cell(cell) = object else {
            unreachable!("it is asked for");
        };
        cell.spec.containers[0].command = Some("other".into());
    });
    let serving = at(ReleaseKind::Serving, "web");
    world.delivery.look(&serving, false).await.unwrap();
    let synced = world.condition("web", ConditionType::Synced);
    assert_eq!(
        (synced.status, &*synced.reason),
        (ConditionStatus::False, "Drifted")
    );
    assert!(synced.message.contains("command"), "{}", synced.message);
    assert_eq!(phase(&world), ServingPhase::Deployed, "what runs goes on");
}

/// Promotion tells where it came from; a Serving of before that was kept is
/// written once more, and never again.
#[tokio::test]
async fn a_serving_tells_the_source_of_what_it_points_at() {
    let world = World::new().await;
    world.make_cell("web").await;
    world.promote("web").await;
    let path = world.sources().join("web").display().to_string();
    assert_eq!(world.serving("web").status.source, path);

    let mut old = world.serving("web");
    old.status.source.clear();
    let change = ReleaseChange::Put(old.into());
    world.delivery.store.commit(vec![change]).unwrap();
    world.settle(ReleaseKind::Serving, "web").await;
    let told = world.serving("web");
    assert_eq!(told.status.source, path);
    assert_eq!(told.status.phase, ServingPhase::Deployed);
    world.settle(ReleaseKind::Serving, "web").await;
    assert_eq!(world.serving("web"), told, "a second look writes nothing");
}
