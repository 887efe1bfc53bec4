//! A packet in a tunnel has two shapes: the inner one at the tunnel's device, the outer one at the uplink. Both are the
//! same buffer of the kernel, seen within moments: what joins them.

use std::collections::HashMap;
use std::sync::Arc;

use super::place::Spot;
use super::record::{Direction, FlowId};
use crate::event::{HookId, Ktime, Packet, Span};

/// The driver passes a packet on at once; on arrival it may wait for the next round of softirqs.
const MOMENT: Span = Span::millis(5);

/// Buffers remembered each way.
const LIMIT: usize = 1024;

/// One sighting of an outer packet.
#[derive(Clone, Debug)]
pub struct Outer {
    pub at: Ktime,
    pub hook: HookId,
    pub spot: Spot,
    pub ifname: Option<Arc<str>>,
    pub packet: Packet,
}

/// Buffers on their way into or out of a tunnel, by address.
#[derive(Debug, Default)]
pub struct Tunnels {
    wrapped: HashMap<u64, (FlowId, Direction, Ktime)>,
    arrived: HashMap<u64, Outer>,
}

impl Tunnels {
    /// An inner packet enters the tunnel's device.
    pub fn wrap(&mut self, skb: u64, flow: FlowId, direction: Direction, at: Ktime) {
        if self.wrapped.len() >= LIMIT {
            self.wrapped
                .retain(|_, (_, _, then)| at.since(*then) < MOMENT);
        }
        if self.wrapped.len() < LIMIT {
            self.wrapped.insert(skb, (flow, direction, at));
        }
    }

    /// A packet leaves by an uplink: the flow it carries, if it came out of a tunnel's device just now.
    pub fn leaves(&mut self, skb: u64, at: Ktime) -> Option<(FlowId, Direction)> {
        let (flow, direction, then) = self.wrapped.remove(&skb)?;
        (at.since(then) < MOMENT).then_some((flow, direction))
    }

    /// A packet comes in by an uplink.
    pub fn arrives(&mut self, skb: u64, outer: Outer) {
        if self.arrived.len() >= LIMIT {
            let now = outer.at;
            self.arrived.retain(|_, known| now.since(known.at) < MOMENT);
        }
        if self.arrived.len() < LIMIT {
            self.arrived.insert(skb, outer);
        }
    }

    /// An inner packet comes out of the tunnel's device: the shape it had at the uplink.
    pub fn unwrap(&mut self, skb: u64, at: Ktime) -> Option<Outer> {
        let outer = self.arrived.remove(&skb)?;
        (at.since(outer.at) < MOMENT).then_some(outer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_used_again_later_is_another_packet() {
        let mut tunnels = Tunnels::default();
        let start = Ktime(1_000_000_000);
        tunnels.wrap(7, FlowId(1), Direction::Original, start);
        assert_eq!(tunnels.leaves(7, start.plus(Span::millis(6))), None);
        tunnels.wrap(7, FlowId(1), Direction::Original, start);
        let soon = start.plus(Span::millis(1));
        assert_eq!(tunnels.leaves(8, soon), None);
        assert_eq!(
            tunnels.leaves(7, soon),
            Some((FlowId(1), Direction::Original))
        );
        assert_eq!(tunnels.leaves(7, soon), None);
    }

    #[test]
    fn what_never_came_out_makes_room() {
        let mut tunnels = Tunnels::default();
        for skb in 0..=LIMIT as u64 {
            tunnels.wrap(skb, FlowId(1), Direction::Original, Ktime(skb * 1_000_000));
        }
        assert!(tunnels.wrapped.len() < LIMIT);
        let last = LIMIT as u64;
        assert!(tunnels.leaves(last, Ktime(last * 1_000_000)).is_some());
    }
}
