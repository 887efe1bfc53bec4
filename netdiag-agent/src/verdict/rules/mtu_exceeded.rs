//! `MTU_EXCEEDED`: too big for the way out, and not to be fragmented.

use super::{Page, Rule, death, ip, towards};
use crate::event::{IcmpKind, Span};
use crate::flow::drops::DropKind;
use crate::verdict::case::{Case, Death};
use crate::verdict::finding::Finding;
use crate::verdict::types::{Cause, Component};

#[derive(Debug)]
pub struct MtuExceeded;

impl Rule for MtuExceeded {
    fn cause(&self) -> Cause {
        Cause("MTU_EXCEEDED")
    }

    fn page(&self) -> Page {
        Page {
            what_happened: "The packet is larger than the MTU of the route or interface it should leave by, and may not be fragmented (DF, or IPv6).",
            how_we_know: "The kernel freed it with reason PKT_TOO_BIG (or in ip_fragment) and answered 'fragmentation needed' / 'packet too big'.",
            what_else: "TCP adapts when that ICMP message reaches it; where a firewall eats the message, big segments vanish for good.",
            what_to_do: "Make the pod's MTU fit the way out (CNI configuration; overlay overhead is 50 bytes for VXLAN), or clamp the MSS.",
        }
    }

    fn judge(&self, case: &Case<'_>) -> Option<Finding> {
        let found = case
            .death_of(|kind| kind == DropKind::TooBig)
            .or_else(|| complained_of(case))?;
        let len = found.group.packet.as_ref()?.len;
        let to = towards(case, found);
        let uplink = case
            .inventory
            .links()
            .filter(|link| link.mtu > 0 && link.mtu < len && link.up)
            .min_by_key(|link| link.mtu);
        let mtu = uplink.map_or_else(String::new, |link| {
            format!(" (MTU of {} is {})", link.name, link.mtu)
        });
        let component = Component {
            kind: "mtu".to_owned(),
            name: uplink.map(|link| link.name.to_string()),
            ..Component::default()
        };
        let summary = format!("a packet of {len} bytes does not fit the way to {to}{mtu}");
        let commands = [
            format!("{} route get {to}", ip(to)),
            "ip link | grep mtu".to_owned(),
        ];
        Some(
            death(self.cause(), found)
                .component(component)
                .remedy(summary, commands),
        )
    }
}

/// Freed where it was forwarded, for no reason given, in the moment this node told its sender that it is too big.
fn complained_of<'a>(case: &Case<'a>) -> Option<Death<'a>> {
    let found = case.death_of(|kind| kind == DropKind::Other)?;
    let group = found.group;
    let forwarding = group.drop.location.as_deref().is_some_and(|location| {
        location.starts_with("ip_forward") || location.starts_with("ip6_forward")
    });
    let told = case.flow.errors.iter().any(|error| {
        let near =
            error.first.plus(MOMENT) >= group.first && group.last.plus(MOMENT) >= error.first;
        near && error.about == group.direction && is_too_big(error.kind, case.flow.tuple.is_ipv6())
    });
    (forwarding && told).then_some(found)
}

/// Between the drop and the sight of the answer.
const MOMENT: Span = Span::millis(30);

/// "Fragmentation needed" (RFC 792) and "packet too big" (RFC 4443 §3.2).
const fn is_too_big(icmp: IcmpKind, v6: bool) -> bool {
    matches!((v6, icmp.kind, icmp.code), (false, 3, 4) | (true, 2, _))
}
