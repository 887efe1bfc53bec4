//! `LINK_DOWN`: the interface the packet should leave by is down.

use std::fmt::Write as _;

use super::{Page, Rule, death, inside};
use crate::event::IfIndex;
use crate::flow::drops::DropKind;
use crate::inventory::Link;
use crate::verdict::case::{Case, Death};
use crate::verdict::finding::Finding;
use crate::verdict::types::{Cause, Component};

#[derive(Debug)]
pub struct LinkDown;

impl Rule for LinkDown {
    fn cause(&self) -> Cause {
        Cause("LINK_DOWN")
    }

    fn page(&self) -> Page {
        Page {
            what_happened: "The interface the packet was to leave by is down or has no carrier.",
            how_we_know: "The kernel freed it with reason DEV_READY; or its queue (QDISC_DROP) or the failed search for its next hop (NEIGH_FAILED) belongs to an interface that is not up or has no carrier.",
            what_else: "A veth loses its carrier when its other end is down or its pod is gone. The kernel itself speaks of a queue or of a neighbour here; the interface's state is why.",
            what_to_do: "`ip link show` the interface; set it up, or find out where its other end is.",
        }
    }

    fn judge(&self, case: &Case<'_>) -> Option<Finding> {
        let wanted = |kind| {
            matches!(
                kind,
                DropKind::LinkDown | DropKind::Qdisc | DropKind::Neighbour | DropKind::Bridge
            )
        };
        let found = case.death_of(wanted)?;
        let link = link(case, found);
        let down = link.is_some_and(|link| !link.up);
        if found.group.kind != DropKind::LinkDown && !down {
            return None;
        }
        // The kernel names the port a bridged frame came in by; the one that is down is another.
        let device = link
            .map(|link| link.name.as_ref())
            .or(found.group.ifname.as_deref())
            .unwrap_or("DEVICE");
        let component = Component {
            kind: "interface".to_owned(),
            name: Some(device.to_owned()),
            ..Component::default()
        };
        let mut finding = death(self.cause(), found).component(component);
        if down {
            finding = finding.evidence(
                "netlink",
                None,
                format!("{device} is down or has no carrier"),
            );
        }
        let place = |netns| case.inventory.namespace(netns);
        let here = found.group.spot.netns.and_then(place);
        let mut commands = vec![
            inside(here, &format!("ip -d link show {device}")),
            inside(here, &format!("ip link set {device} up")),
        ];
        let mut summary = format!("{device} is down or has no carrier");
        // A veth whose own end is up has lost its carrier by the other.
        let peer = link
            .and_then(|link| link.peer)
            .and_then(|(netns, ifindex)| case.inventory.link(netns, ifindex));
        if let Some(peer) = peer {
            let there = place(peer.netns);
            let of = there
                .and_then(|namespace| namespace.name.as_deref())
                .unwrap_or("the node");
            let _ = write!(summary, "; its other end is {} of {of}", peer.name);
            commands.push(inside(there, &format!("ip link set {} up", peer.name)));
        }
        Some(finding.remedy_placed(summary, commands))
    }
}

/// The interface the packet waited to leave by; of a bridge, the port it was to leave by.
fn link<'a>(case: &Case<'a>, found: Death<'a>) -> Option<&'a Link> {
    let netns = found.group.spot.netns?;
    if found.group.kind == DropKind::Bridge {
        let to = case.inventory.owner_of(super::towards(case, found))?.netns;
        let leads_there =
            |link: &&Link| link.netns == netns && link.peer.is_some_and(|(peer, _)| peer == to);
        return case.inventory.links().find(leads_there);
    }
    let ifindex: IfIndex = found.group.spot.ifindex?;
    case.inventory.link(netns, ifindex)
}
