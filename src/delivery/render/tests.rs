use super::*;
use crate::delivery::source::{File, Tree};
use crate::model::delivery::{HelmRender, OnMissing, PatchTarget};

const CELL: &str = "\
apiVersion: v1beta1
kind: Cell
metadata: {name: web}
spec:
  containers:
    - {id: a, image: nginx, args: [1.50]}
";

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn content(files: &[(&str, &str)]) -> Content {
    let mut tree = Tree::default();
    for (path, text) in files {
        let file = File {
            bytes: text.as_bytes().to_vec(),
            executable: false,
        };
        tree.insert(path, file).unwrap();
    }
    Content::of_tree(tree)
}

/// What a test changes of the inputs.
struct Case {
    recipe: Name,
    namespace: Name,
    kind: SourceKind,
    sub_path: String,
    render: Render,
    patches: Vec<Patch>,
    edits: Vec<Patch>,
    target: Target,
    allow_empty: bool,
    content: Content,
}

impl Case {
    fn new(files: &[(&str, &str)]) -> Self {
        Self {
            recipe: name("web"),
            namespace: name("prod"),
            kind: SourceKind::Path,
            sub_path: ".".into(),
            render: Render::default(),
            patches: Vec::new(),
            edits: Vec::new(),
            target: Target::default(),
            allow_empty: false,
            content: content(files),
        }
    }

    fn argocd(files: &[(&str, &str)]) -> Self {
        let mut case = Self::new(files);
        case.target.kind = TargetType::ArgoCd;
        case
    }

    fn inputs(&self) -> Inputs<'_> {
        Inputs {
            recipe: &self.recipe,
            namespace: &self.namespace,
            source_kind: self.kind,
            source_digest: &self.content.digest,
            sub_path: &self.sub_path,
            render: &self.render,
            patches: &self.patches,
            edits: &self.edits,
            target: &self.target,
            allow_empty: self.allow_empty,
        }
    }

    async fn run(&self) -> Result<Rendered> {
        let inputs = self.inputs();
        run(&inputs, &Plan::of(&inputs)?, &self.content).await
    }

    fn hash(&self) -> String {
        Plan::of(&self.inputs()).unwrap().config_hash
    }

    async fn refused(&self) -> Failure {
        self.run().await.unwrap_err()
    }
}

fn patch(kind: &str, name: &str, path: &str, value: Value) -> Patch {
    Patch {
        target: PatchTarget {
            kind: kind.into(),
            name: name.into(),
            ..PatchTarget::default()
        },
        set: vec![(path.into(), value)],
        set_string: Vec::new(),
        unset: Vec::new(),
        merge: None,
        json_patch: Vec::new(),
        on_missing: OnMissing::Fail,
    }
}

#[tokio::test]
async fn a_bundle_for_this_machine() {
    let mut case = Case::new(&[
        ("b.yml", CELL),
        (
            "a.yaml",
            "apiVersion: v1beta1\nkind: Space\nmetadata: {name: default}\n",
        ),
        ("notes.txt", "x"),
        ("sub/c.yaml", "{"),
    ]);
    case.patches = vec![patch(
        "Cell",
        "web",
        ".spec.containers[0].image",
        "nginx:1.27".into(),
    )];
    case.edits = vec![patch(
        "Cell",
        "web",
        ".spec.containers[id=a].image",
        "nginx:1.28".into(),
    )];
    let rendered = case.run().await.unwrap();
    let wanted = "\
---
apiVersion: v1beta1
kind: Space
metadata:
  name: default
spec:
  realmId: prod
---
apiVersion: v1beta1
kind: Cell
metadata:
  name: web
spec:
  containers:
    - id: a
      image: nginx:1.28
      args:
        - 1.50
  realmId: prod
  spaceId: default
  stackId: default
";
    assert_eq!(rendered.manifest, wanted);
    assert_eq!(
        rendered.files,
        [("a.yaml".to_owned(), 1), ("b.yml".to_owned(), 1)]
    );
    let cell = &rendered.resources[1];
    assert_eq!(
        (&*cell.kind, &*cell.realm, &*cell.stack),
        ("Cell", "prod", "default")
    );
    let (_, text) = wanted.split_at(wanted.rfind("---\n").unwrap() + 4);
    assert_eq!(cell.hash, Digest::sha256(text.as_bytes()).to_string());
    let layer = &rendered.artifact.layer;
    let packed = artifact::unpack(&layer.bytes, &layer.digest).await.unwrap();
    assert_eq!(packed, wanted);
    assert_eq!(case.run().await.unwrap(), rendered);
}

#[tokio::test]
async fn the_hash_covers_inputs_and_nothing_else() {
    let base = || {
        let mut case = Case::new(&[("manifest.yaml", CELL)]);
        case.patches = vec![patch("Cell", "web", "a", 1.into())];
        case
    };
    let hash = base().hash();
    // Whoever has to change this has changed the hash of every Recipe.
    assert_eq!(
        hash,
        "sha256:07be03e1bcc896f053ece6dd6732fb79ddc537ccd2e91945596775d71c6e2c0b"
    );
    let with = |change: fn(&mut Case)| {
        let mut case = base();
        change(&mut case);
        case.hash()
    };
    let same: [fn(&mut Case); 6] = [
        |c| c.recipe = name("other"),
        |c| c.target.deletion_policy = crate::model::delivery::DeletionPolicy::Orphan,
        |c| c.target.kuke.prune = false,
        |c| c.target.argocd.project = "x".into(),
        |c| c.allow_empty = true,
        |c| c.sub_path = "./".into(),
    ];
    for (i, change) in same.into_iter().enumerate() {
        assert_eq!(with(change), hash, "{i}");
    }
    let other: [fn(&mut Case); 9] = [
        |c| c.namespace = name("other"),
        |c| c.target.kuke.space = Some(name("other")),
        |c| c.target.kind = TargetType::ArgoCd,
        |c| c.kind = SourceKind::Oci,
        |c| c.sub_path = "x".into(),
        |c| c.content.digest = "sha256:1".into(),
        |c| c.patches.push(patch("Cell", "web", "b", 2.into())),
        |c| std::mem::swap(&mut c.patches, &mut c.edits),
        // Order and spelling decide bytes.
        |c| c.patches[0].set[0].1 = Value::from_json("1.0").unwrap(),
    ];
    let mut seen = vec![hash.clone()];
    for change in other {
        let found = with(change);
        assert!(!seen.contains(&found), "{}", seen.len());
        seen.push(found);
    }
    // A Pantry is another name of the same repository.
    let oci = with(|c| c.kind = SourceKind::Oci);
    assert_eq!(with(|c| c.kind = SourceKind::Pantry), oci);
}

#[tokio::test]
async fn a_recipe_moves_to_a_cluster_by_its_target() {
    let service = "\
apiVersion: v1beta1
kind: Space
metadata: {name: default}
---
apiVersion: v1beta1
kind: Cell
metadata: {name: web}
spec:
  containers:
    - {id: a, image: nginx, restartPolicy: always, ports: ['80']}
";
    let mut case = Case::argocd(&[("manifest.yaml", service)]);
    case.render.kubernetes = true;
    // A patch is for the cell, on both targets.
    case.patches = vec![patch(
        "Cell",
        "web",
        "spec.containers[id=a].image",
        "caddy".into(),
    )];
    let kinds = |rendered: &Rendered| -> Vec<String> {
        let kinds = rendered.resources.iter().map(|r| r.kind.clone());
        kinds.collect()
    };
    let rendered = case.run().await.unwrap();
    assert_eq!(kinds(&rendered), ["NetworkPolicy", "Service", "Deployment"]);
    let manifest = &rendered.manifest;
    assert!(manifest.contains("image: caddy"), "{manifest}");
    assert!(!manifest.contains("v1beta1\nkind: Cell"), "{manifest}");
    let packed = &rendered.artifact.layer;
    let packed = artifact::unpack(&packed.bytes, &packed.digest)
        .await
        .unwrap();
    assert_eq!(&packed, manifest);
    assert_eq!(case.run().await.unwrap(), rendered);
    case.target.kind = TargetType::Kuke;
    let local = case.run().await.unwrap();
    assert_eq!(kinds(&local), ["Space", "Cell"]);
    assert!(
        local.manifest.contains("image: caddy"),
        "{}",
        local.manifest
    );
}

#[tokio::test]
async fn what_a_cluster_has_not_is_told() {
    let host = "\
apiVersion: v1beta1
kind: Cell
metadata: {name: web}
spec:
  containers:
    - {id: a, image: nginx, hostCgroup: true}
";
    let mut case = Case::argocd(&[("manifest.yaml", host)]);
    case.render.kubernetes = true;
    let failure = case.refused().await;
    assert_eq!(failure.reason, Reason::ManifestInvalid);
    assert!(failure.message.contains("hostCgroup"), "{failure}");
}

#[tokio::test]
async fn the_hash_covers_the_conversion() {
    let mut case = Case::argocd(&[("manifest.yaml", CELL)]);
    let without = case.hash();
    case.render.kubernetes = true;
    assert_ne!(case.hash(), without);
    // Changes with the contract of the conversion, as output that it gave may.
    assert_eq!(
        case.hash(),
        "sha256:b4ed01de3321281d1200df1f532263334d2f740cbd2a9f0acb0746894af99275"
    );
}

#[tokio::test]
async fn documents_that_are_refused() {
    let cases = [
        (
            "kind: ConfigMap\nmetadata: {name: a}\n",
            "apiVersion is required",
        ),
        ("apiVersion: v1\nmetadata: {name: a}\n", "kind is required"),
        (
            "apiVersion: v1\nkind: ConfigMap\n",
            "metadata.name is required",
        ),
        (
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: 1}\n",
            "must be text",
        ),
        (
            "apiVersion: v1\nkind: Job\nmetadata: {generateName: a-}\n",
            "generateName",
        ),
        (
            "apiVersion: a/v1\nkind: X\nmetadata: {name: a}\n---\napiVersion: a/v2\nkind: X\nmetadata: {name: a}\n",
            "document 2 (X \"a\") at manifest.yaml:5: it is there twice; the first is document 1 (X \"a\") at manifest.yaml:1",
        ),
        ("# nothing\n", "no documents"),
        ("a: [\n", "document 1 at manifest.yaml:"),
        (
            "apiVersion: v1\nkind: X\nmetadata: {name: a, name: b}\n",
            "manifest.yaml:3:21",
        ),
    ];
    for (text, part) in cases {
        let failure = Case::argocd(&[("manifest.yaml", text)]).refused().await;
        assert_eq!(failure.reason, Reason::ManifestInvalid, "{text:?}");
        assert!(failure.message.contains(part), "{text:?}: {failure}");
    }
    let mut empty = Case::argocd(&[("manifest.yaml", "---\n")]);
    empty.allow_empty = true;
    assert_eq!(empty.run().await.unwrap().manifest, "");
}

#[tokio::test]
async fn what_this_machine_does_not_take() {
    let cases = [
        (
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n",
            "argocd",
        ),
        (
            "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ndata: {a: eA==}\n",
            "refer to it by name",
        ),
        (
            "apiVersion: v1beta1\nkind: Cell\nmetadata: {name: a}\nspec: {realmId: other, containers: [{id: a, image: b}]}\n",
            "realm",
        ),
        (
            "apiVersion: v1beta1\nkind: Realm\nmetadata: {name: other}\n",
            "realm",
        ),
        (
            "apiVersion: v1beta1\nkind: Cell\nmetadata: {name: a}\nspec: {containers: [{id: a, imagee: b}]}\n",
            "",
        ),
        (
            "apiVersion: v1beta1\nkind: Cell\nmetadata: {name: A}\nspec: {containers: [{id: a, image: b}]}\n",
            "",
        ),
        (
            "apiVersion: v1beta1\nkind: Cell\nmetadata: {name: a}\nspec: {containers: [{id: a, image: b, args: [0644]}]}\n",
            "",
        ),
        (
            "apiVersion: delivery.kokumi.dev/v1alpha1\nkind: Menu\nmetadata: {name: a}\n",
            "argocd",
        ),
    ];
    for (text, hint) in cases {
        let failure = Case::new(&[("manifest.yaml", text)]).refused().await;
        assert_eq!(failure.reason, Reason::ManifestInvalid, "{text:?}");
        assert!(
            failure.hint.contains(hint),
            "{text:?}: {failure} {}",
            failure.hint
        );
        assert!(
            failure.message.contains("document 1"),
            "{text:?}: {failure}"
        );
    }
}

#[tokio::test]
async fn sources_of_another_kind() {
    let cases: [&[(&str, &str)]; 4] = [
        &[("Chart.yaml", "name: x\n")],
        &[("kustomization.yaml", "resources: []\n")],
        &[("a/b.yaml", "x"), ("c.txt", "y")],
        &[],
    ];
    for files in cases {
        let failure = Case::new(files).refused().await;
        assert_eq!(failure.reason, Reason::SourceKindMismatch, "{files:?}");
    }
    let mut case = Case::new(&[("app/x.txt", CELL)]);
    case.sub_path = "app".into();
    assert!(case.run().await.is_ok());
    case.sub_path = "none".into();
    assert_eq!(case.refused().await.reason, Reason::SourceNotFound);
    case.sub_path = "../x".into();
    assert_eq!(case.refused().await.reason, Reason::SourceInvalid);
    let case = Case::new(&[("manifest.yaml", CELL)]);
    let mut inputs = case.inputs();
    inputs.source_digest = "sha256:0";
    let plan = Plan::of(&inputs).unwrap();
    let failure = run(&inputs, &plan, &case.content).await.unwrap_err();
    assert_eq!(failure.reason, Reason::SourceDigestMismatch);
}

#[tokio::test]
async fn patches_see_the_scope_that_is_filled_in() {
    let mut case = Case::new(&[("manifest.yaml", CELL)]);
    let mut change = patch("Cell", "web", "spec.realmId", "other".into());
    change.target.realm = Some("prod".into());
    case.patches = vec![change];
    assert!(case.refused().await.message.contains("realm \"other\""));
    case.patches[0].target.realm = Some("x".into());
    assert_eq!(case.refused().await.reason, Reason::PatchTargetMissing);
}

#[test]
fn differences_are_listed_by_path() {
    let read = |text: &str| canonical::read("f", text.as_bytes(), Octal::Read).unwrap();
    let one = read("kind: A\nmetadata: {name: a}\nx: {y: [1, 2]}\n");
    let other = read("kind: A\nmetadata: {name: a}\nx: {y: [1, 3], z: 4}\n");
    let failure = same(&one, &other).unwrap_err();
    assert_eq!(failure.reason, Reason::NondeterministicRender);
    assert!(
        failure.message.ends_with("A \"a\".x.y[1], A \"a\".x.z"),
        "{failure}"
    );
    let order = read("metadata: {name: a}\nkind: A\nx: {y: [1, 2]}\n");
    assert!(
        same(&one, &order)
            .unwrap_err()
            .message
            .contains("order of keys")
    );
    assert!(same(&one, &one[..0]).is_err());
    assert_eq!(same(&one, &one), Ok(()));
}

#[test]
fn chart_options_have_their_defaults() {
    let of = |render: &HelmRender| helm::Options::of(render, &name("web"), &name("prod"));
    let hashed = of(&HelmRender::default()).unwrap().hashed().to_json();
    assert_eq!(
        hashed,
        r#"{"releaseName":"web","namespace":"prod","includeCRDs":false,"values":"null","kubeVersion":"v1.31.0","apiVersions":[]}"#
    );
    for release in ["-x", "", &"x".repeat(54)] {
        let render = HelmRender {
            release_name: Some(release.to_owned()),
            ..HelmRender::default()
        };
        assert!(of(&render).is_err(), "{release:?}");
    }
}
