//! Both ways between the mirrored inventory delta and the core's.

use std::sync::Arc;

use super::super::spell::{Spell, Text};
use super::{Delta, Listener, Listing, Peer, Program};
use crate::event::{HookId, IfIndex, Ktime, Netns};
use crate::inventory::cluster::Network;
use crate::{inventory, ruleset};

impl From<&inventory::Delta> for Delta {
    fn from(delta: &inventory::Delta) -> Self {
        use inventory::Delta as Core;
        match delta {
            Core::Node(node) => node.into(),
            Core::Blind(spot) => Self::Blind {
                what: spot.what.clone(),
                why: spot.why.clone(),
            },
            Core::Namespace(namespace) => Self::Namespace {
                netns: namespace.netns.0,
                kind: Text(namespace.kind),
                name: namespace.name.clone(),
                target: namespace.target,
            },
            Core::Link(link) => link.into(),
            Core::LinkGone { netns, ifindex } => Self::LinkGone {
                netns: netns.0,
                ifindex: ifindex.0,
            },
            Core::Listeners { netns, sockets } => Self::Listeners {
                netns: netns.0,
                sockets: sockets
                    .iter()
                    .map(|socket| Listener {
                        proto: Text(socket.proto),
                        address: socket.address,
                    })
                    .collect(),
            },
            Core::Counters { netns, at, values } => Self::Counters {
                netns: netns.0,
                at: at.0,
                values: values.clone(),
            },
            Core::Rules(reading) => Self::Rules {
                netns: reading.netns.0,
                at: reading.at.0,
                listings: reading
                    .listings
                    .iter()
                    .map(|listing| Listing {
                        source: Text(listing.source),
                        text: listing.text.clone(),
                    })
                    .collect(),
            },
            Core::Programs {
                netns,
                ifindex,
                programs,
            } => Self::Programs {
                netns: netns.0,
                ifindex: ifindex.0,
                programs: programs
                    .iter()
                    .map(|program| Program {
                        attach: program.attach.clone(),
                        name: program.name.clone(),
                        id: program.id,
                    })
                    .collect(),
            },
            Core::MasqueradeConfig(config) => Self::MasqueradeConfig {
                file: config.file.clone(),
                exempt: config.exempt.iter().copied().map(Text).collect(),
            },
            Core::Connections { netns, entries } => Self::Connections {
                netns: netns.0,
                entries: entries.iter().map(Into::into).collect(),
            },
            Core::Cluster { at, change } => Self::Cluster {
                at: at.0,
                change: Box::new(change.into()),
            },
        }
    }
}

impl From<&inventory::Node> for Delta {
    fn from(node: &inventory::Node) -> Self {
        Self::Node {
            name: node.name.clone(),
            netns: node.netns.0,
            wall_offset: node.wall_offset,
            kernel: node.kernel.clone(),
            tier: node.tier,
            hooks: node
                .hooks
                .iter()
                .map(|hook| hook.name().to_owned())
                .collect(),
        }
    }
}

impl From<&inventory::Link> for Delta {
    fn from(link: &inventory::Link) -> Self {
        Self::Link {
            netns: link.netns.0,
            ifindex: link.ifindex.0,
            name: link.name.as_ref().to_owned(),
            role: Text(link.role),
            peer: link.peer.map(|(netns, ifindex)| Peer {
                netns: netns.0,
                ifindex: ifindex.0,
            }),
            up: link.up,
            mtu: link.mtu,
            addresses: link.addresses.clone(),
        }
    }
}

impl From<Delta> for inventory::Delta {
    fn from(delta: Delta) -> Self {
        match delta {
            Delta::Node {
                name,
                netns,
                wall_offset,
                kernel,
                tier,
                hooks,
            } => Self::Node(inventory::Node {
                name,
                netns: Netns(netns),
                wall_offset,
                kernel,
                tier,
                hooks: hooks.iter().filter_map(|hook| HookId::read(hook)).collect(),
            }),
            Delta::Blind { what, why } => Self::Blind(inventory::BlindSpot { what, why }),
            Delta::Namespace {
                netns,
                kind,
                name,
                target,
            } => Self::Namespace(inventory::Namespace {
                netns: Netns(netns),
                kind: kind.0,
                name,
                target,
            }),
            Delta::Link {
                netns,
                ifindex,
                name,
                role,
                peer,
                up,
                mtu,
                addresses,
            } => Self::Link(inventory::Link {
                netns: Netns(netns),
                ifindex: IfIndex(ifindex),
                name: name.into(),
                role: role.0,
                peer: peer.map(|peer| (Netns(peer.netns), IfIndex(peer.ifindex))),
                up,
                mtu,
                addresses,
            }),
            Delta::LinkGone { netns, ifindex } => Self::LinkGone {
                netns: Netns(netns),
                ifindex: IfIndex(ifindex),
            },
            Delta::Listeners { netns, sockets } => Self::Listeners {
                netns: Netns(netns),
                sockets: sockets.into_iter().map(Into::into).collect(),
            },
            Delta::Counters { netns, at, values } => Self::Counters {
                netns: Netns(netns),
                at: Ktime(at),
                values,
            },
            Delta::Rules {
                netns,
                at,
                listings,
            } => {
                let listings = listings
                    .into_iter()
                    .map(|listing| ruleset::Listing {
                        source: listing.source.0,
                        text: listing.text,
                    })
                    .collect();
                Self::Rules(Arc::new(ruleset::Reading::of(
                    Netns(netns),
                    Ktime(at),
                    listings,
                )))
            }
            Delta::Programs {
                netns,
                ifindex,
                programs,
            } => Self::Programs {
                netns: Netns(netns),
                ifindex: IfIndex(ifindex),
                programs: programs.into_iter().map(Into::into).collect(),
            },
            Delta::MasqueradeConfig { file, exempt } => masquerade(file, exempt),
            Delta::Connections { netns, entries } => Self::Connections {
                netns: Netns(netns),
                entries: entries.into_iter().map(Into::into).collect(),
            },
            Delta::Cluster { at, change } => Self::Cluster {
                at: Ktime(at),
                change: (*change).into(),
            },
        }
    }
}

fn masquerade(file: String, exempt: Vec<Text<Network>>) -> inventory::Delta {
    let exempt = exempt.into_iter().map(|network| network.0).collect();
    inventory::Delta::MasqueradeConfig(inventory::MasqueradeConfig { file, exempt })
}

impl From<Listener> for inventory::Listener {
    fn from(listener: Listener) -> Self {
        Self {
            proto: listener.proto.0,
            address: listener.address,
        }
    }
}

impl From<Program> for inventory::Program {
    fn from(Program { attach, name, id }: Program) -> Self {
        Self { attach, name, id }
    }
}
