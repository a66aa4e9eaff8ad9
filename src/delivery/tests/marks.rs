//! Records and tags beside artifacts, and what a look writes.

use super::*;
use crate::delivery::artifact::RECORD_TYPE;
use crate::delivery::artifacts::Place;
use crate::model::delivery::{Artifact, Preparation};
use crate::oci::Digest;
use crate::registry::{Limits, Repository, Storage};

const REGISTRY: &str = "registry/repos/preparations/shop/web";

fn artifact(world: &World) -> (Place, Artifact) {
    let latest = world.recipe("web").status.latest_preparation.unwrap();
    let found = world
        .delivery
        .read(&at(ReleaseKind::Preparation, latest.as_str()));
    let preparation: Preparation = found.unwrap().unwrap();
    let artifact = preparation.spec.artifact;
    let place = world.delivery.place_of(&name("shop"), &artifact).unwrap();
    (place, artifact)
}

fn records(world: &World) -> usize {
    let (place, artifact) = artifact(world);
    let repository: Repository = place.at.repository.parse().unwrap();
    let storage = Storage::open(&world.dir.path().join("registry"), Limits::default()).unwrap();
    let subject: Digest = artifact.digest.parse().unwrap();
    let found = storage.referrers(&repository, &subject, Some(RECORD_TYPE));
    found.unwrap().len()
}

async fn revisions(world: &World) -> Vec<i64> {
    let (place, _) = artifact(world);
    let found = world.delivery.artifacts.revisions(&place).await.unwrap();
    found.into_iter().collect()
}

/// Every file below the run path, with what tells that it was written.
fn files(world: &World) -> Vec<(std::path::PathBuf, u64, std::time::SystemTime)> {
    use std::os::unix::fs::MetadataExt;
    let mut found = Vec::new();
    let mut open = vec![world.dir.path().to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let meta = entry.metadata().unwrap();
            match meta.is_dir() {
                true => open.push(entry.path()),
                false => found.push((entry.path(), meta.ino(), meta.modified().unwrap())),
            }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn what_was_lost_beside_an_artifact_comes_back() {
    let mut world = World::new().await;
    world.make_cell("web").await;
    world.promote("web").await;
    assert_eq!((records(&world), revisions(&world).await), (1, vec![1]));

    // It died after the commit, before any of this was written.
    let dir = world.dir.path().join(REGISTRY);
    std::fs::remove_dir_all(dir.join("referrers")).unwrap();
    let tags = dir.join("tags");
    std::fs::remove_file(tags.join("rev-1")).unwrap();
    std::fs::remove_file(tags.join("active")).unwrap();
    world.restart();
    assert_eq!((records(&world), revisions(&world).await), (0, vec![]));
    world.settle(ReleaseKind::Recipe, "web").await;
    world.settle(ReleaseKind::Serving, "web").await;
    assert_eq!((records(&world), revisions(&world).await), (1, vec![1]));
    assert!(tags.join("active").exists());

    // It died between the record and the tag.
    std::fs::remove_file(tags.join("rev-1")).unwrap();
    world.restart();
    world.settle(ReleaseKind::Recipe, "web").await;
    assert_eq!((records(&world), revisions(&world).await), (1, vec![1]));
}

#[tokio::test]
async fn an_older_revision_gets_its_record_as_well() {
    let world = World::new().await;
    world.make_cell("web").await;
    // While the disk is full.
    let tags = world.dir.path().join(REGISTRY).join("tags");
    std::fs::remove_file(tags.join("rev-1")).unwrap();
    std::fs::create_dir(tags.join("rev-1")).unwrap();
    world
        .delivery
        .marked
        .forget(&at(ReleaseKind::Recipe, "web"));
    world.settle(ReleaseKind::Recipe, "web").await;
    std::fs::remove_dir(tags.join("rev-1")).unwrap();
    world.write("web", &cell("web").replace("id: a", "id: b"));
    world.edit("web", |recipe| recipe.spec.allow_empty = true);
    world.settle(ReleaseKind::Recipe, "web").await;
    assert_eq!(revisions(&world).await, [1, 2]);
}

#[tokio::test]
async fn a_second_look_writes_nothing() {
    let mut world = World::new().await;
    let poll = Duration::from_secs(3600);
    world
        .make("web", &cell("web"), TargetType::Kuke, poll)
        .await;
    world.promote("web").await;
    for _ in 0..2 {
        let before = files(&world);
        for kind in [ReleaseKind::Recipe, ReleaseKind::Serving] {
            world.settle(kind, "web").await;
        }
        assert_eq!(files(&world), before);
        // Nor does the first one of the next process.
        world.restart();
    }
}

#[tokio::test(start_paused = true)]
async fn a_poll_that_finds_nothing_new_writes_nothing() {
    let world = World::new().await;
    let poll = Duration::from_secs(30);
    world
        .make("web", &cell("web"), TargetType::Kuke, poll)
        .await;
    let before = world.recipe("web");
    for _ in 0..3 {
        tokio::time::advance(poll).await;
        world.settle(ReleaseKind::Recipe, "web").await;
        assert_eq!(world.recipe("web"), before);
    }
    world.write("web", &cell("web").replace("id: a", "id: b"));
    // Its time has not come.
    world.settle(ReleaseKind::Recipe, "web").await;
    assert_eq!(world.recipe("web"), before);
    tokio::time::advance(poll).await;
    world.settle(ReleaseKind::Recipe, "web").await;
    let status = world.recipe("web").status;
    assert_eq!(status.revision, 2);
    assert!(status.resolved_at > before.status.resolved_at);
}
