//! The whole command line of `kuke`, declared in one place.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{ArgAction, Command, CommandFactory, FromArgMatches, Parser, Subcommand};

use super::config::Globals;
use super::context::Context;
use super::failure::Outcome;
use super::verbs;

/// Runs cells on this machine: containers over containerd, CNI and cgroup v2.
#[derive(Debug, Parser)]
#[command(
    name = "kuke",
    version,
    disable_help_subcommand = false,
    max_term_width = 100
)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
    /// Flags of every verb.
    #[command(flatten)]
    pub globals: Globals,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Make the host as manifests say
    Apply(verbs::apply::Apply),
    /// Show objects
    #[command(visible_alias = "g")]
    Get(verbs::get::Get),
    /// Show the versions of client, daemon and containerd
    Version(verbs::version::Version),
}

/// What has to be known of a verb before it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// As typed.
    pub name: &'static str,
    /// It changes something.
    pub changes: bool,
    /// It handles Ctrl-C by itself.
    pub owns_signals: bool,
    /// It may work in this process even when there is a daemon.
    pub in_process: bool,
}

impl Shape {
    const fn looks(name: &'static str) -> Self {
        Self {
            name,
            changes: false,
            owns_signals: false,
            in_process: false,
        }
    }

    const fn changes(name: &'static str) -> Self {
        Self {
            changes: true,
            ..Self::looks(name)
        }
    }
}

impl Verb {
    /// What has to be known before it runs.
    pub fn shape(&self) -> Shape {
        match self {
            Verb::Apply(_) => Shape::changes("apply"),
            Verb::Get(_) => Shape::looks("get"),
            Verb::Version(_) => Shape::looks("version"),
        }
    }

    /// Runs it.
    pub async fn run(self, context: &Context) -> Outcome {
        match self {
            Verb::Apply(verb) => verb.run(context).await,
            Verb::Get(verb) => verb.run(context).await,
            Verb::Version(verb) => verb.run(context).await,
        }
    }
}

/// The command line with `KUKE_<VERB>_<FLAG>` behind every flag of a verb.
pub fn command() -> Command {
    let mut command = Arguments::command();
    let names: Vec<String> = command
        .get_subcommands()
        .map(|verb| verb.get_name().to_owned())
        .collect();
    for name in names {
        command = command.mut_subcommand(&name, |verb| {
            with_variables(verb, &format!("KUKE_{}", upper(&name)))
        });
    }
    command
}

fn with_variables(verb: Command, prefix: &str) -> Command {
    let verb = verb.mut_args(|arg| {
        let Some(long) = arg.get_long() else {
            return arg;
        };
        if arg.is_global_set() || matches!(long, "help" | "version") {
            return arg;
        }
        // Flags live as long as the process; so may their variables' names.
        let variable: &'static str = format!("{prefix}_{}", upper(long)).leak();
        let arg = arg.env(variable).hide_env(true);
        match arg.get_action() {
            ArgAction::SetTrue => arg.value_parser(clap::builder::FalseyValueParser::new()),
            _ => arg,
        }
    });
    let names: Vec<String> = verb
        .get_subcommands()
        .map(|inner| inner.get_name().to_owned())
        .collect();
    names.into_iter().fold(verb, |verb, name| {
        let prefix = format!("{prefix}_{}", upper(&name));
        verb.mut_subcommand(name, |inner| with_variables(inner, &prefix))
    })
}

fn upper(name: &str) -> String {
    name.replace('-', "_").to_ascii_uppercase()
}

/// Reads the command line; help and usage errors come back as clap's error. A
/// bare `kuke` and a bare group show their help and succeed.
pub fn parse(argv: Vec<OsString>) -> Result<Arguments, clap::Error> {
    let mut command = command();
    let matches = command
        .try_get_matches_from_mut(argv)
        .map_err(bare_is_help)?;
    Arguments::from_arg_matches(&matches).map_err(|e| e.format(&mut command))
}

/// A group without a verb asks for help: that succeeds, on standard output.
fn bare_is_help(error: clap::Error) -> clap::Error {
    if error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return error;
    }
    clap::Error::raw(ErrorKind::DisplayHelp, error.render())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn bare_shows_help_and_succeeds_and_slips_are_usage_errors() {
        let parsed = |argv: &[&str]| parse(argv.iter().map(OsString::from).collect());
        let shown = parsed(&["kuke"]).expect_err("help");
        assert_eq!(shown.exit_code(), 0);
        assert!(!shown.use_stderr());
        for argv in [
            &["kuke", "bogus"][..],
            &["kuke", "get", "bogus"],
            &["kuke", "version", "x"],
        ] {
            assert_eq!(parsed(argv).expect_err("usage").exit_code(), 2, "{argv:?}");
        }
    }
}
