//! The uplink is on the way of what travels in a tunnel, though its packets look different there: for tunnels whose
//! packets the programs cannot read.

use super::Engine;
use crate::event::{Event, HookId, Packet, Pass};
use crate::flow::place::Spot;
use crate::flow::table::Found;
use crate::flow::tunnel::Outer;
use crate::inventory::Role;

impl Engine {
    pub(super) fn join_tunnel(
        &mut self,
        event: &Event,
        packet: &Packet,
        found: Found,
        spot: Spot,
        pass: Pass,
    ) {
        let (Some(skb), Some(netns), Some(ifindex)) = (packet.skb, spot.netns, spot.ifindex) else {
            return;
        };
        let role = self.inventory.link(netns, ifindex).map(|link| link.role);
        let outer = || Outer {
            at: event.at,
            hook: event.hook.unwrap_or(HookId::NetDevStartXmit),
            spot,
            ifname: event.place.ifname.clone(),
            packet: packet.clone(),
        };
        match (role, pass) {
            (Some(Role::Tunnel), Pass::Sent) => {
                self.tunnels.wrap(skb, found.id, found.direction, event.at);
            }
            (Some(Role::Uplink), Pass::Received) => self.tunnels.arrives(skb, outer()),
            (Some(Role::Tunnel), Pass::Received) => {
                if let Some(outer) = self.tunnels.unwrap(skb, event.at) {
                    self.also_seen(found, &outer);
                }
            }
            (Some(Role::Uplink), Pass::Sent) => {
                if let Some((id, direction)) = self.tunnels.leaves(skb, event.at) {
                    self.also_seen(
                        Found {
                            id,
                            direction,
                            by_isn: false,
                        },
                        &outer(),
                    );
                }
            }
            _ => {}
        }
    }

    fn also_seen(&mut self, inner: Found, outer: &Outer) {
        if let Some(flow) = self.flows.get_mut(inner.id) {
            flow.saw(
                outer.at,
                outer.hook,
                inner.direction,
                outer.spot,
                outer.ifname.as_ref(),
                &outer.packet,
            );
        }
    }
}
