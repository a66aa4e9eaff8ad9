//! End-to-end tests: the built binary against real containerd, runc, CNI
//! plugins and cgroup v2. Needs root; says what is skipped and why.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and this is a program of its own"
)]

mod apply;
mod approvals;
#[path = "../argocd/programs.rs"]
mod argocd_programs;
mod bad_input;
mod browser;
mod census;
mod cleanup;
mod cluster;
mod command;
mod convert;
mod daemon;
mod damaged;
mod deaths;
mod deaths_alone;
mod delivery;
mod destinations;
mod failures;
mod graces;
mod host;
mod hosted;
mod image;
mod images;
mod interrupt;
mod lifecycle;
mod manifest;
mod menu_options;
mod menu_times;
mod menus;
mod options;
mod output;
mod pulls;
mod quiet;
mod reasons;
mod registry;
mod releases;
mod render;
mod reproducible;
mod runner;
mod secrets;
mod signatures;
mod targets;
mod upkeep;
mod verbs;
mod volumes;
mod web;
mod world;

fn main() -> std::process::ExitCode {
    let groups = [
        apply::CASES,
        lifecycle::CASES,
        volumes::CASES,
        secrets::CASES,
        daemon::CASES,
        graces::CASES,
        upkeep::CASES,
        output::CASES,
        images::CASES,
        hosted::CASES,
        pulls::CASES,
        bad_input::CASES,
        interrupt::CASES,
        render::CASES,
        reproducible::CASES,
        cleanup::CASES,
        damaged::CASES,
        convert::CASES,
        menus::CASES,
        menu_options::CASES,
        menu_times::CASES,
        cluster::CASES,
        delivery::CASES,
        failures::CASES,
        reasons::CASES,
        releases::CASES,
        approvals::CASES,
        quiet::CASES,
        signatures::CASES,
        deaths::CASES,
        deaths_alone::CASES,
        targets::CASES,
        destinations::CASES,
        verbs::CASES,
        options::CASES,
        web::CASES,
        browser::CASES,
    ]
    .concat();
    runner::run(&groups, world::prepare, world::clean)
}
