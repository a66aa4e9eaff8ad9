//! Entry point: one executable, dispatched on a role or on the name it is called by.

use std::process::ExitCode;

fn main() -> ExitCode {
    let argv: Vec<_> = std::env::args_os().collect();
    if let Some(code) = kukeon::roles::dispatch(argv.get(1..).unwrap_or_default()) {
        return code;
    }
    // Fails only when a provider is installed already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match kukeon::cli::entry(&argv, |name| std::env::var_os(name)).as_deref() {
        Ok("kukeond") => kukeon::daemon::main(argv),
        Ok(_) => kukeon::cli::main(argv, kukeon::daemon::in_process),
        Err(code) => *code,
    }
}
