//! Statuses. Reading is lenient: a status is an observation, and what cannot be
//! read of it is observed again.

use jiff::Timestamp;

use super::time_text;
use crate::api::v1beta1;
use crate::model::{
    CellState, CellStatus, ContainerState, ContainerStatus, Name, NetworkStatus, ScopeState,
    ScopeStatus,
};

/// Words and values of an enumeration, once for both directions.
macro_rules! words {
    ($to:ident, $from:ident, $type:ident, $($variant:ident),*) => {
        pub(super) fn $to(value: $type) -> String {
            match value {
                $($type::$variant => stringify!($variant),)*
            }
            .to_owned()
        }

        fn $from(text: &str) -> $type {
            match text {
                $(stringify!($variant) => $type::$variant,)*
                "" => $type::default(),
                _ => $type::Unknown,
            }
        }
    };
}

words!(
    scope_word,
    scope_state,
    ScopeState,
    Pending,
    Ready,
    Deleting,
    Failed,
    Unknown
);
words!(
    cell_word, cell_state, CellState, Pending, Ready, Stopped, Failed, Unknown, Exited, Error,
    Degraded
);
words!(
    container_word,
    container_state,
    ContainerState,
    Pending,
    Ready,
    Stopped,
    Paused,
    Failed,
    Unknown,
    NotCreated,
    Exited,
    Error
);

fn time(text: &str) -> Option<Timestamp> {
    text.parse().ok()
}

/// Signal that an exit code stands for: 128 + n for signal n (1 to 64).
fn signal(code: Option<i32>) -> i32 {
    match code {
        Some(code @ 129..=192) => code - 128,
        _ => 0,
    }
}

/// Status of a realm, space or stack as shown.
pub fn scope_status_to_external(status: &ScopeStatus) -> v1beta1::Status {
    let ScopeStatus {
        state,
        reason,
        message,
        observed_generation,
        cgroup_path,
        subtree_controllers,
        namespace,
        network,
    } = status;
    v1beta1::Status {
        state: scope_word(*state),
        reason: reason.clone(),
        message: message.clone(),
        observed_generation: *observed_generation,
        cgroup_path: cgroup_path.clone(),
        subtree_controllers: subtree_controllers.clone(),
        namespace: namespace.clone(),
        network: network_to_external(network),
    }
}

/// Status of a realm, space or stack as kept.
pub fn scope_status_to_model(status: v1beta1::Status) -> ScopeStatus {
    let v1beta1::Status {
        state,
        reason,
        message,
        observed_generation,
        cgroup_path,
        subtree_controllers,
        namespace,
        network,
    } = status;
    ScopeStatus {
        state: scope_state(&state),
        reason,
        message,
        observed_generation,
        cgroup_path,
        subtree_controllers,
        namespace,
        network: network_to_model(network),
    }
}

fn network_to_external(network: &NetworkStatus) -> Option<v1beta1::NetworkStatus> {
    if *network == NetworkStatus::default() {
        return None;
    }
    let NetworkStatus {
        name,
        bridge,
        subnet,
        addresses,
        interface,
        host_interface,
        netns,
    } = network.clone();
    Some(v1beta1::NetworkStatus {
        name,
        bridge,
        subnet,
        addresses,
        interface,
        host_interface,
        netns,
    })
}

fn network_to_model(network: Option<v1beta1::NetworkStatus>) -> NetworkStatus {
    let v1beta1::NetworkStatus {
        name,
        bridge,
        subnet,
        addresses,
        interface,
        host_interface,
        netns,
    } = network.unwrap_or_default();
    NetworkStatus {
        name,
        bridge,
        subnet,
        addresses,
        interface,
        host_interface,
        netns,
    }
}

/// Status of a cell as shown.
pub fn cell_status_to_external(status: &CellStatus) -> v1beta1::CellStatus {
    let CellStatus {
        state,
        reason,
        message,
        observed_generation,
        cgroup_path,
        network,
        containers,
        ready_at,
    } = status;
    v1beta1::CellStatus {
        state: cell_word(*state),
        reason: reason.clone(),
        message: message.clone(),
        observed_generation: *observed_generation,
        cgroup_path: cgroup_path.clone(),
        network: network_to_external(network),
        containers: containers
            .iter()
            .map(container_status_to_external)
            .collect(),
        ready_at: time_text(*ready_at),
        usage: None, // read when asked for, never kept
    }
}

/// Status of a cell as kept.
pub fn cell_status_to_model(status: v1beta1::CellStatus) -> CellStatus {
    let v1beta1::CellStatus {
        state,
        reason,
        message,
        observed_generation,
        cgroup_path,
        network,
        containers,
        ready_at,
        usage: _,
    } = status;
    CellStatus {
        state: cell_state(&state),
        reason,
        message,
        observed_generation,
        cgroup_path,
        network: network_to_model(network),
        containers: containers
            .into_iter()
            .filter_map(container_status_to_model)
            .collect(),
        ready_at: time(&ready_at),
    }
}

/// Status of a container as shown.
pub fn container_status_to_external(status: &ContainerStatus) -> v1beta1::ContainerStatus {
    let ContainerStatus {
        name,
        containerd_id,
        state,
        image_digest,
        pid,
        started_at,
        finished_at,
        exit_code,
        restart_count,
        next_restart_at,
        message,
        run_generation,
    } = status;
    v1beta1::ContainerStatus {
        name: name.to_string(),
        containerd_id: containerd_id.clone(),
        state: container_word(*state),
        image_digest: image_digest.clone(),
        pid: *pid,
        started_at: time_text(*started_at),
        finished_at: time_text(*finished_at),
        exit_code: *exit_code,
        exit_signal: signal(*exit_code),
        restart_count: i64::from(*restart_count),
        next_restart_at: time_text(*next_restart_at),
        message: message.clone(),
        run_generation: *run_generation,
        usage: None,
    }
}

/// Status of a container as kept; none when its name is not one.
pub fn container_status_to_model(status: v1beta1::ContainerStatus) -> Option<ContainerStatus> {
    let v1beta1::ContainerStatus {
        name,
        containerd_id,
        state,
        image_digest,
        pid,
        started_at,
        finished_at,
        exit_code,
        exit_signal: _, // follows from the code
        restart_count,
        next_restart_at,
        message,
        run_generation,
        usage: _,
    } = status;
    let name: Name = name.parse().ok()?;
    Some(ContainerStatus {
        name,
        containerd_id,
        state: container_state(&state),
        image_digest,
        pid,
        started_at: time(&started_at),
        finished_at: time(&finished_at),
        exit_code,
        restart_count: u32::try_from(restart_count).unwrap_or_default(),
        next_restart_at: time(&next_restart_at),
        message,
        run_generation,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreadable_status_is_unknown_not_an_error() {
        let status = cell_status_to_model(v1beta1::CellStatus {
            state: "Sideways".to_owned(),
            ready_at: "yesterday".to_owned(),
            containers: vec![v1beta1::ContainerStatus {
                name: "../x".to_owned(),
                ..Default::default()
            }],
            ..Default::default()
        });
        assert_eq!(status.state, CellState::Unknown);
        assert_eq!(status.ready_at, None);
        assert!(status.containers.is_empty());
    }

    #[test]
    fn signals_follow_from_exit_codes() {
        for (code, want) in [
            (Some(137), 9),
            (Some(143), 15),
            (Some(128), 0),
            (Some(1), 0),
            (None, 0),
        ] {
            assert_eq!(signal(code), want);
        }
    }
}
