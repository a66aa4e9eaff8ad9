//! REST: `/api/v1`, and the probes.

mod auth;
mod look;
mod menus;
mod pantries;
mod recipes;
mod registry;
mod settings;

use axum::Router;
use axum::routing::get;

use super::answer::Refusal;
use super::app::App;
use super::events;

pub use recipes::Compared;
pub use settings::kitchen;

/// All routes.
pub fn routes() -> Router<App> {
    let api = Router::new()
        .merge(auth::routes())
        .merge(look::routes())
        .nest("/orders", recipes::routes())
        .nest("/recipes", recipes::routes())
        .merge(menus::routes())
        .merge(pantries::routes())
        .merge(registry::routes())
        .merge(settings::routes())
        .route("/events", get(events::stream))
        .fallback(async || {
            Refusal::new(
                http::StatusCode::NOT_FOUND,
                "NoSuchAddress",
                "there is nothing here",
            )
        });
    Router::new()
        .route("/healthz", get(look::healthy))
        .route("/readyz", get(look::ready))
        .nest("/api/v1", api)
}
