//! Names by which host objects tell their owner.

use std::path::Path;

use sha2::{Digest, Sha256};

use crate::model::{CellRef, SpaceRef};

/// Longest alias of a link, without the final NUL (`IFALIASZ` in `linux/if.h`).
const ALIAS_MAX: usize = 255;

/// Interface of a cell in its network namespace.
pub(super) const INTERFACE: &str = "eth0";

/// First `bytes` bytes of the SHA-256 of a text, in hex.
fn hash(text: &str, bytes: usize) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest
        .iter()
        .take(bytes)
        .map(|b| format!("{b:02x}"))
        .collect()
}

/// Short form of an instance, for names with little room.
pub(super) fn tag(instance: &str) -> String {
    hash(instance, 4)
}

/// Directory of a cell's pins and name of its entry in `/run/netns`: at most
/// 4 × 63 + 3 = 255 bytes, what a file name may have. `.` is in no name.
pub(super) fn sandbox_name(cell: &CellRef) -> String {
    format!("{}.{}.{}.{}", cell.realm, cell.space, cell.stack, cell.cell)
}

/// The cell of a pin directory; none when it is not one.
pub(super) fn parse_sandbox_name(name: &str) -> Option<CellRef> {
    let mut parts = name.split('.').map(|part| part.parse().ok());
    let cell = CellRef {
        realm: parts.next()??,
        space: parts.next()??,
        stack: parts.next()??,
        cell: parts.next()??,
    };
    parts.next().is_none().then_some(cell)
}

/// CNI network name of a space's generated chain: `<realm>_<space>`; `_` is in no name.
pub(super) fn network(space: &SpaceRef) -> String {
    format!("{}_{}", space.realm, space.space)
}

/// Container id for plugins. It is the same for every sandbox of a cell, so
/// that a DEL after a crash or a reboot finds what an earlier ADD left.
pub(super) fn container_id(instance: &str, cell: &CellRef) -> String {
    let path = format!("{instance}\0{}", sandbox_name(cell));
    format!("kuke-{}", hash(&path, 16))
}

/// `CNI_ARGS` of a cell (CNI specification, section 2, parameters).
pub(super) fn arguments(cell: &CellRef) -> String {
    format!(
        "IgnoreUnknown=1;KUKEON_REALM={};KUKEON_SPACE={};KUKEON_STACK={};KUKEON_CELL={}",
        cell.realm, cell.space, cell.stack, cell.cell
    )
}

/// What the alias of every link of an instance starts with.
pub(super) fn alias_prefix(instance: &str) -> String {
    let plain = format!("kukeon {instance} ");
    // The rest has room for the longest `realm/space`, 127 bytes.
    if plain.len() <= ALIAS_MAX - 127 {
        plain
    } else {
        format!("kukeon {} ", tag(instance))
    }
}

/// Alias of a space's bridge.
pub(super) fn bridge_alias(instance: &str, space: &SpaceRef) -> String {
    format!("{}{}/{}", alias_prefix(instance), space.realm, space.space)
}

/// Alias of the host end of a cell's veth pair.
pub(super) fn cell_alias(instance: &str, cell: &CellRef) -> String {
    let prefix = alias_prefix(instance);
    let full = format!(
        "{prefix}{}/{}/{}/{}",
        cell.realm, cell.space, cell.stack, cell.cell
    );
    if full.len() <= ALIAS_MAX {
        full
    } else {
        format!("{prefix}{}", container_id(instance, cell))
    }
}

/// nftables table of an instance. One table an instance keeps instances from
/// removing each other's rules.
pub(super) fn table(instance: &str) -> String {
    if Path::new(instance) == Path::new(crate::model::Settings::RUN_PATH) {
        "kukeon".to_owned()
    } else {
        format!("kukeon-{}", tag(instance))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Name;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn cell(part: &str) -> CellRef {
        CellRef {
            realm: name(part),
            space: name(part),
            stack: name(part),
            cell: name(part),
        }
    }

    #[test]
    fn pin_directories_name_their_cell() {
        let longest = cell(&"x".repeat(63));
        assert_eq!(sandbox_name(&longest).len(), 255);
        assert_eq!(parse_sandbox_name(&sandbox_name(&longest)), Some(longest));
        for other in ["a.b.c", "a.b.c.d.e", "a.b.c.", "A.b.c.d", ".a.b.c", ""] {
            assert_eq!(parse_sandbox_name(other), None, "{other}");
        }
    }

    #[test]
    fn container_ids_differ_by_instance_and_cell() {
        let a = container_id("/opt/kukeon", &cell("a"));
        assert_eq!(a.len(), 37);
        assert_ne!(a, container_id("/opt/other", &cell("a")));
        assert_ne!(a, container_id("/opt/kukeon", &cell("b")));
    }

    #[test]
    fn aliases_fit_and_stay_distinct() {
        let deep = format!("/{}", "d".repeat(300));
        for instance in ["/opt/kukeon", &deep, &format!("/{}", "e".repeat(119))] {
            let (x, y) = (cell(&"x".repeat(63)), cell(&"y".repeat(63)));
            let (a, b) = (cell_alias(instance, &x), cell_alias(instance, &y));
            assert!(a.len() <= ALIAS_MAX && a != b, "{a}");
            assert!(a.starts_with(&alias_prefix(instance)));
            let bridge = bridge_alias(instance, &x.stack().space());
            assert!(bridge.len() <= ALIAS_MAX, "{bridge}");
        }
        assert_eq!(
            cell_alias("/opt/kukeon", &cell("a")),
            "kukeon /opt/kukeon a/a/a/a"
        );
    }
}
