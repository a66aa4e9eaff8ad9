//! Completion in shells, with the names of live objects. Kept in one file
//! because the interface of the completion crate is not settled yet.

use std::ffi::{OsStr, OsString};
use std::time::Duration;

use clap::{Arg, Command};
use clap_complete::CompleteEnv;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};

use super::config::{Config, Globals, Place};
use super::kind::Kind;
use super::output::objects;
use super::{InProcess, args};
use crate::api::v1;
use crate::client::{Kukeon, Remote};

/// A completion that takes longer is of no use.
const LIMIT: Duration = Duration::from_secs(2);
/// Variable by which the shell's script asks for candidates.
pub const VARIABLE: &str = "KUKE_COMPLETE";

/// Answers a shell that asks for candidates; true when that was it.
pub fn answer(argv: &[OsString], in_process: InProcess) -> bool {
    if std::env::var_os(VARIABLE).is_none() {
        return false;
    }
    let factory = || with_names(args::command(), in_process);
    CompleteEnv::with_factory(factory)
        .var(VARIABLE)
        .try_complete(argv.iter().cloned(), None)
        // A completion that fails offers nothing; the shell shows no errors.
        .unwrap_or(true)
}

/// The script that makes a shell ask.
///
/// # Errors
/// When it cannot be written.
pub fn script(shell: &str) -> std::io::Result<Vec<u8>> {
    let shells = clap_complete::env::Shells::builtins();
    let shell = shells
        .completer(shell)
        .ok_or_else(|| std::io::Error::other(format!("unknown shell {shell:?}")))?;
    let mut text = Vec::new();
    shell.write_registration(VARIABLE, "kuke", "kuke", "kuke", &mut text)?;
    Ok(text)
}

/// Puts completers on the arguments that take names of objects, also on those
/// of the verbs below `command`.
fn with_names(command: Command, in_process: InProcess) -> Command {
    let group = command.get_name().parse::<Kind>().ok();
    let foreign = command.get_name() == "argocd";
    let names: Vec<String> = command
        .get_subcommands()
        .map(|verb| verb.get_name().to_owned())
        .collect();
    let complete = move |arg: Arg, kind: Kind| {
        arg.add(ArgValueCompleter::new(move |current: &OsStr| {
            candidates(kind, current, in_process)
        }))
    };
    names.into_iter().fold(command, |command, verb| {
        command.mut_subcommand(verb, |verb| {
            let verb = with_names(verb, in_process);
            let points = matches!(verb.get_name(), "promote" | "rollback" | "diff");
            verb.mut_args(|arg| match arg.get_id().as_str() {
                // Elsewhere it is one of a cluster.
                "namespace" if !foreign => complete(arg, Kind::Realm),
                // `recipe refresh NAME`, `menu run NAME`, `prep delete NAME`.
                "object" => match group {
                    Some(kind) => complete(arg, kind),
                    None => arg.add(ArgValueCompleter::new(move |current: &OsStr| {
                        with_kind(current, |kind, name| candidates(kind, name, in_process))
                    })),
                },
                "from" | "to" | "expected_current" if points => complete(arg, Kind::Preparation),
                "kind" => arg.add(ArgValueCompleter::new(kinds)),
                "realm" => complete(arg, Kind::Realm),
                "space" => complete(arg, Kind::Space),
                "stack" => complete(arg, Kind::Stack),
                "cell" | "cells" => complete(arg, Kind::Cell),
                "container" => complete(arg, Kind::Container),
                "recipe" => complete(arg, Kind::Recipe),
                "preparation" => complete(arg, Kind::Preparation),
                "name" | "names" => {
                    arg.add(ArgValueCompleter::new(move |current: &OsStr| match typed()
                        .find_map(|word| word.parse().ok())
                    {
                        Some(kind) => candidates(kind, current, in_process),
                        None => Vec::new(),
                    }))
                }
                _ => arg,
            })
        })
    })
}

/// Candidates for `KIND/NAME`: kinds up to the slash, then names.
fn with_kind(
    current: &OsStr,
    names: impl FnOnce(Kind, &OsStr) -> Vec<CompletionCandidate>,
) -> Vec<CompletionCandidate> {
    let text = current.to_string_lossy();
    let Some((kind, name)) = text.split_once('/') else {
        return Kind::ALL
            .into_iter()
            .filter(|kind| *kind != Kind::Image)
            .map(|kind| format!("{}/", kind.singular()))
            .filter(|offered| offered.starts_with(text.as_ref()))
            .map(CompletionCandidate::new)
            .collect();
    };
    let Ok(parsed) = kind.parse() else {
        return Vec::new();
    };
    let found = names(parsed, OsStr::new(name));
    let whole = |c: CompletionCandidate| {
        let name = c.get_value().to_string_lossy().into_owned();
        CompletionCandidate::new(format!("{kind}/{name}"))
    };
    found.into_iter().map(whole).collect()
}

/// The words typed so far: what stands after the `--` that the script puts there.
fn typed() -> impl Iterator<Item = String> {
    std::env::args().skip_while(|word| word != "--").skip(2)
}

/// Value of a flag among the words typed so far.
fn typed_flag(words: &[String], flag: &str) -> Option<String> {
    let with_equals = format!("{flag}=");
    words.iter().enumerate().find_map(|(at, word)| {
        if word == flag {
            return words.get(at + 1).cloned();
        }
        word.strip_prefix(&with_equals).map(str::to_owned)
    })
}

/// Kinds by their full names.
fn kinds(current: &OsStr) -> Vec<CompletionCandidate> {
    let current = current.to_string_lossy();
    Kind::ALL
        .into_iter()
        .flat_map(|kind| &kind.names()[..2])
        .filter(|name| name.starts_with(current.as_ref()))
        .map(CompletionCandidate::new)
        .collect()
}

fn candidates(kind: Kind, current: &OsStr, in_process: InProcess) -> Vec<CompletionCandidate> {
    let words: Vec<String> = typed().collect();
    let Ok(runtime) = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
    else {
        return Vec::new();
    };
    let names = runtime.block_on(async {
        tokio::time::timeout(LIMIT, names(kind, &words, in_process))
            .await
            .ok()
            .flatten()
    });
    runtime.shutdown_background();
    let current = current.to_string_lossy();
    let mut names = names.unwrap_or_default();
    names.retain(|name| name.starts_with(current.as_ref()));
    names.sort();
    names.dedup();
    names.into_iter().map(CompletionCandidate::new).collect()
}

/// Names in the scope that was typed. Every failure offers none.
async fn names(kind: Kind, words: &[String], in_process: InProcess) -> Option<Vec<String>> {
    let globals = Globals {
        host: typed_flag(words, "--host"),
        run_path: typed_flag(words, "--run-path"),
        configuration: typed_flag(words, "--configuration").map(Into::into),
        server_configuration: typed_flag(words, "--server-configuration").map(Into::into),
        containerd_socket: typed_flag(words, "--containerd-socket"),
        no_daemon: words.iter().any(|word| word == "--no-daemon"),
        ..Default::default()
    };
    let config = Config::resolve(&globals, |name| std::env::var(name).ok()).ok()?;
    let kukeon: std::sync::Arc<dyn Kukeon> = match config.place {
        Place::Daemon(socket) => {
            std::sync::Arc::new(Remote::connect(&socket, Some(LIMIT)).await.ok()?)
        }
        Place::Here if nix::unistd::geteuid().is_root() => {
            in_process(config.resolved.settings).await.ok()?
        }
        Place::Here => return None,
    };
    let scope = scope_of(kind, words);
    if kind == Kind::Image {
        let request = v1::ListImagesRequest { realm: scope.realm };
        let images = kukeon.list_images(request).await.ok()?.images;
        return Some(images.into_iter().map(|image| image.name).collect());
    }
    let request = v1::GetRequest {
        kind: kind.as_str().to_owned(),
        scope: Some(scope),
        brief: true,
        ..Default::default()
    };
    let mut found = kukeon.get(request).await.ok()?.objects;
    if kind == Kind::Preparation
        && let Some(recipe) = recipe_of(words)
    {
        found.retain(|object| is_of(object, recipe));
    }
    Some(
        found
            .iter()
            .map(|object| objects::name(object).to_owned())
            .collect(),
    )
}

/// The Recipe whose Preparations are wanted: `promote RECIPE --to …`.
fn recipe_of(words: &[String]) -> Option<&str> {
    let verb = words.first()?.as_str();
    let takes = matches!(verb, "promote" | "rollback" | "diff");
    let recipe = words.get(1).map(String::as_str);
    recipe.filter(|word| takes && !word.starts_with('-') && !word.is_empty())
}

fn is_of(object: &v1::Object, recipe: &str) -> bool {
    match &object.object {
        Some(v1::object::Object::Preparation(preparation)) => {
            let spec = preparation.spec.as_ref();
            spec.is_some_and(|spec| spec.recipe_name == recipe)
        }
        _ => false,
    }
}

/// Where to look: the typed scope flags, `default` for those above the kind.
fn scope_of(kind: Kind, words: &[String]) -> v1::Scope {
    let level = match kind {
        Kind::Realm => 0,
        Kind::Space | Kind::Image => 1,
        Kind::Stack => 2,
        Kind::Cell | Kind::Container => 3,
        // Releases live in namespaces, which the realm's flag names.
        _ => 1,
    };
    let part = |at: usize, flag: &str| match at < level {
        true => typed_flag(words, flag).unwrap_or_else(|| "default".to_owned()),
        false => String::new(),
    };
    v1::Scope {
        realm: typed_flag(words, "-n")
            .or_else(|| typed_flag(words, "--namespace"))
            .filter(|_| kind.is_release())
            .unwrap_or_else(|| part(0, "--realm")),
        space: part(1, "--space"),
        stack: part(2, "--stack"),
        cell: match kind {
            // `exec CELL --container <tab>` names the cell by position.
            Kind::Container => typed_flag(words, "--cell")
                .or_else(|| words.get(1).filter(|word| !word.starts_with('-')).cloned())
                .unwrap_or_default(),
            _ => String::new(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn typed_flags_reach_the_lookup() {
        let line = words("get cell --realm=a --space b --host unix:///x");
        assert_eq!(typed_flag(&line, "--realm").as_deref(), Some("a"));
        assert_eq!(typed_flag(&line, "--space").as_deref(), Some("b"));
        assert_eq!(typed_flag(&line, "--stack"), None);
        let scope = scope_of(Kind::Cell, &line);
        let parts = (
            scope.realm.as_str(),
            scope.space.as_str(),
            scope.stack.as_str(),
        );
        assert_eq!(parts, ("a", "b", "default"));
        assert_eq!(scope_of(Kind::Space, &line).space, "");
        assert_eq!(scope_of(Kind::Container, &words("exec web -c")).cell, "web");
    }

    #[test]
    fn kind_and_name_are_offered_in_one_word() {
        let offered = |text: &str| -> Vec<String> {
            let names = |kind: Kind, name: &OsStr| {
                assert_eq!((kind, name), (Kind::Serving, OsStr::new("w")));
                vec![CompletionCandidate::new("web")]
            };
            let found = with_kind(OsStr::new(text), names);
            let value = |c: &CompletionCandidate| c.get_value().to_string_lossy().into_owned();
            found.iter().map(value).collect()
        };
        assert_eq!(offered("serv"), ["serving/"]);
        assert_eq!(offered("serving/w"), ["serving/web"]);
        assert_eq!(offered("sv/w"), ["sv/web"]);
        assert!(offered("nothing/w").is_empty());
    }

    #[test]
    fn preparations_are_those_of_the_typed_recipe() {
        assert_eq!(recipe_of(&words("promote web --to")), Some("web"));
        assert_eq!(recipe_of(&words("diff web")), Some("web"));
        assert_eq!(recipe_of(&words("promote --to")), None);
        assert_eq!(recipe_of(&words("manifest web")), None);
    }

    #[test]
    fn kinds_are_offered_by_their_full_names() {
        let offered = |text: &str| -> Vec<String> {
            let found = kinds(OsStr::new(text));
            found
                .iter()
                .map(|c| c.get_value().to_string_lossy().into_owned())
                .collect()
        };
        assert_eq!(offered("cel"), ["cell", "cells"]);
        assert!(offered("zz").is_empty());
    }

    #[test]
    fn every_promised_shell_has_a_script_that_asks_kuke() {
        for shell in ["bash", "zsh", "fish"] {
            let text = String::from_utf8(script(shell).expect(shell)).expect("text");
            assert!(text.contains(VARIABLE), "{shell}: {text}");
            assert!(text.contains("kuke"), "{shell}");
        }
        assert!(script("tcsh").is_err());
    }
}
