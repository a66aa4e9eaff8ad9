//! Pages, REST interface and event stream of releases (delivery spec, sections
//! 12 and 14), on top of [`Kukeon`](crate::client::Kukeon).
//!
//! ```text
//! <dir>/accounts.json     who may log in; written by `kuke web`
//! <dir>/sessions.json     who is logged in: hashes of refresh tokens
//! <dir>/signing.key       what access tokens are signed with
//! ```
//!
//! Until somebody connects there is nothing but the listener.

mod answer;
mod api;
mod app;
mod caller;
mod events;
mod object;
mod pages;
mod request;
mod serve;
mod session;
mod token;

pub use app::App;
pub use serve::{Config, Server, serve};
