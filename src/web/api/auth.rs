//! Logging in, staying so, logging out.

use axum::extract::{Extension, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::json;

use crate::auth::people::{self, Person};
use crate::web::answer::{Answer, Refusal, json_ok, json_with};
use crate::web::app::{App, Peer};
use crate::web::caller::{Caller, cookie, from_our_pages, not_from_elsewhere};
use crate::web::session::{self, Refreshed};
use crate::web::token;

/// Only there the refresh token is sent.
const PATH: &str = "/api/v1/auth";

pub fn routes() -> Router<App> {
    Router::new()
        .route("/info", get(info))
        .route("/auth/login", post(login))
        .route("/auth/refresh", post(refresh))
        .route("/auth/logout", post(logout))
        .route("/auth/me", get(me))
}

#[derive(Deserialize)]
struct Login {
    username: String,
    password: String,
}

async fn info() -> Answer {
    Ok(json_ok(&json!({
        "name": "kukeon",
        "version": env!("CARGO_PKG_VERSION"),
        "authEnabled": true,
    })))
}

async fn me(caller: Caller) -> Answer {
    Ok(json_ok(
        &json!({ "username": caller.name, "role": caller.role }),
    ))
}

async fn login(
    State(app): State<App>,
    Extension(Peer(ip)): Extension<Peer>,
    headers: HeaderMap,
    Json(given): Json<Login>,
) -> Answer {
    not_from_elsewhere(&headers)?;
    let keys = app.keys().await?;
    let name = given.username.as_str();
    if let Err(wait) = keys.failures.check(Some(ip), name) {
        let seconds = wait.as_secs() + 1;
        let message = format!("too many wrong passwords; try again in {seconds} s");
        let mut refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, "TooManyFailures", message);
        refusal.after = Some(seconds);
        return Err(refusal);
    }
    let person = people::find(keys.sessions.root(), name)?;
    let hash = person.as_ref().map(|p| p.hash.as_str());
    let right = keys.checker.check(name, &given.password, hash).await?;
    let Some(person) = person.filter(|_| right) else {
        keys.failures.count(Some(ip), name);
        let name: String = name.chars().take(64).collect();
        tracing::warn!(%ip, name = name.escape_debug().to_string(), "login to the pages failed");
        return Err(Refusal::new(
            StatusCode::UNAUTHORIZED,
            "LoginFailed",
            "wrong name or password",
        ));
    };
    keys.failures.forget(Some(ip), name);
    tracing::info!(%ip, name, "logged in to the pages");
    let (sid, refresh) = keys.sessions.begin(&person)?;
    given_to(&app, &sid, &person, &refresh).await
}

async fn refresh(State(app): State<App>, headers: HeaderMap) -> Answer {
    from_our_pages(&headers)?;
    let keys = app.keys().await?;
    let gone = || Refusal::unauthorized("the session is over; log in again");
    let given = cookie(&headers, &app.cookie("refresh")).ok_or_else(gone)?;
    match keys.sessions.refresh(&given)? {
        Refreshed::Again {
            sid,
            account,
            token,
        } => {
            let person = people::find(keys.sessions.root(), &account)?;
            match person.filter(|p| keys.sessions.is_live(&sid, p)) {
                Some(person) => given_to(&app, &sid, &person, &token).await,
                None => {
                    keys.sessions.end(&sid)?;
                    Err(gone())
                }
            }
        }
        Refreshed::Raced => Err(Refusal::new(
            StatusCode::CONFLICT,
            "RefreshRaced",
            "another tab has just done this",
        )),
        Refreshed::Refused => Err(gone()),
    }
}

async fn logout(State(app): State<App>, caller: Option<Caller>, headers: HeaderMap) -> Answer {
    from_our_pages(&headers)?;
    let keys = app.keys().await?;
    let refresh = cookie(&headers, &app.cookie("refresh"));
    let own = caller.map(|c| c.sid);
    // A refresh token counts only when it is right: its use tells.
    let by_token = match (own.is_none(), refresh) {
        (true, Some(token)) => match keys.sessions.refresh(&token)? {
            Refreshed::Again { sid, .. } => Some(sid),
            _ => None,
        },
        _ => None,
    };
    if let Some(sid) = own.or(by_token) {
        keys.sessions.end(&sid)?;
    }
    let mut answer = json_with(StatusCode::OK, &json!({}));
    for (what, path) in [("session", "/"), ("refresh", PATH)] {
        set_cookie(&app, &mut answer, what, "", path, 0);
    }
    Ok(answer)
}

async fn given_to(app: &App, sid: &str, person: &Person, refresh: &str) -> Answer {
    let access = app.keys().await?.tokens.issue(sid, &person.name)?;
    let mut answer = json_ok(&json!({
        "accessToken": access,
        "expiresIn": token::LIFE.as_secs(),
        "username": person.name,
        "role": person.role,
    }));
    let (short, long) = (token::LIFE.as_secs(), session::LIFE.as_secs());
    set_cookie(app, &mut answer, "session", &access, "/", short);
    set_cookie(app, &mut answer, "refresh", refresh, PATH, long);
    Ok(answer)
}

fn set_cookie(
    app: &App,
    answer: &mut axum::response::Response,
    what: &str,
    value: &str,
    path: &str,
    seconds: u64,
) {
    let name = app.cookie(what);
    let secure = match app.is_tls() {
        true => "; Secure",
        false => "",
    };
    let text = format!(
        "{name}={value}; Path={path}; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"
    );
    // Tokens are of letters, digits and punctuation that headers can carry.
    if let Ok(value) = HeaderValue::from_str(&text) {
        answer.headers_mut().append(SET_COOKIE, value);
    }
}
