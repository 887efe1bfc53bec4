//! A node, one connection on it, told event by event, and what the core makes of it.

use std::net::SocketAddr;

use netdiag::engine::{Config, Engine, Input};
use netdiag::event::{
    Conntrack, CtStatus, Detail, Drop, Event, HookId, IfIndex, Ktime, Netns, Packet, Pass, Place,
    Proto, Span, TcpFlags, TcpHeader, Tuple,
};
use netdiag::inventory::{Delta, Link, Namespace, NamespaceKind, Node, Role};
use netdiag::verdict::{Action, HopName, Verdict};

pub const NODE: Netns = Netns(1);
pub const POD: Netns = Netns(2);
pub const VETH: IfIndex = IfIndex(5);
pub const UPLINK: IfIndex = IfIndex(2);
pub const CLIENT: &str = "10.244.0.2:40000";
pub const VIP: &str = "10.96.0.10:80";
pub const BACKEND: &str = "198.51.100.10:8080";
pub const SNAT: &str = "192.0.2.1:40000";

pub fn tuple(src: &str, dst: &str) -> Tuple {
    let parse = |text: &str| text.parse::<SocketAddr>().expect("a socket address");
    Tuple {
        proto: Proto::TCP,
        src: parse(src),
        dst: parse(dst),
    }
}

pub fn link(netns: Netns, ifindex: IfIndex, name: &str, role: Role, address: &str) -> Link {
    Link {
        netns,
        ifindex,
        name: name.into(),
        role,
        peer: None,
        up: true,
        mtu: 1500,
        addresses: vec![address.parse().expect("an address")],
    }
}

pub fn inventory() -> Vec<Input> {
    let namespace = |netns, kind, name: &str| {
        Delta::Namespace(Namespace {
            netns,
            kind,
            name: Some(name.into()),
            target: false,
        })
    };
    let node = Node {
        name: "node-0".into(),
        netns: NODE,
        wall_offset: 0,
        kernel: "6.18".into(),
        tier: 0,
        hooks: Vec::new(),
    };
    [
        Delta::Node(node),
        namespace(NODE, NamespaceKind::Node, "node"),
        namespace(POD, NamespaceKind::Pod, "pod"),
        Delta::Link(link(NODE, VETH, "veth5", Role::PodVeth, "10.244.0.1")),
        Delta::Link(link(NODE, UPLINK, "eth0", Role::Uplink, "192.0.2.1")),
        Delta::Link(link(
            POD,
            IfIndex(3),
            "eth0",
            Role::PodInterface,
            "10.244.0.2",
        )),
    ]
    .into_iter()
    .map(Input::Inventory)
    .collect()
}

/// One event of a connection from the pod through a Service to an external backend.
#[derive(Clone)]
pub struct Story {
    pub at: u64,
    pub events: Vec<Event>,
}

impl Story {
    pub fn new() -> Self {
        Self {
            at: 1_000_000_000,
            events: Vec::new(),
        }
    }

    pub fn wait(mut self, span: Span) -> Self {
        self.at += span.0;
        self
    }

    pub fn conntrack(reply: bool) -> Conntrack {
        Conntrack {
            status: CtStatus(0x1b8),
            reply,
            related: false,
            orig: tuple(CLIENT, VIP),
            answer: tuple(BACKEND, SNAT),
            tcp_state: 1,
            zone: 0,
        }
    }

    pub fn push(
        mut self,
        hook: HookId,
        ifindex: IfIndex,
        tuple: Tuple,
        flags: u8,
        ct: Option<Conntrack>,
        detail: Detail,
    ) -> Self {
        self.at += 10_000;
        let seq = if flags & TcpFlags::ACK == 0 {
            1000
        } else {
            1001
        };
        self.events.push(Event {
            at: Ktime(self.at),
            // Softirq moves with the packet: every interface has its own CPU here.
            cpu: ifindex.0 % 4,
            hook: Some(hook),
            place: Place {
                netns: Some(NODE),
                ifindex: Some(ifindex),
                ifname: Some(format!("if{}", ifindex.0).into()),
                iif: None,
            },
            packet: Some(Packet {
                tcp: Some(TcpHeader {
                    flags: TcpFlags(flags),
                    seq,
                    ack: 1001,
                }),
                ttl: 63,
                ..Packet::of(tuple)
            }),
            conntrack: ct,
            detail,
        });
        self
    }

    /// A packet passes an interface; nothing is known of its connection.
    fn passes(self, hook: HookId, at: IfIndex, tuple: Tuple, flags: u8, pass: Pass) -> Self {
        self.push(hook, at, tuple, flags, None, Detail::Seen(pass))
    }

    /// A handshake that went through, seen at the pod and at the uplink.
    pub fn established() -> Self {
        Self::new()
            .syn_at_pod()
            .syn_at_uplink()
            .syn_ack_at_uplink()
            .syn_ack_at_pod()
            .ack_at_pod()
    }

    pub fn syn_at_pod(self) -> Self {
        self.passes(
            HookId::TcIngress,
            VETH,
            tuple(CLIENT, VIP),
            TcpFlags::SYN,
            Pass::Received,
        )
    }

    pub fn syn_at_uplink(self) -> Self {
        let ct = Some(Self::conntrack(false));
        self.push(
            HookId::NetDevStartXmit,
            UPLINK,
            tuple(SNAT, BACKEND),
            TcpFlags::SYN,
            ct,
            Detail::Seen(Pass::Sent),
        )
    }

    pub fn syn_ack_at_uplink(self) -> Self {
        let flags = TcpFlags::SYN | TcpFlags::ACK;
        self.passes(
            HookId::NetifReceiveSkb,
            UPLINK,
            tuple(BACKEND, SNAT),
            flags,
            Pass::Received,
        )
    }

    pub fn syn_ack_at_pod(self) -> Self {
        let flags = TcpFlags::SYN | TcpFlags::ACK;
        self.passes(
            HookId::TcEgress,
            VETH,
            tuple(VIP, CLIENT),
            flags,
            Pass::Sent,
        )
    }

    pub fn ack_at_pod(self) -> Self {
        self.passes(
            HookId::NetifReceiveSkb,
            VETH,
            tuple(CLIENT, VIP),
            TcpFlags::ACK,
            Pass::Received,
        )
    }

    pub fn rst_at_uplink(self) -> Self {
        let flags = TcpFlags::RST | TcpFlags::ACK;
        self.passes(
            HookId::NetifReceiveSkb,
            UPLINK,
            tuple(BACKEND, SNAT),
            flags,
            Pass::Received,
        )
    }

    pub fn fin_from_pod(self) -> Self {
        let flags = TcpFlags::FIN | TcpFlags::ACK;
        self.passes(
            HookId::TcIngress,
            VETH,
            tuple(CLIENT, VIP),
            flags,
            Pass::Received,
        )
    }

    pub fn dropped(self, reply: bool, reason: &str, location: &str, stack: &[&str]) -> Self {
        let (packet, ifindex) = if reply {
            (tuple(BACKEND, CLIENT), UPLINK)
        } else {
            (tuple(CLIENT, BACKEND), VETH)
        };
        let flags = if reply {
            TcpFlags::SYN | TcpFlags::ACK
        } else {
            TcpFlags::SYN
        };
        let drop = Drop {
            reason: Some(reason.into()),
            location: Some(location.into()),
            stack: stack.iter().map(|symbol| (*symbol).into()).collect(),
            route: None,
            refusal: None,
        };
        self.push(
            HookId::KfreeSkb,
            ifindex,
            packet,
            flags,
            Some(Self::conntrack(reply)),
            Detail::Dropped(drop),
        )
    }

    pub fn firewall(self, reply: bool) -> Self {
        self.dropped(
            reply,
            "NETFILTER_DROP",
            "nft_do_chain",
            &["nft_do_chain_ipv4", "nf_hook_slow", "ip_forward"],
        )
    }
}

/// Feeds the events and lets the time pass in ticks of 20 ms until `until` after the last event.
pub fn run(story: &Story, until: Span) -> Vec<Verdict> {
    run_with(&[], story, until)
}

/// As [`run`], on a node of which more is known.
pub fn run_with(known: &[Input], story: &Story, until: Span) -> Vec<Verdict> {
    let mut engine = Engine::new(Config::default());
    let mut verdicts = Vec::new();
    let mut feed = |engine: &mut Engine, input| verdicts.extend(engine.step(input));
    for input in inventory().into_iter().chain(known.iter().cloned()) {
        feed(&mut engine, input);
    }
    let end = story.at + until.0;
    let mut events = story.events.iter().peekable();
    let mut now = 1_000_000_000;
    while now < end {
        now += 20_000_000;
        while let Some(event) = events.next_if(|event| event.at.0 <= now) {
            feed(&mut engine, Input::Event(event.clone()));
        }
        feed(&mut engine, Input::Tick(Ktime(now)));
    }
    feed(&mut engine, Input::Stop(Ktime(end)));
    verdicts
}

pub fn last(verdicts: &[Verdict]) -> &Verdict {
    verdicts.last().expect("a verdict")
}

pub fn actions(verdict: &Verdict) -> Vec<(HopName, Action, bool)> {
    verdict
        .hops
        .iter()
        .map(|hop| (hop.name, hop.action, hop.reply))
        .collect()
}
