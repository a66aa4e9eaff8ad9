//! Where a verb works and with which settings: flag over environment over file
//! over default.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::failure::usage;
use crate::api::v1beta1::{ClientConfiguration, ServerConfiguration};
use crate::api::{Code, Error, Result, decode_config};
use crate::model::{Resolved, Settings, SettingsLayer};
use crate::scheme::config::{client_layer, server_layer};

/// Where the server file is looked for.
const SERVER_FILE: &str = "/etc/kukeon/kukeond.yaml";

/// Flags that every verb takes.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// Client file [env: KUKE_CONFIGURATION] [default: ~/.kuke/kuke.yaml]
    #[arg(long, global = true, value_name = "FILE")]
    pub configuration: Option<PathBuf>,
    /// Server file, for work without the daemon and on it [env: KUKEOND_CONFIGURATION] [default: /etc/kukeon/kukeond.yaml]
    #[arg(long, global = true, value_name = "FILE")]
    pub server_configuration: Option<PathBuf>,
    /// State root; giving it works in this process, without the daemon [env: KUKEON_RUN_PATH] [default: /opt/kukeon]
    #[arg(long, global = true, value_name = "DIR")]
    pub run_path: Option<String>,
    /// containerd endpoint for work in this process [env: KUKEON_CONTAINERD_SOCKET] [default: /run/containerd/containerd.sock]
    #[arg(long, global = true, value_name = "PATH")]
    pub containerd_socket: Option<String>,
    /// Daemon endpoint [env: KUKEON_HOST] [default: unix:///run/kukeon/kukeond.sock]
    #[arg(long, global = true, value_name = "URL")]
    pub host: Option<String>,
    /// Work in this process, without the daemon [env: KUKEON_NO_DAEMON]
    #[arg(long, global = true)]
    pub no_daemon: bool,
    /// Give up after this long, for example 30s or 5m [default: none for work, short for questions]
    #[arg(long = "request-timeout", global = true, value_name = "DURATION", value_parser = duration)]
    pub request_timeout: Option<Duration>,
    /// Log to standard error [env: KUKEON_VERBOSE]
    #[arg(long, short, global = true)]
    pub verbose: bool,
    /// debug, info, warn or error; needs --verbose [env: KUKEON_LOG_LEVEL] [default: info]
    #[arg(long, global = true, value_name = "LEVEL")]
    pub log_level: Option<String>,
}

/// Where a verb does its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In this process.
    Here,
    /// At the daemon behind this socket.
    Daemon(PathBuf),
}

/// Everything that was decided before a verb runs.
#[derive(Debug, Clone)]
pub struct Config {
    /// Settings of the instance.
    pub resolved: Resolved,
    /// Where verbs work.
    pub place: Place,
    /// Socket of the daemon, also when verbs work here.
    pub daemon_socket: PathBuf,
    /// Whether to log.
    pub verbose: bool,
    /// Limit of a call.
    pub limit: Option<Duration>,
    /// Things to mention on standard error.
    pub warnings: Vec<String>,
    /// The server file, where one was named.
    server_configuration: Option<PathBuf>,
}

pub use crate::model::duration::parse as duration;

impl Config {
    /// Decides everything. `env` looks a variable up; one that is present but
    /// empty counts as set.
    ///
    /// # Errors
    /// Settings or files that cannot be used, flags that contradict each other.
    pub fn resolve(globals: &Globals, env: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let mut warnings = Vec::new();
        let flags = SettingsLayer {
            run_path: globals.run_path.clone(),
            containerd_socket: globals.containerd_socket.clone(),
            log_level: globals.log_level.clone(),
            ..Default::default()
        };
        let explicit = flags.over(SettingsLayer::from_env(&env));
        let explicit_run_path = explicit.run_path.is_some();
        let (file, file_host) = client_file(globals, &env, &mut warnings)?;
        let upper = explicit.over(file);
        let server = server_file(globals, &env, &upper)?;
        let mut resolved = upper.over(server).resolve(program()?)?;
        warnings.append(&mut resolved.warnings);

        let no_daemon = boolean("KUKEON_NO_DAEMON", env("KUKEON_NO_DAEMON"))?;
        let here = works_here(globals, no_daemon, explicit_run_path)?;
        let host = globals.host.clone().or_else(|| env("KUKEON_HOST"));
        let host = host.or(file_host.filter(|_| !explicit_run_path));
        let daemon_socket = match host {
            Some(host) => socket_of(&host)?,
            None => resolved.settings.socket.clone(),
        };
        let verbose = globals.verbose
            || boolean("KUKEON_VERBOSE", env("KUKEON_VERBOSE"))?.unwrap_or_default();
        Ok(Self {
            resolved,
            place: if here {
                Place::Here
            } else {
                Place::Daemon(daemon_socket.clone())
            },
            daemon_socket,
            verbose,
            limit: globals.request_timeout,
            warnings,
            server_configuration: server_path(globals, &env),
        })
    }

    /// Flags that make a daemon serve exactly this instance.
    pub fn daemon_flags(&self) -> Vec<OsString> {
        let settings = &self.resolved.settings;
        let mut flags: Vec<OsString> = Vec::new();
        let mut flag = |name: &str, value: &dyn AsRef<OsStr>| {
            flags.push(name.into());
            flags.push(value.as_ref().into());
        };
        if let Some(file) = &self.server_configuration {
            flag("--configuration", file);
        }
        flag("--run-path", &settings.run_path);
        flag("--socket", &settings.socket);
        flag("--containerd-socket", &settings.containerd_socket);
        flag("--containerd-namespace-suffix", &settings.namespace_suffix);
        flag("--cgroup-root", &settings.cgroup_root);
        flag("--pod-subnet-cidr", &settings.pod_subnet.to_string());
        flag("--log-level", &self.resolved.log_level.as_str());
        flags
    }
}

/// Whether verbs work in this process. A flag beats the environment; two flags
/// that contradict each other are refused, not ranked.
fn works_here(globals: &Globals, no_daemon: Option<bool>, explicit_run_path: bool) -> Result<bool> {
    let host = globals.host.is_some();
    if host && globals.no_daemon {
        return Err(usage(
            "--host and --no-daemon contradict each other: leave one out",
        ));
    }
    if host && globals.run_path.is_some() && no_daemon != Some(false) {
        return Err(usage(
            "--host and --run-path contradict each other: a run path means work in this process",
        )
        .hint("leave one out; the daemon behind --host knows its own run path"));
    }
    Ok(globals.no_daemon || (!host && no_daemon.unwrap_or(explicit_run_path)))
}

fn program() -> Result<PathBuf> {
    std::env::current_exe()
        .map_err(|e| Error::failed("NoProgram", format!("the path of kuke itself: {e}")))
}

/// The client file. A default file that cannot be read is mentioned, not fatal:
/// after dropping privileges HOME often still points elsewhere.
fn client_file(
    globals: &Globals,
    env: impl Fn(&str) -> Option<String>,
    warnings: &mut Vec<String>,
) -> Result<(SettingsLayer, Option<String>)> {
    let named = globals
        .configuration
        .clone()
        .or_else(|| env("KUKE_CONFIGURATION").map(PathBuf::from));
    let default = || {
        env("HOME")
            .filter(|home| !home.is_empty())
            .map(|home| Path::new(&home).join(".kuke/kuke.yaml"))
    };
    let Some(path) = named.clone().or_else(default) else {
        return Ok(Default::default());
    };
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => {
            return Ok(Default::default());
        }
        Err(error) => {
            warnings.push(format!(
                "client configuration {} is left out: {error}",
                path.display()
            ));
            return Ok(Default::default());
        }
    };
    let file: ClientConfiguration = decode_config(&path.display().to_string(), &bytes)
        .map_err(|e| e.context("client configuration is invalid"))?;
    let mut spec = file.spec.unwrap_or_default();
    let host = Some(std::mem::take(&mut spec.host)).filter(|host| !host.is_empty());
    Ok((client_layer(spec), host))
}

/// The server file that was named.
fn server_path(globals: &Globals, env: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    globals
        .server_configuration
        .clone()
        .or_else(|| env("KUKEOND_CONFIGURATION").map(PathBuf::from))
}

/// The server file, as far as it speaks of the same instance: a default file
/// says nothing about another run path.
fn server_file(
    globals: &Globals,
    env: impl Fn(&str) -> Option<String>,
    upper: &SettingsLayer,
) -> Result<SettingsLayer> {
    let named = server_path(globals, env);
    let path = named.clone().unwrap_or_else(|| SERVER_FILE.into());
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(_) if named.is_none() => return Ok(SettingsLayer::default()),
        Err(error) => {
            return Err(Error::new(
                Code::Invalid,
                "ConfigurationUnreadable",
                format!("server configuration {}: {error}", path.display()),
            ));
        }
    };
    let file: ServerConfiguration = decode_config(&path.display().to_string(), &bytes)
        .map_err(|e| e.context("server configuration is invalid"))?;
    let layer = server_layer(file.spec.unwrap_or_default());
    let its = layer.run_path.as_deref().unwrap_or(Settings::RUN_PATH);
    let same = upper
        .run_path
        .as_deref()
        .is_none_or(|ours| Path::new(ours) == Path::new(its));
    Ok(if same || named.is_some() {
        layer
    } else {
        SettingsLayer::default()
    })
}

/// The socket path in an endpoint.
fn socket_of(host: &str) -> Result<PathBuf> {
    let path = match host.split_once("://") {
        Some(("unix", path)) => path,
        Some((scheme, _)) => {
            return Err(usage(format!("unsupported kukeon host scheme {scheme:?} in {host:?}"))
                .hint("only unix:///path is supported; reach another machine by running kuke there over ssh"));
        }
        None => host,
    };
    if !path.starts_with('/') {
        return Err(usage(format!(
            "kukeon host {host:?} is invalid: unix:// and an absolute path is needed"
        )));
    }
    Ok(PathBuf::from(path))
}

/// A variable that is true or false. Empty is set, and false.
fn boolean(name: &str, value: Option<String>) -> Result<Option<bool>> {
    let Some(value) = value else { return Ok(None) };
    match value.to_ascii_lowercase().as_str() {
        "1" | "t" | "true" | "y" | "yes" | "on" => Ok(Some(true)),
        "" | "0" | "f" | "false" | "n" | "no" | "off" => Ok(Some(false)),
        _ => Err(usage(format!(
            "{name} is {value:?}, but true or false is needed"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn resolve(globals: Globals, env: &[(&str, &str)]) -> Result<Config> {
        let env: BTreeMap<_, _> = env.iter().copied().collect();
        // Never the files of the machine the test runs on.
        let globals = Globals {
            server_configuration: globals.server_configuration.or(Some("/dev/null".into())),
            ..globals
        };
        Config::resolve(&globals, |name| env.get(name).map(|v| (*v).to_owned()))
    }

    fn run_path(text: &str) -> Globals {
        Globals {
            run_path: Some(text.into()),
            ..Default::default()
        }
    }

    fn host(text: &str) -> Globals {
        Globals {
            host: Some(text.into()),
            ..Default::default()
        }
    }

    #[test]
    fn where_a_verb_works() {
        let daemon = |path: &str| Place::Daemon(path.into());
        let default = daemon("/run/kukeon/kukeond.sock");
        let no_daemon = Globals {
            no_daemon: true,
            ..Default::default()
        };
        type Case<'a> = (Globals, &'a [(&'a str, &'a str)], Place);
        let table: [Case<'_>; 12] = [
            (Globals::default(), &[], default.clone()),
            (no_daemon, &[], Place::Here),
            (run_path("/r"), &[], Place::Here),
            (
                Globals::default(),
                &[("KUKEON_RUN_PATH", "/r")],
                Place::Here,
            ),
            (
                Globals::default(),
                &[("KUKEON_NO_DAEMON", "true")],
                Place::Here,
            ),
            (
                Globals::default(),
                &[("KUKEON_NO_DAEMON", "false")],
                default.clone(),
            ),
            (Globals::default(), &[("KUKEON_NO_DAEMON", "")], default),
            // The veto: the daemon of that run path.
            (
                run_path("/r"),
                &[("KUKEON_NO_DAEMON", "false")],
                daemon("/r/run/kukeond.sock"),
            ),
            // A flag beats the environment.
            (
                host("unix:///h"),
                &[("KUKEON_NO_DAEMON", "true")],
                daemon("/h"),
            ),
            (
                host("unix:///h"),
                &[("KUKEON_RUN_PATH", "/r")],
                daemon("/h"),
            ),
            (host("/h"), &[("KUKEON_HOST", "unix:///e")], daemon("/h")),
            (
                Globals::default(),
                &[("KUKEON_HOST", "unix:///e")],
                daemon("/e"),
            ),
        ];
        for (globals, env, place) in table {
            let shown = format!("{globals:?} {env:?}");
            assert_eq!(resolve(globals, env).expect(&shown).place, place, "{shown}");
        }
    }

    #[test]
    fn contradictions_and_unknown_hosts_are_usage_errors() {
        let both = Globals {
            no_daemon: true,
            ..host("unix:///h")
        };
        let path = Globals {
            run_path: Some("/r".into()),
            ..host("unix:///h")
        };
        for globals in [
            both,
            path,
            host("ssh://box"),
            host("unix://relative"),
            host(""),
        ] {
            let shown = format!("{globals:?}");
            let error = resolve(globals, &[]).expect_err(&shown);
            assert_eq!(error.code, Code::Invalid, "{shown}");
        }
        assert!(resolve(Globals::default(), &[("KUKEON_NO_DAEMON", "maybe")]).is_err());
        assert!(resolve(Globals::default(), &[("KUKEON_RUN_PATH", "")]).is_err());
    }

    #[test]
    fn files_come_below_the_environment() {
        let dir = tempfile::tempdir().expect("directory");
        let client = dir.path().join("kuke.yaml");
        std::fs::write(
            &client,
            "apiVersion: v1beta1\nkind: ClientConfiguration\nmetadata: {name: a}\nspec:\n  host: unix:///file\n  cgroupRoot: /file\n  containerdSocket: /file\n",
        )
        .expect("write");
        let globals = Globals {
            configuration: Some(client),
            ..Default::default()
        };
        let config = resolve(globals.clone(), &[("KUKEON_CGROUP_ROOT", "/env")]).expect("config");
        assert_eq!(config.place, Place::Daemon("/file".into()));
        assert_eq!(config.resolved.settings.cgroup_root, "/env");
        assert_eq!(
            config.resolved.settings.containerd_socket,
            Path::new("/file")
        );
        // An explicit run path is another instance than the file's host.
        let env = [("KUKEON_RUN_PATH", "/r"), ("KUKEON_NO_DAEMON", "false")];
        let config = resolve(globals, &env).expect("config");
        assert_eq!(config.place, Place::Daemon("/r/run/kukeond.sock".into()));
    }

    #[test]
    fn a_server_file_speaks_only_of_its_own_run_path() {
        let dir = tempfile::tempdir().expect("directory");
        let file = dir.path().join("kukeond.yaml");
        std::fs::write(
            &file,
            "apiVersion: v1beta1\nkind: ServerConfiguration\nmetadata: {name: a}\nspec: {runPath: /srv/k, cgroupRoot: /srv}\n",
        )
        .expect("write");
        let globals = Globals {
            server_configuration: Some(file),
            ..Default::default()
        };
        let config = resolve(globals, &[]).expect("config");
        assert_eq!(config.resolved.settings.run_path, Path::new("/srv/k"));
        assert_eq!(
            config.place,
            Place::Daemon("/srv/k/run/kukeond.sock".into())
        );
    }

    #[test]
    fn an_unreadable_client_file_is_only_mentioned() {
        let globals = Globals {
            configuration: Some("/proc/self/mem/nope".into()),
            ..Default::default()
        };
        let config = resolve(globals, &[]).expect("config");
        assert_eq!(config.warnings.len(), 1);
    }

    #[test]
    fn durations() {
        assert_eq!(duration("10"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert!(duration("-1s").is_err());
        assert!(duration("soon").is_err());
    }
}
