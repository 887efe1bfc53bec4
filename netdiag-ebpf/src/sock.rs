//! What an event says about a socket, for the hooks that are given no packet.

use netdiag_common::tuple::Tuple;

use crate::maps::setting;
use crate::skb::{Sighting, address, field, netns_flags, netns_of_sock};

/// Which of the two directions of the connection an event is about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// What this socket sends.
    Sent,
    /// What the peer sent to it.
    Received,
}

impl Sighting {
    /// Fills in the connection of `sk`.
    #[inline(always)]
    pub fn read_sock(&mut self, sk: usize, netns: u32, direction: Direction) {
        self.netns = netns;
        sock_tuple(sk, &mut self.packet.tuple);
        if direction == Direction::Received {
            self.packet.tuple = self.packet.tuple.reversed();
        }
    }
}

/// The namespace of a socket; `None`: not watched.
#[inline(always)]
pub fn sock_netns(sk: usize) -> Option<u32> {
    let netns = netns_of_sock(sk);
    (netns_flags(netns) != 0).then_some(netns)
}

#[inline(never)]
fn sock_tuple(sk: usize, out: &mut Tuple) -> u32 {
    let family = field::<u16>(sk, setting!(offsets.sock_family));
    if family == crate::skb::AF_INET {
        out.saddr = address(sk, setting!(offsets.sock_saddr), family);
        out.daddr = address(sk, setting!(offsets.sock_daddr), family);
    } else {
        out.saddr = address(sk, setting!(offsets.sock_saddr6), family);
        out.daddr = address(sk, setting!(offsets.sock_daddr6), family);
    }
    // The kernel keeps its own port in host order, the peer's in network order.
    out.sport = field(sk, setting!(offsets.sock_sport));
    out.dport = u16::from_be(field(sk, setting!(offsets.sock_dport)));
    out.proto = field::<u16>(sk, setting!(offsets.sock_protocol)) as u8;
    0
}
