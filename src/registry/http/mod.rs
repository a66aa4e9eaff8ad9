//! The distribution API v1.1 over HTTP. Ids in the comments are those of the
//! distribution spec's table of endpoints.

mod answer;
mod blobs;
mod body;
mod login;
mod manifests;
mod range;
mod route;
mod uploads;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Extension, Request, State};
use axum::response::Response;
use http::{Method, StatusCode};

use super::auth::{Action, Auth, Identity, Peer, Refusal};
use super::sendfile::Files;
use super::{Config, Repository, Result, Storage};
use answer::{Answer, Code, Failure, plain};
use route::{Route, Target};

/// What a request is answered from.
#[derive(Clone)]
pub struct App {
    inner: Arc<Inner>,
}

struct Inner {
    storage: Storage,
    auth: Auth,
}

/// What a connection knows of itself; an extension of its requests.
#[derive(Clone)]
pub struct Connection {
    /// Who is at the other end.
    pub peer: Peer,
    /// Whether it is encrypted.
    pub tls: bool,
    /// Where it takes files from; none when it cannot send them as they are.
    pub(super) files: Option<Files>,
}

impl App {
    /// The registry of a store.
    ///
    /// # Errors
    /// Accounts and keys that cannot be used.
    pub fn new(storage: Storage, config: &Config) -> Result<Self> {
        let auth = Auth::open(&storage, config)?;
        Ok(Self {
            inner: Arc::new(Inner { storage, auth }),
        })
    }

    /// The service; requests need a [`Connection`] extension.
    pub fn router(self) -> Router {
        // Names of repositories have slashes, which patterns of routes cannot
        // have in the middle: the path is read by hand.
        Router::new().fallback(handle).with_state(self)
    }

    fn storage(&self) -> &Storage {
        &self.inner.storage
    }

    fn auth(&self) -> &Auth {
        &self.inner.auth
    }
}

/// A request on its way: who asks, and where.
struct Call<'a> {
    app: &'a App,
    who: Identity,
    repository: Repository,
    files: Option<Files>,
}

impl Call<'_> {
    /// Refuses what the asker may not do.
    fn may(&self, action: Action) -> Result<(), Failure> {
        let allowed = self.app.auth().allow(&self.who, action, &self.repository);
        allowed.map_err(|refusal| {
            Failure::refused(refusal).scope(format!(
                "repository:{}:{}",
                self.repository,
                wanted(action)
            ))
        })
    }
}

/// Scope that a client needs for an action.
fn wanted(action: Action) -> &'static str {
    match action {
        Action::Pull => "pull",
        Action::Push => "pull,push",
        Action::Delete => "delete",
    }
}

async fn handle(
    State(app): State<App>,
    Extension(connection): Extension<Connection>,
    request: Request,
) -> Response {
    let base = base_url(&request, connection.tls);
    let method = request.method().clone();
    let answered = match dispatch(&app, connection, request).await {
        Ok(response) => response,
        Err(failure) => failure.into_response(&base),
    };
    tracing::debug!(%method, status = answered.status().as_u16(), "registry");
    answered
}

async fn dispatch(app: &App, connection: Connection, request: Request) -> Answer {
    app.auth()
        .admit(connection.peer)
        .map_err(Failure::refused)?;
    let target = route::parse(request.uri().path())?;
    if matches!(target, Target::Token) {
        return login::token(app, connection.peer, request).await;
    }
    let who = app
        .auth()
        .identify(request.headers(), connection.peer)
        .await
        .map_err(Failure::refused)?;
    match target {
        Target::Token => Err(Failure::not_found()),
        Target::Base => match *request.method() {
            Method::GET | Method::HEAD => base_route(&who),
            _ => Err(Failure::method("GET, HEAD")),
        },
        Target::Catalog => match *request.method() {
            Method::GET | Method::HEAD => manifests::catalog(app, &who, request.uri()).await,
            _ => Err(Failure::method("GET, HEAD")),
        },
        Target::In(repository, route) => {
            let call = Call {
                app,
                who,
                repository,
                files: connection.files,
            };
            in_repository(&call, route, request).await
        }
    }
}

async fn in_repository(call: &Call<'_>, route: Route, request: Request) -> Answer {
    let method = request.method().clone();
    match (route, method) {
        (Route::Blob(digest), Method::GET | Method::HEAD) => {
            blobs::get(call, &digest, request.method(), request.headers()).await
        }
        (Route::Blob(digest), Method::DELETE) => blobs::delete(call, &digest).await,
        (Route::Blob(_), _) => Err(Failure::method("GET, HEAD, DELETE")),
        (Route::Uploads, Method::POST) => uploads::begin(call, request).await,
        (Route::Uploads, _) => Err(Failure::method("POST")),
        (Route::Upload(id), Method::GET | Method::HEAD) => uploads::progress_of(call, &id).await,
        (Route::Upload(id), Method::PATCH) => uploads::patch(call, &id, request).await,
        (Route::Upload(id), Method::PUT) => uploads::put(call, &id, request).await,
        (Route::Upload(id), Method::DELETE) => uploads::cancel(call, &id).await,
        (Route::Upload(_), _) => Err(Failure::method("GET, HEAD, PATCH, PUT, DELETE")),
        (Route::Manifest(reference), Method::GET | Method::HEAD) => {
            manifests::get(call, &reference, request.headers()).await
        }
        (Route::Manifest(reference), Method::PUT) => {
            manifests::put(call, &reference, request).await
        }
        (Route::Manifest(reference), Method::DELETE) => manifests::delete(call, &reference).await,
        (Route::Manifest(_), _) => Err(Failure::method("GET, HEAD, PUT, DELETE")),
        (Route::Tags, Method::GET | Method::HEAD) => manifests::tags(call, request.uri()).await,
        (Route::Tags, _) => Err(Failure::method("GET, HEAD")),
        (Route::Referrers(subject), Method::GET | Method::HEAD) => {
            manifests::referrers(call, &subject, request.uri()).await
        }
        (Route::Referrers(_), _) => Err(Failure::method("GET, HEAD")),
    }
}

/// end-1: whether this is a registry, and how to log in.
fn base_route(who: &Identity) -> Answer {
    // Also where everybody may pull: clients learn here where to log in.
    if *who == Identity::Anonymous {
        let refusal = Refusal::Unauthorized("credentials are needed");
        return Err(Failure::refused(refusal));
    }
    Ok(plain(StatusCode::OK, "{}"))
}

/// How the client calls this registry.
fn base_url(request: &Request, tls: bool) -> String {
    let scheme = if tls { "https" } else { "http" };
    let header = request.headers().get(http::header::HOST);
    let host = header.and_then(|h| h.to_str().ok()).filter(|host| {
        // It is put into headers within quotes.
        !host.is_empty()
            && host
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b".:-[]_".contains(&b))
    });
    format!("{scheme}://{}", host.unwrap_or("localhost"))
}

/// Runs what blocks on the disk where that disturbs nobody.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(Failure::from),
        Err(_) => Err(Failure::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            Code::Unsupported,
            "the registry failed inside this request",
        )),
    }
}
