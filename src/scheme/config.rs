//! The configuration files as layers of settings. An empty field leaves the
//! decision to the layer below.

use crate::api::v1beta1::{
    ClientConfigurationSpec, RegistryConfiguration, ServerConfigurationSpec, WebConfiguration,
};
use crate::model::{RegistryLayer, SettingsLayer, WebLayer};

/// The settings of a client file. Its `host` is not among them: it is an
/// endpoint, not a setting of the instance.
pub fn client_layer(spec: ClientConfigurationSpec) -> SettingsLayer {
    SettingsLayer {
        run_path: given(spec.run_path),
        containerd_socket: given(spec.containerd_socket),
        log_level: given(spec.log_level),
        namespace_suffix: given(spec.containerd_namespace_suffix),
        cgroup_root: given(spec.cgroup_root),
        pod_subnet: given(spec.pod_subnet_cidr),
        ..Default::default()
    }
}

/// The settings of a server file.
pub fn server_layer(spec: ServerConfigurationSpec) -> SettingsLayer {
    SettingsLayer {
        run_path: given(spec.run_path),
        socket: given(spec.socket),
        socket_gid: spec.socket_gid.map(|gid| gid.to_string()),
        containerd_socket: given(spec.containerd_socket),
        log_level: given(spec.log_level),
        reconcile_interval: given(spec.reconcile_interval),
        namespace_suffix: given(spec.containerd_namespace_suffix),
        cgroup_root: given(spec.cgroup_root),
        pod_subnet: given(spec.pod_subnet_cidr),
        default_memory_bytes: spec
            .default_memory_limit_bytes
            .map(|bytes| bytes.to_string()),
        registry: spec.registry.map(registry_layer).unwrap_or_default(),
        web: spec.web.map(web_layer).unwrap_or_default(),
    }
}

fn web_layer(spec: WebConfiguration) -> WebLayer {
    WebLayer {
        listen: given(spec.listen),
        scheme: given(spec.scheme),
        names: Some(spec.names).filter(|names| !names.is_empty()),
    }
}

fn registry_layer(spec: RegistryConfiguration) -> RegistryLayer {
    RegistryLayer {
        listen: given(spec.listen),
        scheme: given(spec.scheme),
        anonymous_pull: spec.anonymous_pull,
        quota_bytes: spec.quota_bytes,
        min_free_bytes: spec.min_free_bytes,
        requests_per_second: spec.requests_per_second,
        names: Some(spec.names).filter(|names| !names.is_empty()),
    }
}

fn given(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_fields_leave_the_decision_below() {
        assert_eq!(client_layer(Default::default()), SettingsLayer::default());
        assert_eq!(server_layer(Default::default()), SettingsLayer::default());
    }

    #[test]
    fn every_server_field_is_a_setting() {
        let layer = server_layer(ServerConfigurationSpec {
            socket: "a".into(),
            socket_gid: Some(1),
            run_path: "b".into(),
            containerd_socket: "c".into(),
            log_level: "d".into(),
            reconcile_interval: "e".into(),
            containerd_namespace_suffix: "f".into(),
            cgroup_root: "g".into(),
            pod_subnet_cidr: "h".into(),
            default_memory_limit_bytes: Some(2),
            registry: Some(RegistryConfiguration {
                listen: "i".into(),
                scheme: "j".into(),
                anonymous_pull: Some(true),
                quota_bytes: Some(3),
                min_free_bytes: Some(4),
                requests_per_second: Some(5),
                names: vec!["k".into()],
            }),
            web: Some(WebConfiguration {
                listen: "l".into(),
                scheme: "m".into(),
                names: vec!["n".into()],
            }),
        });
        assert_eq!(
            layer
                .clone()
                .over(SettingsLayer::from_env(|_| Some("x".into()))),
            layer
        );
    }
}
