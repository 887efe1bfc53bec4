//! `MTU_EXCEEDED`: too big for the way out, and not to be fragmented.

use super::{Page, Rule, death, ip, towards};
use crate::flow::drops::DropKind;
use crate::verdict::case::{Case, Finding};
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
        let found = case.death_of(|kind| kind == DropKind::TooBig)?;
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
