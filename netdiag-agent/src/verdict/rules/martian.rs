//! `MARTIAN`: an address that cannot be real at this place.

use std::net::IpAddr;

use super::{Page, Rule, death, unexplained_at_input_routing};
use crate::flow::drops::DropKind;
use crate::verdict::case::{Case, Death};
use crate::verdict::finding::Finding;
use crate::verdict::types::{Cause, Component, Confidence, NatKind};

#[derive(Debug)]
pub struct Martian;

impl Rule for Martian {
    fn cause(&self) -> Cause {
        Cause("MARTIAN")
    }

    fn page(&self) -> Page {
        Page {
            what_happened: "The packet's source or destination address is impossible at this interface: one of the node's own addresses, loopback, multicast or zero as source.",
            how_we_know: "The kernel freed the packet with reason IP_LOCAL_SOURCE, IP_LOCALNET, IP_INVALID_SOURCE or IP_INVALID_DEST. Older kernels give no reason: then it is inferred from an impossible source of a packet freed where received packets are routed.",
            what_else: "Two machines with one address, a pod that kept an address the node now has, NAT that rewrote to a loopback address, or a Service that sent a pod to itself without masquerade (hairpin).",
            what_to_do: "Look for the address on the node (`ip addr`); for DNAT to 127/8 set route_localnet on the interface.",
        }
    }

    fn judge(&self, case: &Case<'_>) -> Option<Finding> {
        let (found, confidence) = match case.death_of(|kind| kind == DropKind::Martian) {
            Some(found) => (found, Confidence::Proven),
            // Without a reason the address itself has to tell.
            None => (suspected(case)?, Confidence::Inferred),
        };
        let tuple = found.group.packet.as_ref()?.tuple;
        let reason = found.group.drop.reason.as_deref().unwrap_or("");
        let (what, address) = if reason.ends_with("DEST") {
            ("destination", tuple.dst.ip())
        } else {
            ("source", tuple.src.ip())
        };
        let component = Component {
            kind: "address".to_owned(),
            name: Some(address.to_string()),
            ..Component::default()
        };
        let interface = found.group.ifname.as_deref().unwrap_or("the interface");
        let summary = format!("{what} {address} is impossible at {interface}");
        let commands = [
            format!("ip addr show to {address}"),
            "sysctl -w net.ipv4.conf.all.log_martians=1".to_owned(),
        ];
        let finding = Finding {
            confidence,
            ..death(self.cause(), found)
                .component(component)
                .remedy(summary, commands)
        };
        Some(if is_hairpin(case) {
            finding.caveat(format!(
                "{} leads back to the pod itself (hairpin), and the node does not masquerade that: with kube-proxy, look for KUBE-MARK-MASQ from {address} in the node's nat table",
                case.flow.tuple.dst
            ))
        } else {
            finding
        })
    }
}

/// A Service sent its client to the client itself, and the source was left as it was.
fn is_hairpin(case: &Case<'_>) -> bool {
    let flow = case.flow;
    let snat = flow.nat.iter().any(|nat| nat.kind == NatKind::Snat);
    let source = flow.tuple.src.ip();
    !snat && flow.tuple.dst.ip() != source && case.responder_address() == source
}

/// Dropped where it was routed, for no reason given, with a source that cannot be.
fn suspected<'a>(case: &Case<'a>) -> Option<Death<'a>> {
    let found = unexplained_at_input_routing(case)?;
    let source = found.group.packet.as_ref()?.tuple.src.ip();
    is_impossible(case, found, source).then_some(found)
}

/// Loopback, multicast, zero, or an address of the very namespace that received the packet.
pub(super) fn is_impossible(case: &Case<'_>, death: Death<'_>, source: IpAddr) -> bool {
    let own = case
        .inventory
        .links()
        .any(|link| Some(link.netns) == death.group.spot.netns && link.addresses.contains(&source));
    own || source.is_loopback() || source.is_multicast() || source.is_unspecified()
}
