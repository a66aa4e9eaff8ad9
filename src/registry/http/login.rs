//! `/v2/token`: name and password for a token (the distribution project's token
//! protocol; POST is its OAuth 2 form).

use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::Request;
use http::header::{CACHE_CONTROL, HeaderValue, WWW_AUTHENTICATE};
use http::{Method, StatusCode};
use serde_json::json;

use super::answer::{Answer, Code, Failure, plain};
use super::uploads::pairs;
use super::{App, body};
use crate::registry::auth::{Identity, Peer, Refusal, Scope, TOKEN_LIFE};

/// Longest form.
const FORM_LIMIT: u64 = 16 << 10;

pub(super) async fn token(app: &App, peer: Peer, request: Request) -> Answer {
    let auth = app.auth();
    let (who, asked) = match *request.method() {
        Method::GET => {
            let who = auth
                .identify(request.headers(), peer)
                .await
                .map_err(basic)?;
            let asked = request.uri().query().unwrap_or("").to_owned();
            (who, asked)
        }
        Method::POST => {
            let form = body::whole(request.into_body(), FORM_LIMIT).await?;
            let form = form.and_then(|bytes| String::from_utf8(bytes).ok());
            let form = form.ok_or_else(|| bad("the form cannot be read"))?;
            let field = |name: &str| {
                pairs(&form)
                    .find(|(n, _)| n == name)
                    .map(|(_, value)| value)
            };
            if field("grant_type").as_deref() != Some("password") {
                return Err(bad("only grant_type=password is offered"));
            }
            let (name, password) = (field("username"), field("password"));
            let (Some(name), Some(password)) = (name, password) else {
                return Err(bad("username and password are needed"));
            };
            let account = auth.log_in(&name, &password, peer).await.map_err(basic)?;
            (Identity::Account(account), form)
        }
        _ => return Err(Failure::method("GET, POST")),
    };
    if matches!(who, Identity::Token { .. }) {
        // A token buys no further one.
        return Err(basic(Refusal::Unauthorized(
            "a name and password are needed",
        )));
    }
    let scopes: Vec<Scope> = pairs(&asked)
        .filter(|(name, _)| name == "scope")
        .flat_map(|(_, value)| {
            let scopes: Vec<Scope> = value.split(' ').filter_map(Scope::parse).collect();
            scopes
        })
        .collect();
    let token = auth.grant(&who, &scopes).map_err(basic)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let answer = json!({
        "token": token,
        "access_token": token,
        "expires_in": TOKEN_LIFE.as_secs(),
        "issued_at": rfc3339(now.map_or(0, |d| d.as_secs())),
    });
    let mut response = plain(StatusCode::OK, answer.to_string());
    let no_store = HeaderValue::from_static("no-store");
    response.headers_mut().insert(CACHE_CONTROL, no_store);
    Ok(response)
}

/// Here it is a name and a password that is asked for.
fn basic(refusal: Refusal) -> Failure {
    Failure::refused(refusal).with(
        WWW_AUTHENTICATE,
        HeaderValue::from_static("Basic realm=\"kukeon registry\""),
    )
}

fn bad(why: &'static str) -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, Code::Unsupported, why)
}

fn rfc3339(seconds: u64) -> String {
    let seconds = i64::try_from(seconds).unwrap_or(0);
    jiff::Timestamp::from_second(seconds)
        .unwrap_or_default()
        .to_string()
}
