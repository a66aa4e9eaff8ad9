//! The pages. They are made here, whole, of what the capability says; the one
//! script asks the REST interface to do things and has pages made again.

mod assets;
mod frame;
mod look;
mod menus;
mod recipes;
mod registry;
mod settings;
mod view;

use axum::Router;
use axum::routing::get;

use super::app::App;

/// All routes.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/", get(look::dashboard))
        .route("/login", get(look::login))
        .route("/assets/style.css", get(assets::style))
        .route("/assets/app.js", get(assets::script))
        .route("/assets/icon.svg", get(assets::icon))
        .route("/recipes", get(recipes::list))
        .route("/recipes/new", get(recipes::new))
        .route("/recipes/{ns}/{name}", get(recipes::one))
        .route("/recipes/{ns}/{name}/edit", get(recipes::edit))
        .route("/recipes/{ns}/{name}/diff", get(recipes::diff))
        .route("/preparations", get(look::preparations))
        .route("/preparations/{ns}/{name}", get(look::preparation))
        .route("/servings", get(look::servings))
        .route("/menus", get(menus::list))
        .route("/menus/new", get(menus::new))
        .route("/menus/{ns}/{name}", get(menus::one))
        .route("/menus/{ns}/{name}/edit", get(menus::edit))
        .route("/registry", get(registry::page_of))
        .route("/pantries", get(registry::pantries))
        .route("/pantries/new", get(registry::new_pantry))
        .route("/pantries/{ns}/{name}/edit", get(registry::edit_pantry))
        .route("/settings", get(settings::kitchen_page))
        .fallback(look::nothing)
}
