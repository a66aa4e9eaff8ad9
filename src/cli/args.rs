//! The whole command line of `kuke`, declared in one place.

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{ArgAction, Command, CommandFactory, FromArgMatches, Parser, Subcommand};

use super::config::Globals;
use super::context::Context;
use super::failure::{Failure, Outcome};
use super::verbs;

/// Aliases are accepted but not completed: a shell would offer them instead of
/// the verbs.
const SHORT: &str = "Short names: get g, delete d, start sta, stop sto, kill k, restart res, \
                     log logs, image img.";

/// Runs cells on this machine: containers over containerd, CNI and cgroup v2.
#[derive(Debug, Parser)]
#[command(
    after_help = SHORT,
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
    /// Prepare the host: default realm, space and stack, and the built-in image
    Init(verbs::init::Init),
    /// Make the host as manifests say
    Apply(verbs::apply::Apply),
    Create(verbs::create::Create),
    /// Show objects
    #[command(alias = "g")]
    Get(verbs::get::Get),
    /// Show everything about one object
    Describe(verbs::describe::Describe),
    /// Delete objects
    #[command(alias = "d")]
    Delete(verbs::delete::Delete),
    /// Change an object in an editor
    Edit(verbs::edit::Edit),
    Label(verbs::label::Label),
    Annotate(verbs::label::Annotate),
    /// Start a cell
    #[command(alias = "sta")]
    Start(verbs::lifecycle::Start),
    /// Stop a cell; it stays stopped, also after a reboot
    #[command(alias = "sto")]
    Stop(verbs::lifecycle::Stop),
    /// End a cell at once with SIGKILL; it stays stopped
    #[command(alias = "k")]
    Kill(verbs::lifecycle::Kill),
    /// Stop a cell and start it again
    #[command(alias = "res")]
    Restart(verbs::lifecycle::Restart),
    /// Run a cell and follow it
    Run(Box<verbs::run::Run>),
    /// Run a further process in a container
    Exec(verbs::exec::Exec),
    /// Show the output of a container
    #[command(alias = "logs")]
    Log(verbs::log::Log),
    /// Make a preparation active, by default the latest
    Promote(verbs::release::Promote),
    /// Make the preparation active that was active before
    Rollback(verbs::release::Rollback),
    /// Let auto-deploy go on after a rollback
    Resume(verbs::release::Resume),
    /// Apply what is active again
    Sync(verbs::release::Sync),
    /// Show what was rendered and what was activated
    History(verbs::release::History),
    /// Compare preparations, by default the active one with the latest
    Diff(verbs::release::Diff),
    /// Print the content of a preparation
    Manifest(verbs::release::Manifest),
    /// Wait until an object is as wanted
    Wait(verbs::release::Wait),
    /// Look after preparations
    Prep(verbs::release::Prep),
    /// Roll several recipes out as one
    Menu(verbs::release::Menu),
    /// Work with images
    #[command(alias = "img")]
    Image(verbs::image::Image),
    /// Work with the registry that kukeond hosts
    Registry(verbs::registry::Registry),
    /// Say who may use the pages that kukeond serves
    Web(verbs::web::Web),
    /// Translate manifests to and from Kubernetes and compose files
    Convert(verbs::convert::Convert),
    /// Work with Recipes
    Recipe(verbs::recipe::Recipe),
    /// Link clusters with Argo CD
    #[command(name = "argocd")]
    ArgoCd(Box<verbs::argocd::ArgoCd>),
    /// Check daemon, host and state
    Status(verbs::status::Status),
    /// Show the versions of client, daemon and containerd
    Version(verbs::version::Version),
    /// Start, stop and look at the daemon
    Daemon(verbs::daemon::Daemon),
    /// Remove everything kukeon made on this host, except its binaries
    Uninstall(verbs::uninstall::Uninstall),
    /// Print the completion script of a shell
    #[command(alias = "autocomplete")]
    Completion(verbs::completion::Completion),
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
        let in_process = |shape: Shape| Shape {
            in_process: true,
            ..shape
        };
        let owns_signals = |shape: Shape| Shape {
            owns_signals: true,
            ..shape
        };
        match self {
            Verb::Init(_) => in_process(Shape::changes("init")),
            Verb::Apply(_) => Shape::changes("apply"),
            Verb::Create(_) => Shape::changes("create"),
            Verb::Get(_) => Shape::looks("get"),
            Verb::Describe(_) => Shape::looks("describe"),
            Verb::Delete(_) => Shape::changes("delete"),
            Verb::Edit(_) => Shape::changes("edit"),
            Verb::Label(_) => Shape::changes("label"),
            Verb::Annotate(_) => Shape::changes("annotate"),
            Verb::Start(_) => Shape::changes("start"),
            Verb::Stop(_) => Shape::changes("stop"),
            Verb::Kill(_) => Shape::changes("kill"),
            Verb::Restart(_) => Shape::changes("restart"),
            Verb::Run(run) if run.is_detached() => Shape::changes("run"),
            Verb::Run(_) => owns_signals(Shape::changes("run")),
            Verb::Exec(_) => owns_signals(Shape::changes("exec")),
            Verb::Log(_) => owns_signals(Shape::looks("log")),
            Verb::Image(image) => match image.shape() {
                (name, true) => Shape::changes(name),
                (name, false) => Shape::looks(name),
            },
            Verb::Registry(registry) => match registry.shape() {
                (name, true) => Shape::changes(name),
                (name, false) => Shape::looks(name),
            },
            Verb::Web(web) => match web.shape() {
                (name, true) => Shape::changes(name),
                (name, false) => Shape::looks(name),
            },
            Verb::Convert(_) => Shape::looks("convert"),
            Verb::Promote(_) => Shape::changes("promote"),
            Verb::Rollback(_) => Shape::changes("rollback"),
            Verb::Resume(_) => Shape::changes("resume"),
            Verb::Sync(_) => Shape::changes("sync"),
            Verb::History(_) => Shape::looks("history"),
            Verb::Diff(_) => Shape::looks("diff"),
            Verb::Manifest(_) => Shape::looks("manifest"),
            Verb::Wait(_) => Shape::looks("wait"),
            Verb::Prep(prep) if prep.changes() => Shape::changes("prep"),
            Verb::Prep(_) => Shape::looks("prep"),
            Verb::Menu(menu) if menu.changes() => Shape::changes("menu"),
            Verb::Menu(_) => Shape::looks("menu"),
            Verb::Recipe(recipe) => match recipe.shape() {
                (name, true) => Shape::changes(name),
                (name, false) => Shape::looks(name),
            },
            Verb::ArgoCd(argocd) => match argocd.shape() {
                (name, true) => Shape::changes(name),
                (name, false) => Shape::looks(name),
            },
            Verb::Status(_) => in_process(Shape::looks("status")),
            Verb::Version(_) => Shape::looks("version"),
            Verb::Daemon(_) => Shape::looks("daemon"),
            Verb::Uninstall(_) => in_process(Shape::changes("uninstall")),
            Verb::Completion(_) => Shape::looks("completion"),
        }
    }

    /// Runs it.
    pub async fn run(self, context: &Context) -> Outcome {
        match self {
            Verb::Init(verb) => verb.run(context).await,
            Verb::Apply(verb) => verb.run(context).await,
            Verb::Create(verb) => verb.run(context).await,
            Verb::Get(verb) => verb.run(context).await,
            Verb::Describe(verb) => verb.run(context).await,
            Verb::Delete(verb) => verb.run(context).await,
            Verb::Edit(verb) => verb.run(context).await,
            Verb::Label(verb) => verb.run(context).await,
            Verb::Annotate(verb) => verb.run(context).await,
            Verb::Start(verb) => verb.run(context).await,
            Verb::Stop(verb) => verb.run(context).await,
            Verb::Kill(verb) => verb.run(context).await,
            Verb::Restart(verb) => verb.run(context).await,
            Verb::Run(verb) => verb.run(context).await,
            Verb::Exec(verb) => verb.run(context).await,
            Verb::Log(verb) => verb.run(context).await,
            Verb::Image(verb) => verb.run(context).await,
            Verb::Registry(verb) => verb.run(context).await,
            Verb::Web(verb) => verb.run(context).await,
            Verb::Convert(verb) => verb.run(context).await,
            Verb::Promote(verb) => verb.run(context).await,
            Verb::Rollback(verb) => verb.run(context).await,
            Verb::Resume(verb) => verb.run(context).await,
            Verb::Sync(verb) => verb.run(context).await,
            Verb::History(verb) => verb.run(context).await,
            Verb::Diff(verb) => verb.run(context).await,
            Verb::Manifest(verb) => verb.run(context).await,
            Verb::Wait(verb) => verb.run(context).await,
            Verb::Prep(verb) => verb.run(context).await,
            Verb::Menu(verb) => verb.run(context).await,
            Verb::Recipe(verb) => verb.run(context).await,
            Verb::ArgoCd(verb) => verb.run(context).await,
            Verb::Status(verb) => verb.run(context).await,
            Verb::Version(verb) => verb.run(context).await,
            Verb::Daemon(verb) => verb.run(context).await,
            Verb::Uninstall(verb) => verb.run(context).await,
            Verb::Completion(verb) => verb.run(context).await,
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

/// Reads the command line; help and usage errors come back as clap's error.
pub fn parse(argv: Vec<OsString>) -> Result<Arguments, clap::Error> {
    let mut command = command();
    let matches = command.try_get_matches_from_mut(argv)?;
    Arguments::from_arg_matches(&matches).map_err(|e| e.format(&mut command))
}

/// Shows what parsing came to; gives the exit code. A bare `kuke` and a bare
/// group ask for help, which goes to standard output and succeeds.
pub fn show(shown: &clap::Error) -> u8 {
    use std::io::Write;

    let bare = shown.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    let printed = match bare {
        true => write!(anstream::stdout(), "{}", shown.render().ansi()),
        false => shown.print(),
    };
    // Help is what was asked for: where it cannot be written, that failed. A
    // closed pipe leaves nobody to show it to.
    match printed.and_then(|()| std::io::stdout().flush()) {
        Err(error) if bare || !shown.use_stderr() => match Failure::from(error) {
            Failure::ClosedPipe => 0,
            failure => failure.report(),
        },
        _ if bare => 0,
        _ => u8::try_from(shown.exit_code()).unwrap_or(2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_sound() {
        command().debug_assert();
    }

    /// What changes something can be tried, what takes time can be waited for,
    /// and all of it has a format.
    #[test]
    fn verbs_of_releases_have_the_same_flags() {
        let all = command();
        let has = |words: &str, flag: &str| {
            let verb = words.split(' ').fold(&all, |verb, word| {
                verb.find_subcommand(word).expect("a verb")
            });
            verb.get_arguments().any(|a| a.get_long() == Some(flag))
        };
        let waits = [
            "apply",
            "delete",
            "edit",
            "recipe apply",
            "recipe edit",
            "recipe refresh",
            "recipe suspend",
            "recipe resume",
            "promote",
            "rollback",
            "resume",
            "sync",
            "prep delete",
            "menu run",
            "menu retry",
            "menu abort",
            "menu force",
        ];
        let marks = ["label", "annotate"];
        let tried = [
            "prep sign",
            "registry login",
            "registry import",
            "registry gc",
        ];
        let looks = [
            "get",
            "describe",
            "history",
            "diff",
            "manifest",
            "wait",
            "prep verify",
            "menu plan",
            "recipe render",
        ];
        let told = [
            "registry ls",
            "registry tags",
            "registry verify",
            "argocd status",
        ];
        let flags = |verbs: &[&str], flags: &[&str]| {
            for (verb, flag) in verbs.iter().flat_map(|v| flags.iter().map(move |f| (v, f))) {
                assert!(has(verb, flag), "{verb} --{flag}");
            }
        };
        let common = ["output", "namespace"];
        flags(
            &waits,
            &["output", "namespace", "dry-run", "wait", "timeout"],
        );
        flags(&looks, &common);
        flags(&marks, &["output", "namespace", "dry-run"]);
        flags(&tried, &["output", "dry-run"]);
        flags(&told, &["output"]);
        flags(
            &["argocd connect"],
            &["output", "namespace", "dry-run", "timeout"],
        );
        flags(&["get"], &["watch"]);
    }

    #[test]
    fn bare_shows_help_and_succeeds_and_slips_are_usage_errors() {
        let parsed = |argv: &[&str]| parse(argv.iter().map(OsString::from).collect());
        for argv in [
            &["kuke"][..],
            &["kuke", "get"],
            &["kuke", "image"],
            &["kuke", "daemon"],
        ] {
            let shown = parsed(argv).expect_err("help");
            assert_eq!(show(&shown), 0, "{argv:?}: {:?}", shown.kind());
        }
        for argv in [
            &["kuke", "bogus"][..],
            &["kuke", "get", "bogus"],
            &["kuke", "version", "x"],
            &["kuke", "status", "x"],
            &["kuke", "exec", "c"],
            &["kuke", "start"],
            &["kuke", "run"],
            &["kuke", "run", "--image", "a", "-f", "b"],
            &["kuke", "get", "cells", "-o", "typo"],
            &["kuke", "delete", "-f", "a", "-o", "typo"],
        ] {
            assert_eq!(parsed(argv).expect_err("usage").exit_code(), 2, "{argv:?}");
        }
    }
}
