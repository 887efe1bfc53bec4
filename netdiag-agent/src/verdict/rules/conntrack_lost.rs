//! `CONNTRACK_LOST`: the connection's entry, and with it its NAT, is gone.

use super::{Page, Rule, death};
use crate::flow::drops::DropKind;
use crate::flow::record::Direction;
use crate::inventory::NamespaceKind;
use crate::verdict::case::Case;
use crate::verdict::finding::Finding;
use crate::verdict::types::{Cause, Component, Confidence, HopName, NatKind, Outcome};

#[derive(Debug)]
pub struct ConntrackLost;

impl Rule for ConntrackLost {
    fn cause(&self) -> Cause {
        Cause("CONNTRACK_LOST")
    }

    fn page(&self) -> Page {
        Page {
            what_happened: "The conntrack entry of a living, translated connection disappeared: its answers now end at the node itself, which knows no such socket and resets the connection.",
            how_we_know: "A packet of the reply direction, which had been translated back to the pod before, was freed on the node with reason NO_SOCKET; or the living connection was seen with another translation than before, and the peer reset it. INFERRED on kernels without drop reasons: a RST to the peer left the node that the pod never sent.",
            what_else: "An entry goes by time-out (idle connection longer than nf_conntrack_tcp_timeout_established), by `conntrack -D/-F`, or by a firewall reload that flushes it.",
            what_to_do: "Find who deletes entries; use TCP keepalives shorter than the time-out for idle connections.",
        }
    }

    fn judge(&self, case: &Case<'_>) -> Option<Finding> {
        if let Some(reset) = case.translated_anew() {
            let after = case.flow.nat.iter().find(|nat| nat.kind == NatKind::Snat);
            let now = after.map_or(case.flow.tuple.src, |nat| nat.after);
            let finding = Finding::new(Outcome::ReplyLost, self.cause(), Confidence::Proven)
                .evidence(
                    "conntrack",
                    None,
                    format!("the living connection was translated anew, to {now}"),
                )
                .evidence(
                    "tc:ingress",
                    Some(reset.count),
                    "RST from the peer, who does not know it",
                );
            return Some(lost(finding));
        }
        if let Some(reset) = case.disowned() {
            let finding = Finding {
                refused_at: Some(HopName::Socket),
                ..Finding::new(Outcome::ReplyLost, self.cause(), Confidence::Inferred)
            };
            return Some(lost(finding.evidence(
                "tc:egress",
                Some(reset.count),
                "RST to the peer by the uplink, which the pod never sent: the node took the answer for its own",
            )));
        }
        let found = case.death_of(|kind| kind == DropKind::NoSocket)?;
        let group = found.group;
        let translated = case.flow.nat.iter().any(|nat| nat.kind == NatKind::Snat);
        let for_pod = case
            .initiator()
            .is_some_and(|namespace| namespace.kind == NamespaceKind::Pod);
        let on_node = group.spot.netns == case.inventory.node_netns();
        if group.direction != Direction::Reply || !translated || !for_pod || !on_node {
            return None;
        }
        Some(lost(Finding {
            outcome: Outcome::ReplyLost,
            ..death(self.cause(), found)
        }))
    }
}

fn lost(finding: Finding) -> Finding {
    let component = Component {
        kind: "conntrack".to_owned(),
        ..Component::default()
    };
    let commands = [
        "conntrack -E -e DESTROY # who deletes entries, and when".to_owned(),
        "sysctl net.netfilter.nf_conntrack_tcp_timeout_established".to_owned(),
    ];
    finding.component(component).remedy(
        "the connection's conntrack entry is gone; answers no longer reach the pod",
        commands,
    )
}
