//! Controllers on a machine and a cluster in memory, with a store on the disk.

mod marks;
mod menus;
mod recipes;
mod servings;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::promote::Promotion;
use super::target::apiserver::Server;
use super::target::{Fake, links};
use super::{Delivery, stamp_new};
use crate::api::v1;
use crate::model::Name;
use crate::model::delivery::{
    ActivationCause, AnyRelease, Condition, ConditionType, Kitchen, KitchenSpec, Recipe,
    RecipePhase, RecipeSpec, RecipeStatus, ReleaseKind, ReleaseMeta, ReleaseRef, Serving, Source,
    SourceFrom, Target, TargetType,
};
use crate::store::ReleaseChange;

/// A namespace with its realm, one image, and a connected cluster.
struct World {
    dir: tempfile::TempDir,
    delivery: Arc<Delivery>,
    machine: Fake,
    server: Server,
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn at(kind: ReleaseKind, of: &str) -> ReleaseRef {
    ReleaseRef::new(kind, &name("shop"), &name(of))
}

fn cell(of: &str) -> String {
    format!(
        "apiVersion: v1beta1\nkind: Cell\nmetadata: {{name: {of}}}\n\
         spec: {{realmId: shop, spaceId: s, stackId: t, containers: [{{id: a, image: one}}]}}\n"
    )
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let machine = Fake::default();
        machine.person("kind: Realm\nmetadata: {name: shop}\n");
        machine.image("one");
        let delivery = Delivery::open(Arc::new(machine.clone()), dir.path(), None).unwrap();
        let server = Server::default();
        server.set(|s| s.argocd = true);
        let request = v1::ConnectClusterRequest {
            kubeconfig: server.start().await,
            ..Default::default()
        };
        let clusters = delivery.targets.clusters();
        links::connect(clusters, &machine, request, "")
            .await
            .unwrap();
        let world = Self {
            delivery,
            machine,
            server,
            dir,
        };
        let default = name(Kitchen::NAME);
        world.put(Kitchen {
            meta: ReleaseMeta::new(default.clone(), default),
            spec: KitchenSpec {
                registry_url: "10.0.0.1:5050".into(),
                source_roots: vec![world.sources().display().to_string()],
                ..Default::default()
            },
        });
        world
    }

    /// What a process that begins now finds.
    fn restart(&mut self) {
        let machine = Arc::new(self.machine.clone());
        self.delivery = Delivery::open(machine, self.dir.path(), None).unwrap();
    }

    /// The loop, until the token is cancelled.
    fn run(&self) -> (CancellationToken, JoinHandle<()>) {
        let stop = CancellationToken::new();
        let (_, changes) = broadcast::channel(1);
        let run = self.delivery.clone().run(changes, stop.clone());
        (stop, tokio::spawn(run))
    }

    fn sources(&self) -> std::path::PathBuf {
        self.dir.path().join("sources")
    }

    fn write(&self, of: &str, text: &str) {
        let dir = self.sources().join(of);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("manifest.yaml"), text).unwrap();
    }

    fn put(&self, object: impl Into<AnyRelease>) {
        let mut object = object.into();
        stamp_new(object.meta_mut());
        let change = ReleaseChange::Put(object);
        self.delivery.store.commit(vec![change]).unwrap();
    }

    /// Changes what is wanted of a Recipe.
    fn edit(&self, of: &str, edit: impl FnOnce(&mut Recipe)) {
        let mut recipe = self.recipe(of);
        edit(&mut recipe);
        recipe.meta.generation += 1;
        let change = ReleaseChange::Put(recipe.into());
        self.delivery.store.commit(vec![change]).unwrap();
    }

    /// A Recipe with a source of its own, rendered.
    async fn make(&self, of: &str, text: &str, kind: TargetType, poll: Duration) {
        self.write(of, text);
        let mut target = Target {
            kind,
            ..Target::default()
        };
        target.kuke.min_healthy = Duration::ZERO;
        let path = self.sources().join(of).display().to_string();
        self.put(Recipe {
            meta: ReleaseMeta::new(name("shop"), name(of)),
            spec: RecipeSpec {
                source: Some(Source {
                    from: SourceFrom::Path(path),
                    version: None,
                    digest: None,
                    sub_path: ".".into(),
                    poll_interval: poll,
                }),
                target: Some(target),
                ..RecipeSpec::default()
            },
            status: RecipeStatus::default(),
        });
        self.settle(ReleaseKind::Recipe, of).await;
        assert_eq!(self.recipe(of).status.phase, RecipePhase::Ready);
    }

    /// A Recipe of one cell.
    async fn make_cell(&self, of: &str) {
        let none = Duration::ZERO;
        self.make(of, &cell(of), TargetType::Kuke, none).await;
    }

    async fn settle(&self, kind: ReleaseKind, of: &str) {
        self.delivery.settle_object(&at(kind, of)).await.unwrap();
    }

    /// Makes the latest active, and waits for it without the loop.
    async fn promote(&self, of: &str) {
        self.point(of);
        self.settle(ReleaseKind::Serving, of).await;
    }

    /// Points at the latest.
    fn point(&self, of: &str) {
        let recipe = self.recipe(of);
        let wanted = Promotion {
            namespace: name("shop"),
            recipe: name(of),
            preparation: recipe.status.latest_preparation.unwrap(),
            expected: None,
            message: String::new(),
            cause: ActivationCause::Promote,
            actor: "me".into(),
            dry_run: false,
        };
        self.delivery.promote_to(&wanted).unwrap();
    }

    fn recipe(&self, of: &str) -> Recipe {
        let found = self.delivery.read(&at(ReleaseKind::Recipe, of)).unwrap();
        found.unwrap()
    }

    fn serving(&self, of: &str) -> Serving {
        let found = self.delivery.read(&at(ReleaseKind::Serving, of)).unwrap();
        found.unwrap()
    }

    fn condition(&self, of: &str, kind: ConditionType) -> Condition {
        self.serving(of)
            .status
            .conditions
            .get(kind)
            .cloned()
            .unwrap()
    }
}

/// Waits until it holds; much shorter than the next look at everything.
async fn eventually(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("not in time: {what}");
}
