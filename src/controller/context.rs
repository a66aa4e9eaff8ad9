//! What a step needs to know beside itself: the object and its parents.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::Controller;
use super::errors::not_found;
use crate::api::Result;
use crate::model::{Cell, CellRef, ObjectRef, Realm, RealmRef, Space, SpaceRef};
use crate::network::SpaceNetwork;

/// Name of a space's generated conflist, beside its document.
pub(super) const CONFLIST: &str = "network.conflist";

/// The parents of an object, as far as they matter to the host.
#[derive(Debug, Clone)]
pub(super) struct Parents {
    /// The realm.
    pub realm: Realm,
    /// containerd namespace of the realm.
    pub namespace: String,
    /// Network of the space; none for a realm.
    pub network: Option<SpaceNetwork>,
}

/// A cell with its parents.
#[derive(Debug, Clone)]
pub(super) struct CellContext {
    /// The cell as wanted.
    pub cell: Cell,
    /// Its parents.
    pub parents: Parents,
}

impl Controller {
    /// A stored realm, or the error that it is not there.
    pub(super) fn get_realm(&self, at: &RealmRef) -> Result<Realm> {
        self.store
            .realm(at)?
            .ok_or_else(|| not_found(&at.clone().into()))
    }

    /// A stored space, or the error that it (or its realm) is not there.
    pub(super) fn get_space(&self, at: &SpaceRef) -> Result<Space> {
        if let Some(space) = self.store.space(at)? {
            return Ok(space);
        }
        self.get_realm(&at.realm())?;
        Err(not_found(&at.clone().into()))
    }

    /// A stored cell, or the error that it (or the first missing parent) is not there.
    pub(super) fn get_cell(&self, at: &CellRef) -> Result<Cell> {
        if let Some(cell) = self.store.cell(at)? {
            return Ok(cell);
        }
        self.get_space(&at.stack().space())?;
        if self.store.stack(&at.stack())?.is_none() {
            return Err(not_found(&at.stack().into()));
        }
        Err(not_found(&at.clone().into()))
    }

    /// Parents of any object, from the store.
    pub(super) fn parents(&self, at: &ObjectRef) -> Result<Parents> {
        let realm_ref = RealmRef {
            realm: at.names()[0].clone(),
        };
        let realm = self.get_realm(&realm_ref)?;
        let namespace = self.settings.namespace(&realm);
        let space = match at {
            ObjectRef::Realm(_) => None,
            ObjectRef::Kept(at) => return self.parents(&at.scope),
            ObjectRef::Space(at) => Some(at.clone()),
            ObjectRef::Stack(at) => Some(at.space()),
            ObjectRef::Cell(at) => Some(at.stack().space()),
        };
        let network = match space {
            None => None,
            Some(at) => Some(self.space_network(&self.get_space(&at)?)),
        };
        Ok(Parents {
            realm,
            namespace,
            network,
        })
    }

    /// A cell with its parents.
    pub(super) fn cell_context(&self, cell: Cell) -> Result<CellContext> {
        let parents = self.parents(&cell.at.clone().into())?;
        Ok(CellContext { cell, parents })
    }

    /// The network of a space.
    pub(super) fn space_network(&self, space: &Space) -> SpaceNetwork {
        let at = space.at.clone().into();
        let generated = self.store.file_path(&at, CONFLIST);
        // The allocation is kept in the status; should that be lost, the
        // conflist that is in use still tells it.
        let subnet = space.status.network.subnet.parse().ok();
        let written = || {
            let read = self.store.read_file(&at, CONFLIST);
            read.inspect_err(|error| tracing::warn!(%error, "its subnet is not known"))
                .ok()?
        };
        let subnet = subnet.or_else(|| subnet_of_conflist(&written()?));
        SpaceNetwork {
            space: space.at.clone(),
            uid: space.meta.uid.clone(),
            generated,
            own: space.spec.cni_config_path.clone().map(Into::into),
            subnet: subnet.filter(|_| space.spec.cni_config_path.is_none()),
        }
    }
}

/// The subnet that a generated conflist uses.
fn subnet_of_conflist(bytes: &[u8]) -> Option<Ipv4Net> {
    let json: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    let ranges = json.get("plugins")?.get(0)?.get("ipam")?.get("ranges")?;
    ranges.get(0)?.get(0)?.get("subnet")?.as_str()?.parse().ok()
}

/// How the uid of the space began whose generated conflist this is.
pub(super) fn uid_of_conflist(bytes: &[u8]) -> Option<String> {
    let json: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    let bridge = json.get("plugins")?.get(0)?.get("bridge")?.as_str()?;
    SpaceNetwork::uid_of_bridge(bridge).map(str::to_owned)
}

/// The main address of a cell, without the prefix length.
pub(super) fn main_address(addresses: &[String]) -> Option<Ipv4Addr> {
    addresses
        .iter()
        .find_map(|a| a.split('/').next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_conflist_tells_the_uid() {
        let of = |bridge: &str| {
            let text = format!(r#"{{"plugins":[{{"type":"bridge","bridge":"{bridge}"}}]}}"#);
            uid_of_conflist(text.as_bytes())
        };
        assert_eq!(of("k-12345678").as_deref(), Some("12345678"));
        for other in ["cni0", "k-", "k-1234567", "k-123456789", "k-1234567g"] {
            assert_eq!(of(other), None, "{other}");
        }
        assert_eq!(uid_of_conflist(b"torn"), None);
    }

    #[test]
    fn the_conflist_tells_the_subnet() {
        let text =
            br#"{"plugins":[{"type":"bridge","ipam":{"ranges":[[{"subnet":"10.117.3.0/24"}]]}}]}"#;
        assert_eq!(subnet_of_conflist(text), "10.117.3.0/24".parse().ok());
        assert_eq!(subnet_of_conflist(b"{}"), None);
        assert_eq!(subnet_of_conflist(b"torn"), None);
    }
}
