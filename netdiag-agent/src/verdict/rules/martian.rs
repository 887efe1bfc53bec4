//! `MARTIAN`: an address that cannot be real at this place.

use super::{Page, Rule, death};
use crate::flow::drops::DropKind;
use crate::verdict::case::{Case, Finding};
use crate::verdict::types::{Cause, Component};

#[derive(Debug)]
pub struct Martian;

impl Rule for Martian {
    fn cause(&self) -> Cause {
        Cause("MARTIAN")
    }

    fn page(&self) -> Page {
        Page {
            what_happened: "The packet's source or destination address is impossible at this interface: one of the node's own addresses, loopback, multicast or zero as source.",
            how_we_know: "The kernel freed the packet with reason IP_LOCAL_SOURCE, IP_LOCALNET, IP_INVALID_SOURCE or IP_INVALID_DEST.",
            what_else: "Two machines with one address, a pod that kept an address the node now has, or NAT that rewrote to a loopback address.",
            what_to_do: "Look for the address on the node (`ip addr`); for DNAT to 127/8 set route_localnet on the interface.",
        }
    }

    fn judge(&self, case: &Case<'_>) -> Option<Finding> {
        let found = case.death_of(|kind| kind == DropKind::Martian)?;
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
        Some(
            death(self.cause(), found)
                .component(component)
                .remedy(summary, commands),
        )
    }
}
