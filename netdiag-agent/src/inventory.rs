//! What is known about the node besides packets: namespaces, interfaces, addresses, listeners, counters.
//!
//! Pure. Sources (`identity`) send [`Delta`]s; the engine applies them; rules read the result.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

pub mod cluster;
mod connections;
mod masquerade;
pub mod policy;

use crate::event::{Conntrack, HookId, IfIndex, Ktime, Netns, Proto, Tuple};
use crate::ruleset::Reading;

use cluster::{Change, Cluster};

pub use connections::Connections;
pub use masquerade::MasqueradeConfig;

/// One piece of news about the node.
#[derive(Clone, Debug, PartialEq)]
pub enum Delta {
    Node(Node),
    /// What this trace cannot see, and why.
    Blind(BlindSpot),
    Namespace(Namespace),
    /// Replaces what was known of this interface.
    Link(Link),
    LinkGone {
        netns: Netns,
        ifindex: IfIndex,
    },
    /// Replaces the listening sockets of a namespace.
    Listeners {
        netns: Netns,
        sockets: Vec<Listener>,
    },
    /// Replaces the counters of a namespace; the first set is the baseline.
    Counters {
        netns: Netns,
        at: Ktime,
        values: BTreeMap<String, u64>,
    },
    /// The packet filter of a namespace; the first is what counters are compared with.
    Rules(Arc<Reading>),
    /// Replaces the foreign BPF programs attached to an interface.
    Programs {
        netns: Netns,
        ifindex: IfIndex,
        programs: Vec<Program>,
    },
    /// What ip-masq-agent was told on this node.
    MasqueradeConfig(MasqueradeConfig),
    /// Connections a namespace's conntrack table holds; added to those known. Their `reply` says nothing.
    Connections {
        netns: Netns,
        entries: Vec<Conntrack>,
    },
    /// News of the cluster, and when it arrived.
    Cluster {
        at: Ktime,
        change: Change,
    },
}

/// Facts that hold for the whole trace.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub name: String,
    pub netns: Netns,
    /// Nanoseconds to add to a [`Ktime`] to get nanoseconds since the Unix epoch.
    pub wall_offset: i64,
    pub kernel: String,
    /// See DESIGN §4.
    pub tier: u8,
    pub hooks: Vec<HookId>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlindSpot {
    /// A hook or capability by its name in `netdiag doctor`.
    pub what: String,
    pub why: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    pub netns: Netns,
    pub kind: NamespaceKind,
    /// Name below /run/netns, or `pid N`.
    pub name: Option<String>,
    /// The user asked for this one.
    pub target: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamespaceKind {
    Node,
    /// Behind an interface of the node that is no uplink.
    Pod,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub netns: Netns,
    pub ifindex: IfIndex,
    pub name: Arc<str>,
    pub role: Role,
    /// The other end of a veth pair, where it could be found.
    pub peer: Option<(Netns, IfIndex)>,
    pub up: bool,
    pub mtu: u32,
    pub addresses: Vec<IpAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Node-side end of a pod's veth.
    PodVeth,
    /// Leads off the node.
    Uplink,
    Bridge,
    /// vxlan, geneve, ipip …
    Tunnel,
    Loopback,
    /// Inside a pod.
    PodInterface,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listener {
    pub proto: Proto,
    pub address: SocketAddr,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// `tcx ingress`, `tc egress`, `xdp` …
    pub attach: String,
    pub name: String,
    pub id: u32,
}

/// The sum of all deltas so far.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    pub node: Option<Node>,
    pub blind: Vec<BlindSpot>,
    namespaces: BTreeMap<Netns, Namespace>,
    links: BTreeMap<(Netns, IfIndex), Link>,
    listeners: BTreeMap<Netns, Vec<Listener>>,
    counters: BTreeMap<Netns, CounterPair>,
    programs: BTreeMap<(Netns, IfIndex), Vec<Program>>,
    rules: BTreeMap<Netns, Rules>,
    connections: BTreeMap<Netns, Connections>,
    masquerade: Option<MasqueradeConfig>,
    pub cluster: Cluster,
}

/// The packet filter of a namespace before, and after the latest drop.
#[derive(Clone, Debug)]
pub struct Rules {
    pub before: Arc<Reading>,
    pub after: Arc<Reading>,
}

#[derive(Clone, Debug, Default)]
struct CounterPair {
    baseline: BTreeMap<String, u64>,
    latest: BTreeMap<String, u64>,
}

impl Inventory {
    pub fn apply(&mut self, delta: Delta) {
        match delta {
            Delta::Node(node) => self.node = Some(node),
            Delta::Blind(spot) => {
                if !self.blind.contains(&spot) {
                    self.blind.push(spot);
                }
            }
            Delta::Namespace(namespace) => {
                self.namespaces.insert(namespace.netns, namespace);
            }
            Delta::Link(link) => {
                self.links.insert((link.netns, link.ifindex), link);
            }
            Delta::LinkGone { netns, ifindex } => {
                // The tombstone stays: packets seen before the link went still need its name and role.
                if let Some(link) = self.links.get_mut(&(netns, ifindex)) {
                    link.up = false;
                }
            }
            Delta::Listeners { netns, sockets } => {
                self.listeners.insert(netns, sockets);
            }
            Delta::Counters {
                netns,
                at: _,
                values,
            } => {
                let pair = self.counters.entry(netns).or_insert_with(|| CounterPair {
                    baseline: values.clone(),
                    latest: BTreeMap::new(),
                });
                pair.latest = values;
            }
            Delta::Rules(reading) => {
                let before = self
                    .rules
                    .get(&reading.netns)
                    .map_or_else(|| Arc::clone(&reading), |rules| Arc::clone(&rules.before));
                self.rules.insert(
                    reading.netns,
                    Rules {
                        before,
                        after: reading,
                    },
                );
            }
            Delta::Programs {
                netns,
                ifindex,
                programs,
            } => {
                self.programs.insert((netns, ifindex), programs);
            }
            Delta::MasqueradeConfig(config) => self.masquerade = Some(config),
            Delta::Connections { netns, entries } => {
                let known = self.connections.entry(netns).or_default();
                for entry in entries {
                    if !known.insert(entry) {
                        break;
                    }
                }
            }
            Delta::Cluster { at, change } => self.cluster.apply(at, change),
        }
    }

    pub fn link(&self, netns: Netns, ifindex: IfIndex) -> Option<&Link> {
        self.links.get(&(netns, ifindex))
    }

    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.links.values()
    }

    pub fn namespace(&self, netns: Netns) -> Option<&Namespace> {
        self.namespaces.get(&netns)
    }

    pub fn namespaces(&self) -> impl Iterator<Item = &Namespace> {
        self.namespaces.values()
    }

    pub fn node_netns(&self) -> Option<Netns> {
        self.node.as_ref().map(|node| node.netns)
    }

    /// The namespace on this node that owns an address; pods before the node itself.
    pub fn owner_of(&self, address: IpAddr) -> Option<&Namespace> {
        let owns = |kind| {
            self.links
                .values()
                .filter(|link| link.role != Role::Loopback && link.addresses.contains(&address))
                .filter_map(|link| self.namespaces.get(&link.netns))
                .find(|namespace| namespace.kind == kind)
        };
        owns(NamespaceKind::Pod).or_else(|| owns(NamespaceKind::Node))
    }

    /// Empty when unknown: a rule may say what listens, never that nothing does.
    pub fn listeners(&self, netns: Netns) -> &[Listener] {
        self.listeners.get(&netns).map_or(&[], Vec::as_slice)
    }

    /// `None`: not read, or not readable.
    pub fn rules(&self, netns: Netns) -> Option<&Rules> {
        self.rules.get(&netns)
    }

    pub fn programs(&self, netns: Netns, ifindex: IfIndex) -> &[Program] {
        self.programs
            .get(&(netns, ifindex))
            .map_or(&[], Vec::as_slice)
    }

    /// What the node's conntrack table was read to hold, for the packet of this tuple.
    pub fn connection(&self, tuple: &Tuple) -> Option<Conntrack> {
        self.connections.get(&self.node_netns()?)?.of(tuple)
    }

    /// A new connection uses this tuple: what was read of an older one no longer holds.
    pub fn forget_connection(&mut self, tuple: &Tuple) {
        if let Some(netns) = self.node_netns()
            && let Some(known) = self.connections.get_mut(&netns)
        {
            known.forget(tuple);
        }
    }

    /// Every connection the node's conntrack table was read to hold.
    pub fn connections(&self) -> impl Iterator<Item = &Conntrack> {
        let known = self
            .node_netns()
            .and_then(|netns| self.connections.get(&netns));
        known.into_iter().flat_map(Connections::iter)
    }

    /// How far a counter moved since the trace began; `None` when it was never read.
    pub fn counter_delta(&self, netns: Netns, name: &str) -> Option<u64> {
        let pair = self.counters.get(&netns)?;
        Some(
            pair.latest
                .get(name)?
                .saturating_sub(*pair.baseline.get(name)?),
        )
    }

    /// The latest value of a counter.
    pub fn counter(&self, netns: Netns, name: &str) -> Option<u64> {
        self.counters.get(&netns)?.latest.get(name).copied()
    }
}
