//! `TTL_EXPIRED`: the packet's hop limit ran out on this node.

use super::{Page, Rule, death};
use crate::flow::drops::DropKind;
use crate::verdict::case::Case;
use crate::verdict::finding::Finding;
use crate::verdict::types::{Cause, Component};

#[derive(Debug)]
pub struct TtlExpired;

impl Rule for TtlExpired {
    fn cause(&self) -> Cause {
        Cause("TTL_EXPIRED")
    }

    fn page(&self) -> Page {
        Page {
            what_happened: "The packet arrived with a TTL (hop limit) of 1 and had to be forwarded: the node discarded it and answered 'time exceeded'.",
            how_we_know: "The kernel freed it in the forwarding path with a TTL of at most 1.",
            what_else: "A routing loop eats TTLs as well: then the same packet passes one interface several times.",
            what_to_do: "Raise the sender's TTL (a multicast or traceroute-like program sets a low one), or remove the hops in between.",
        }
    }

    fn judge(&self, case: &Case<'_>) -> Option<Finding> {
        let found = case.death_of(|kind| kind == DropKind::TtlExpired)?;
        let ttl = found.group.packet.as_ref()?.ttl;
        let component = Component {
            kind: "ttl".to_owned(),
            name: Some(ttl.to_string()),
            ..Component::default()
        };
        let source = found.group.packet.as_ref()?.tuple.src.ip();
        let summary = format!("{source} sends with too low a TTL: it was {ttl} on arrival here");
        let commands = ["sysctl net.ipv4.ip_default_ttl net.ipv6.conf.default.hop_limit # in the sender's namespace".to_owned()];
        Some(
            death(self.cause(), found)
                .component(component)
                .remedy(summary, commands),
        )
    }
}
