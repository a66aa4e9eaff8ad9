//! Files that are part of the program.

use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};

fn file(kind: &'static str, text: &'static str) -> Response {
    // Small, and new with each version of the program.
    ([(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-cache")], text).into_response()
}

pub async fn style() -> Response {
    file(
        "text/css; charset=utf-8",
        include_str!("../assets/style.css"),
    )
}

pub async fn script() -> Response {
    file(
        "text/javascript; charset=utf-8",
        include_str!("../assets/app.js"),
    )
}

pub async fn icon() -> Response {
    file("image/svg+xml", include_str!("../assets/icon.svg"))
}
