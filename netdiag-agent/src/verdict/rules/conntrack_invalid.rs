//! `CONNTRACK_INVALID`: conntrack called the packet invalid, and a rule dropped it for that.

use super::{Page, Rule, death};
use crate::flow::drops::DropKind;
use crate::ruleset::CtState;
use crate::verdict::case::Case;
use crate::verdict::finding::Finding;
use crate::verdict::firewall;
use crate::verdict::types::{Cause, Component, HopName};

#[derive(Debug)]
pub struct ConntrackInvalid;

impl Rule for ConntrackInvalid {
    fn cause(&self) -> Cause {
        Cause("CONNTRACK_INVALID")
    }

    fn page(&self) -> Page {
        Page {
            what_happened: "Connection tracking could not match the packet to a connection (out of window, no SYN seen, asymmetric path) and a rule on this node drops what is INVALID.",
            how_we_know: "The packet was dropped behind PREROUTING without a conntrack entry, while the namespace's conntrack `invalid` counter rose.",
            what_else: "NOTRACK rules also leave packets without an entry, but do not count as invalid.",
            what_to_do: "Find out why: asymmetric routing (only one direction passes this node), offload that changes segments, or a too strict window check: net.netfilter.nf_conntrack_tcp_be_liberal=1.",
        }
    }

    fn judge(&self, case: &Case<'_>) -> Option<Finding> {
        let found = case.death_of(|kind| matches!(kind, DropKind::Netfilter(_)))?;
        let group = found.group;
        let behind = matches!(
            group.spot.hop,
            HopName::NfForward | HopName::NfInput | HopName::NfPostrouting
        );
        if group.conntrack.is_some() || !behind {
            return None;
        }
        let invalid = case
            .inventory
            .counter_delta(group.spot.netns?, "conntrack.invalid")
            .filter(|n| *n > 0)?;
        let finding = death(self.cause(), found).counter("conntrack.invalid", invalid);
        let v6 = case.flow.tuple.is_ipv6();
        let handshake = group
            .packet
            .as_ref()
            .and_then(|packet| packet.tcp)
            .is_none_or(|tcp| tcp.flags.is_syn() || tcp.flags.is_syn_ack());
        let rule = firewall::dropped(case).filter(|dropped| dropped.rule().is_some());
        let due = if handshake {
            CtState::New
        } else {
            CtState::Established
        };
        // Valid packets end there as well.
        if rule
            .as_ref()
            .is_some_and(|rule| rule.drops_tracked(case, due))
        {
            return None;
        }
        let (component, finding) = match &rule {
            Some(rule) => (rule.component(v6), rule.tell(finding)),
            None => (Component::default(), finding),
        };
        // What is wrong is the connection; the rule only acts on it.
        let component = Component {
            kind: "conntrack".to_owned(),
            ..component
        };
        // The window is not looked at before there is a connection.
        let liberal = (case.flow.is_tcp() && !handshake)
            .then(|| "sysctl -w net.netfilter.nf_conntrack_tcp_be_liberal=1".to_owned());
        let log = "sysctl -w net.netfilter.nf_conntrack_log_invalid=255 # then dmesg".to_owned();
        let commands = liberal.into_iter().chain([log]);
        Some(finding.component(component).remedy(
            "conntrack calls the packet INVALID and a rule drops that",
            commands,
        ))
    }
}
