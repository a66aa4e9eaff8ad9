//! The verbs, one file a group.

pub mod apply;
pub mod argocd;
pub mod completion;
pub mod convert;
pub mod create;
pub mod daemon;
pub mod delete;
pub mod describe;
pub mod edit;
pub mod exec;
pub mod get;
pub mod image;
pub mod init;
pub mod label;
pub mod lifecycle;
pub mod log;
pub mod recipe;
pub mod registry;
pub mod release;
pub mod run;
pub mod status;
pub mod uninstall;
pub mod version;
pub mod web;
