//! Any input the engine can get, for property tests.

mod cluster;

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::sync::Arc;

use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;

use crate::engine::Input;
use crate::event::{
    Conntrack, CtStatus, Detail, Drop, Event, HookId, IcmpKind, IfIndex, Ktime, Netns, NfFamily,
    NfHook, NudState, Packet, Pass, Place, Proto, Refusal, Refuser, Route, Ruled, TcpFlags,
    TcpHeader, Tuple,
};
use crate::inventory::{
    BlindSpot, Delta, Link, Listener, MasqueradeConfig, Namespace, NamespaceKind, Node, Program,
    Role,
};

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9_]{1,12}",
        "\\PC{0,8}",
        Just("quote \" and\nnewline".to_owned())
    ]
}

fn symbol() -> impl Strategy<Value = Arc<str>> {
    text().prop_map(Arc::from)
}

/// The flow label is no part of an address here: packets are told apart by address, scope and port.
fn socket() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), any::<u16>(), any::<u32>()).prop_map(|(ip, port, scope)| match ip {
        IpAddr::V4(_) => SocketAddr::new(ip, port),
        IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, scope).into(),
    })
}

fn tuple() -> impl Strategy<Value = Tuple> {
    (any::<u8>(), socket(), socket()).prop_map(|(proto, src, dst)| Tuple {
        proto: Proto(proto),
        src,
        dst,
    })
}

fn icmp() -> impl Strategy<Value = IcmpKind> {
    any::<(u8, u8)>().prop_map(|(kind, code)| IcmpKind { kind, code })
}

fn hook() -> impl Strategy<Value = HookId> {
    prop::sample::select(HookId::ALL)
}

fn pass() -> impl Strategy<Value = Pass> {
    prop_oneof![Just(Pass::Received), Just(Pass::Sent)]
}

prop_compose! {
    fn packet()(
        tuple in tuple(), inner in of(tuple()), outer in of(tuple()), tcp in of(any::<(u8, u32, u32)>()), icmp in of(icmp()),
        numbers in any::<(u8, u16, u32, u32)>(), flags in any::<(bool, bool)>(), skb in of(any::<u64>()),
        snap in of(vec(any::<u8>(), 0..40)),
    ) -> Packet {
        let tcp = tcp.map(|(flags, seq, ack)| TcpHeader { flags: TcpFlags(flags), seq, ack });
        let (ttl, ip_id, len, mark) = numbers;
        let (dont_fragment, fragment) = flags;
        Packet { tuple, inner, outer, tcp, icmp, ttl, ip_id, len, dont_fragment, fragment, mark, skb, snap: snap.map(Arc::from) }
    }
}

prop_compose! {
    fn conntrack()(
        status in any::<u32>(), flags in any::<(bool, bool)>(), orig in tuple(), answer in tuple(),
        tcp_state in any::<u8>(), zone in any::<u16>(),
    ) -> Conntrack {
        Conntrack { status: CtStatus(status), reply: flags.0, related: flags.1, orig, answer, tcp_state, zone }
    }
}

fn drop() -> impl Strategy<Value = Drop> {
    let route = (
        of(symbol()),
        of(symbol()),
        any::<u16>(),
        of(any::<u32>().prop_map(IfIndex)),
    )
        .prop_map(|(input, output, error, oif)| Route {
            input,
            output,
            error,
            oif,
        });
    (of(symbol()), of(symbol()), vec(symbol(), 0..4), of(route)).prop_map(
        |(reason, location, stack, route)| Drop {
            reason,
            location,
            stack,
            route,
            // Joined by the engine, so never recorded.
            refusal: None,
        },
    )
}

fn refusal() -> impl Strategy<Value = Refusal> {
    let by = prop_oneof![
        Just(Refuser::Unknown),
        Just(Refuser::Nft),
        Just(Refuser::Legacy),
        Just(Refuser::Conntrack),
        Just(Refuser::Confirm),
        Just(Refuser::Nat),
    ];
    let family = of(any::<u8>().prop_map(NfFamily));
    (any::<(u8, u8)>(), by, family, of(symbol()), of(symbol())).prop_map(
        |((hook, family), by, table_family, table, chain)| Refusal {
            hook: NfHook(hook),
            family: NfFamily(family),
            by,
            table_family,
            table,
            chain,
        },
    )
}

fn detail() -> impl Strategy<Value = Detail> {
    prop_oneof![
        pass().prop_map(Detail::Seen),
        drop().prop_map(Detail::Dropped),
        refusal().prop_map(Detail::Refused),
        icmp().prop_map(Detail::IcmpSent),
        Just(Detail::ResetSent),
        Just(Detail::ResetReceived),
        Just(Detail::Retransmitted),
        any::<(u8, u8)>().prop_map(|(old, new)| Detail::TcpState { old, new }),
        any::<u32>().prop_map(Detail::SocketError),
        Just(Detail::BadChecksum),
        any::<(IpAddr, u8)>().prop_map(|(address, state)| Detail::Neighbour {
            address,
            state: NudState(state)
        }),
        any::<u32>().prop_map(Detail::FibError),
        any::<u32>().prop_map(Detail::UdpQueueFull),
        (pass(), vec(any::<u8>(), 0..40)).prop_map(|(pass, message)| Detail::Dns { pass, message }),
        (
            symbol(),
            symbol(),
            symbol(),
            of(any::<u64>()),
            of(any::<u32>())
        )
            .prop_map(
                |(family, table, chain, handle, number)| Detail::Ruled(Ruled {
                    family,
                    table,
                    chain,
                    handle,
                    number
                })
            ),
        Just(Detail::Unknown),
    ]
}

prop_compose! {
    fn event()(
        at in any::<u64>(), cpu in any::<u32>(), hook in of(hook()), netns in of(any::<u32>()),
        ifindex in of(any::<u32>()), ifname in of(symbol()), iif in of(any::<u32>()), packet in of(packet()),
        conntrack in of(conntrack()), detail in detail(),
    ) -> Event {
        let place =
            Place { netns: netns.map(Netns), ifindex: ifindex.map(IfIndex), ifname, iif: iif.map(IfIndex) };
        Event { at: Ktime(at), cpu, hook, place, packet, conntrack, detail }
    }
}

fn role() -> impl Strategy<Value = Role> {
    use Role::{Bridge, Loopback, Other, PodInterface, PodVeth, Tunnel, Uplink};
    prop::sample::select(
        &[
            PodVeth,
            Uplink,
            Bridge,
            Tunnel,
            Loopback,
            PodInterface,
            Other,
        ][..],
    )
}

fn kind() -> impl Strategy<Value = NamespaceKind> {
    prop_oneof![Just(NamespaceKind::Node), Just(NamespaceKind::Pod)]
}

fn netns() -> impl Strategy<Value = Netns> {
    any::<u32>().prop_map(Netns)
}

fn index() -> impl Strategy<Value = IfIndex> {
    any::<u32>().prop_map(IfIndex)
}

prop_compose! {
    fn node()(
        name in text(), netns in netns(), wall_offset in any::<i64>(), kernel in text(), tier in any::<u8>(),
        hooks in vec(hook(), 0..4),
    ) -> Delta {
        Delta::Node(Node { name, netns, wall_offset, kernel, tier, hooks })
    }
}

prop_compose! {
    fn link()(
        netns in netns(), ifindex in index(), name in symbol(), role in role(), peer in of((netns(), index())),
        up in any::<bool>(), mtu in any::<u32>(), addresses in vec(any::<IpAddr>(), 0..3),
    ) -> Delta {
        Delta::Link(Link { netns, ifindex, name, role, peer, up, mtu, addresses })
    }
}

fn delta() -> impl Strategy<Value = Delta> {
    let listener = (any::<u8>(), socket()).prop_map(|(proto, address)| Listener {
        proto: Proto(proto),
        address,
    });
    let program =
        (text(), text(), any::<u32>()).prop_map(|(attach, name, id)| Program { attach, name, id });
    prop_oneof![
        node(),
        link(),
        (text(), text()).prop_map(|(what, why)| Delta::Blind(BlindSpot { what, why })),
        (netns(), kind(), of(text()), any::<bool>()).prop_map(|(netns, kind, name, target)| {
            Delta::Namespace(Namespace {
                netns,
                kind,
                name,
                target,
            })
        }),
        (netns(), index()).prop_map(|(netns, ifindex)| Delta::LinkGone { netns, ifindex }),
        (netns(), vec(listener, 0..3))
            .prop_map(|(netns, sockets)| Delta::Listeners { netns, sockets }),
        (netns(), any::<u64>(), btree_map(text(), any::<u64>(), 0..4)).prop_map(
            |(netns, at, values)| Delta::Counters {
                netns,
                at: Ktime(at),
                values
            }
        ),
        (netns(), index(), vec(program, 0..3)).prop_map(|(netns, ifindex, programs)| {
            Delta::Programs {
                netns,
                ifindex,
                programs,
            }
        }),
        (text(), vec(cluster::network(), 0..3)).prop_map(|(file, exempt)| {
            Delta::MasqueradeConfig(MasqueradeConfig { file, exempt })
        }),
        (netns(), vec(conntrack(), 0..3))
            .prop_map(|(netns, entries)| Delta::Connections { netns, entries }),
        (any::<u64>(), cluster::change().boxed()).prop_map(|(at, change)| Delta::Cluster {
            at: Ktime(at),
            change
        }),
    ]
}

pub(super) fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        8 => event().prop_map(Input::Event),
        4 => delta().prop_map(Input::Inventory),
        1 => (hook(), any::<u64>(), any::<u64>())
            .prop_map(|(hook, at, count)| Input::Lost { hook, at: Ktime(at), count }),
        1 => any::<u64>().prop_map(|at| Input::Tick(Ktime(at))),
        1 => any::<u64>().prop_map(|at| Input::Stop(Ktime(at))),
    ]
}
