//! `SNAT_PORTS_EXHAUSTED`: this node's own NAT found no free port.

use super::{Page, Rule, death};
use crate::event::CtStatus;
use crate::flow::drops::DropKind;
use crate::verdict::case::{Case, Finding};
use crate::verdict::types::{Cause, Component, Confidence};

#[derive(Debug)]
pub struct SnatPortsExhausted;

impl Rule for SnatPortsExhausted {
    fn cause(&self) -> Cause {
        Cause("SNAT_PORTS_EXHAUSTED")
    }

    fn page(&self) -> Page {
        Page {
            what_happened: "The node's SNAT or MASQUERADE gave the connection a source port that another connection to the same destination already has; the entry could not be inserted and the packet was dropped.",
            how_we_know: "The packet was dropped in POSTROUTING already translated, with a conntrack entry that is not confirmed, while the namespace's `insert_failed` counter rose.",
            what_else: "A single such drop is a race of two packets (two DNS queries from one socket, say) and heals by itself; only repetition is exhaustion.",
            what_to_do: "Widen the port range of the SNAT rule, add source addresses, use --random-fully, pool connections, or exempt the destination from SNAT.",
        }
    }

    fn judge(&self, case: &Case<'_>) -> Option<Finding> {
        let found = case.death_of(|kind| matches!(kind, DropKind::Netfilter(_)))?;
        let status = found.group.conntrack?.status;
        let clash = status.has(CtStatus::SRC_NAT | CtStatus::SRC_NAT_DONE)
            && !status.has(CtStatus::CONFIRMED);
        let failed = case
            .inventory
            .counter_delta(found.group.spot.netns?, "conntrack.insert_failed")
            .unwrap_or(0);
        if !clash || failed == 0 || found.group.spot.hop != crate::verdict::HopName::NfPostrouting {
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
        let mut finding = death(self.cause(), found)
            .component(component)
            .counter("conntrack.insert_failed", failed)
            .remedy(summary, commands);
        if found.group.count < 2 && failed < 2 {
            finding.confidence = Confidence::Inferred;
            finding = finding.caveat("seen once only: it may be a race of two packets for one entry, which heals by itself");
        }
        Some(finding)
    }
}
