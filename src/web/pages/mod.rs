//! The pages.

use axum::Router;

use super::app::App;

pub fn routes() -> Router<App> {
    Router::new()
}
