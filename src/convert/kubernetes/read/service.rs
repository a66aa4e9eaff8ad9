//! Services as the ports that cells offer.

use super::super::super::loss::Notes;
use super::super::super::walk::Fields;
use super::super::{PORTS, Port, names, parse_ports, ports_text};
use super::Reader;
use super::meta::Metadata;
use crate::api::yaml::located::Value;

/// Reads a Service, after all workloads.
pub(super) fn read(reader: &mut Reader<'_>, document: &Value, notes: &mut Notes) {
    let mut fields = Fields::of(notes, document, "");
    fields.take("apiVersion");
    fields.take("kind");
    let meta = Metadata::read(&mut fields, notes);
    let spec = fields.take("spec");
    fields.finish(notes, &["status"], &[]);
    let Some(spec) = spec else {
        notes.error("spec", document.at, "MissingField", "is required");
        return;
    };
    let mut fields = Fields::of(notes, spec, "spec");
    let kind = fields.text(notes, "type");
    let outside = match kind.as_str() {
        "" | "ClusterIP" => false,
        "NodePort" | "LoadBalancer" => true,
        other => {
            let remedy = "use the name it stands for";
            let message = format!("a Service of the type {other:?} has no equivalent");
            notes.lost("spec.type", spec.at, message, remedy);
            return;
        }
    };
    let selector = fields.texts(notes, "selector");
    let ports = fields.list(notes, "ports");
    let remedy = "remove it";
    fields.finish(
        notes,
        &[
            "allocateLoadBalancerNodePorts",
            "clusterIP",
            "clusterIPs",
            "internalTrafficPolicy",
            "ipFamilies",
            "ipFamilyPolicy",
            "publishNotReadyAddresses",
            "sessionAffinity",
            "trafficDistribution",
        ],
        &[
            ("externalIPs", remedy),
            ("externalName", remedy),
            ("externalTrafficPolicy", remedy),
            ("healthCheckNodePort", remedy),
            ("loadBalancerClass", remedy),
            ("loadBalancerIP", remedy),
            ("loadBalancerSourceRanges", remedy),
            ("sessionAffinityConfig", remedy),
        ],
    );
    let matching: Vec<usize> = reader
        .workloads
        .iter()
        .enumerate()
        .filter(|(_, pods)| {
            pods.namespace == meta.namespace
                && !selector.is_empty()
                && selector.iter().all(|wanted| pods.labels.contains(wanted))
        })
        .map(|(i, _)| i)
        .collect();
    if matching.is_empty() {
        let message = "selects no workload of the input";
        let remedy = "add the workload with -f, or remove the Service";
        notes.lost("spec.selector", spec.at, message, remedy);
    }
    for index in matching {
        let pods = &mut reader.workloads[index];
        let cell = &mut reader.draft.cells[pods.cell];
        let name = cell.at.cell.to_string();
        let fits = meta.text == name
            || outside && meta.text == names::shortened(&format!("{name}-published"));
        if !fits {
            let message = format!("the cell is called {name:?}, and by no other name");
            let remedy = "give both the same name";
            notes.lost("metadata.name", meta.at, message, remedy);
        }
        let text = cell
            .meta
            .annotations
            .get(PORTS)
            .cloned()
            .unwrap_or_default();
        let mut all = parse_ports(&text).unwrap_or_default();
        for (i, value) in ports.iter().enumerate() {
            let path = format!("spec.ports[{i}]");
            let found = port(value, &path, &pods.ports, outside, notes);
            match outside {
                true => all.extend(found),
                false => pods.offered.extend(found),
            }
        }
        let text = ports_text(&all);
        if !text.is_empty() {
            cell.meta.annotations.insert(PORTS.to_owned(), text);
        }
    }
}

fn port(
    value: &Value,
    path: &str,
    named: &[(String, u16)],
    outside: bool,
    notes: &mut Notes,
) -> Option<Port> {
    let mut fields = Fields::of(notes, value, path);
    let outer = fields
        .int(notes, "port")
        .and_then(|n| u16::try_from(n).ok());
    let target = fields.text_or_absent(notes, "targetPort");
    let node = fields
        .int(notes, "nodePort")
        .and_then(|n| u16::try_from(n).ok());
    let protocol = fields.text_or_absent(notes, "protocol");
    fields.finish(notes, &["name", "appProtocol"], &[]);
    let Some(outer) = outer.filter(|n| *n != 0) else {
        notes.error(
            format!("{path}.port"),
            value.at,
            "BadValue",
            "is not a port",
        );
        return None;
    };
    let inner = match target.as_deref() {
        None => outer,
        Some(text) => match text.parse::<u16>() {
            Ok(number) => number,
            Err(_) => match named.iter().find(|(name, _)| name == text) {
                Some((_, number)) => *number,
                None => {
                    let message = format!("no container has a port called {text:?}");
                    notes.error(format!("{path}.targetPort"), value.at, "BadValue", message);
                    return None;
                }
            },
        },
    };
    if !outside && inner != outer {
        let message = format!("a cell is reached on the port it listens on, {inner}");
        notes.lost(
            format!("{path}.port"),
            value.at,
            message,
            format!("set port to {inner}"),
        );
    }
    Some(Port {
        port: inner,
        protocol: protocol
            .unwrap_or_else(|| "tcp".into())
            .to_ascii_lowercase(),
        published: outside.then_some(node.unwrap_or(outer)),
    })
}
