//! Recipes while they are rendered.

use super::*;
use crate::model::delivery::ConditionStatus;

fn ready(world: &World) -> Condition {
    let status = world.recipe("web").status;
    status
        .conditions
        .get(ConditionType::Ready)
        .cloned()
        .unwrap()
}

fn phase(world: &World) -> RecipePhase {
    world.recipe("web").status.phase
}

#[tokio::test]
async fn only_a_render_is_told_as_processing() {
    let world = World::new().await;
    world.make_cell("web").await;
    let done = world.recipe("web");
    let since = ready(&world).last_transition;
    // Nothing is to be rendered: nothing is written.
    world.settle(ReleaseKind::Recipe, "web").await;
    assert_eq!(world.recipe("web"), done);

    world.write("web", &cell("web").replace("id: a", "id: b"));
    world.edit("web", |recipe| recipe.spec.allow_empty = true);
    world.settle(ReleaseKind::Recipe, "web").await;
    assert_eq!(phase(&world), RecipePhase::Ready);
    // It was not ready meanwhile.
    assert_ne!(ready(&world).last_transition, since);
}

#[tokio::test]
async fn what_is_suspended_while_it_is_rendered_is_not_processing_for_ever() {
    let world = World::new().await;
    world.make_cell("web").await;
    let recipe = at(ReleaseKind::Recipe, "web");
    world.delivery.say_processing(&world.recipe("web")).unwrap();
    let told = ready(&world);
    assert_eq!(phase(&world), RecipePhase::Processing);
    assert_eq!(
        (told.status, &*told.reason),
        (ConditionStatus::False, "Processing")
    );
    world.edit("web", |recipe| recipe.spec.suspend = true);
    world.delivery.look(&recipe, false).await.unwrap();
    assert_eq!(phase(&world), RecipePhase::Pending);
    let rests = world.recipe("web");
    world.delivery.look(&recipe, false).await.unwrap();
    assert_eq!(world.recipe("web"), rests, "a second look writes nothing");

    world.edit("web", |recipe| recipe.spec.suspend = false);
    world.settle(ReleaseKind::Recipe, "web").await;
    assert_eq!(phase(&world), RecipePhase::Ready);
}

#[tokio::test]
async fn what_failed_to_render_is_tried_again_without_a_word() {
    let world = World::new().await;
    world.make_cell("web").await;
    world.write("web", "kind: Cell\nmetadata: {}\n");
    world.edit("web", |recipe| recipe.spec.allow_empty = true);
    let recipe = at(ReleaseKind::Recipe, "web");
    world.delivery.look(&recipe, false).await.unwrap();
    assert_eq!(phase(&world), RecipePhase::Failed);
    let failed = world.recipe("web");
    world.delivery.look(&recipe, false).await.unwrap();
    assert_eq!(world.recipe("web"), failed, "a second look writes nothing");
}
