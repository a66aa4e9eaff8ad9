//! Errors of the rooms below, as the one error of the edge: class, stable
//! reason, message and what to do.

use std::path::Path;

use crate::api::{Code, Error};
use crate::model::{NameError, ObjectRef};
use crate::{cgroup, network, runtime, store};

/// Reason of the error that somebody else held an object's lock for too long.
pub const LOCK_TIMEOUT: &str = "LockTimeout";

/// Reason of the error that containerd does not answer.
pub const UNREACHABLE: &str = "ContainerdUnavailable";
/// Reason of the error that a document cannot be read.
const CORRUPT: &str = "StoreCorrupt";

/// Whether an error says that a document is damaged.
pub fn is_damage(error: &Error) -> bool {
    error.reason == CORRUPT
}

/// What to do about a damaged document. Removing the file alone would leave
/// what it made on the host without an owner.
fn mend(path: &Path) -> String {
    // A release may have any of the names below.
    if path.iter().any(|part| part == store::RELEASES) {
        return "repair that file, from a backup for instance".to_owned();
    }
    let mut above = path.iter().rev().map(|part| part.to_string_lossy());
    let file = above.next().unwrap_or_default();
    let mut name = || above.next().unwrap_or_default();
    match &*file {
        "cell.yaml" => {
            let (cell, stack, space, realm) = (name(), name(), name(), name());
            format!(
                "`kuke delete cell {cell} --realm {realm} --space {space} --stack {stack}` removes the \
                 cell and all that is left of it on the host; then apply its manifest again"
            )
        }
        "stack.yaml" => {
            let (stack, space, realm) = (name(), name(), name());
            format!(
                "apply stack {stack} again after `kuke delete stack {stack} --realm {realm} --space \
                 {space} --cascade`, or repair the file"
            )
        }
        "space.yaml" => {
            let (space, realm) = (name(), name());
            format!(
                "repair the file, or `kuke delete space {space} --realm {realm} --cascade` and apply \
                 its manifests again"
            )
        }
        "realm.yaml" => {
            let realm = name();
            format!(
                "repair the file, or `kuke delete realm {realm} --cascade` and apply its manifests \
                 again"
            )
        }
        _ => "repair that file, from a backup for instance; to remove it would leave what it made \
              on the host"
            .to_owned(),
    }
}

/// `CellNotFound` and its like.
pub fn not_found(at: &ObjectRef) -> Error {
    Error::new(
        Code::NotFound,
        format!("{}NotFound", at.kind()),
        format!("{at} not found"),
    )
}

/// The work was cancelled by its caller.
pub fn cancelled(what: &ObjectRef) -> Error {
    Error::new(
        Code::Cancelled,
        "Cancelled",
        format!("{what}: cancelled by the caller"),
    )
}

impl From<NameError> for Error {
    fn from(error: NameError) -> Self {
        Error::invalid("BadName", error.to_string())
    }
}

impl From<runtime::Error> for Error {
    fn from(error: runtime::Error) -> Self {
        use runtime::Error as E;
        let message = error.to_string();
        let (code, reason, hint) = match &error {
            E::Unreachable { .. } => (
                Code::Unavailable,
                UNREACHABLE,
                "install containerd, or check that its service runs; `kuke status` shows what is missing",
            ),
            E::NotFound(_) => (Code::NotFound, "NotFound", ""),
            E::Exists(_) => (Code::Conflict, "AlreadyExists", ""),
            E::ImageNotFound(_) => (
                Code::NotFound,
                "ImageNotFound",
                "check the name and tag, or load the image with `kuke image load`",
            ),
            E::BadReference(..) => (
                Code::Invalid,
                "BadImageReference",
                "write it as [registry/]name[:tag]",
            ),
            E::Platform { .. } => (
                Code::Unsupported,
                "PlatformNotFound",
                "use an image that was built for this machine",
            ),
            E::CommandNotFound { .. } => (
                Code::Failed,
                "CommandNotFound",
                "check `command` and `args` against what the image holds",
            ),
            E::BadArchive(_) => (
                Code::Invalid,
                "BadArchive",
                "make it with `docker save`, `skopeo copy … oci-archive:` or `podman save`",
            ),
            E::Digest { .. } => (
                Code::Failed,
                "DigestMismatch",
                "the data was damaged on its way or at its source; fetch it again",
            ),
            E::Registry { .. } => (
                Code::Unavailable,
                "RegistryUnavailable",
                "check the network and the registry, then repeat; finished parts are kept",
            ),
            E::Unauthorized { .. } => (
                Code::Permission,
                "RegistryUnauthorized",
                "put a login for that registry into the realm's `registryCredentials`",
            ),
            E::Spec { .. } => (Code::Invalid, "BadContainerSpec", ""),
            E::Storage(_) => (
                Code::Exhausted,
                "StorageFull",
                "free space on the data volume or mount it writable",
            ),
            E::InUse(_) => (Code::Conflict, "InUse", "delete what uses it first"),
            E::Other { .. } => (Code::Failed, "RuntimeFailed", ""),
        };
        Error::new(code, reason, message).hint(hint)
    }
}

impl From<network::Error> for Error {
    fn from(error: network::Error) -> Self {
        use network::Error as E;
        let message = error.to_string();
        let (code, reason, hint) = match &error {
            E::PoolExhausted { .. } => (
                Code::Exhausted,
                "AddressPoolExhausted",
                "delete spaces that are not needed, or set a larger podSubnetCIDR",
            ),
            E::AddressesExhausted { .. } => (
                Code::Exhausted,
                "AddressesExhausted",
                "delete cells of this space or use a further space",
            ),
            E::PluginNotFound { .. } => (
                Code::Unsupported,
                "CniPluginNotFound",
                "install the CNI plugins (Debian: containernetworking-plugins)",
            ),
            E::ProgramNotFound { .. } => (Code::Unsupported, "ProgramNotFound", ""),
            E::BadConfig { .. } => (Code::Invalid, "BadCniConfig", ""),
            E::NotFound(_) => (Code::NotFound, "NetworkNotFound", ""),
            _ => (Code::Failed, "NetworkFailed", ""),
        };
        Error::new(code, reason, message).hint(hint)
    }
}

impl From<cgroup::Error> for Error {
    fn from(error: cgroup::Error) -> Self {
        use cgroup::Error as E;
        let message = error.to_string();
        let (code, reason, hint) = match &error {
            E::NotMounted => (
                Code::Unsupported,
                "CgroupUnavailable",
                "mount cgroup2 (kernel 5.14 or newer is advised)",
            ),
            E::MissingController { remedy, .. } => {
                (Code::Unsupported, "ControllerMissing", remedy.as_str())
            }
            _ => (Code::Failed, "CgroupFailed", ""),
        };
        Error::new(code, reason, message).hint(hint)
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        use store::Error as E;
        let message = error.to_string();
        let (code, reason, hint) = match &error {
            E::ReadOnly { .. } => (
                Code::Exhausted,
                "StorageReadOnly",
                "remount the file system writable, or choose another --run-path",
            ),
            E::Full { .. } => (
                Code::Exhausted,
                "StorageFull",
                "free space on that file system",
            ),
            E::LockTimeout { .. } => (
                Code::Timeout,
                LOCK_TIMEOUT,
                "another kuke or kukeond works on it; try again",
            ),
            E::HasChildren { .. } => (
                Code::Conflict,
                "ResourceHasDependencies",
                "use --cascade to delete its children too",
            ),
            E::InstanceMismatch { .. } => (Code::Conflict, "InstanceMismatch", ""),
            E::Corrupt { path, .. } => {
                return Error::new(Code::Failed, CORRUPT, message).hint(mend(path));
            }
            E::Stale { .. } => (
                Code::Conflict,
                "Stale",
                "look at it again, then repeat what is still wanted",
            ),
            E::Immutable { .. } => (
                Code::Conflict,
                "ImmutablePreparation",
                "a change of its Recipe makes a new Preparation",
            ),
            E::Unreadable { .. } => (Code::Failed, "NotStorable", "nothing was changed"),
            _ => (Code::Failed, "StoreFailed", ""),
        };
        Error::new(code, reason, message).hint(hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_no_cell_whatever_its_name_is() {
        let hint = |path: &str| mend(Path::new(path));
        assert!(hint("/run/r/s/t/c/cell.yaml").contains("kuke delete cell c "));
        for name in ["cell", "stack", "space", "realm", "web"] {
            let hint = hint(&format!("/run/.delivery/default/recipes/{name}.yaml"));
            assert_eq!(hint, "repair that file, from a backup for instance");
        }
    }
}
