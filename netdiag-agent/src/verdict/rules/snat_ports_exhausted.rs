//! `SNAT_PORTS_EXHAUSTED`: this node's own NAT found no free port.

use std::collections::BTreeSet;

use super::{Page, Rule, death};
use crate::event::{CtStatus, Refuser, Tuple};
use crate::flow::drops::DropKind;
use crate::flow::record::DropGroup;
use crate::verdict::case::Case;
use crate::verdict::finding::Finding;
use crate::verdict::types::{Cause, Component, Confidence, HopName};

#[derive(Debug)]
pub struct SnatPortsExhausted;

impl Rule for SnatPortsExhausted {
    fn cause(&self) -> Cause {
        Cause("SNAT_PORTS_EXHAUSTED")
    }

    fn page(&self) -> Page {
        Page {
            what_happened: "The node's SNAT or MASQUERADE gave the connection a source port that another connection to the same destination already has; the entry could not be inserted and the packet was dropped.",
            how_we_know: "The packet was dropped in POSTROUTING already translated, with a conntrack entry that is not confirmed, while the namespace's `insert_failed` counter rose; again and again, or for several connections to one destination. Who holds the ports is read from the conntrack table. With kprobes the failed insertion itself is seen, packet by packet.",
            what_else: "A single such drop is a race of two packets (two DNS queries from one socket, say) and heals by itself; only repetition is exhaustion.",
            what_to_do: "Widen the port range of the SNAT rule, add source addresses, use --random-fully, pool connections, or exempt the destination from SNAT.",
        }
    }

    fn judge(&self, case: &Case<'_>) -> Option<Finding> {
        let found = case.death_of(|kind| matches!(kind, DropKind::Netfilter(_)))?;
        let failed = case
            .inventory
            .counter_delta(found.group.spot.netns?, "conntrack.insert_failed")
            .unwrap_or(0);
        let refuser = found.group.drop.refusal.as_ref().map(|refusal| refusal.by);
        let inserting = match refuser {
            Some(Refuser::Confirm) => true,
            Some(Refuser::Unknown) | None => failed > 0,
            Some(_) => false,
        };
        if !is_clash(found.group) || !inserting {
            return None;
        }
        let source = found.group.packet.as_ref()?.tuple.src.ip();
        let component = Component {
            kind: "snat".to_owned(),
            name: Some(source.to_string()),
            ..Component::default()
        };
        let summary = format!(
            "no free SNAT port on {source} towards {}",
            found.group.packet.as_ref()?.tuple.dst
        );
        let commands = [
            "iptables-save -t nat | grep -E 'MASQUERADE|SNAT' # widen --to-ports / --to-source, add --random-fully".to_owned(),
            format!("conntrack -L -q {source} | wc -l"),
        ];
        let tuple = found.group.packet.as_ref()?.tuple;
        let mut finding = death(self.cause(), found)
            .component(component)
            .remedy(summary, commands);
        if failed > 0 {
            finding = finding.counter("conntrack.insert_failed", failed);
        }
        let ports = held_ports(case, &tuple);
        if !ports.is_empty() {
            let list = ports
                .iter()
                .take(8)
                .map(u16::to_string)
                .collect::<Vec<_>>()
                .join(", ");
            let more = if ports.len() > 8 { " …" } else { "" };
            finding = finding.evidence(
                "conntrack_table",
                None,
                format!(
                    "{} source port(s) of {source} towards {} taken: {list}{more}",
                    ports.len(),
                    tuple.dst
                ),
            );
        }
        if found.group.count < 2 && !others_clash(case, &tuple) {
            finding.confidence = Confidence::Inferred;
            finding = finding.caveat("seen once only: it may be a race of two packets for one entry, which heals by itself");
        }
        Some(finding)
    }
}

/// Another connection to the same destination met the same end: no race of two packets.
fn others_clash(case: &Case<'_>, tuple: &Tuple) -> bool {
    let same = |group: &DropGroup| {
        let towards = group
            .packet
            .as_ref()
            .is_some_and(|packet| packet.tuple.dst == tuple.dst);
        towards && is_clash(group)
    };
    case.others
        .iter()
        .any(|flow| flow.id != case.flow.id && flow.drops.iter().any(same))
}

/// Translated, but not in the table: only the insertion is left to fail.
fn is_clash(group: &DropGroup) -> bool {
    let translated = |status: CtStatus| {
        status.has(CtStatus::SRC_NAT | CtStatus::SRC_NAT_DONE) && !status.has(CtStatus::CONFIRMED)
    };
    group.spot.hop == HopName::NfPostrouting
        && group
            .conntrack
            .is_some_and(|entry| translated(entry.status))
}

/// The ports of the translated source that connections to this destination have, lowest first.
fn held_ports(case: &Case<'_>, tuple: &Tuple) -> BTreeSet<u16> {
    let answers = case.inventory.connections().map(|entry| entry.answer);
    answers
        .filter(|answer| {
            answer.proto == tuple.proto
                && answer.src == tuple.dst
                && answer.dst.ip() == tuple.src.ip()
        })
        .map(|answer| answer.dst.port())
        .collect()
}
