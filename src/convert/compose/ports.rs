//! Ports of a service.

use super::super::kubernetes::Port;
use super::super::loss::Notes;
use super::super::walk::{Fields, text};
use crate::api::yaml::Position;
use crate::api::yaml::located::{Kind, Value};

const REMEDY: &str = "reach it at the cell's address, or use network_mode: host";

/// `ports:`; what is published is noted for Kubernetes and lost on this host.
pub(super) fn published(value: &Value, path: &str, notes: &mut Notes) -> Vec<Port> {
    let mut out = Vec::new();
    for (i, value) in super::super::walk::list(notes, value, path)
        .iter()
        .enumerate()
    {
        let path = format!("{path}[{i}]");
        let found = match &value.kind {
            Kind::Map(_) => long(value, &path, notes),
            _ => {
                let text = text(notes, value, &path);
                short(&text, &path, value.at, notes)
            }
        };
        if let Some(ports) = found {
            let message = "ports of the host are not published yet";
            notes.lost(path, value.at, message, REMEDY);
            out.extend(ports);
        }
    }
    out
}

/// `[[ADDRESS:]HOST:]PORT[/PROTOCOL]`, where both may be ranges.
fn short(text: &str, path: &str, at: Position, notes: &mut Notes) -> Option<Vec<Port>> {
    let ports = (|| {
        let (rest, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        // An IPv6 address stands in brackets.
        let (bracketed, rest) = match rest.rsplit_once("]:") {
            Some((address, ports)) => (Some(address), ports),
            None => (None, rest),
        };
        let parts: Vec<&str> = rest.split(':').collect();
        let (address, outer, inner) = match (bracketed, &parts[..]) {
            (None, [inner]) => ("", "", *inner),
            (address, [outer, inner]) => (address.unwrap_or_default(), *outer, *inner),
            (None, [address, outer, inner]) => (*address, *outer, *inner),
            _ => return None,
        };
        let ports = pair(Some(outer).filter(|o| !o.is_empty()), inner, protocol)?;
        Some(within(address, ports))
    })();
    if ports.is_none() {
        let message = format!("{text:?} is not [[ADDRESS:]HOST:]PORT[/PROTOCOL]");
        notes.error(path, at, "BadValue", message);
    }
    ports
}

/// What only the host itself reaches is not for the outside of a cluster.
fn within(address: &str, mut ports: Vec<Port>) -> Vec<Port> {
    let address = address.trim_matches(['[', ']']);
    let loopback = address
        .parse::<std::net::IpAddr>()
        .is_ok_and(|a| a.is_loopback());
    if loopback || address == "localhost" {
        ports.iter_mut().for_each(|port| port.published = None);
    }
    ports
}

fn pair(outer: Option<&str>, inner: &str, protocol: &str) -> Option<Vec<Port>> {
    let inner = range(inner)?;
    let outer = match outer {
        None => None,
        Some(text) => Some(range(text)?).filter(|outer| outer.len() == inner.len()),
    };
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return None;
    }
    let port = |(i, port): (usize, &u16)| Port {
        port: *port,
        protocol: protocol.clone(),
        published: Some(outer.as_ref().map_or(*port, |outer| outer[i])),
    };
    Some(inner.iter().enumerate().map(port).collect())
}

fn range(text: &str) -> Option<Vec<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
    (first != 0 && first <= last).then(|| (first..=last).collect())
}

fn long(value: &Value, path: &str, notes: &mut Notes) -> Option<Vec<Port>> {
    let mut fields = Fields::of(notes, value, path);
    let target = fields.text(notes, "target");
    let outer = fields.text_or_absent(notes, "published");
    let protocol = fields.text_or_absent(notes, "protocol");
    fields.skip_extensions();
    let address = fields.text(notes, "host_ip");
    fields.finish(notes, &["name", "app_protocol", "mode"], &[]);
    let protocol = protocol.as_deref().unwrap_or("tcp");
    let ports = pair(outer.as_deref(), &target, protocol).map(|p| within(&address, p));
    if ports.is_none() {
        notes.error(path, value.at, "BadValue", "is not a port");
    }
    ports
}

/// `expose:`, which says what is open to the other services anyway.
pub(super) fn exposed(value: &Value, path: &str, notes: &mut Notes) -> Vec<Port> {
    let mut out = Vec::new();
    for (i, value) in super::super::walk::list(notes, value, path)
        .iter()
        .enumerate()
    {
        let path = format!("{path}[{i}]");
        let text = text(notes, value, &path);
        let (inner, protocol) = text.split_once('/').unwrap_or((&text, "tcp"));
        match pair(None, inner, protocol) {
            Some(ports) => out.extend(ports.into_iter().map(|port| Port {
                published: None,
                ..port
            })),
            None => {
                let message = format!("{text:?} is not PORT[/PROTOCOL]");
                notes.error(path, value.at, "BadValue", message);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_forms() {
        let read = |text: &str| {
            let mut notes = Notes::default();
            let ports = short(text, "p", Position::default(), &mut notes);
            ports.map(|p| p.iter().map(Port::to_string).collect::<Vec<_>>().join(","))
        };
        for (text, expected) in [
            ("80", Some("80:80")),
            ("8080:80", Some("8080:80")),
            ("10.0.0.1:8080:80/udp", Some("8080:80/udp")),
            ("127.0.0.1:8080:80", Some("80")),
            ("[::1]:8080:80", Some("80")),
            ("[2001:db8::1]:8080:80", Some("8080:80")),
            ("127.0.0.1::80", Some("80")),
            ("9000-9001:80-81", Some("9000:80,9001:81")),
            ("http", None),
            ("1:2:3:4", None),
            ("80/icmp", None),
        ] {
            assert_eq!(read(text).as_deref(), expected, "{text}");
        }
    }
}
