//! The words of a verdict. Their JSON spelling is `export::record`'s business.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::event::{IcmpKind, IfIndex, Ktime, Netns, TcpFlags, Tuple};
use crate::inventory::cluster::{Name, Pod};
pub use crate::ruleset::RuleRef;

/// How one flow ended, where and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Derived from the flow's first packet, so that a replay yields the same.
    pub uuid: String,
    /// From 1; a later revision of the same uuid replaces the earlier.
    pub revision: u32,
    /// When it was decided.
    pub at: Ktime,
    pub outcome: Outcome,
    pub confidence: Confidence,
    /// `None` for a healthy flow and for one nothing is known of.
    pub cause: Option<Cause>,
    /// Kernel drop reason without `SKB_DROP_REASON_`.
    pub drop_reason: Option<Arc<str>>,
    pub direction: Option<TrafficDirection>,
    /// The verdict is about a packet of the reply direction.
    pub is_reply: bool,
    /// As the initiator sent it, before any NAT.
    pub tuple: Tuple,
    pub tcp_flags: Option<TcpFlags>,
    /// Of the initiator's packet, for ICMP.
    pub icmp: Option<IcmpKind>,
    pub source: Endpoint,
    pub destination: Endpoint,
    pub key: FlowKey,
    pub hops: Vec<Hop>,
    /// Last hop that saw the packet, first expected one that did not.
    pub died_between: Option<(HopName, HopName)>,
    pub nat: Vec<Nat>,
    pub conntrack: Option<ConntrackState>,
    pub evidence: Vec<Evidence>,
    pub suspects: Vec<Suspect>,
    pub caveats: Vec<String>,
    /// Events lost by the rings and maps while this flow lived.
    pub lost_events: u64,
    pub remediation: Option<Remediation>,
    /// The events behind the verdict, oldest first, one line each (`-v`); bounded.
    pub history: Vec<String>,
}

/// How a flow ended. Closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    Delivered,
    Refused,
    DroppedHere,
    LeftNodeNoAnswer,
    NeverArrived,
    ReplyLost,
    Undetermined,
}

impl Outcome {
    /// A failing outcome makes the exit code 1.
    pub const fn is_failing(self) -> bool {
        !matches!(self, Self::Delivered | Self::Undetermined)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Confidence {
    Unknown,
    Inferred,
    Proven,
}

/// Name of a cause, as in `netdiag explain`. Each is defined by the rule file that finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cause(pub &'static str);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.0)
    }
}

/// Seen from the node: does the flow start here?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrafficDirection {
    Egress,
    Ingress,
}

/// Who is behind an address. What is unknown is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// The node itself.
    pub host: bool,
    /// A namespace of this node, by the name it has below /run/netns or `pid N`.
    pub netns: Option<String>,
    /// Neither the node nor a pod on it, nor anything the cluster knows by name.
    pub external: bool,
    pub pod: Option<Arc<Pod>>,
    /// The machine it is, or is on.
    pub machine: Option<Arc<str>>,
    /// The Service that was asked for.
    pub service: Option<ServiceRef>,
    /// The pod's name for the port.
    pub port_name: Option<Arc<str>>,
}

impl Endpoint {
    /// How much is known by name: more of it makes a verdict worth saying again.
    pub fn names(&self) -> u8 {
        [
            self.pod.is_some(),
            self.machine.is_some(),
            self.service.is_some(),
        ]
        .map(u8::from)
        .iter()
        .sum()
    }
}

/// A Service, by its own name and that of the port that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRef {
    pub name: Name,
    pub port_name: Option<Arc<str>>,
}

/// What identifies the connection on another node as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowKey {
    /// TCP initial sequence number: survives SNAT and DNAT.
    pub isn: Option<u32>,
    pub first_seen: Ktime,
    pub last_seen: Ktime,
    /// SYNs the initiator sent, retransmissions included.
    pub syn_count: u32,
}

/// A named place on the path, in stack order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HopName {
    PodSocket,
    NfOutput,
    PodVeth,
    Bridge,
    NfPrerouting,
    Fib,
    NfForward,
    NfPostrouting,
    Qdisc,
    TunnelEncap,
    NicEgress,
    Fabric,
    NicIngress,
    TunnelDecap,
    NfInput,
    Socket,
    Proxy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Seen,
    Dropped,
    Translated,
    NotSeen,
    NotObservable,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Hop {
    pub name: HopName,
    pub action: Action,
    pub reply: bool,
    pub interface: Option<Arc<str>>,
    pub ifindex: Option<IfIndex>,
    pub netns: Option<Netns>,
    /// First sighting.
    pub at: Option<Ktime>,
    /// Packets; 0 for a hop that was not seen.
    pub count: u64,
    pub component: Option<Component>,
}

/// The thing that did it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Component {
    /// `netfilter`, `iptables_rule`, `nft_rule`, `route`, `bpf_program`, `socket`, `neighbour`, `interface` …
    pub kind: String,
    /// `nft` or `legacy`.
    pub backend: Option<String>,
    pub family: Option<String>,
    pub table: Option<String>,
    pub chain: Option<String>,
    pub rule: Option<RuleRef>,
    pub text: Option<String>,
    /// `DROP` or `REJECT`.
    pub verdict: Option<String>,
    pub owner: Option<String>,
    /// Network policies whose chains the packet was in, by the names the engine gives them.
    pub policies: Vec<String>,
    /// Program, neighbour, route or socket by name.
    pub name: Option<String>,
    pub id: Option<u32>,
    /// What does listen, for a socket.
    pub listening: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatKind {
    Snat,
    Dnat,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nat {
    pub kind: NatKind,
    pub hop: HopName,
    pub before: SocketAddr,
    pub after: SocketAddr,
    /// `conntrack` or `isn`.
    pub source: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConntrackState {
    /// `NONE`, `SYN_SENT`, `ESTABLISHED` …; `NEW` and `REPLIED` for what is not TCP.
    pub state: &'static str,
    pub seen_reply: bool,
    pub zone: u16,
}

/// One reason to believe the verdict.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Hook or counter name.
    pub source: String,
    /// Packets.
    pub count: Option<u64>,
    /// Of a counter.
    pub value: Option<u64>,
    /// In words.
    pub detail: Option<String>,
}

/// What may have happened beyond our sight, most likely first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// `dead_peer`, `network_security_group`, `firewall`, `snat_ports`, `return_route` …
    pub name: String,
    /// Why it is on the list, and what would decide.
    pub reason: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remediation {
    pub summary: String,
    pub commands: Vec<String>,
}

/// What a caveat begins with that holds for the whole trace, not for this flow alone.
pub const BLIND_SPOT: &str = "blind: ";

/// An address for words: `pod shop/web (10.244.0.2)`, `this node (192.0.2.1)`, `198.51.100.10`.
pub fn describe(endpoint: &Endpoint, address: IpAddr) -> String {
    match endpoint {
        Endpoint { host: true, .. } => format!("this node ({address})"),
        Endpoint { pod: Some(pod), .. } => format!("pod {} ({address})", pod.name),
        Endpoint {
            netns: Some(name), ..
        } => format!("{name} ({address})"),
        _ => address.to_string(),
    }
}
