//! Where on its way a packet was: the spot of an event, and the order of spots.
//!
//! A packet's way through a node has up to three legs: the namespace it starts in, the node, the namespace it ends in.
//! Within a leg the stages follow the order of the kernel's stack. Spots are compared only within one direction.

use crate::event::{Event, IfIndex, Netns, Pass, Place};
use crate::inventory::{Inventory, NamespaceKind, Role};
use crate::verdict::types::HopName;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Leg {
    Source,
    Node,
    Destination,
}

/// Order of the stack within one leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    Receive,
    BridgeReceive,
    Prerouting,
    Fib,
    Forward,
    Input,
    Socket,
    Decapsulate,
    Output,
    Postrouting,
    BridgeTransmit,
    Queue,
    Encapsulate,
    Transmit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Spot {
    pub leg: Leg,
    pub stage: Stage,
    pub hop: HopName,
    pub netns: Option<Netns>,
    pub ifindex: Option<IfIndex>,
}

impl Spot {
    /// Strictly further along the way.
    pub fn beyond(&self, other: &Self) -> bool {
        (self.leg, self.stage) > (other.leg, other.stage)
    }
}

/// The spot of a packet passing an interface; `None` where nothing can be said (the node's loopback, unknown namespace).
pub fn of_pass(inventory: &Inventory, place: &Place, pass: Pass) -> Option<Spot> {
    let (netns, ifindex) = (place.netns?, place.ifindex?);
    let at = |leg, stage, hop| {
        Some(Spot {
            leg,
            stage,
            hop,
            netns: Some(netns),
            ifindex: Some(ifindex),
        })
    };
    if kind_of(inventory, netns) == NamespaceKind::Pod {
        return match (inventory.link(netns, ifindex).map(|link| link.role), pass) {
            (_, Pass::Sent) => at(Leg::Source, Stage::Transmit, HopName::PodSocket),
            // What a pod says to itself comes in where it went out, and is for a socket there.
            (Some(Role::Loopback), Pass::Received) => {
                at(Leg::Destination, Stage::Receive, HopName::Socket)
            }
            (_, Pass::Received) => at(Leg::Destination, Stage::Receive, HopName::PodVeth),
        };
    }
    let role = inventory
        .link(netns, ifindex)
        .map_or(Role::Other, |link| link.role);
    match (role, pass) {
        (Role::Loopback, _) => None,
        (Role::PodVeth | Role::PodInterface, Pass::Received) => {
            at(Leg::Node, Stage::Receive, HopName::PodVeth)
        }
        (Role::PodVeth | Role::PodInterface, Pass::Sent) => {
            at(Leg::Node, Stage::Transmit, HopName::PodVeth)
        }
        (Role::Bridge, Pass::Received) => at(Leg::Node, Stage::BridgeReceive, HopName::Bridge),
        (Role::Bridge, Pass::Sent) => at(Leg::Node, Stage::BridgeTransmit, HopName::Bridge),
        (Role::Tunnel, Pass::Received) => at(Leg::Node, Stage::Receive, HopName::TunnelDecap),
        (Role::Tunnel, Pass::Sent) => at(Leg::Node, Stage::Encapsulate, HopName::TunnelEncap),
        (Role::Uplink | Role::Other, Pass::Received) => {
            at(Leg::Node, Stage::Receive, HopName::NicIngress)
        }
        (Role::Uplink | Role::Other, Pass::Sent) => {
            at(Leg::Node, Stage::Transmit, HopName::NicEgress)
        }
    }
}

/// The spot of something that happened to a packet at `stage` of the stack.
///
/// In a pod's namespace the packet's origin decides the leg: what has no incoming interface was made there.
pub fn of_stage(inventory: &Inventory, event: &Event, stage: Stage) -> Spot {
    let place = &event.place;
    let netns = place.netns;
    let in_pod = netns.is_some_and(|netns| kind_of(inventory, netns) == NamespaceKind::Pod);
    let leg = match (in_pod, stage) {
        (false, _) => Leg::Node,
        (true, Stage::Output | Stage::Postrouting | Stage::Queue | Stage::Transmit) => Leg::Source,
        (true, Stage::Fib) if place.iif.is_none() => Leg::Source,
        (true, _) => Leg::Destination,
    };
    let hop = match stage {
        // What waits in a queue or for a neighbour's address waits to leave by this interface.
        Stage::Receive | Stage::Transmit | Stage::Queue => {
            let pass = if stage == Stage::Receive {
                Pass::Received
            } else {
                Pass::Sent
            };
            of_pass(inventory, place, pass).map_or(HopName::NicEgress, |spot| spot.hop)
        }
        Stage::BridgeReceive | Stage::BridgeTransmit => HopName::Bridge,
        Stage::Prerouting => HopName::NfPrerouting,
        Stage::Fib => HopName::Fib,
        Stage::Forward => HopName::NfForward,
        Stage::Input => HopName::NfInput,
        Stage::Socket => HopName::Socket,
        Stage::Output => HopName::NfOutput,
        Stage::Postrouting => HopName::NfPostrouting,
        Stage::Encapsulate => HopName::TunnelEncap,
        Stage::Decapsulate => HopName::TunnelDecap,
    };
    Spot {
        leg,
        stage,
        hop,
        netns,
        ifindex: place.ifindex,
    }
}

/// A namespace nobody told us about is taken for the node's: the programs report only namespaces they were given.
fn kind_of(inventory: &Inventory, netns: Netns) -> NamespaceKind {
    inventory
        .namespace(netns)
        .map_or(NamespaceKind::Node, |namespace| namespace.kind)
}
