use super::*;
use crate::api::delivery::v1alpha1 as external;
use crate::api::v1beta1;
use crate::cli::output::Out;

fn meta(name: &str) -> Option<external::Metadata> {
    Some(external::Metadata {
        name: name.into(),
        namespace: "shop".into(),
        ..Default::default()
    })
}

/// The page of an object as text.
fn shown(any: Any, others: Vec<Any>) -> String {
    let object = |any| Object { object: Some(any) };
    let others: Vec<Object> = others.into_iter().map(object).collect();
    let file = tempfile::NamedTempFile::new().expect("file");
    let out = Out::to(Box::new(file.reopen().expect("open")));
    page(&object(any), &others).print(&out).expect("printed");
    out.flush().expect("flushed");
    std::fs::read_to_string(file.path()).expect("text")
}

fn recipe() -> external::Recipe {
    external::Recipe {
        metadata: meta("web"),
        spec: Some(external::RecipeSpec {
            source: Some(external::Source {
                path: "/srv/web".into(),
                ..Default::default()
            }),
            destination: Some(external::Destination {
                pantry_ref: Some(external::Reference {
                    name: "shop".into(),
                }),
                ..Default::default()
            }),
            ..Default::default()
        }),
        status: Some(external::RecipeStatus {
            phase: "Failed".into(),
            conditions: vec![external::Condition {
                r#type: "Ready".into(),
                status: "False".into(),
                reason: "StoreFailed".into(),
                message: "no answer".into(),
                ..Default::default()
            }],
            revisions: vec![external::Revision {
                number: 1,
                preparation: "web-0123456789ab".into(),
                message: "initial".into(),
                ..Default::default()
            }],
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn serving() -> external::Serving {
    external::Serving {
        metadata: meta("web"),
        spec: Some(external::ServingSpec {
            recipe_name: "web".into(),
            preparation_name: "web-0123456789ab".into(),
            ..Default::default()
        }),
        status: Some(external::ServingStatus {
            phase: "Deployed".into(),
            activations: vec![external::Activation {
                number: 1,
                cause: "promote".into(),
                ..Default::default()
            }],
            ..Default::default()
        }),
        ..Default::default()
    }
}

#[test]
fn a_recipe_is_shown_with_its_history_and_its_serving() {
    let text = shown(Any::Recipe(recipe()), vec![Any::Serving(serving())]);
    for part in [
        "Name:",
        "shop",
        "/srv/web",
        "pantry/shop",
        "StoreFailed",
        "no answer",
        "rev-1",
        "active",
        "promote",
        "serving/web  Deployed",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
}

#[test]
fn what_belongs_together_is_found_by_name() {
    let is = |any: Any, kind, name| releases::belongs(&any, kind, name);
    assert!(is(Any::Serving(serving()), Kind::Recipe, "web"));
    assert!(!is(Any::Serving(serving()), Kind::Recipe, "other"));
    assert!(is(
        Any::Serving(serving()),
        Kind::Preparation,
        "web-0123456789ab"
    ));
    assert!(is(
        Any::Recipe(recipe()),
        Kind::Preparation,
        "web-0123456789ab"
    ));
    assert!(is(Any::Recipe(recipe()), Kind::Pantry, "shop"));
    assert!(!is(Any::Recipe(recipe()), Kind::Pantry, "other"));
    let menu = external::Menu {
        spec: Some(external::MenuSpec {
            recipes: vec![external::MenuMember {
                name: "web".into(),
                ..Default::default()
            }],
            ..Default::default()
        }),
        ..Default::default()
    };
    assert!(is(Any::Menu(menu), Kind::Recipe, "web"));
}

#[test]
fn values_of_variables_are_not_shown() {
    let cell = v1beta1::Cell {
        metadata: Some(v1beta1::Metadata {
            name: "web".into(),
            ..Default::default()
        }),
        spec: Some(v1beta1::CellSpec {
            containers: vec![v1beta1::ContainerSpec {
                id: "main".into(),
                image: "busybox".into(),
                env: vec!["TOKEN=s3cret".into()],
                ..Default::default()
            }],
            ..Default::default()
        }),
        ..Default::default()
    };
    let text = shown(Any::Cell(cell), Vec::new());
    assert!(
        text.contains("Container \"main\":") && text.contains("TOKEN"),
        "{text}"
    );
    assert!(!text.contains("s3cret"), "{text}");
}
