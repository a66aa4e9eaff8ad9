//! What handlers share, the routes, and the head of every answer.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::map_response;
use axum::response::Response;
use http::HeaderValue;
use http::header::{
    CONTENT_SECURITY_POLICY, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use super::events::Hub;
use super::session::Sessions;
use super::token::Tokens;
use super::{api, pages};
use crate::auth::password::Checker;
use crate::auth::throttle::Failures;
use crate::auth::{Error, Result};
use crate::client::Kukeon;
use crate::sys::beneath::Root;

/// Largest request: a manifest of 4 MiB and its frame.
const BODY: usize = 5 << 20;
/// Nothing but our own files, nothing inline, nobody's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; \
     frame-ancestors 'none'";

/// Where a connection comes from.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

/// What handlers share.
#[derive(Clone)]
pub struct App {
    inner: Arc<Inner>,
}

struct Inner {
    kukeon: Arc<dyn Kukeon>,
    dir: PathBuf,
    tls: bool,
    port: u16,
    /// Ends event streams.
    stop: CancellationToken,
    keys: OnceCell<Keys>,
    hub: Hub,
}

/// What it takes to tell who asks; opened when somebody does.
pub struct Keys {
    pub checker: Checker,
    pub failures: Failures,
    pub sessions: Sessions,
    pub tokens: Tokens,
}

impl App {
    /// Pages of a capability. `dir` holds accounts and sessions; nothing of it is
    /// read before somebody asks.
    pub fn new(
        kukeon: Arc<dyn Kukeon>,
        dir: PathBuf,
        tls: bool,
        port: u16,
        stop: CancellationToken,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                hub: Hub::new(kukeon.clone()),
                kukeon,
                dir,
                tls,
                port,
                stop,
                keys: OnceCell::new(),
            }),
        }
    }

    /// The capability.
    pub fn kukeon(&self) -> &Arc<dyn Kukeon> {
        &self.inner.kukeon
    }

    /// The event stream that all browsers share.
    pub fn hub(&self) -> &Hub {
        &self.inner.hub
    }

    /// Ends event streams.
    pub fn stop(&self) -> CancellationToken {
        self.inner.stop.clone()
    }

    /// Whether browsers speak TLS.
    pub fn is_tls(&self) -> bool {
        self.inner.tls
    }

    /// Name of a cookie. Cookies know no ports: two instances on one machine must
    /// not log each other out.
    pub fn cookie(&self, what: &str) -> String {
        format!("kukeon.{what}.{}", self.inner.port)
    }

    /// What it takes to tell who asks.
    pub async fn keys(&self) -> Result<&Keys> {
        let dir = self.inner.dir.clone();
        let open = move || -> Result<Keys> {
            let root = Root::open(&dir)?;
            Ok(Keys {
                checker: Checker::new()?,
                failures: Failures::default(),
                tokens: Tokens::open(&root)?,
                sessions: Sessions::open(root)?,
            })
        };
        let made = self.inner.keys.get_or_try_init(|| async {
            let opened = tokio::task::spawn_blocking(open).await;
            opened.map_err(|e| Error::setup("the accounts")(e.to_string()))?
        });
        made.await
    }

    /// Everything that is served.
    pub fn router(&self) -> Router {
        let tls = self.is_tls();
        Router::new()
            .merge(pages::routes())
            .merge(api::routes())
            .layer(DefaultBodyLimit::max(BODY))
            .layer(map_response(move |answer: Response| {
                std::future::ready(guarded(answer, tls))
            }))
            .with_state(self.clone())
    }
}

fn guarded(mut answer: Response, tls: bool) -> Response {
    let head = answer.headers_mut();
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "same-origin"),
    ] {
        head.insert(name, HeaderValue::from_static(value));
    }
    if tls {
        let year = HeaderValue::from_static("max-age=31536000");
        head.insert(STRICT_TRANSPORT_SECURITY, year);
    }
    answer
}
