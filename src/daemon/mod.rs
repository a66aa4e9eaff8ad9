//! The daemon: the gRPC service over the unix socket, peer credentials, systemd
//! notification and shutdown. It holds no rules of its own; it adapts a
//! [`Kukeon`](crate::client::Kukeon) to the wire and runs the controller's loop.

mod activation;
mod args;
mod instance;
mod memory;
mod notify;
mod peer;
mod registry;
#[cfg(test)]
mod roundtrip;
mod serve;
mod service;
mod socket;
mod web;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use futures::future::BoxFuture;

use crate::api::{Code, Error, Result};
use crate::client::Kukeon;
use crate::controller::Controller;
use crate::delivery::Delivery;
use crate::model::{Settings, SettingsError};

/// Entry of `kukeond`; `argv` is with the program's name.
pub fn main(argv: Vec<OsString>) -> ExitCode {
    let arguments = match args::parse(argv) {
        Ok(arguments) => arguments,
        Err(shown) => return ExitCode::from(args::show(&shown)),
    };
    match arguments.resolve().and_then(serve::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(reason = error.reason, "{error}");
            eprintln!("Error: {error}");
            if !error.hint.is_empty() {
                eprintln!("{}", error.hint);
            }
            ExitCode::from(error.code.exit_code())
        }
    }
}

/// The same capability without a daemon: the controller in this process.
pub fn in_process(settings: Settings) -> BoxFuture<'static, Result<Arc<dyn Kukeon>>> {
    Box::pin(async move {
        let (run_path, quota) = (settings.run_path.clone(), settings.registry.quota_bytes);
        let controller = Controller::open(settings).await?;
        let delivery: Arc<dyn Kukeon> = Delivery::open(controller, &run_path, quota)?;
        Ok(delivery)
    })
}

impl From<SettingsError> for Error {
    fn from(error: SettingsError) -> Self {
        Error::new(Code::Invalid, "SettingInvalid", error.to_string())
    }
}
