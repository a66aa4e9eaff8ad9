//! Who asks: a program with `Authorization: Bearer`, or a browser with a cookie.
//! Browsers send cookies wherever a request comes from, so what changes
//! something has to come from our own pages.

use std::time::Duration;

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use http::header::{AUTHORIZATION, COOKIE, HOST, ORIGIN};
use http::request::Parts;
use http::{HeaderMap, Method};

use super::answer::Refusal;
use super::app::App;
use super::token::now;
use crate::auth::people::{self, Role};

/// Somebody who is logged in.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Account.
    pub name: String,
    /// What it may do, now.
    pub role: Role,
    /// Session.
    pub sid: String,
    /// When the token ends, in seconds since 1970.
    pub until: u64,
}

impl Caller {
    /// As it stands in histories; no user of the machine has such a name.
    pub fn actor(&self) -> String {
        format!("web:{}", self.name)
    }

    /// How long the token is good.
    pub fn left(&self) -> Duration {
        Duration::from_secs(self.until.saturating_sub(now()))
    }

    /// Refuses whoever may less.
    pub fn needs(&self, role: Role) -> Result<(), Refusal> {
        if self.role >= role {
            return Ok(());
        }
        let message = format!(
            "account {} is {}; {role} is needed for this",
            self.name, self.role
        );
        Err(Refusal::forbidden("RoleTooLow", message))
    }

    /// Whether it may what needs a role; for pages, which show less then.
    pub fn may(&self, role: Role) -> bool {
        self.role >= role
    }
}

impl FromRequestParts<App> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        let headers = &parts.headers;
        let cookie = cookie(headers, &app.cookie("session"));
        let token = match (bearer(headers), cookie) {
            (Some(token), _) => token,
            (None, Some(token)) => {
                if !is_safe(&parts.method) {
                    from_our_pages(headers)?;
                }
                token
            }
            (None, None) => return Err(Refusal::unauthorized("log in first")),
        };
        let keys = app.keys().await?;
        let gone = || Refusal::unauthorized("the session is over; log in again");
        let claims = keys.tokens.check(&token).ok_or_else(gone)?;
        let person = people::find(keys.sessions.root(), &claims.sub)?.ok_or_else(gone)?;
        if !keys.sessions.is_live(&claims.sid, &person) {
            return Err(gone());
        }
        Ok(Self {
            name: person.name,
            role: person.role,
            sid: claims.sid,
            until: claims.exp,
        })
    }
}

impl OptionalFromRequestParts<App> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Option<Self>, Refusal> {
        match <Self as FromRequestParts<App>>::from_request_parts(parts, app).await {
            Ok(caller) => Ok(Some(caller)),
            Err(refused) if refused.status.is_server_error() => Err(refused),
            Err(_) => Ok(None),
        }
    }
}

fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = text.split_once(' ')?;
    let is_bearer = scheme.eq_ignore_ascii_case("bearer");
    is_bearer.then(|| token.trim().to_owned())
}

/// Value of a cookie.
pub fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let all = headers.get_all(COOKIE).iter();
    let pairs = all
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(';'));
    let mut found = pairs.filter_map(|pair| pair.trim().split_once('='));
    found
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value.to_owned())
}

/// Refuses a request that another site made a browser send, or that does not
/// say where it comes from, as browsers always do.
pub fn from_our_pages(headers: &HeaderMap) -> Result<(), Refusal> {
    match from(headers) {
        From::Here => Ok(()),
        From::Elsewhere | From::Unsaid => Err(Refusal::forbidden(
            "CrossSite",
            "requests with a cookie have to come from these pages; programs use Authorization: Bearer",
        )),
    }
}

/// The same where there is no cookie: programs need not say anything.
pub fn not_from_elsewhere(headers: &HeaderMap) -> Result<(), Refusal> {
    match from(headers) {
        From::Unsaid => Ok(()),
        _ => from_our_pages(headers),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum From {
    Here,
    Elsewhere,
    Unsaid,
}

fn from(headers: &HeaderMap) -> From {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    let site = text("sec-fetch-site");
    let origin = text(ORIGIN.as_str());
    let host = text(HOST.as_str());
    let same = |origin: &str| {
        let rest = origin.strip_prefix("http://");
        let rest = rest.or_else(|| origin.strip_prefix("https://"));
        rest.is_some() && rest == host
    };
    match (site, origin) {
        // `same-site` is another port or name of this site.
        (Some(site), _) if site != "same-origin" => From::Elsewhere,
        (_, Some(origin)) if !same(origin) => From::Elsewhere,
        (None, None) => From::Unsaid,
        _ => From::Here,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    #[test]
    fn only_our_own_pages_change_something_with_a_cookie() {
        let host = ("host", "127.0.0.1:5080");
        for (said, wanted) in [
            (vec![], From::Unsaid),
            (vec![("origin", "http://127.0.0.1:5080")], From::Here),
            (vec![("sec-fetch-site", "same-origin")], From::Here),
            (vec![("origin", "http://127.0.0.1:5081")], From::Elsewhere),
            (vec![("origin", "http://evil.example")], From::Elsewhere),
            (vec![("origin", "null")], From::Elsewhere),
            (vec![("sec-fetch-site", "cross-site")], From::Elsewhere),
            (vec![("sec-fetch-site", "same-site")], From::Elsewhere),
            (vec![("sec-fetch-site", "none")], From::Elsewhere),
            (
                vec![
                    ("sec-fetch-site", "same-origin"),
                    ("origin", "http://evil.example"),
                ],
                From::Elsewhere,
            ),
        ] {
            let all: Vec<_> = said.iter().copied().chain([host]).collect();
            assert_eq!(from(&headers(&all)), wanted, "{said:?}");
        }
        assert!(from_our_pages(&headers(&[host])).is_err());
        assert!(not_from_elsewhere(&headers(&[host])).is_ok());
    }

    #[test]
    fn cookies_are_found_by_their_whole_name() {
        let found = headers(&[("cookie", "xa=1; a=2"), ("cookie", "b=3=4")]);
        assert_eq!(cookie(&found, "a").as_deref(), Some("2"));
        assert_eq!(cookie(&found, "b").as_deref(), Some("3=4"));
        assert_eq!(cookie(&found, "x"), None);
    }
}
