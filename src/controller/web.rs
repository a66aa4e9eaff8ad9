//! Accounts of the pages.

use super::Controller;
use super::execute::blocking;
use super::stream::Emitter;
use crate::api::{Code, Error, Result, v1};
use crate::auth::{self, people};
use crate::sys::beneath::Root;

/// Account that is made with the host.
const FIRST: &str = "admin";

impl Controller {
    /// Address of the pages for people of this machine; empty when they are not
    /// served.
    fn web_address(&self) -> String {
        let web = &self.settings.web;
        let Some(at) = web.listen else {
            return String::new();
        };
        let scheme = match web.uses_tls() {
            true => "https",
            false => "http",
        };
        match at.ip().is_unspecified() {
            true => format!("{scheme}://localhost:{}/", at.port()),
            false => format!("{scheme}://{at}/"),
        }
    }

    pub(super) async fn change_web_account(
        &self,
        request: v1::WebAccountRequest,
    ) -> Result<v1::WebAccountResponse> {
        let dir = self.settings.web_dir();
        let mut answer = v1::WebAccountResponse {
            address: self.web_address(),
            ..Default::default()
        };
        let role = match request.role.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|e: auth::Error| invalid(&e))?),
        };
        let work = move || -> Result<_> {
            let root = Root::open(&dir).map_err(auth::Error::from)?;
            let name = request.name.as_str();
            if name.is_empty() {
                answer.accounts = people::all(&root)?.iter().map(shown).collect();
                return Ok(answer);
            }
            if request.remove {
                answer.removed = people::remove(&root, name)?;
                return Ok(answer);
            }
            let chosen = Some(request.password.as_str()).filter(|p| !p.is_empty());
            let set = people::set(&root, name, role, chosen);
            answer.password = set.map_err(|e| invalid(&e))?;
            answer.accounts = people::find(&root, name)?.iter().map(shown).collect();
            Ok(answer)
        };
        blocking(work).await?
    }

    /// The first account, with its password, where pages are served and nobody
    /// could log in.
    pub(super) async fn first_web_account(&self, emit: &Emitter) -> Result<()> {
        if self.settings.web.listen.is_none() {
            return Ok(());
        }
        let all = v1::WebAccountRequest::default();
        let known = self.change_web_account(all).await?;
        let mut told = v1::ResourceResult {
            kind: "Account".to_owned(),
            name: FIRST.to_owned(),
            action: "unchanged".to_owned(),
            ..Default::default()
        };
        if known.accounts.is_empty() {
            let first = v1::WebAccountRequest {
                name: FIRST.to_owned(),
                role: people::Role::Admin.to_string(),
                ..Default::default()
            };
            let made = self.change_web_account(first).await?;
            told.action = "created".to_owned();
            told.changes = vec![
                format!("pages: {}", made.address),
                format!("password, not shown again: {}", made.password),
            ];
        } else if !known.accounts.iter().any(|a| a.name == FIRST) {
            return Ok(());
        }
        emit.result(told);
        Ok(())
    }
}

fn shown(person: &people::Person) -> v1::WebAccount {
    v1::WebAccount {
        name: person.name.clone(),
        role: person.role.to_string(),
    }
}

/// A name, role or password that will not do.
fn invalid(error: &auth::Error) -> Error {
    match error {
        auth::Error::Files(_) => Error::failed("AccountFiles", error.to_string()),
        auth::Error::Setup { .. } => Error::new(Code::Invalid, "BadAccount", error.to_string()),
    }
}

impl From<auth::Error> for Error {
    fn from(error: auth::Error) -> Self {
        Error::failed("AccountFiles", error.to_string())
    }
}
