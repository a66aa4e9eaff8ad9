//! What all pages have around them, and how they fail.

use askama::Template;
use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Redirect, Response};
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::auth::people::Role;
use crate::web::answer::Refusal;
use crate::web::app::App;
use crate::web::caller::Caller;

/// What stands around a page.
#[derive(Debug, Clone)]
pub struct Frame {
    pub active: &'static str,
    pub name: String,
    pub role: Role,
    /// May write Recipes.
    pub edits: bool,
    /// May decide what is active.
    pub deploys: bool,
    pub admin: bool,
}

impl Frame {
    pub fn links(&self) -> [(&'static str, &'static str); 8] {
        [
            ("Dashboard", "/"),
            ("Recipes", "/recipes"),
            ("Preparations", "/preparations"),
            ("Servings", "/servings"),
            ("Menus", "/menus"),
            ("Registry", "/registry"),
            ("Pantries", "/pantries"),
            ("Settings", "/settings"),
        ]
    }

    pub fn is_active(&self, name: &str) -> bool {
        self.active == name
    }
}

/// Somebody who looks at a page. Who is not logged in is asked to, and comes back.
pub struct Visitor(pub Caller);

impl Visitor {
    pub fn frame(&self, active: &'static str) -> Frame {
        let Self(caller) = self;
        Frame {
            active,
            name: caller.name.clone(),
            role: caller.role,
            edits: caller.may(Role::Editor),
            deploys: caller.may(Role::Deployer),
            admin: caller.may(Role::Admin),
        }
    }
}

impl FromRequestParts<App> for Visitor {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Response> {
        let found = <Caller as FromRequestParts<App>>::from_request_parts(parts, app).await;
        found.map(Self).map_err(|refused| {
            if refused.status.is_server_error() {
                return refused.into_response();
            }
            let here = parts.uri.path_and_query().map_or("/", |at| at.as_str());
            let next = utf8_percent_encode(here, NON_ALPHANUMERIC);
            Redirect::to(&format!("/login?next={next}")).into_response()
        })
    }
}

/// What a page ends with.
pub type Page = Result<Response, Response>;

/// A template, filled in.
pub fn page(template: &impl Template) -> Page {
    page_with(StatusCode::OK, template)
}

pub fn page_with(status: StatusCode, template: &impl Template) -> Page {
    match template.render() {
        Ok(text) => {
            let head = [
                (CONTENT_TYPE, "text/html; charset=utf-8"),
                (CACHE_CONTROL, "no-store"),
            ];
            Ok((status, head, text).into_response())
        }
        Err(error) => {
            tracing::error!(%error, "a page cannot be made");
            Err(StatusCode::INTERNAL_SERVER_ERROR.into_response())
        }
    }
}

#[derive(Template)]
#[template(path = "error.html", config = "src/web/askama.toml")]
struct Failed {
    frame: Frame,
    status: String,
    reason: String,
    message: String,
    hint: String,
}

/// A failure as a page.
pub fn failed(visitor: &Visitor) -> impl Fn(Refusal) -> Response + use<> {
    let frame = visitor.frame("");
    move |refusal| {
        let template = Failed {
            frame: frame.clone(),
            status: refusal.status.to_string(),
            reason: refusal.error.reason,
            message: refusal.error.message,
            hint: refusal.error.hint,
        };
        page_with(refusal.status, &template).unwrap_or_else(|answer| answer)
    }
}
