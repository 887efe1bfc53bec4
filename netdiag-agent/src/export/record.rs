//! The flow verdict as JSON: `netdiag.flow_verdict/v1`.
//!
//! Serde mirror types of `verdict::types`; the core itself knows no serde. Rules of the format: `snake_case` (the
//! part Hubble has keeps Hubble's spelling), enums `UPPER_SNAKE`, RFC 3339 UTC with nine digits, addresses and
//! 64-bit ids as strings, ports as numbers, unknown = absent. Fields are added, never renamed.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::convert;
pub use super::convert::Context;

/// Value of `schema` in every line.
pub const SCHEMA: &str = "netdiag.flow_verdict/v1";

/// How one flow ended, where and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FlowVerdict {
    #[schemars(extend("const" = SCHEMA))]
    pub schema: String,
    /// When the verdict was decided.
    pub time: Time,
    pub uuid: String,
    /// From 1; a later revision of the same uuid replaces the earlier.
    #[schemars(range(min = 1))]
    pub revision: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    pub outcome: Outcome,
    /// Absent for a healthy flow and for one nothing is known of. Open set: see `netdiag explain`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[A-Z][A-Z0-9_]*$"))]
    pub cause: Option<String>,
    pub confidence: Confidence,
    /// Hubble's word for `outcome`: FORWARDED only for DELIVERED; DROPPED when this node dropped a packet of the flow
    /// for good; ERROR when the node forwarded and the conversation failed all the same; `VERDICT_UNKNOWN` for
    /// UNDETERMINED.
    pub verdict: HubbleVerdict,
    /// The kernel's drop reason without `SKB_DROP_REASON_`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub drop_reason_desc: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traffic_direction: Option<TrafficDirection>,
    /// The verdict is about a packet of the reply direction.
    pub is_reply: bool,
    /// As the initiator sent it, before any NAT.
    #[serde(rename = "IP")]
    pub ip: Ip,
    /// Absent for protocols without ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub l4: Option<L4>,
    pub source: Endpoint,
    pub destination: Endpoint,
    pub flow_key: FlowKey,
    pub hops: Vec<Hop>,
    /// The last hop that saw the packet and the first expected one that did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub died_between: Option<[HopName; 2]>,
    pub nat: Vec<Nat>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conntrack: Option<Conntrack>,
    pub evidence: Vec<Evidence>,
    /// What may have happened beyond our sight, most likely first.
    pub suspects: Vec<Suspect>,
    pub caveats: Vec<String>,
    /// Events lost while this flow lived; above 0 an unseen hop proves nothing.
    pub lost_events: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remediation: Option<Remediation>,
}

/// RFC 3339, UTC, nine digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Time(
    #[schemars(regex(pattern = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{9}Z$"))] pub String,
);

impl From<jiff::Timestamp> for Time {
    fn from(at: jiff::Timestamp) -> Self {
        Self(at.strftime("%Y-%m-%dT%H:%M:%S.%9fZ").to_string())
    }
}

/// An unsigned 64-bit id; a string because many JSON readers keep 53 bits only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Id(#[schemars(regex(pattern = r"^\d{1,20}$"))] pub String);

impl From<u64> for Id {
    fn from(id: u64) -> Self {
        Self(id.to_string())
    }
}

/// A closed set of words, and the way from the core's word to ours.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident from $core:path { $($word:ident,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
        pub enum $name { $($word,)* }

        impl From<$core> for $name {
            fn from(word: $core) -> Self {
                use $core as Core;
                match word { $(Core::$word => Self::$word,)* }
            }
        }

        impl From<$name> for $core {
            fn from(word: $name) -> Self {
                match word { $($name::$word => Self::$word,)* }
            }
        }
    };
}

words! {
    /// How the flow ended.
    Outcome from crate::verdict::Outcome {
        Delivered, Refused, DroppedHere, LeftNodeNoAnswer, NeverArrived, ReplyLost, Undetermined,
    }
}
words! { Confidence from crate::verdict::Confidence { Unknown, Inferred, Proven, } }
words! {
    /// Seen from the node.
    TrafficDirection from crate::verdict::TrafficDirection { Egress, Ingress, }
}
words! {
    /// A named place on the path.
    HopName from crate::verdict::HopName {
        PodSocket, NfOutput, PodVeth, Bridge, NfPrerouting, Fib, NfForward, NfPostrouting, Qdisc, TunnelEncap,
        NicEgress, Fabric, NicIngress, TunnelDecap, NfInput, Socket, Proxy,
    }
}
words! { Action from crate::verdict::Action { Seen, Dropped, Translated, NotSeen, NotObservable, } }
words! { NatKind from crate::verdict::NatKind { Snat, Dnat, } }

/// The values of Hubble's `Verdict` netdiag uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum HubbleVerdict {
    VerdictUnknown,
    Forwarded,
    Dropped,
    Error,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ip {
    pub source: std::net::IpAddr,
    pub destination: std::net::IpAddr,
    #[serde(rename = "ipVersion")]
    pub ip_version: IpVersion,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum IpVersion {
    #[serde(rename = "IPv4")]
    V4,
    #[serde(rename = "IPv6")]
    V6,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum L4 {
    #[serde(rename = "TCP")]
    Tcp(Tcp),
    #[serde(rename = "UDP")]
    Udp(Ports),
    #[serde(rename = "SCTP")]
    Sctp(Ports),
    #[serde(rename = "ICMPv4")]
    Icmpv4(Icmp),
    #[serde(rename = "ICMPv6")]
    Icmpv6(Icmp),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tcp {
    /// Absent where no packet told it: a lookup without a packet, a later fragment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_port: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flags: Option<TcpFlags>,
}

/// The flags that are set; the others are absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE", default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "the spelling is Hubble's")]
pub struct TcpFlags {
    #[serde(skip_serializing_if = "is_false")]
    pub fin: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub syn: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub rst: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub psh: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub ack: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub urg: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub ece: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub cwr: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ports {
    /// Absent where no packet told it: a lookup without a packet, a later fragment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_port: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_port: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Icmp {
    #[serde(rename = "type")]
    pub kind: u8,
    pub code: u8,
}

/// Who is behind an address. What is unknown is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Endpoint {
    /// The node itself.
    #[serde(skip_serializing_if = "is_false")]
    pub host: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// A network namespace of this node, by its name or as `pid N`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netns: Option<String>,
    /// Neither the node nor a pod on it, nor anything the cluster knows by name.
    #[serde(skip_serializing_if = "is_false")]
    pub external: bool,
    /// Of the pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_name: Option<String>,
    /// Of the pod, as `key=value`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// What owns the pod.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub workloads: Vec<Workload>,
    /// The Service that was asked for; the rest is about the pod that answers for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Service>,
    /// The pod's own name for the port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port_name: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// `Deployment`, `DaemonSet` …
    pub kind: String,
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Service {
    pub namespace: String,
    pub name: String,
    /// The Service's name for the port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port_name: Option<String>,
}

/// What identifies the connection on another node as well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FlowKey {
    /// TCP initial sequence number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isn: Option<Id>,
    pub first_seen: Time,
    pub last_seen: Time,
    /// SYNs the initiator sent, retransmissions included.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub syn_count: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hop {
    #[schemars(range(min = 1))]
    pub seq: u32,
    pub name: HopName,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ifindex: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netns: Option<Id>,
    /// First sighting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    pub action: Action,
    /// The hop is on the way back.
    #[serde(default, skip_serializing_if = "is_false")]
    pub reply: bool,
    /// Packets.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub component: Option<Component>,
}

/// The thing that did it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Component {
    pub kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chain: Option<String>,
    /// Position in the chain, from 1 (iptables), or handle (nft).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<u64>,
    /// nftables handle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handle: Option<Id>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// Network policies the rule belongs to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    /// What does listen, for a socket.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listening: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nat {
    pub kind: NatKind,
    pub hop: HopName,
    #[schemars(with = "String")]
    pub before: SocketAddr,
    #[schemars(with = "String")]
    pub after: SocketAddr,
    /// How the two sides were joined.
    pub source: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Conntrack {
    #[schemars(regex(pattern = r"^[A-Z][A-Z0-9_]*$"))]
    pub state: String,
    pub seen_reply: bool,
    pub zone: u16,
}

/// One reason to believe the verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// Hook or counter.
    pub source: String,
    /// Packets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Of a counter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Suspect {
    pub name: String,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Remediation {
    pub summary: String,
    pub commands: Vec<String>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature serde asks for"
)]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

impl FlowVerdict {
    /// One line of NDJSON, without its newline.
    pub fn to_line(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }
}

impl From<(&crate::verdict::Verdict, &Context)> for FlowVerdict {
    fn from((verdict, context): (&crate::verdict::Verdict, &Context)) -> Self {
        convert::flow_verdict(verdict, context)
    }
}
