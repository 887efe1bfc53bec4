//! The lines of a recording: mirrors of the engine's input types, which know no serde.

mod cluster;
mod event;
mod inventory;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::spell::{Address, Bytes, CtTcpState, TcpState, Text};
use crate::engine::Input;
use crate::event::{CtStatus, HookId, Ktime, NudState, Pass, Proto, TcpFlags, Tuple};
use crate::inventory::cluster::Network;
use crate::inventory::{NamespaceKind, Role};
use crate::ruleset::Source;

/// One input.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    Event(Box<Event>),
    Inventory(Delta),
    Lost {
        hook: Text<HookId>,
        at: u64,
        count: u64,
    },
    Tick(u64),
    Stop(u64),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Event {
    at: u64,
    cpu: u32,
    /// A name this build does not know reads as no hook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hook: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    netns: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ifindex: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ifname: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    iif: Option<u32>,
    detail: Detail,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    packet: Option<Packet>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    conntrack: Option<Conntrack>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Packet {
    tuple: Text<Tuple>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    inner: Option<Text<Tuple>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outer: Option<Text<Tuple>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tcp: Option<TcpHeader>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    icmp: Option<Icmp>,
    ttl: u8,
    ip_id: u16,
    len: u32,
    #[serde(default, skip_serializing_if = "is_false")]
    dont_fragment: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    fragment: bool,
    #[serde(default, skip_serializing_if = "is_zero")]
    mark: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    skb: Option<Text<Address>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    snap: Option<Text<Bytes>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct TcpHeader {
    flags: Text<TcpFlags>,
    seq: u32,
    ack: u32,
}

#[derive(Debug, Serialize, Deserialize)]
struct Icmp {
    #[serde(rename = "type")]
    kind: u8,
    code: u8,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Conntrack {
    status: Text<CtStatus>,
    #[serde(default, skip_serializing_if = "is_false")]
    reply: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    related: bool,
    orig: Text<Tuple>,
    answer: Text<Tuple>,
    tcp_state: Text<CtTcpState>,
    #[serde(default, skip_serializing_if = "is_zero_u16")]
    zone: u16,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Detail {
    Seen(Text<Pass>),
    Dropped(Drop),
    Refused(Refusal),
    IcmpSent(Icmp),
    ResetSent,
    ResetReceived,
    Retransmitted,
    TcpState {
        old: Text<TcpState>,
        new: Text<TcpState>,
    },
    SocketError(u32),
    BadChecksum,
    Neighbour {
        address: IpAddr,
        state: Text<NudState>,
    },
    FibError(u32),
    UdpQueueFull(u32),
    Dns {
        pass: Text<Pass>,
        message: Text<Bytes>,
    },
    Ruled {
        family: String,
        table: String,
        chain: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        handle: Option<u64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        number: Option<u32>,
    },
    Unknown,
}

/// Hooks and families by their UAPI numbers.
#[derive(Debug, Serialize, Deserialize)]
struct Refusal {
    hook: u8,
    family: u8,
    by: Refuser,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    table_family: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    table: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    chain: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Refuser {
    Unknown,
    Nft,
    Legacy,
    Conntrack,
    Confirm,
    Nat,
}

/// Without the refusal, which is an event of its own.
#[derive(Debug, Serialize, Deserialize)]
struct Drop {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    location: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    stack: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    route: Option<Route>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Route {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    input: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    output: Option<String>,
    #[serde(default, skip_serializing_if = "is_zero_u16")]
    error: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    oif: Option<u32>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Delta {
    Node {
        name: String,
        netns: u32,
        wall_offset: i64,
        kernel: String,
        tier: u8,
        /// Names this build does not know are passed over.
        hooks: Vec<String>,
    },
    Blind {
        what: String,
        why: String,
    },
    Namespace {
        netns: u32,
        kind: Text<NamespaceKind>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        #[serde(default, skip_serializing_if = "is_false")]
        target: bool,
    },
    Link {
        netns: u32,
        ifindex: u32,
        name: String,
        role: Text<Role>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        peer: Option<Peer>,
        up: bool,
        mtu: u32,
        addresses: Vec<IpAddr>,
    },
    LinkGone {
        netns: u32,
        ifindex: u32,
    },
    Listeners {
        netns: u32,
        sockets: Vec<Listener>,
    },
    Counters {
        netns: u32,
        at: u64,
        values: BTreeMap<String, u64>,
    },
    MasqueradeConfig {
        file: String,
        /// `10.0.0.0/8`
        exempt: Vec<Text<Network>>,
    },
    Programs {
        netns: u32,
        ifindex: u32,
        programs: Vec<Program>,
    },
    /// The listings as the programs printed them: they are read again on replay.
    Rules {
        netns: u32,
        at: u64,
        listings: Vec<Listing>,
    },
    Connections {
        netns: u32,
        entries: Vec<Conntrack>,
    },
    Cluster {
        at: u64,
        change: Box<cluster::Change>,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Listing {
    source: Text<Source>,
    text: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Peer {
    netns: u32,
    ifindex: u32,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Listener {
    proto: Text<Proto>,
    address: SocketAddr,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Program {
    attach: String,
    name: String,
    id: u32,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature serde asks for"
)]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature serde asks for"
)]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature serde asks for"
)]
const fn is_zero_u16(number: &u16) -> bool {
    *number == 0
}

impl From<&Input> for Line {
    fn from(input: &Input) -> Self {
        match input {
            Input::Event(event) => Self::Event(Box::new(event.into())),
            Input::Inventory(delta) => Self::Inventory(delta.into()),
            Input::Lost { hook, at, count } => Self::Lost {
                hook: Text(*hook),
                at: at.0,
                count: *count,
            },
            Input::Tick(at) => Self::Tick(at.0),
            Input::Stop(at) => Self::Stop(at.0),
        }
    }
}

impl From<Line> for Input {
    fn from(line: Line) -> Self {
        match line {
            Line::Event(event) => Self::Event((*event).into()),
            Line::Inventory(delta) => Self::Inventory(delta.into()),
            Line::Lost { hook, at, count } => Self::Lost {
                hook: hook.0,
                at: Ktime(at),
                count,
            },
            Line::Tick(at) => Self::Tick(Ktime(at)),
            Line::Stop(at) => Self::Stop(Ktime(at)),
        }
    }
}
