//! The command line of `kukeond`, and the settings it resolves to.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};

use crate::api::v1beta1::ServerConfiguration;
use crate::api::{Code, Error, Result, decode_config};
use crate::model::{RegistryLayer, Resolved, SettingsLayer, WebLayer};
use crate::scheme::config::server_layer;

/// Where the server file is looked for.
pub const SERVER_FILE: &str = "/etc/kukeon/kukeond.yaml";

/// The kukeon daemon: keeps cells as their manifests say and serves the API.
#[derive(Debug, Parser)]
#[command(
    name = "kukeond",
    version,
    disable_help_subcommand = true,
    args_override_self = true,
    max_term_width = 100
)]
pub struct Arguments {
    #[command(flatten)]
    flags: Flags,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serve in the foreground until SIGTERM or SIGINT
    Serve {
        /// In a session of its own, for whoever starts it without a service manager
        #[arg(long, hide = true)]
        background: bool,
    },
}

/// Every setting as a flag. Precedence: flag, environment, file, default.
#[derive(Debug, Default, Args)]
struct Flags {
    /// Server file [env: KUKEOND_CONFIGURATION] [default: /etc/kukeon/kukeond.yaml]
    #[arg(long, global = true, value_name = "FILE")]
    configuration: Option<PathBuf>,
    /// API socket [env: KUKEOND_SOCKET] [default: derived from the run path]
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<String>,
    /// Group that may use the socket; 0 is root only [env: KUKEOND_SOCKET_GID]
    #[arg(long, global = true, value_name = "GID")]
    socket_gid: Option<String>,
    /// State root [env: KUKEON_RUN_PATH] [default: /opt/kukeon]
    #[arg(long, global = true, value_name = "DIR")]
    run_path: Option<String>,
    /// containerd endpoint [env: KUKEON_CONTAINERD_SOCKET] [default: /run/containerd/containerd.sock]
    #[arg(long, global = true, value_name = "PATH")]
    containerd_socket: Option<String>,
    /// debug, info, warn or error [env: KUKEON_LOG_LEVEL] [default: info]
    #[arg(long, global = true, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Pause between full passes; 0 turns them off [env: KUKEOND_RECONCILE_INTERVAL] [default: 30s]
    #[arg(
        long,
        global = true,
        value_name = "DURATION",
        allow_hyphen_values = true
    )]
    reconcile_interval: Option<String>,
    /// Suffix of containerd namespaces [env: KUKEON_NAMESPACE_SUFFIX] [default: kukeon.io]
    #[arg(long, global = true, value_name = "SUFFIX")]
    containerd_namespace_suffix: Option<String>,
    /// Root of the cgroup tree [env: KUKEON_CGROUP_ROOT] [default: /kukeon]
    #[arg(long, global = true, value_name = "PATH")]
    cgroup_root: Option<String>,
    /// Pool that each space takes a /24 from [env: KUKEON_POD_SUBNET_CIDR] [default: 10.117.0.0/16]
    #[arg(long, global = true, value_name = "CIDR")]
    pod_subnet_cidr: Option<String>,
    /// Memory limit for containers that state none; 0 is none [env: KUKEOND_DEFAULT_MEMORY_LIMIT_BYTES]
    #[arg(long, global = true, value_name = "BYTES", allow_hyphen_values = true)]
    default_memory_limit_bytes: Option<String>,
    /// Address of the registry, or off [env: KUKEOND_REGISTRY_LISTEN] [default: 127.0.0.1:5050; off for another run path]
    #[arg(long, global = true, value_name = "ADDRESS")]
    registry_listen: Option<String>,
    /// Address of the pages, or off [env: KUKEOND_WEB_LISTEN] [default: 127.0.0.1:5080; off for another run path]
    #[arg(long, global = true, value_name = "ADDRESS")]
    web_listen: Option<String>,
}

/// Reads the command line; help and usage errors come back as clap's error.
pub fn parse(argv: Vec<OsString>) -> std::result::Result<Arguments, clap::Error> {
    Arguments::try_parse_from(argv)
}

/// Shows what parsing came to; gives the exit code. A bare `kukeond` asks for
/// help, which goes to standard output and succeeds.
pub fn show(shown: &clap::Error) -> u8 {
    if shown.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        use std::io::Write;

        let _ = write!(anstream::stdout(), "{}", shown.render().ansi());
        return 0;
    }
    let _ = shown.print();
    u8::try_from(shown.exit_code()).unwrap_or(2)
}

impl Arguments {
    /// Settings from flags, environment and file.
    ///
    /// # Errors
    /// [`Code::Invalid`] for a setting or file that cannot be used.
    pub fn resolve(self) -> Result<Resolved> {
        let Verb::Serve { background } = self.verb;
        if background {
            // Whoever leads a process group cannot have a new session (setsid(2)),
            // and then stays in the old one.
            let _ = nix::unistd::setsid();
        }
        let env = |name: &str| std::env::var(name).ok();
        let program = std::env::current_exe()
            .map_err(|e| Error::failed("NoProgram", format!("the path of kukeond itself: {e}")))?;
        layers(self.flags, env)?
            .resolve(program)
            .map_err(Into::into)
    }
}

fn layers(flags: Flags, env: impl Fn(&str) -> Option<String>) -> Result<SettingsLayer> {
    let named = flags
        .configuration
        .clone()
        .or_else(|| env("KUKEOND_CONFIGURATION").map(PathBuf::from));
    let file = match &named {
        Some(path) => read(path, false)?,
        None => read(Path::new(SERVER_FILE), true)?,
    };
    Ok(flags.layer().over(SettingsLayer::from_env(env)).over(file))
}

/// The layer of a server file. An empty file is no file.
fn read(path: &Path, may_miss: bool) -> Result<SettingsLayer> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if may_miss && error.kind() == io::ErrorKind::NotFound => {
            return Ok(SettingsLayer::default());
        }
        Err(error) => {
            let what = format!("server configuration {}: {error}", path.display());
            return Err(Error::new(Code::Invalid, "ConfigurationUnreadable", what));
        }
    };
    let file: ServerConfiguration = decode_config(&path.display().to_string(), &bytes)
        .map_err(|e| e.context("server configuration is invalid"))?;
    Ok(server_layer(file.spec.unwrap_or_default()))
}

impl Flags {
    fn layer(self) -> SettingsLayer {
        SettingsLayer {
            run_path: self.run_path,
            socket: self.socket,
            socket_gid: self.socket_gid,
            containerd_socket: self.containerd_socket,
            log_level: self.log_level,
            reconcile_interval: self.reconcile_interval,
            namespace_suffix: self.containerd_namespace_suffix,
            cgroup_root: self.cgroup_root,
            pod_subnet: self.pod_subnet_cidr,
            default_memory_bytes: self.default_memory_limit_bytes,
            registry: RegistryLayer {
                listen: self.registry_listen,
                ..RegistryLayer::default()
            },
            web: WebLayer {
                listen: self.web_listen,
                ..WebLayer::default()
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn parsed(argv: &[&str]) -> Arguments {
        parse(argv.iter().map(OsString::from).collect()).expect("arguments")
    }

    #[test]
    fn bare_kukeond_shows_help_and_succeeds() {
        let shown = parse(vec!["kukeond".into()]).expect_err("help");
        assert_eq!(show(&shown), 0);
        assert!(shown.to_string().contains("serve"));
    }

    #[test]
    fn flag_over_environment_over_file() {
        let mut file = tempfile::NamedTempFile::new().expect("file");
        file.write_all(
            b"apiVersion: v1beta1\nkind: ServerConfiguration\nmetadata: {name: a}\nspec:\n  runPath: /file\n  cgroupRoot: /file\n  socketGID: 7\n",
        )
        .expect("write");
        let path = file.path().display().to_string();
        let arguments = parsed(&[
            "kukeond",
            "--configuration",
            &path,
            "serve",
            "--run-path",
            "/flag",
        ]);
        let env = |name: &str| match name {
            "KUKEON_RUN_PATH" | "KUKEON_CGROUP_ROOT" => Some("/env".to_owned()),
            _ => None,
        };
        let layer = layers(arguments.flags, env).expect("layers");
        assert_eq!(layer.run_path.as_deref(), Some("/flag"));
        assert_eq!(layer.cgroup_root.as_deref(), Some("/env"));
        assert_eq!(layer.socket_gid.as_deref(), Some("7"));
    }

    #[test]
    fn the_configuration_variable_is_read_and_a_named_file_must_exist() {
        let arguments = parsed(&["kukeond", "serve"]);
        let env = |name: &str| {
            (name == "KUKEOND_CONFIGURATION").then(|| "/nonexistent/k.yaml".to_owned())
        };
        let error = layers(arguments.flags, env).expect_err("missing file");
        assert_eq!(error.reason, "ConfigurationUnreadable");
    }

    #[test]
    fn an_empty_file_is_no_file() {
        assert_eq!(
            read(Path::new("/dev/null"), false),
            Ok(SettingsLayer::default())
        );
    }
}
