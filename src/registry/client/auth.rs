//! Logging in to registries: the challenges of RFC 9110 §11 and the token
//! protocol that registries use on top.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use serde::Deserialize;

use super::Location;
use crate::model::RegistryCredential;

/// What a registry wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// A token from elsewhere.
    Bearer {
        /// Where tokens are given.
        realm: String,
        /// Name of the registry there.
        service: Option<String>,
        /// What the token must allow.
        scope: Option<String>,
    },
    /// Name and password.
    Basic,
}

/// Name and password of one login.
#[derive(Clone)]
pub(crate) struct Login {
    username: String,
    password: String,
}

impl Login {
    /// The login for a place: that of its very server, or else the one that
    /// names no server.
    pub(crate) fn find(credentials: &[RegistryCredential], at: &Location) -> Option<Self> {
        let exact = |c: &&RegistryCredential| c.server == at.host || c.server == at.server();
        let found = credentials
            .iter()
            .find(exact)
            .or_else(|| credentials.iter().find(|c| c.server.is_empty()))?;
        Some(Self {
            username: found.username.clone(),
            password: found.password.clone(),
        })
    }

    /// The `Authorization` header of this login.
    pub(crate) fn header(&self) -> HeaderValue {
        let pair = format!("{}:{}", self.username, self.password);
        secret(&format!("Basic {}", STANDARD.encode(pair)))
    }
}

/// The header of a token.
pub(crate) fn bearer(token: &str) -> HeaderValue {
    secret(&format!("Bearer {token}"))
}

fn secret(value: &str) -> HeaderValue {
    // A token with control characters is none; the registry will refuse it.
    let mut value = HeaderValue::from_str(value).unwrap_or_else(|_| HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

/// The token in a token server's answer.
pub(crate) fn token(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
    }

    let answer: Answer = serde_json::from_slice(body).ok()?;
    answer
        .token
        .filter(|t| !t.is_empty())
        .or(answer.access_token)
        .filter(|t| !t.is_empty())
}

/// What an answer challenges for; tokens are preferred.
pub(crate) fn challenge(headers: &HeaderMap) -> Option<Challenge> {
    let all: Vec<(String, HashMap<String, String>)> = headers
        .get_all(WWW_AUTHENTICATE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(parse)
        .collect();
    let bearer = all.iter().find(|(scheme, _)| scheme == "bearer");
    if let Some((_, parameters)) = bearer
        && let Some(realm) = parameters.get("realm")
    {
        return Some(Challenge::Bearer {
            realm: realm.clone(),
            service: parameters.get("service").cloned(),
            scope: parameters.get("scope").cloned(),
        });
    }
    let basic = all.iter().any(|(scheme, _)| scheme == "basic");
    basic.then_some(Challenge::Basic)
}

/// Schemes with their parameters. A word that is not followed by `=` begins a
/// new scheme.
fn parse(text: &str) -> Vec<(String, HashMap<String, String>)> {
    let mut found: Vec<(String, HashMap<String, String>)> = vec![];
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return found;
        }
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        match after.strip_prefix('=') {
            Some(value) => {
                let (value, after) = value_of(value);
                if let Some((_, parameters)) = found.last_mut() {
                    parameters.insert(word.to_ascii_lowercase(), value);
                }
                rest = after;
            }
            None => {
                found.push((word.to_ascii_lowercase(), HashMap::new()));
                rest = after;
            }
        }
    }
}

/// A token, or a string in quotes with escapes.
fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([' ', '\t', ',']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut escaped = false;
    for (at, c) in quoted.char_indices() {
        match c {
            _ if escaped => {
                value.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return (value, &quoted[at + 1..]),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(host: &str) -> Location {
        Location {
            host: host.into(),
            repository: "x".into(),
            shown: "x".into(),
        }
    }

    fn of(values: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, value.parse().unwrap());
        }
        challenge(&headers)
    }

    #[test]
    fn bearer_with_commas_in_its_scope() {
        let wanted = Challenge::Bearer {
            realm: "https://auth.example/token".into(),
            service: Some("a \"b\"".into()),
            scope: Some("repository:x:pull,push".into()),
        };
        let text = r#"Bearer realm="https://auth.example/token",service="a \"b\"",scope="repository:x:pull,push""#;
        assert_eq!(of(&[text]).as_ref(), Some(&wanted));
        assert_eq!(of(&["Basic realm=\"x\"", text]).as_ref(), Some(&wanted));
        assert_eq!(of(&[&format!("Basic realm=x, {text}")]), Some(wanted));
    }

    #[test]
    fn basic_and_unknown_schemes() {
        assert_eq!(
            of(&["basic realm=\"Registry Realm\""]),
            Some(Challenge::Basic)
        );
        assert_eq!(of(&["Negotiate"]), None);
        assert_eq!(of(&["Bearer service=x"]), None);
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn tokens_have_two_names() {
        assert_eq!(token(br#"{"token":"a"}"#).as_deref(), Some("a"));
        assert_eq!(
            token(br#"{"token":"","access_token":"b"}"#).as_deref(),
            Some("b")
        );
        assert_eq!(token(b"{}"), None);
    }

    #[test]
    fn the_exact_server_wins() {
        let entry = |server: &str, username: &str| RegistryCredential {
            server: server.into(),
            username: username.into(),
            password: "p".into(),
        };
        let list = [
            entry("", "any"),
            entry("h.io:5000", "exact"),
            entry("docker.io", "hub"),
        ];
        let find = |host: &str| Login::find(&list, &place(host)).map(|l| l.username);
        assert_eq!(find("h.io:5000").as_deref(), Some("exact"));
        assert_eq!(find("h.io").as_deref(), Some("any"));
        assert_eq!(find("docker.io").as_deref(), Some("hub"));
        let image = place("h.io");
        assert!(Login::find(&list[1..], &image).is_none());
        let header = Login::find(&list, &image).unwrap().header();
        assert!(header.is_sensitive());
        assert_eq!(header, "Basic YW55OnA=");
    }

    proptest! {
        #[test]
        fn parsing_ends(text in "[a-c=\", \\\\]{0,30}") {
            let _ = parse(&text);
        }
    }
}
