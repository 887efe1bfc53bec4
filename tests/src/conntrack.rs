//! The node's own account of its translations, and the traced pod's: `conntrack -L`.

use std::net::IpAddr;

use anyhow::Result;

use crate::node::Node;
use crate::plan::Family;

/// One direction of an entry. ICMP has ports 0 here: its identifier is no port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Side {
    pub source: (IpAddr, u16),
    pub destination: (IpAddr, u16),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `tcp`, `udp`, `icmp`, `icmpv6`.
    pub protocol: String,
    pub original: Side,
    pub reply: Side,
}

/// A translation, named as a verdict names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Translation {
    pub kind: String,
    pub before: (IpAddr, u16),
    pub after: (IpAddr, u16),
}

impl Entry {
    pub fn translations(&self) -> Vec<Translation> {
        let pair = |kind: &str, before, after| Translation {
            kind: kind.to_owned(),
            before,
            after,
        };
        [
            pair("DNAT", self.original.destination, self.reply.source),
            pair("SNAT", self.original.source, self.reply.destination),
        ]
        .into_iter()
        .filter(|translation| translation.before != translation.after)
        .collect()
    }
}

/// The entries of a family that lead to one of the addresses, one way or the other: a full table has a quarter of
/// a million of others.
pub fn list(node: &Node, family: Family, to: &[IpAddr]) -> Result<Vec<Entry>> {
    let name = if family == Family::V4 { "ipv4" } else { "ipv6" };
    let command = format!("conntrack -L -f {name}");
    let node = [node.run(&command)?, node.pod().sh(&command)?];
    Ok(parse(&node.concat(), to))
}

fn parse(text: &str, to: &[IpAddr]) -> Vec<Entry> {
    let wanted: Vec<_> = to.iter().map(|ip| format!(" dst={ip} ")).collect();
    text.lines()
        .filter(|line| wanted.iter().any(|ip| line.contains(ip)))
        .filter_map(entry)
        .collect()
}

fn entry(line: &str) -> Option<Entry> {
    let values = |key: &str| {
        let words = line
            .split_whitespace()
            .filter_map(|word| word.split_once('='));
        words
            .filter(|(name, _)| *name == key)
            .map(|(_, value)| value)
            .collect::<Vec<_>>()
    };
    let addresses = |key| {
        values(key)
            .into_iter()
            .map(|v| v.parse().ok())
            .collect::<Option<Vec<_>>>()
    };
    let ports = |key| {
        values(key)
            .into_iter()
            .filter_map(|v| v.parse().ok())
            .collect::<Vec<u16>>()
    };
    let (sources, destinations) = (addresses("src")?, addresses("dst")?);
    let (from, to) = (ports("sport"), ports("dport"));
    let side = |index: usize| {
        let port = |list: &[u16]| list.get(index).copied().unwrap_or(0);
        Some(Side {
            source: (*sources.get(index)?, port(&from)),
            destination: (*destinations.get(index)?, port(&to)),
        })
    };
    Some(Entry {
        protocol: line.split_whitespace().next()?.to_owned(),
        original: side(0)?,
        reply: side(1)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
tcp      6 118 TIME_WAIT src=10.244.1.4 dst=10.96.0.10 sport=50213 dport=80 src=198.51.100.10 dst=192.0.2.11 sport=8080 dport=50213 [ASSURED] mark=0 use=1
icmp     1 29 src=10.244.1.4 dst=192.0.2.11 type=8 code=0 id=7 src=192.0.2.11 dst=10.244.1.4 type=0 code=0 id=7 mark=0 use=1
udp      17 29 src=fd00::4 dst=fd00::9 sport=1 dport=2 [UNREPLIED] src=fd00::9 dst=fd00::4 sport=2 dport=1 mark=0 use=1
";

    fn to(addresses: &[&str]) -> Vec<Entry> {
        let parsed = addresses
            .iter()
            .map(|text| text.parse().expect("an address"));
        parse(TEXT, &parsed.collect::<Vec<_>>())
    }

    #[test]
    fn entries_that_go_elsewhere_are_left_out() {
        assert_eq!(to(&["10.96.0.10"]).len(), 1);
        assert_eq!(to(&["fd00::9"]).len(), 1);
        assert_eq!(to(&["10.96.0.1"]), []);
    }

    #[test]
    fn both_translations_of_a_service_are_found() {
        let entries = to(&["10.96.0.10", "192.0.2.11", "fd00::9"]);
        assert_eq!(entries.len(), 3);
        let found = entries[0].translations();
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert_eq!(found[0].before, (address("10.96.0.10"), 80));
        assert_eq!(found[0].after, (address("198.51.100.10"), 8080));
        assert_eq!(found[1].before, (address("10.244.1.4"), 50213));
        assert_eq!(found[1].after, (address("192.0.2.11"), 50213));
    }

    #[test]
    fn an_untranslated_entry_has_none() {
        for entry in &to(&["10.96.0.10", "192.0.2.11", "fd00::9"])[1..] {
            assert_eq!(entry.translations(), []);
        }
    }
}
