//! Settings as they are given: raw values from flags, environment and files,
//! put over each other and checked once.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::SignedDuration;

use super::{RegistryLayer, Settings, WebLayer};

/// One layer of settings. `None` leaves the decision to the layer below; an
/// empty text counts as given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SettingsLayer {
    /// State root.
    pub run_path: Option<String>,
    /// API socket.
    pub socket: Option<String>,
    /// Group of the API socket; 0 is root only.
    pub socket_gid: Option<String>,
    /// containerd endpoint.
    pub containerd_socket: Option<String>,
    /// `debug`, `info`, `warn` or `error`.
    pub log_level: Option<String>,
    /// Pause between full passes.
    pub reconcile_interval: Option<String>,
    /// Suffix of containerd namespaces.
    pub namespace_suffix: Option<String>,
    /// Root of the cgroup tree.
    pub cgroup_root: Option<String>,
    /// Pool that spaces take their subnet from.
    pub pod_subnet: Option<String>,
    /// Bytes for containers that state no memory limit.
    pub default_memory_bytes: Option<String>,
    /// The registry that the daemon hosts.
    pub registry: RegistryLayer,
    /// The pages that the daemon serves.
    pub web: WebLayer,
}

/// What all layers together mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Settings of the instance.
    pub settings: Settings,
    /// Group of the API socket; none is root only.
    pub socket_gid: Option<u32>,
    /// Pause between full passes; none turns them off.
    pub reconcile_interval: Option<Duration>,
    /// How much is logged.
    pub log_level: LogLevel,
    /// Values that were replaced by something sensible, for people.
    pub warnings: Vec<String>,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// What happens.
    #[default]
    Info,
    /// What is odd.
    Warn,
    /// What fails.
    Error,
}

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting} {value:?} is invalid: {why}")]
pub struct SettingsError {
    /// Name of the setting as in the configuration file.
    pub setting: &'static str,
    /// What was given.
    pub value: String,
    /// What is wrong with it.
    pub why: String,
}

impl SettingsLayer {
    /// The layer that environment variables make.
    pub fn from_env(env: impl Fn(&str) -> Option<String>) -> Self {
        Self {
            run_path: env("KUKEON_RUN_PATH"),
            socket: env("KUKEOND_SOCKET"),
            socket_gid: env("KUKEOND_SOCKET_GID"),
            containerd_socket: env("KUKEON_CONTAINERD_SOCKET"),
            log_level: env("KUKEON_LOG_LEVEL"),
            reconcile_interval: env("KUKEOND_RECONCILE_INTERVAL"),
            namespace_suffix: env("KUKEON_NAMESPACE_SUFFIX"),
            cgroup_root: env("KUKEON_CGROUP_ROOT"),
            pod_subnet: env("KUKEON_POD_SUBNET_CIDR"),
            default_memory_bytes: env("KUKEOND_DEFAULT_MEMORY_LIMIT_BYTES"),
            registry: RegistryLayer::from_env(&env),
            web: WebLayer::from_env(&env),
        }
    }

    /// This layer over a lower one.
    #[must_use]
    pub fn over(self, lower: Self) -> Self {
        Self {
            run_path: self.run_path.or(lower.run_path),
            socket: self.socket.or(lower.socket),
            socket_gid: self.socket_gid.or(lower.socket_gid),
            containerd_socket: self.containerd_socket.or(lower.containerd_socket),
            log_level: self.log_level.or(lower.log_level),
            reconcile_interval: self.reconcile_interval.or(lower.reconcile_interval),
            namespace_suffix: self.namespace_suffix.or(lower.namespace_suffix),
            cgroup_root: self.cgroup_root.or(lower.cgroup_root),
            pod_subnet: self.pod_subnet.or(lower.pod_subnet),
            default_memory_bytes: self.default_memory_bytes.or(lower.default_memory_bytes),
            registry: self.registry.over(lower.registry),
            web: self.web.over(lower.web),
        }
    }

    /// Fills in the defaults and checks everything. `program` is the running
    /// executable.
    ///
    /// # Errors
    /// The first setting that cannot be used.
    pub fn resolve(self, program: PathBuf) -> Result<Resolved, SettingsError> {
        let mut warnings = Vec::new();
        let run_path = absolute("runPath", self.run_path, Settings::RUN_PATH)?;
        let is_default = run_path == Path::new(Settings::RUN_PATH);
        let runtime_dir = Settings::runtime_dir_for(&run_path);
        let socket = match self.socket {
            Some(path) => absolute("socket", Some(path), "")?,
            None => Settings::socket_for(&run_path),
        };
        if socket.as_os_str().len() > SOCKET_PATH_LIMIT {
            return Err(invalid(
                "socket",
                socket.display().to_string(),
                format!(
                    "a socket path may have at most {SOCKET_PATH_LIMIT} bytes (unix(7)); take a shorter run path"
                ),
            ));
        }
        let settings = Settings {
            runtime_dir,
            socket,
            containerd_socket: containerd_socket(self.containerd_socket)?,
            namespace_suffix: namespace_suffix(self.namespace_suffix)?,
            cgroup_root: cgroup_root(self.cgroup_root)?,
            pod_subnet: pod_subnet(self.pod_subnet)?,
            default_memory_bytes: default_memory(self.default_memory_bytes, &mut warnings)?,
            registry: self.registry.resolve(is_default)?,
            web: self.web.resolve(is_default)?,
            program,
            run_path,
        };
        Ok(Resolved {
            settings,
            socket_gid: socket_gid(self.socket_gid)?,
            reconcile_interval: interval(self.reconcile_interval, &mut warnings),
            log_level: log_level(self.log_level)?,
            warnings,
        })
    }
}

/// `sun_path` holds 108 bytes with the final zero (unix(7)).
const SOCKET_PATH_LIMIT: usize = 107;
const DEFAULT_INTERVAL: Duration = Duration::from_secs(30);

fn invalid(setting: &'static str, value: String, why: impl Into<String>) -> SettingsError {
    SettingsError {
        setting,
        value,
        why: why.into(),
    }
}

/// An absolute path without `.`, `..`, doubled or trailing slashes, so that two
/// spellings of one run path are one instance.
fn absolute(
    setting: &'static str,
    value: Option<String>,
    default: &str,
) -> Result<PathBuf, SettingsError> {
    let value = value.unwrap_or_else(|| default.to_owned());
    let path = Path::new(&value);
    if value.is_empty() {
        return Err(invalid(setting, value, "it is empty"));
    }
    if !path.is_absolute() {
        return Err(invalid(setting, value, "an absolute path is needed"));
    }
    if value.contains('\0') || path.components().any(|c| c.as_os_str() == "..") {
        return Err(invalid(setting, value, "it must not contain `..` or NUL"));
    }
    let clean: PathBuf = path.components().collect();
    if clean == Path::new("/") {
        return Err(invalid(setting, value, "it must not be the root directory"));
    }
    Ok(clean)
}

fn containerd_socket(value: Option<String>) -> Result<PathBuf, SettingsError> {
    let value = value.map(|text| match text.strip_prefix("unix://") {
        Some(path) => path.to_owned(),
        None => text,
    });
    absolute("containerdSocket", value, Settings::CONTAINERD_SOCKET)
}

fn namespace_suffix(value: Option<String>) -> Result<String, SettingsError> {
    let value = value.unwrap_or_else(|| Settings::NAMESPACE_SUFFIX.to_owned());
    let label = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    if !value.split('.').all(label) {
        let why =
            "a domain such as `kukeon.io` is needed: a-z, 0-9, '-', parts joined by single dots";
        return Err(invalid("containerdNamespaceSuffix", value, why));
    }
    Ok(value)
}

fn cgroup_root(value: Option<String>) -> Result<String, SettingsError> {
    let path = absolute("cgroupRoot", value, Settings::CGROUP_ROOT)?;
    path.into_os_string().into_string().map_err(|raw| {
        invalid(
            "cgroupRoot",
            raw.to_string_lossy().into(),
            "it is not UTF-8",
        )
    })
}

fn pod_subnet(value: Option<String>) -> Result<ipnet::Ipv4Net, SettingsError> {
    let value = value.unwrap_or_else(|| Settings::POD_SUBNET.to_owned());
    match value.parse::<ipnet::Ipv4Net>() {
        Ok(net) if net.prefix_len() > 24 => {
            let why = "it is cut into one /24 per space, so /24 is the smallest pool";
            Err(invalid("podSubnetCIDR", value, why))
        }
        Ok(net) if net.trunc() != net => {
            let why = format!("it has host bits set; {} is the network", net.trunc());
            Err(invalid("podSubnetCIDR", value, why))
        }
        Ok(net) => Ok(net),
        Err(_) => Err(invalid(
            "podSubnetCIDR",
            value,
            "an IPv4 network such as 10.117.0.0/16 is needed",
        )),
    }
}

fn default_memory(
    value: Option<String>,
    warnings: &mut Vec<String>,
) -> Result<Option<u64>, SettingsError> {
    let Some(value) = value else { return Ok(None) };
    match value.parse::<i64>() {
        Ok(bytes) if bytes < 0 => {
            warnings.push(format!(
                "defaultMemoryLimitBytes {bytes} is negative: no default limit is set"
            ));
            Ok(None)
        }
        Ok(bytes) => Ok(u64::try_from(bytes).ok().filter(|&bytes| bytes > 0)),
        Err(_) => Err(invalid(
            "defaultMemoryLimitBytes",
            value,
            "a number of bytes is needed",
        )),
    }
}

fn socket_gid(value: Option<String>) -> Result<Option<u32>, SettingsError> {
    let Some(value) = value else { return Ok(None) };
    match value.parse::<u32>() {
        // chown(2) takes the last id as "leave it".
        Ok(gid) if gid < u32::MAX => Ok(Some(gid).filter(|&gid| gid > 0)),
        _ => Err(invalid("socketGID", value, "a numeric group id is needed")),
    }
}

fn interval(value: Option<String>, warnings: &mut Vec<String>) -> Option<Duration> {
    let Some(value) = value else {
        return Some(DEFAULT_INTERVAL);
    };
    match value.parse::<SignedDuration>() {
        Ok(pause) => Duration::try_from(pause)
            .ok()
            .filter(|pause| !pause.is_zero()),
        Err(_) if value == "0" => None,
        Err(_) => {
            warnings.push(format!(
                "reconcileInterval {value:?} is not a duration such as 30s: 30s is used"
            ));
            Some(DEFAULT_INTERVAL)
        }
    }
}

fn log_level(value: Option<String>) -> Result<LogLevel, SettingsError> {
    match value.as_deref() {
        None => Ok(LogLevel::default()),
        Some("debug") => Ok(LogLevel::Debug),
        Some("info") => Ok(LogLevel::Info),
        Some("warn" | "warning") => Ok(LogLevel::Warn),
        Some("error") => Ok(LogLevel::Error),
        Some(other) => Err(invalid(
            "logLevel",
            other.to_owned(),
            "it is one of debug, info, warn, error",
        )),
    }
}

impl LogLevel {
    /// The level as written in flags and files.
    pub fn as_str(self) -> &'static str {
        match self {
            LogLevel::Debug => "debug",
            LogLevel::Info => "info",
            LogLevel::Warn => "warn",
            LogLevel::Error => "error",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(layer: SettingsLayer) -> Result<Resolved, SettingsError> {
        layer.resolve(PathBuf::from("/usr/local/bin/kuke"))
    }

    #[test]
    fn nothing_given_is_the_default_instance() {
        let got = resolve(SettingsLayer::default()).expect("defaults");
        assert_eq!(got.settings.run_path, Path::new("/opt/kukeon"));
        assert_eq!(got.settings.runtime_dir, Path::new("/run/kukeon"));
        assert_eq!(got.settings.socket, Path::new("/run/kukeon/kukeond.sock"));
        assert_eq!(got.reconcile_interval, Some(DEFAULT_INTERVAL));
        assert_eq!((got.socket_gid, got.log_level), (None, LogLevel::Info));
        assert!(got.warnings.is_empty());
    }

    #[test]
    fn another_run_path_moves_runtime_directory_and_socket() {
        let got = resolve(SettingsLayer {
            run_path: Some("/srv//k/./".into()),
            ..Default::default()
        })
        .expect("settings");
        assert_eq!(got.settings.run_path, Path::new("/srv/k"));
        assert_eq!(got.settings.socket, Path::new("/srv/k/run/kukeond.sock"));
    }

    #[test]
    fn upper_layers_win_field_by_field() {
        let upper = SettingsLayer {
            run_path: Some("/a".into()),
            ..Default::default()
        };
        let lower = SettingsLayer {
            run_path: Some("/b".into()),
            cgroup_root: Some("/c".into()),
            ..Default::default()
        };
        let both = upper.over(lower);
        assert_eq!(both.run_path.as_deref(), Some("/a"));
        assert_eq!(both.cgroup_root.as_deref(), Some("/c"));
    }

    #[test]
    fn every_environment_variable_is_read() {
        let layer = SettingsLayer::from_env(|name| Some(name.to_owned()));
        assert_eq!(layer.run_path.as_deref(), Some("KUKEON_RUN_PATH"));
        assert_eq!(
            layer.namespace_suffix.as_deref(),
            Some("KUKEON_NAMESPACE_SUFFIX")
        );
        assert_eq!(
            layer.default_memory_bytes.as_deref(),
            Some("KUKEOND_DEFAULT_MEMORY_LIMIT_BYTES")
        );
        assert_eq!(
            layer.over(SettingsLayer::default()),
            SettingsLayer::from_env(|n| Some(n.to_owned()))
        );
    }

    #[test]
    fn unusable_values_are_refused_by_name() {
        let cases: [(&str, SettingsLayer); 8] = [
            (
                "runPath",
                SettingsLayer {
                    run_path: Some(String::new()),
                    ..Default::default()
                },
            ),
            (
                "runPath",
                SettingsLayer {
                    run_path: Some("opt".into()),
                    ..Default::default()
                },
            ),
            (
                "runPath",
                SettingsLayer {
                    run_path: Some("/".into()),
                    ..Default::default()
                },
            ),
            (
                "cgroupRoot",
                SettingsLayer {
                    cgroup_root: Some("/".into()),
                    ..Default::default()
                },
            ),
            (
                "containerdNamespaceSuffix",
                SettingsLayer {
                    namespace_suffix: Some(".a".into()),
                    ..Default::default()
                },
            ),
            (
                "podSubnetCIDR",
                SettingsLayer {
                    pod_subnet: Some("10.0.0.1/16".into()),
                    ..Default::default()
                },
            ),
            (
                "socket",
                SettingsLayer {
                    socket: Some(format!("/{}", "s".repeat(120))),
                    ..Default::default()
                },
            ),
            (
                "logLevel",
                SettingsLayer {
                    log_level: Some("loud".into()),
                    ..Default::default()
                },
            ),
        ];
        for (setting, layer) in cases {
            let error = resolve(layer).expect_err(setting);
            assert_eq!(error.setting, setting, "{error}");
        }
    }

    #[test]
    fn intervals_and_limits_follow_the_documented_fallbacks() {
        let with = |text: &str| {
            resolve(SettingsLayer {
                reconcile_interval: Some(text.into()),
                ..Default::default()
            })
            .expect("settings")
        };
        assert_eq!(
            with("1m30s").reconcile_interval,
            Some(Duration::from_secs(90))
        );
        for off in ["0", "0s", "-5s"] {
            assert_eq!(with(off).reconcile_interval, None, "{off}");
        }
        let odd = with("soon");
        assert_eq!(odd.reconcile_interval, Some(DEFAULT_INTERVAL));
        assert_eq!(odd.warnings.len(), 1);
        let negative = resolve(SettingsLayer {
            default_memory_bytes: Some("-1".into()),
            ..Default::default()
        })
        .expect("settings");
        assert_eq!(negative.settings.default_memory_bytes, None);
        assert_eq!(negative.warnings.len(), 1);
    }
}
