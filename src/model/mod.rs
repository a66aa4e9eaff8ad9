//! Version-less internal types: names, references, desired objects, states and
//! what the managers observe on the host. No external forms, no I/O.

mod any;
pub mod delivery;
pub mod duration;
mod kept;
mod layers;
mod name;
mod number;
mod objects;
mod observed;
mod progress;
mod reference;
mod registry;
mod settings;
mod state;
#[cfg(test)]
pub(crate) mod testing;
mod value;
mod web;

pub use any::{AnyObject, CellContainer};
pub use kept::{
    ContainerPort, KeptSource, Protocol, Reclaim, Secret, SecretTarget, SecretText, SecretUse,
    Volume,
};
pub use layers::{LogLevel, Resolved, SettingsError, SettingsLayer};
pub use name::{Name, NameError};
pub use number::{Number, NumberError};
pub use objects::{
    Capabilities, Cell, CellSpec, ContainerSpec, Labels, Meta, Mount, MountKind, PullPolicy, Realm,
    RealmSpec, RegistryCredential, Resources, RestartPolicy, RunState, Seccomp, SecurityOptions,
    Space, SpaceSpec, Stack, Tmpfs,
};
pub use observed::{
    Attachment, ObservedCell, ObservedContainer, ObservedNetwork, ObservedSandbox, ObservedScope,
    ObservedTask, TaskExit, TaskState,
};
pub use progress::{Progress, ProgressSink};
pub use reference::{CellRef, KeptKind, KeptRef, ObjectRef, RealmRef, SpaceRef, StackRef};
pub use registry::{RegistryLayer, RegistryScheme, RegistrySettings};
pub use settings::Settings;
pub use state::{
    CellState, CellStatus, ContainerState, ContainerStatus, NetworkStatus, ScopeState, ScopeStatus,
};
pub use value::{Value, ValueMap};
pub use web::{WebLayer, WebSettings};

/// Label keys that carry ownership on containerd objects.
pub mod label {
    /// Realm of the owner.
    pub const REALM: &str = "kukeon.io/realm";
    /// Space of the owner.
    pub const SPACE: &str = "kukeon.io/space";
    /// Stack of the owner.
    pub const STACK: &str = "kukeon.io/stack";
    /// Cell of the owner.
    pub const CELL: &str = "kukeon.io/cell";
    /// Container of the owner.
    pub const CONTAINER: &str = "kukeon.io/container";
    /// Instance (see `Settings::instance`) that made the object.
    pub const INSTANCE: &str = "kukeon.io/instance";
    /// Hash of the part of the container spec that needs a new record.
    pub const SPEC_HASH: &str = "kukeon.io/spec-hash";
    /// Versions of the secrets that a record, or its last start, was made with.
    pub const SECRETS: &str = "kukeon.io/secrets";
    /// The cell's run generation in which the task was started.
    pub const RUN: &str = "kukeon.io/run-generation";
    /// When a task was told to end and how long it is given, as an ISO 8601
    /// interval (`<start>/<duration>`): whoever goes on gives what is left of it.
    pub const GRACE: &str = "kukeon.io/grace";
}
