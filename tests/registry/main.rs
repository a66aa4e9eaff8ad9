//! The registry as its clients see it: the real server on a free port of
//! loopback, spoken to over HTTP and by the programs that people use.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod api;
mod clients;
mod conformance;
mod faults;
mod support;
