//! Steps: everything kukeon can do to a host, each a small idempotent value.

use std::fmt;

use crate::model::{Name, ObjectRef, PullPolicy, Resources};

/// One change to the host. Executing it twice is the same as executing it once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make the realm's containerd namespace.
    EnsureNamespace,
    /// Drain and remove the realm's containerd namespace.
    RemoveNamespace,
    /// Make the object's cgroup and delegate controllers to its children.
    EnsureCgroup,
    /// Kill what is left in the object's cgroup and remove it.
    RemoveCgroup,
    /// Write the space's network configuration and rules.
    EnsureNetwork,
    /// Remove the space's bridge, rules, address state and configuration.
    RemoveNetwork,
    /// Fetch an image that is missing (or, by policy, always).
    PullImage {
        /// Reference as written in the manifest.
        image: String,
        /// When to ask the registry.
        policy: PullPolicy,
    },
    /// Make and pin the cell's namespaces.
    CreateSandbox,
    /// Unpin the cell's namespaces.
    RemoveSandbox,
    /// Write hosts, hostname and resolv.conf of the cell, with the address if it has one.
    WriteHostFiles,
    /// CNI ADD.
    AttachNetwork,
    /// CNI DEL.
    DetachNetwork,
    /// Make snapshot and record of a container.
    CreateContainer {
        /// Container of the cell.
        container: Name,
    },
    /// Set the run generation on a record.
    LabelRun {
        /// Container of the cell.
        container: Name,
        /// Id in containerd.
        id: String,
    },
    /// Make the container's cgroup and set its limits.
    LimitContainer {
        /// Container of the cell.
        container: Name,
        /// Limits.
        limits: Resources,
    },
    /// Give new volumes to the container's user; write the files of its secrets.
    Stage {
        /// Container of the cell.
        container: Name,
    },
    /// Remove the files of a container's secrets.
    Unstage {
        /// Container of the cell.
        container: Name,
    },
    /// Remove the file system for the cell's secrets.
    RemoveStaging,
    /// Make the task of a container: shim and `runc create`.
    CreateTask {
        /// Container of the cell.
        container: Name,
    },
    /// Start the made task.
    StartTask {
        /// Container of the cell.
        container: Name,
    },
    /// Take the record out of its run, SIGTERM, wait for the grace, SIGKILL.
    StopTask {
        /// Container of the cell.
        container: Name,
        /// Id in containerd.
        id: String,
        /// Seconds before SIGKILL; 0 kills at once.
        grace: u32,
    },
    /// Remove an ended task and its shim.
    RemoveTask {
        /// Container of the cell.
        container: Name,
        /// Id in containerd.
        id: String,
    },
    /// Remove record and snapshot.
    RemoveContainer {
        /// Container of the cell.
        container: Name,
        /// Id in containerd.
        id: String,
    },
    /// Remove the log files of a container that is no longer wanted.
    RemoveLog {
        /// Container of the cell.
        container: Name,
    },
    /// Remove the object's files from the store; the last step of a deletion.
    RemoveDocument,
}

/// For people: what `--dry-run`, logs and events show.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::EnsureNamespace => f.write_str("create containerd namespace"),
            Step::RemoveNamespace => f.write_str("remove containerd namespace"),
            Step::EnsureCgroup => f.write_str("create cgroup"),
            Step::RemoveCgroup => f.write_str("remove cgroup"),
            Step::EnsureNetwork => f.write_str("configure network"),
            Step::RemoveNetwork => f.write_str("remove network"),
            Step::PullImage { image, .. } => write!(f, "pull image {image}"),
            Step::CreateSandbox => f.write_str("create sandbox"),
            Step::RemoveSandbox => f.write_str("remove sandbox"),
            Step::WriteHostFiles => f.write_str("write hosts files"),
            Step::AttachNetwork => f.write_str("attach network"),
            Step::DetachNetwork => f.write_str("detach network"),
            Step::CreateContainer { container } => write!(f, "create container {container}"),
            Step::LabelRun { container, .. } => write!(f, "label container {container}"),
            Step::LimitContainer { container, .. } => write!(f, "limit container {container}"),
            Step::Stage { container } => write!(f, "stage volumes and secrets of {container}"),
            Step::Unstage { container } => write!(f, "remove secrets of {container}"),
            Step::RemoveStaging => f.write_str("remove file system of secrets"),
            Step::CreateTask { container } => write!(f, "create task of {container}"),
            Step::StartTask { container } => write!(f, "start task of {container}"),
            Step::StopTask { container, .. } => write!(f, "stop task of {container}"),
            Step::RemoveTask { container, .. } => write!(f, "remove task of {container}"),
            Step::RemoveContainer { container, .. } => write!(f, "remove container {container}"),
            Step::RemoveLog { container } => write!(f, "remove log of {container}"),
            Step::RemoveDocument => f.write_str("remove document"),
        }
    }
}

/// Steps in order. Stages run one after the other; the lanes of a stage run
/// side by side; the steps of a lane run one after the other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The stages.
    pub stages: Vec<Vec<Vec<Step>>>,
    /// Containers that a restart policy starts again.
    pub restarts: Vec<Name>,
}

impl Plan {
    /// Adds a stage; empty lanes, and a stage without lanes, are left out.
    pub fn stage(&mut self, lanes: Vec<Vec<Step>>) {
        let lanes: Vec<_> = lanes.into_iter().filter(|lane| !lane.is_empty()).collect();
        if !lanes.is_empty() {
            self.stages.push(lanes);
        }
    }

    /// Adds a stage of one step when it is wanted.
    pub fn step_if(&mut self, wanted: bool, step: Step) {
        if wanted {
            self.stage(vec![vec![step]]);
        }
    }

    /// Nothing to do.
    pub fn is_empty(&self) -> bool {
        self.stages.is_empty()
    }

    /// All steps in a valid serial order.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.stages.iter().flatten().flatten()
    }

    /// All steps for people, each with its object.
    pub fn describe(&self, at: &ObjectRef) -> Vec<String> {
        self.steps().map(|step| format!("{at}: {step}")).collect()
    }
}

impl Step {
    /// Whether a person should be told that it is being done.
    pub fn may_be_long(&self) -> bool {
        matches!(
            self,
            Step::PullImage { .. } | Step::StopTask { .. } | Step::RemoveNamespace
        )
    }

    /// The container that a step starts, when it starts one.
    pub fn starts(&self) -> Option<&Name> {
        match self {
            Step::StartTask { container } => Some(container),
            _ => None,
        }
    }

    /// The container a step is about, when it is about one.
    pub fn container(&self) -> Option<&Name> {
        match self {
            Step::CreateContainer { container }
            | Step::LabelRun { container, .. }
            | Step::LimitContainer { container, .. }
            | Step::Stage { container }
            | Step::Unstage { container }
            | Step::CreateTask { container }
            | Step::StartTask { container }
            | Step::StopTask { container, .. }
            | Step::RemoveTask { container, .. }
            | Step::RemoveContainer { container, .. }
            | Step::RemoveLog { container } => Some(container),
            _ => None,
        }
    }
}
