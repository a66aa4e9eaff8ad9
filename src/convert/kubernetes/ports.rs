//! Ports of a cell that others use. The schema has no field for them: every port
//! of a cell is open to its space. Kubernetes wants them named in a Service, so
//! they are noted in an annotation of the Cell.

use std::fmt;

/// Annotation of a Cell: the ports it offers, `[PUBLISHED:]PORT[/PROTOCOL]`,
/// with commas between them. `PUBLISHED` is the port towards the outside.
pub const PORTS: &str = "convert.kukeon.io/ports";

/// One port that a cell offers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// Where the program listens.
    pub port: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// Where the outside reaches it, if it does.
    pub published: Option<u16>,
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(published) = self.published {
            write!(f, "{published}:")?;
        }
        write!(f, "{}", self.port)?;
        match self.protocol.as_str() {
            "tcp" => Ok(()),
            protocol => write!(f, "/{protocol}"),
        }
    }
}

/// The annotation's text for ports; sorted, each once.
pub fn ports_text(ports: &[Port]) -> String {
    let mut ports = ports.to_vec();
    ports.sort();
    ports.dedup();
    // What is published is offered as well.
    let published: Vec<_> = ports
        .iter()
        .filter(|p| p.published.is_some())
        .map(|p| (p.port, p.protocol.clone()))
        .collect();
    ports.retain(|p| p.published.is_some() || !published.contains(&(p.port, p.protocol.clone())));
    let words: Vec<String> = ports.iter().map(Port::to_string).collect();
    words.join(",")
}

/// Ports of the annotation's text; the first word that is none is the error.
pub fn parse_ports(text: &str) -> Result<Vec<Port>, String> {
    text.split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
        .map(|word| parse(word).ok_or_else(|| word.to_owned()))
        .collect()
}

fn parse(word: &str) -> Option<Port> {
    let number = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0);
    let (ports, protocol) = word.split_once('/').unwrap_or((word, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return None;
    }
    let (published, port) = match ports.split_once(':') {
        Some((published, port)) => (Some(number(published)?), port),
        None => (None, ports),
    };
    Some(Port {
        port: number(port)?,
        protocol,
        published,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_and_written() {
        let ports = parse_ports("8080:80, 53/udp,80,53/UDP").unwrap();
        assert_eq!(ports_text(&ports), "53/udp,8080:80");
        assert_eq!(parse_ports(&ports_text(&ports)).unwrap().len(), 2);
        assert_eq!(parse_ports("80,http"), Err("http".to_owned()));
        assert_eq!(parse_ports("0"), Err("0".to_owned()));
        assert_eq!(parse_ports("80/icmp"), Err("80/icmp".to_owned()));
        assert_eq!(parse_ports("").unwrap(), []);
    }
}
