//! Who asks, and what they may do.
//!
//! Accounts have names and passwords (Basic, RFC 7617). With them a client gets
//! a token for some repositories (Bearer, RFC 6750) and shows that from then on,
//! as the distribution project's token protocol has it. Peers of the unix socket
//! are known by their uid.

mod accounts;
mod own;
mod rules;
mod token;

use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;

pub use accounts::{Account, AccountKind};
pub use rules::{Action, Actions, Rule};
pub(super) use token::LIFE as TOKEN_LIFE;
pub use token::{Access, Scope};

use crate::auth::password::Checker;
use crate::auth::throttle::{Failures, Rates};

use super::{Config, Error, Repository, Result, Storage};
use accounts::Accounts;
use token::Tokens;

/// Who a peer of a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A TCP client.
    Tcp(IpAddr),
    /// A process on the unix socket, by its uid.
    Local(u32),
}

impl Peer {
    /// Address of a TCP client.
    fn ip(self) -> Option<IpAddr> {
        match self {
            Self::Tcp(ip) => Some(ip),
            Self::Local(_) => None,
        }
    }
}

/// Place of a file of this room below the registry's root.
fn path(name: &str) -> String {
    crate::sys::beneath::join("auth", name)
}

/// On whose behalf a request is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// Nobody said.
    Anonymous,
    /// A peer of the unix socket that is trusted.
    Trusted,
    /// By name and password.
    Account(Account),
    /// By token.
    Token {
        /// Account that it was given to; empty for none.
        subject: String,
        /// What it was given for.
        access: Vec<Access>,
    },
}

/// Why somebody is not let in.
#[derive(Debug)]
pub enum Refusal {
    /// Credentials are missing, wrong, or not enough.
    Unauthorized(&'static str),
    /// Known, but not allowed.
    Denied(&'static str),
    /// Too much too fast.
    Slower(Duration),
    /// The registry itself failed.
    Failed(Error),
}

/// Accounts, tokens and throttles of one registry.
pub struct Auth {
    accounts: Accounts,
    checker: Checker,
    tokens: Tokens,
    failures: Failures,
    rates: Option<Rates>,
    anonymous_pull: bool,
}

impl Auth {
    /// Opens the accounts of a registry; keys are made at first use.
    ///
    /// # Errors
    /// The disk's, and keys that are damaged.
    pub fn open(storage: &Storage, config: &Config) -> Result<Self> {
        Ok(Self {
            accounts: Accounts::new(storage.clone()),
            checker: Checker::new()?,
            tokens: Tokens::open(storage)?,
            failures: Failures::default(),
            rates: config.requests_per_second.map(Rates::new),
            anonymous_pull: config.anonymous_pull,
        })
    }

    /// Counts a request; too many are refused.
    ///
    /// # Errors
    /// [`Refusal::Slower`].
    pub fn admit(&self, peer: Peer) -> Result<(), Refusal> {
        match (&self.rates, peer) {
            (Some(rates), Peer::Tcp(ip)) => rates.take(ip).map_err(Refusal::Slower),
            _ => Ok(()),
        }
    }

    /// Who makes a request.
    ///
    /// # Errors
    /// Credentials that are no good, or were wrong too often.
    pub async fn identify(&self, headers: &HeaderMap, peer: Peer) -> Result<Identity, Refusal> {
        let Some(header) = headers.get(AUTHORIZATION) else {
            return Ok(match peer {
                Peer::Local(uid) if is_trusted(uid) => Identity::Trusted,
                _ => Identity::Anonymous,
            });
        };
        let bad = Refusal::Unauthorized("the Authorization header cannot be read");
        let Some((scheme, rest)) = header.to_str().ok().and_then(|t| t.split_once(' ')) else {
            return Err(bad);
        };
        let rest = rest.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            let claims = self.tokens.check(rest).map_err(Refusal::Unauthorized)?;
            return Ok(Identity::Token {
                subject: claims.sub,
                access: claims.access,
            });
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return Err(bad);
        }
        let decoded = STANDARD.decode(rest).ok();
        let Some(pair) = decoded.and_then(|b| String::from_utf8(b).ok()) else {
            return Err(bad);
        };
        let Some((name, password)) = pair.split_once(':') else {
            return Err(bad);
        };
        let account = self.log_in(name, password, peer).await?;
        Ok(Identity::Account(account))
    }

    /// Checks a name and a password.
    ///
    /// # Errors
    /// They are wrong, or were too often.
    pub async fn log_in(&self, name: &str, password: &str, peer: Peer) -> Result<Account, Refusal> {
        if name == own::NAME {
            let account = own::account(self.accounts.storage(), password);
            let account = account.map_err(Refusal::Failed)?;
            return account.ok_or(Refusal::Unauthorized("wrong name or password"));
        }
        let account = self.accounts.find(name).map_err(Refusal::Failed)?;
        let hash = account.as_ref().map(|a| a.hash.as_str());
        if self.checker.remembers(name, password, hash) {
            // It was right before, so it is no guess.
            return account.ok_or(Refusal::Unauthorized("wrong name or password"));
        }
        self.failures
            .check(peer.ip(), name)
            .map_err(Refusal::Slower)?;
        let right = self
            .checker
            .check(name, password, hash)
            .await
            .map_err(|e| Refusal::Failed(e.into()))?;
        match account {
            Some(account) if right => {
                self.failures.forget(peer.ip(), name);
                Ok(account)
            }
            _ => {
                self.failures.count(peer.ip(), name);
                tracing::warn!(
                    ?peer,
                    name = name.escape_debug().to_string(),
                    "login failed"
                );
                Err(Refusal::Unauthorized("wrong name or password"))
            }
        }
    }

    /// Whether somebody may do something.
    ///
    /// # Errors
    /// What is in the way.
    pub fn allow(
        &self,
        who: &Identity,
        action: Action,
        repository: &Repository,
    ) -> Result<(), Refusal> {
        if repository.holds_preparations() && action != Action::Pull {
            return Err(Refusal::Denied(
                "only kukeond itself writes below preparations/",
            ));
        }
        match who {
            Identity::Trusted => Ok(()),
            Identity::Anonymous if self.anonymous_pull && action == Action::Pull => Ok(()),
            Identity::Anonymous => Err(Refusal::Unauthorized("credentials are needed")),
            Identity::Account(account) if account.may(action, repository) => Ok(()),
            Identity::Account(_) => Err(Refusal::Denied(
                "this account may not do that in this repository",
            )),
            Identity::Token { access, .. } => {
                if access.iter().any(|a| a.allows(action, repository)) {
                    Ok(())
                } else {
                    // With another scope the client may get a token that does.
                    Err(Refusal::Unauthorized(
                        "the token is not for this action in this repository",
                    ))
                }
            }
        }
    }

    /// Whether somebody may see that a repository exists, in the catalog.
    pub fn sees(&self, who: &Identity, repository: &Repository) -> bool {
        match who {
            // Tokens for the catalog name no repositories: their account counts.
            Identity::Token { subject, .. } if subject == own::NAME => true,
            Identity::Token { subject, .. } if !subject.is_empty() => self
                .accounts
                .find(subject)
                .is_ok_and(|a| a.is_some_and(|a| a.may(Action::Pull, repository))),
            Identity::Token { .. } => self.anonymous_pull,
            other => self.allow(other, Action::Pull, repository).is_ok(),
        }
    }

    /// A token for what of the wanted scopes an identity may do.
    ///
    /// # Errors
    /// Nobody said who they are, and nothing is open to all.
    pub fn grant(&self, who: &Identity, wanted: &[Scope]) -> Result<String, Refusal> {
        let subject = match who {
            Identity::Account(account) => account.name.clone(),
            Identity::Trusted => String::new(),
            Identity::Anonymous if self.anonymous_pull => String::new(),
            _ => return Err(Refusal::Unauthorized("credentials are needed")),
        };
        let mut access = Vec::new();
        for scope in wanted {
            let mut granted = Actions::default();
            for action in Action::ALL {
                if scope.actions.has(action) && self.allow(who, action, &scope.repository).is_ok() {
                    granted.add(action);
                }
            }
            if granted != Actions::default() {
                access.push(Access {
                    repository: scope.repository.clone(),
                    actions: granted,
                });
            }
        }
        self.tokens.issue(subject, access).map_err(Refusal::Failed)
    }
}

/// Peers of the unix socket that are as good as the daemon's owner.
fn is_trusted(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Limits;

    const HOME: Peer = Peer::Tcp(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));

    fn auth(change: impl FnOnce(&mut Config)) -> (Auth, Storage, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let storage = Storage::open(&dir.path().join("r"), Limits::default()).unwrap();
        let mut config = Config::default();
        change(&mut config);
        (Auth::open(&storage, &config).unwrap(), storage, dir)
    }

    fn repo(name: &str) -> Repository {
        name.parse().unwrap()
    }

    fn basic(name: &str, password: &str) -> HeaderMap {
        let text = format!("Basic {}", STANDARD.encode(format!("{name}:{password}")));
        HeaderMap::from_iter([(AUTHORIZATION, text.parse().unwrap())])
    }

    #[tokio::test]
    async fn accounts_do_what_their_rules_say_and_nobody_writes_preparations() {
        let (auth, storage, _dir) = auth(|_| {});
        let rules = vec![
            "team/**=pull,push".parse().unwrap(),
            "lib=pull".parse().unwrap(),
        ];
        let password = storage
            .set_account("ci", AccountKind::Robot, rules, None)
            .unwrap();
        let who = auth.identify(&basic("ci", &password), HOME).await.unwrap();
        assert!(auth.allow(&who, Action::Push, &repo("team/a")).is_ok());
        assert!(auth.allow(&who, Action::Pull, &repo("lib")).is_ok());
        assert!(matches!(
            auth.allow(&who, Action::Push, &repo("lib")),
            Err(Refusal::Denied(_))
        ));
        assert!(auth.allow(&who, Action::Delete, &repo("team/a")).is_err());
        let all = vec!["**=pull,push,delete".parse().unwrap()];
        let password = storage
            .set_account("root", AccountKind::User, all, None)
            .unwrap();
        let root = auth
            .identify(&basic("root", &password), HOME)
            .await
            .unwrap();
        let preparations = repo("preparations/default/web");
        for who in [&root, &Identity::Trusted] {
            assert!(auth.allow(who, Action::Pull, &preparations).is_ok());
            assert!(auth.allow(who, Action::Push, &preparations).is_err());
            assert!(auth.allow(who, Action::Delete, &preparations).is_err());
        }
    }

    #[tokio::test]
    async fn wrong_passwords_are_refused_and_then_throttled() {
        let (auth, storage, _dir) = auth(|_| {});
        let password = storage
            .set_account("a", AccountKind::User, vec![], Some("right password"))
            .unwrap();
        assert_eq!(password, "right password");
        for _ in 0..5 {
            let refused = auth.identify(&basic("a", "wrong"), HOME).await;
            assert!(matches!(refused, Err(Refusal::Unauthorized(_))));
        }
        let refused = auth.identify(&basic("a", "wrong"), HOME).await;
        assert!(matches!(refused, Err(Refusal::Slower(wait)) if !wait.is_zero()));
        // Others are not kept out.
        let refused = auth.identify(&basic("b", "wrong"), HOME).await;
        assert!(matches!(refused, Err(Refusal::Unauthorized(_))));
        storage.remove_account("a").unwrap();
        let refused = auth.identify(&basic("a", "right password"), HOME).await;
        assert!(refused.is_err());
    }

    #[tokio::test]
    async fn a_changed_password_counts_at_once() {
        let (auth, storage, _dir) = auth(|_| {});
        let set = |password| {
            storage
                .set_account("a", AccountKind::User, vec![], Some(password))
                .unwrap()
        };
        set("first password");
        let first = basic("a", "first password");
        assert!(auth.identify(&first, HOME).await.is_ok());
        assert!(auth.identify(&first, HOME).await.is_ok());
        set("second password");
        assert!(auth.identify(&first, HOME).await.is_err());
        let second = basic("a", "second password");
        assert!(auth.identify(&second, HOME).await.is_ok());
    }

    #[tokio::test]
    async fn tokens_hold_what_was_granted() {
        let (auth, storage, _dir) = auth(|_| {});
        let rules = vec!["a=pull".parse().unwrap()];
        let password = storage
            .set_account("x", AccountKind::User, rules, None)
            .unwrap();
        let who = auth.identify(&basic("x", &password), HOME).await.unwrap();
        let wanted = [
            Scope::parse("repository:a:pull,push").unwrap(),
            Scope::parse("repository:b:pull").unwrap(),
        ];
        let token = auth.grant(&who, &wanted).unwrap();
        let header = format!("Bearer {token}").parse().unwrap();
        let headers = HeaderMap::from_iter([(AUTHORIZATION, header)]);
        let who = auth.identify(&headers, HOME).await.unwrap();
        assert!(auth.allow(&who, Action::Pull, &repo("a")).is_ok());
        assert!(matches!(
            auth.allow(&who, Action::Push, &repo("a")),
            Err(Refusal::Unauthorized(_))
        ));
        assert!(auth.allow(&who, Action::Pull, &repo("b")).is_err());
        assert!(auth.sees(&who, &repo("a")));
        assert!(!auth.sees(&who, &repo("b")));
    }

    #[tokio::test]
    async fn the_anonymous_pull_only_where_that_is_wanted() {
        let nobody = HeaderMap::new();
        let (shut, ..) = auth(|_| {});
        let who = shut.identify(&nobody, HOME).await.unwrap();
        assert!(shut.allow(&who, Action::Pull, &repo("a")).is_err());
        assert!(shut.grant(&who, &[]).is_err());
        let (open, ..) = auth(|c| c.anonymous_pull = true);
        assert!(open.allow(&who, Action::Pull, &repo("a")).is_ok());
        assert!(open.allow(&who, Action::Push, &repo("a")).is_err());
        assert!(open.grant(&who, &[]).is_ok());
    }

    #[tokio::test]
    async fn the_daemon_reads_everything_with_its_own_login() {
        let (auth, storage, _dir) = auth(|_| {});
        let (name, password) = storage.own_login().unwrap();
        assert_eq!(storage.own_login().unwrap().1, password);
        let who = auth.identify(&basic(&name, &password), HOME).await.unwrap();
        let preparations = repo("preparations/default/web");
        assert!(auth.allow(&who, Action::Pull, &preparations).is_ok());
        assert!(auth.allow(&who, Action::Push, &repo("a")).is_ok());
        assert!(auth.allow(&who, Action::Push, &preparations).is_err());
        assert!(auth.allow(&who, Action::Delete, &repo("a")).is_err());
        assert!(auth.sees(&who, &repo("a")));
        let wrong = auth.identify(&basic(&name, "x"), HOME).await;
        assert!(matches!(wrong, Err(Refusal::Unauthorized(_))));
        let taken = storage.set_account(&name, AccountKind::User, vec![], None);
        assert!(taken.is_err());
    }

    #[tokio::test]
    async fn socket_peers_are_known_by_their_uid() {
        let (auth, ..) = auth(|_| {});
        let own = rustix::process::geteuid().as_raw();
        let none = HeaderMap::new();
        let who = auth.identify(&none, Peer::Local(own)).await.unwrap();
        assert_eq!(who, Identity::Trusted);
        let who = auth
            .identify(&none, Peer::Local(own + 12345))
            .await
            .unwrap();
        assert_eq!(who, Identity::Anonymous);
    }

    #[test]
    fn too_many_requests_are_put_off() {
        let (auth, ..) = auth(|c| c.requests_per_second = Some(2));
        let refused = (0..50).filter(|_| auth.admit(HOME).is_err()).count();
        assert!(refused >= 40, "{refused}");
        assert!(auth.admit(Peer::Local(0)).is_ok());
    }
}
