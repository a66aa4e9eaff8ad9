//! What others see of cells: Services for the ports they offer, NetworkPolicies
//! for the network that a space is.

use serde_json::{Value, json};

use super::super::loss::lost;
use super::{Labels, PORTS, Port, names, parse_ports};
use crate::api::Problem;
use crate::model::{Cell, CellRef, Space, label};

/// Who may reach the pods of a space: those of the same space.
fn neighbours(space: &str) -> Value {
    json!({"from": [{"podSelector": {"matchLabels": {label::SPACE: space}}}]})
}

fn policy(
    name: String,
    namespace: &str,
    labels: &Labels,
    selector: &Labels,
    ingress: &Value,
) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "podSelector": {"matchLabels": selector},
            "policyTypes": ["Ingress"],
            "ingress": ingress,
        },
    })
}

/// A space: its pods are reached by each other and by nobody else.
pub(super) fn space(space: &Space, losses: &mut Vec<Problem>) -> Value {
    let Space {
        at,
        meta,
        spec,
        status: _,
    } = space;
    let mut labels = names::labels(&meta.labels, losses);
    let annotations = names::annotations(&meta.annotations, losses);
    if spec.cni_config_path.is_some() {
        losses.push(lost(
            "spec.cniConfigPath",
            "the network of pods is the cluster's own",
            "remove it and configure the cluster's network plugin",
        ));
    }
    let selector: Labels = [(label::SPACE.to_owned(), at.space.to_string())].into();
    labels.insert(label::REALM.to_owned(), at.realm.to_string());
    labels.extend(selector.clone());
    let ingress = json!([neighbours(at.space.as_str())]);
    let name = names::shortened(&format!("space-{}", at.space));
    let mut policy = policy(name, at.realm.as_str(), &labels, &selector, &ingress);
    if !annotations.is_empty() {
        policy["metadata"]["annotations"] = json!(annotations);
    }
    policy
}

/// Services of a cell, and the policy that lets the outside in where it publishes.
pub(super) fn cell(cell: &Cell, losses: &mut Vec<Problem>) -> Vec<Value> {
    let at = &cell.at;
    let path = format!("metadata.annotations.{PORTS}");
    let text = cell.meta.annotations.get(PORTS).map_or("", String::as_str);
    let mut ports = match parse_ports(text) {
        Ok(ports) => ports,
        Err(word) => {
            losses.push(lost(
                path,
                format!("{word:?} is not a port"),
                "write [PUBLISHED:]PORT[/tcp|udp|sctp] with commas between them",
            ));
            return Vec::new();
        }
    };
    let listens = cell.spec.containers.iter().flat_map(|c| &c.ports);
    ports.extend(listens.map(|port| Port {
        port: port.port,
        protocol: port.protocol.as_str().to_owned(),
        published: None,
    }));
    ports.sort();
    ports.dedup();
    if ports.is_empty() {
        return Vec::new();
    }
    let name = at.cell.as_str();
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        losses.push(lost(
            "metadata.name",
            format!("{name:?} cannot be the name of a Service, which begins with a letter"),
            "give the cell another name, or remove its ports",
        ));
    }
    let mut inner: Vec<Port> = ports
        .iter()
        .map(|port| Port {
            published: None,
            ..port.clone()
        })
        .collect();
    inner.sort();
    inner.dedup();
    let mut out = vec![service(at, name.to_owned(), "ClusterIP", &inner)];
    let published: Vec<Port> = ports
        .into_iter()
        .filter(|p| p.published.is_some())
        .collect();
    if !published.is_empty() {
        let outer = names::shortened(&format!("{name}-published"));
        out.push(service(at, outer.clone(), "LoadBalancer", &published));
        let mut open: Vec<Value> = Vec::new();
        for port in &published {
            let value = json!({"port": port.port, "protocol": port.protocol.to_ascii_uppercase()});
            if !open.contains(&value) {
                open.push(value);
            }
        }
        // It selects the pod, so the neighbours have to be let in here as well.
        let ingress = json!([neighbours(at.space.as_str()), {"ports": open}]);
        let own = names::owner(at);
        let name = names::shortened(&format!("{}-published", names::workload(at)));
        out.push(policy(name, at.realm.as_str(), &own, &own, &ingress));
    }
    out
}

fn service(at: &CellRef, name: String, kind: &str, ports: &[Port]) -> Value {
    let own = names::owner(at);
    let ports: Vec<Value> = ports
        .iter()
        .map(|port| {
            let outer = port.published.unwrap_or(port.port);
            json!({
                "name": format!("{}-{outer}", port.protocol),
                "port": outer,
                "protocol": port.protocol.to_ascii_uppercase(),
                "targetPort": port.port,
            })
        })
        .collect();
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": at.realm.as_str(), "labels": own},
        "spec": {"type": kind, "selector": own, "ports": ports},
    })
}
