//! What must be byte for byte the same after a trace as before: rules, queueing disciplines, attached programs.

use std::fmt::{self, Write as _};

use anyhow::Result;

use crate::bpf;
use crate::netns::Netns;
use crate::node::Node;

/// One text per thing looked at, without its counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot(Vec<(String, String)>);

impl Snapshot {
    pub fn take(node: &Node) -> Result<Self> {
        let lines = [
            "nft -s list ruleset",
            "iptables-legacy-save",
            "ip6tables-legacy-save",
            // tc, tcx, XDP and netfilter programs of this namespace.
            "bpftool net show",
        ];
        let names = &node.plan.names;
        let mut seen = Vec::new();
        for line in lines {
            let text = look(&node.netns, line)?;
            seen.push((line.to_owned(), text));
        }
        for pod in &node.pods {
            let line = "nft -s list ruleset";
            seen.push((format!("{line} in {}", pod.name()), look(pod, line)?));
        }
        seen.push(traffic_control(node)?);
        // Not every bpftool knows tcx.
        for interface in names.veths.iter().chain([&names.uplink]) {
            // An interface that is gone has no programs either.
            let ids = bpf::tcx_programs(&node.netns, interface).unwrap_or_default();
            seen.push((format!("tcx programs of {interface}"), ids));
        }
        Ok(Self(seen))
    }

    /// What differs, in words; empty when nothing does.
    pub fn differences(&self, later: &Self) -> Vec<String> {
        let pairs = self.0.iter().zip(&later.0);
        pairs
            .filter(|(before, after)| before != after)
            .map(|((what, before), (_, after))| {
                format!("`{what}` changed\n--- before\n{before}\n--- after\n{after}")
            })
            .collect()
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|(what, text)| writeln!(f, "# {what}\n{text}"))
    }
}

/// Queueing disciplines and filters, by one program: under emulation a process costs as much as what it looks at.
fn traffic_control(node: &Node) -> Result<(String, String)> {
    let names = &node.plan.names;
    let mut script = "qdisc show\n".to_owned();
    for interface in names.veths.iter().chain([&names.uplink]) {
        for side in ["ingress", "egress"] {
            writeln!(script, "filter show dev {interface} {side}")?;
        }
    }
    // An interface that is gone has no filters; the lines after it are looked at all the same.
    let text = node
        .netns
        .ask("tc", &["-force", "-batch", "-"], &script)?
        .stdout;
    Ok(("tc".to_owned(), stable(&String::from_utf8_lossy(&text))))
}

/// A tool that is missing, or that has nothing to show and says so by failing, shows nothing both times.
fn look(netns: &Netns, line: &str) -> Result<String> {
    let mut words = line.split_whitespace();
    let program = words.next().unwrap_or_default();
    let missing = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
    match netns.output(program, &words.collect::<Vec<_>>()) {
        Ok(output) => Ok(stable(&String::from_utf8_lossy(&output.stdout))),
        Err(error) if error.downcast_ref().is_some_and(missing) => Ok(String::new()),
        Err(error) => Err(error),
    }
}

/// Without comments (they hold the time) and `[packets:bytes]`.
fn stable(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let stable: Vec<_> = lines
        .map(|line| line.split(" [").next().unwrap_or(line))
        .collect();
    stable.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_times_do_not_count() {
        let one = "# Generated at 10:00\n:INPUT ACCEPT [0:0]\n-A INPUT -j DROP\n";
        let two = "# Generated at 11:00\n:INPUT ACCEPT [7:420]\n-A INPUT -j DROP\n";
        assert_eq!(stable(one), stable(two));
        assert_ne!(stable(one), stable(":INPUT DROP [0:0]\n-A INPUT -j DROP\n"));
    }

    #[test]
    fn a_difference_shows_both_sides() {
        let [before, after] = ["a\n", "b\n"].map(|text| Snapshot(vec![("x".into(), text.into())]));
        assert_eq!(before.differences(&before), Vec::<String>::new());
        let shown = before.differences(&after).concat();
        assert!(shown.contains("a\n") && shown.contains("b\n"), "{shown}");
    }
}
