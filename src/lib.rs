//! kukeon: a container runtime manager for one Linux machine.
//!
//! The rooms and who may call whom are described in `docs/architecture.md`.

pub mod api;
pub mod apply;
pub mod auth;
pub mod cgroup;
pub mod cli;
pub mod client;
pub mod controller;
pub mod convert;
pub mod daemon;
pub mod delivery;
pub mod model;
pub mod network;
pub mod oci;
pub mod registry;
pub mod roles;
pub mod runtime;
pub mod scheme;
pub mod store;
pub mod sys;
pub mod web;
