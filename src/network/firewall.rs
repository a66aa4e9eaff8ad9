//! Address translation of the generated networks: one nftables table an
//! instance, one set element a space, changed in single transactions.
//!
//! The table holds every subnet of the instance in one set. What leaves a subnet
//! for anything but another one gets the host's address; traffic between spaces
//! keeps its own, so that it can be told apart.
//!
//! Where `ip filter FORWARD` (the chain iptables and other engines share) drops
//! by default, the space's bridge is let through there as well, for a verdict
//! here cannot lift a drop there. Other tables that drop forwarded traffic
//! belong to the administrator; they are named in a warning and left alone.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;
use serde_json::Value;

use super::nftables::{element_exists, nft, table_exists};
use super::{Error, Result, SpaceNetwork, ids};

/// Longest comment (`NFTNL_UDATA_COMMENT_MAXLEN` in libnftnl).
const COMMENT_MAX: usize = 127;

/// The firewall of one instance.
#[derive(Debug, Clone)]
pub(super) struct Firewall {
    instance: String,
    table: String,
    lock: PathBuf,
}

impl Firewall {
    pub fn new(instance: &str, state: &Path) -> Self {
        Self {
            instance: instance.to_owned(),
            table: ids::table(instance),
            lock: state.join("lock"),
        }
    }

    /// Another process of this instance must not remove the table because it is
    /// empty while an element is being added.
    fn locked(&self) -> Result<File> {
        let open = || {
            if let Some(dir) = self.lock.parent() {
                fs::create_dir_all(dir)?;
            }
            let file = File::options().create(true).append(true).open(&self.lock)?;
            file.lock()?;
            Ok(file)
        };
        open().map_err(|e: io::Error| Error::host(format!("locking {}", self.lock.display()), e))
    }

    /// Comment of the table; `"` cannot be written in one.
    fn table_comment(&self) -> String {
        let plain = format!("kukeon {}", self.instance);
        let sayable = plain
            .chars()
            .all(|c| c != '"' && c != '\\' && !c.is_control());
        if sayable && plain.len() <= COMMENT_MAX {
            plain
        } else {
            format!("kukeon {}", ids::tag(&self.instance))
        }
    }

    /// Puts a space's subnet into the table, which is made where it is missing.
    /// The rules are always written anew, in the same transaction.
    pub fn ensure(&self, network: &SpaceNetwork, subnet: Ipv4Net) -> Result<()> {
        let _lock = self.locked()?;
        let (table, comment) = (&self.table, self.table_comment());
        let (subnet, element) = (subnet.trunc(), element_comment(network));
        nft(
            &["-f", "-"],
            &format!(
                "add table ip {table} {{ comment \"{comment}\" ; }}\n\
                 add set ip {table} subnets {{ type ipv4_addr ; flags interval ; }}\n\
                 add chain ip {table} postrouting {{ type nat hook postrouting priority 100 ; policy accept ; }}\n\
                 flush chain ip {table} postrouting\n\
                 add rule ip {table} postrouting ip saddr @subnets ip daddr != @subnets ip daddr != 224.0.0.0/4 masquerade\n\
                 add element ip {table} subnets {{ {subnet} comment \"{element}\" }}\n"
            ),
        )?;
        self.let_forward(&network.bridge())
    }

    /// Whether a space's subnet is in the table. Asks the kernel directly; no
    /// program is run.
    pub fn present(&self, subnet: Ipv4Net) -> io::Result<bool> {
        element_exists(&self.table, "subnets", subnet.network().octets())
    }

    /// Takes a space out again, and the table with the last one.
    pub fn remove(&self, network: &SpaceNetwork) -> Result<()> {
        let _lock = self.locked()?;
        let mut script =
            self.forward_removal(|comment| comment == forward_comment(&network.bridge()))?;
        let elements = self.elements()?;
        let element = element_comment(network);
        let (ours, rest): (Vec<_>, Vec<_>) = elements.into_iter().partition(|(subnet, comment)| {
            *comment == element || network.subnet.is_some_and(|s| s.trunc() == *subnet)
        });
        let table = &self.table;
        if rest.is_empty() {
            if self.table_exists()? {
                script.push_str(&format!("delete table ip {table}\n"));
            }
        } else {
            for (subnet, _) in ours {
                script.push_str(&format!(
                    "delete element ip {table} subnets {{ {subnet} }}\n"
                ));
            }
        }
        run_script(&script)
    }

    /// Removes everything of this instance; `bridges` are its bridges.
    pub fn remove_all(&self, bridges: &[String]) -> Result<()> {
        if !self.table_exists()? && bridges.is_empty() {
            return Ok(());
        }
        let _lock = self.locked()?;
        let comments: Vec<String> = bridges.iter().map(|b| forward_comment(b)).collect();
        let mut script = self.forward_removal(|comment| comments.iter().any(|c| c == comment))?;
        if self.table_exists()? {
            script.push_str(&format!("delete table ip {}\n", self.table));
        }
        run_script(&script)
    }

    fn table_exists(&self) -> Result<bool> {
        table_exists(&self.table)
            .map_err(|e| Error::host(format!("looking for nftables table {}", self.table), e))
    }

    /// Subnets in the table with their comments.
    fn elements(&self) -> Result<Vec<(Ipv4Net, String)>> {
        if !self.table_exists()? {
            return Ok(Vec::new());
        }
        let json = nft(&["-j", "list", "set", "ip", &self.table, "subnets"], "")?;
        Ok(parse_elements(&json))
    }

    /// Lets a bridge through a FORWARD chain that drops by default. Only what
    /// iptables itself would write is written there: it must still be able to
    /// read the chain.
    fn let_forward(&self, bridge: &str) -> Result<()> {
        let chains = nft(&["-j", "list", "chains"], "")?;
        let mut drops = false;
        for chain in objects(&chains, "chain") {
            let text = |key| chain.get(key).and_then(Value::as_str).unwrap_or_default();
            if text("hook") != "forward" || text("policy") != "drop" {
                continue;
            }
            if (text("family"), text("table"), text("name")) == ("ip", "filter", "FORWARD") {
                drops = true;
            } else if matches!(text("family"), "ip" | "inet") {
                let place = format!("{} {} {}", text("family"), text("table"), text("name"));
                tracing::warn!(%bridge, chain = %place, "a firewall chain drops forwarded traffic; allow the bridge there");
            }
        }
        if !drops
            || !self
                .forward_handles(|c| c == forward_comment(bridge))?
                .is_empty()
        {
            return Ok(());
        }
        let comment = forward_comment(bridge);
        run_script(&format!(
            "insert rule ip filter FORWARD iifname \"{bridge}\" counter accept comment \"{comment}\"\n\
             insert rule ip filter FORWARD oifname \"{bridge}\" counter accept comment \"{comment}\"\n"
        ))
    }

    fn forward_removal(&self, ours: impl Fn(&str) -> bool) -> Result<String> {
        let handles = self.forward_handles(ours)?;
        let lines = handles
            .iter()
            .map(|handle| format!("delete rule ip filter FORWARD handle {handle}\n"));
        Ok(lines.collect())
    }

    /// Handles of rules in `ip filter FORWARD` whose comment is one of ours.
    fn forward_handles(&self, ours: impl Fn(&str) -> bool) -> Result<Vec<u64>> {
        let known = table_exists("filter")
            .map_err(|e| Error::host("looking for nftables table filter", e))?;
        if !known {
            return Ok(Vec::new());
        }
        let chains = nft(&["-j", "-a", "list", "table", "ip", "filter"], "")?;
        let mut handles = Vec::new();
        for rule in objects(&chains, "rule") {
            let text = |key| rule.get(key).and_then(Value::as_str).unwrap_or_default();
            if text("chain") == "FORWARD" && ours(text("comment")) {
                handles.extend(rule.get("handle").and_then(Value::as_u64));
            }
        }
        Ok(handles)
    }
}

/// `realm/space`: 127 characters at most.
fn element_comment(network: &SpaceNetwork) -> String {
    format!("{}/{}", network.space.realm, network.space.space)
}

/// A bridge's name is made of its space's uid, and so is unique by itself.
fn forward_comment(bridge: &str) -> String {
    format!("kukeon {bridge}")
}

/// The objects of one kind in nft's JSON.
fn objects<'a>(json: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    let all = json.get("nftables").and_then(Value::as_array);
    all.into_iter().flatten().filter_map(move |o| o.get(kind))
}

fn parse_elements(json: &Value) -> Vec<(Ipv4Net, String)> {
    let sets = objects(json, "set").filter_map(|set| set.get("elem")?.as_array());
    sets.flatten()
        .filter_map(|element| {
            let element = element.get("elem").unwrap_or(element);
            let value = element.get("val").unwrap_or(element);
            let subnet = match value.get("prefix") {
                Some(prefix) => Ipv4Net::new(
                    prefix.get("addr")?.as_str()?.parse().ok()?,
                    u8::try_from(prefix.get("len")?.as_u64()?).ok()?,
                )
                .ok()?,
                None => Ipv4Net::new(value.as_str()?.parse().ok()?, 32).ok()?,
            };
            let comment = element.get("comment").and_then(Value::as_str);
            Some((subnet, comment.unwrap_or_default().to_owned()))
        })
        .collect()
}

fn run_script(script: &str) -> Result<()> {
    if script.is_empty() {
        return Ok(());
    }
    nft(&["-f", "-"], script).map(drop)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_elements_in_both_forms() {
        let json = json!({"nftables": [{"metainfo": {}}, {"set": {"name": "subnets", "elem": [
            {"elem": {"val": {"prefix": {"addr": "10.117.3.0", "len": 24}}, "comment": "a/b"}},
            {"prefix": {"addr": "10.117.4.0", "len": 24}},
            {"range": ["10.0.0.1", "10.0.0.9"]}
        ]}}]});
        let subnet = |text: &str| text.parse::<Ipv4Net>().unwrap();
        assert_eq!(
            parse_elements(&json),
            [
                (subnet("10.117.3.0/24"), "a/b".to_owned()),
                (subnet("10.117.4.0/24"), String::new())
            ]
        );
        assert_eq!(parse_elements(&json!({"nftables": [{"set": {}}]})), []);
    }

    #[test]
    fn comments_can_always_be_written() {
        let dir = Path::new("/nowhere");
        assert_eq!(
            Firewall::new("/opt/kukeon", dir).table_comment(),
            "kukeon /opt/kukeon"
        );
        for odd in ["/a\"b", "/a\nb", &format!("/{}", "x".repeat(200))] {
            let comment = Firewall::new(odd, dir).table_comment();
            assert_eq!(comment.len(), "kukeon ".len() + 8, "{comment}");
        }
    }
}
