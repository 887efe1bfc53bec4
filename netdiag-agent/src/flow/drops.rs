//! What kind of loss a `kfree_skb` is, and at which stage of the stack it happened.
//!
//! The reason names it where the kernel has reasons; the dropping function, the packet's route and the stack do elsewhere.
//! Symbols are those of Linux 5.10 to 7.x; a compiler may append `.part.0`, `.isra.0` or `.constprop.0`.

use std::net::Ipv4Addr;
use std::sync::Arc;

use super::place::Stage;
use crate::event::{Drop, Event, NfFamily, NfHook, Packet, Refuser, Route};

/// Errno numbers of error routes, `include/uapi/asm-generic/errno.h`.
mod errno {
    pub const EACCES: u16 = 13;
    pub const EINVAL: u16 = 22;
    pub const ENETUNREACH: u16 = 101;
    pub const EHOSTUNREACH: u16 = 113;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DropKind {
    /// A netfilter hook said NF_DROP.
    Netfilter(Option<Backend>),
    NoRoute,
    Blackhole,
    Prohibit,
    RpFilter,
    Martian,
    TtlExpired,
    TooBig,
    Neighbour,
    /// A BPF program at TC, XDP or a cgroup.
    Bpf,
    NoSocket,
    Checksum,
    SocketBuffer,
    ListenQueue,
    Qdisc,
    Bridge,
    Tunnel,
    LinkDown,
    Header,
    /// A frame whose hardware address is another station's.
    OtherHost,
    /// The end of a packet that was not lost: consumed, duplicated, or of a connection already over.
    Benign,
    Other,
}

impl DropKind {
    /// Nothing that would be told of a packet by itself.
    pub const fn is_usual(self) -> bool {
        matches!(self, Self::Benign | Self::OtherHost)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Backend {
    Nft,
    Legacy,
}

/// A symbol without the compiler's suffix.
fn name(symbol: &str) -> &str {
    symbol.split('.').next().unwrap_or_default()
}

/// The function that freed the packet; empty where that is not known.
fn freed_by(drop: &Drop) -> &str {
    drop.location.as_deref().map_or("", name)
}

/// The function the packet's route hands it to.
fn routed_to(route: &Route) -> &str {
    route.input.as_deref().map_or("", name)
}

/// Classifies the drop of a packet.
pub fn kind(drop: &Drop, packet: &Packet) -> DropKind {
    let kind = match drop.reason.as_deref() {
        Some(reason) if reason != "NOT_SPECIFIED" => by_reason(reason, drop, packet.ttl),
        _ => by_location(drop, packet.ttl),
    };
    // That nobody forwards or listens to a group is a node's usual state; mDNS, SSDP and DHCP ask all the same.
    let unwanted = matches!(
        kind,
        DropKind::NoRoute | DropKind::NoSocket | DropKind::Martian | DropKind::Other
    );
    let to = packet.tuple.dst.ip();
    if unwanted && (to.is_multicast() || to == Ipv4Addr::BROADCAST) {
        return DropKind::Benign;
    }
    kind
}

fn by_reason(reason: &str, drop: &Drop, ttl: u8) -> DropKind {
    let freed_by = freed_by(drop);
    match reason {
        "NETFILTER_DROP" => DropKind::Netfilter(backend(drop)),
        "IP_INNOROUTES" | "IP_OUTNOROUTES" => by_route(drop).unwrap_or(DropKind::NoRoute),
        // A host that does not forward gave up a packet that was not for it.
        "IP_INADDRERRORS" if matches!(freed_by, "ip_error" | "ip6_forward") => DropKind::NoRoute,
        "IP_RPFILTER" => DropKind::RpFilter,
        "IP_LOCAL_SOURCE" | "IP_LOCALNET" | "IP_INVALID_SOURCE" | "IP_INVALID_DEST"
        | "INVALID_DST" => DropKind::Martian,
        "IP_INHDR" if ttl <= 1 => DropKind::TtlExpired,
        "IP_INHDR" | "IP_INADDRERRORS" | "PKT_TOO_SMALL" | "HDR_TRUNC" | "IP_INVALID_HDR" => {
            DropKind::Header
        }
        "PKT_TOO_BIG" => DropKind::TooBig,
        "NEIGH_FAILED" | "NEIGH_QUEUEFULL" | "NEIGH_DEAD" | "NEIGH_CREATEFAIL"
        | "NEIGH_HH_FILLFAIL" => DropKind::Neighbour,
        "TC_INGRESS" | "TC_EGRESS" | "XDP" | "BPF_CGROUP_EGRESS" | "SOCKET_FILTER" | "BPF_DROP" => {
            DropKind::Bpf
        }
        // Raw sockets and ping sockets are offered copies; what is freed then is a copy nobody wanted.
        "NO_SOCKET" if freed_by == "ping_rcv" => DropKind::Benign,
        "NO_SOCKET" => DropKind::NoSocket,
        "TCP_CSUM" | "UDP_CSUM" | "ICMP_CSUM" | "IP_CSUM" | "SKB_CSUM" => DropKind::Checksum,
        "SOCKET_RCVBUFF" | "PROTO_MEM" | "SOCKET_BACKLOG" => DropKind::SocketBuffer,
        "TCP_LISTEN_OVERFLOW" | "TCP_REQQFULLDROP" | "TCP_ACCEPTQFULL" => DropKind::ListenQueue,
        "QDISC_DROP" | "CPU_BACKLOG" | "QDISC_OVERLIMIT" | "QDISC_CONGESTED" | "FULL_RING" => {
            DropKind::Qdisc
        }
        "DEV_READY" => DropKind::LinkDown,
        "OTHERHOST" => DropKind::OtherHost,
        // A bridge without a port that takes it, or vxlan_xmit without an entry for the remote node.
        "NO_TX_TARGET" if freed_by.starts_with("br_") => DropKind::Bridge,
        "NO_TX_TARGET" => DropKind::Tunnel,
        _ if reason.starts_with("VXLAN_") || reason.starts_with("TUNNEL_") => DropKind::Tunnel,
        _ if reason.starts_with("BRIDGE_") => DropKind::Bridge,
        _ if BENIGN_REASONS.contains(&reason) => DropKind::Benign,
        _ => DropKind::Other,
    }
}

/// Ends that are no losses, all seen in healthy runs or named so by the kernel.
const BENIGN_REASONS: &[&str] = &[
    "CONSUMED",
    "QUEUE_PURGE",
    "TCP_ABORT_ON_CLOSE",
    "TCP_ABORT_ON_DATA",
    "TCP_ACK_UNSENT_DATA",
    "TCP_CLOSE",
    "TCP_FASTOPEN",
    "TCP_INVALID_ACK_SEQUENCE",
    "TCP_INVALID_SEQUENCE",
    "TCP_INVALID_SYN",
    "TCP_OFO_DROP",
    "TCP_OFO_QUEUE_PRUNE",
    "TCP_OFOMERGE",
    "TCP_OLD_ACK",
    "TCP_OLD_DATA",
    "TCP_OLD_SEQUENCE",
    "TCP_RESET",
    "SOCKET_CLOSE",
    "SOCKET_DESTROYED",
    "DUP_FRAG",
    "UNHANDLED_PROTO",
];

/// A rule handed the packet to a queue that nobody reads, or that is full (net/netfilter/nf_queue.c).
pub fn no_queue_took(drop: &Drop) -> bool {
    matches!(freed_by(drop), "nf_queue" | "__nf_queue")
}

/// A route of type unreachable, and not the want of a route. A host that does not forward has the same error, but another
/// reason; without reasons the two look alike (net/ipv4/route.c).
pub fn by_unreachable_route(drop: &Drop) -> bool {
    let error = drop.route.as_ref().map(|route| route.error);
    let explained = matches!(drop.reason.as_deref(), Some(reason) if reason != "IP_INADDRERRORS");
    error == Some(errno::EHOSTUNREACH) && explained
}

fn by_location(drop: &Drop, ttl: u8) -> DropKind {
    match freed_by(drop) {
        "nf_hook_slow" | "nf_hook_slow_list" => DropKind::Netfilter(backend(drop)),
        _ if no_queue_took(drop) => DropKind::Netfilter(None),
        "dst_discard" | "dst_discard_out" => by_route(drop).unwrap_or(DropKind::Blackhole),
        "ip_error" | "ip6_pkt_drop" | "ip6_pkt_discard" | "ip6_pkt_prohibit" => {
            by_route(drop).unwrap_or(DropKind::NoRoute)
        }
        "ip_forward" | "ip6_forward" if ttl <= 1 => DropKind::TtlExpired,
        "ip_fragment" | "ip_do_fragment" | "ip6_fragment" => DropKind::TooBig,
        "neigh_invalidate" | "__neigh_event_send" | "arp_error_report" | "ndisc_error_report" => {
            DropKind::Neighbour
        }
        // veth_xdp_rcv and veth_poll: where the compiler has put veth_xdp_rcv_skb into its callers.
        "sch_handle_ingress"
        | "sch_handle_egress"
        | "do_xdp_generic"
        | "netif_receive_generic_xdp"
        | "veth_xdp_rcv"
        | "veth_poll"
        | "veth_xdp_rcv_skb" => DropKind::Bpf,
        "__br_forward" => DropKind::Bridge,
        // Every ICMP message ends here, where consuming one is not told apart.
        "icmp_rcv" | "icmpv6_rcv" | "ping_rcv" => DropKind::Benign,
        freed_by => by_kin(freed_by, drop),
    }
}

/// By what the names of related functions have in common.
fn by_kin(freed_by: &str, drop: &Drop) -> DropKind {
    let begins = |prefix: &str| freed_by.starts_with(prefix);
    // The receive functions of tunnels are modules of their own.
    let of_tunnel = |driver: &&str| {
        let rest = freed_by.strip_prefix(driver);
        rest.is_some_and(|rest| rest.starts_with('_'))
    };
    if begins("nft_do_chain") {
        DropKind::Netfilter(backend(drop))
    } else if begins("br_") {
        DropKind::Bridge
    } else if begins("kfree_skb_list") && is_queued(drop) {
        DropKind::Qdisc
    } else if TUNNELS.iter().any(of_tunnel) {
        DropKind::Tunnel
    } else if begins("tcp_") || begins("skb_queue_purge") || begins("skb_release") {
        // Sockets free what they have finished with by the same functions; see the noise list of the facts.
        DropKind::Benign
    } else {
        DropKind::Other
    }
}

/// What a queueing discipline refuses is freed as a list, by the function that queued it; so is the rest of a packet in
/// pieces, by another.
fn is_queued(drop: &Drop) -> bool {
    let caller = drop.stack.first().map(|caller| name(caller));
    matches!(caller, Some("__dev_queue_xmit" | "__dev_xmit_skb"))
}

const TUNNELS: [&str; 6] = ["vxlan", "geneve", "gre", "ipip", "ipip6", "gue"];

fn by_route(drop: &Drop) -> Option<DropKind> {
    let route = drop.route.as_ref()?;
    match route.error {
        errno::EINVAL => return Some(DropKind::Blackhole),
        errno::EACCES => return Some(DropKind::Prohibit),
        errno::ENETUNREACH | errno::EHOSTUNREACH => return Some(DropKind::NoRoute),
        _ => {}
    }
    match routed_to(route) {
        "ip6_pkt_prohibit" => Some(DropKind::Prohibit),
        "dst_discard" => Some(DropKind::Blackhole),
        _ => None,
    }
}

/// nft frees inside `nft_do_chain` since it has drop reasons; `ipt_do_table` has returned when `nf_hook_slow` frees.
/// Without reasons both look alike.
fn backend(drop: &Drop) -> Option<Backend> {
    match drop.refusal.as_ref().map(|refusal| refusal.by) {
        Some(Refuser::Nft) => return Some(Backend::Nft),
        Some(Refuser::Legacy) => return Some(Backend::Legacy),
        Some(Refuser::Conntrack | Refuser::Confirm | Refuser::Nat) => return None,
        Some(Refuser::Unknown) | None => {}
    }
    let nft = |symbol: &Arc<str>| symbol.starts_with("nft_do_chain");
    if drop.location.as_ref().is_some_and(nft) || drop.stack.iter().take(4).any(nft) {
        Some(Backend::Nft)
    } else if drop.reason.is_some() && freed_by(drop).starts_with("nf_hook_slow") {
        Some(Backend::Legacy)
    } else {
        None
    }
}

/// Functions that run a netfilter hook, and the stage of that hook; the innermost on the stack decides.
const HOOK_CALLERS: &[(&str, Stage)] = &[
    ("ip_local_deliver", Stage::Input),
    ("ip6_input", Stage::Input),
    ("br_nf_local_in", Stage::Input),
    ("br_pass_frame_up", Stage::Input),
    ("ip_forward", Stage::Forward),
    ("ip6_forward", Stage::Forward),
    ("br_nf_forward", Stage::Forward),
    ("br_nf_forward_ip", Stage::Forward),
    ("__br_forward", Stage::Forward),
    ("__ip_local_out", Stage::Output),
    ("__ip6_local_out", Stage::Output),
    ("ip6_xmit", Stage::Output),
    ("ip_output", Stage::Postrouting),
    ("ip_mc_output", Stage::Postrouting),
    ("ip6_output", Stage::Postrouting),
    ("br_nf_post_routing", Stage::Postrouting),
    ("br_forward_finish", Stage::Postrouting),
    ("br_nf_pre_routing", Stage::Prerouting),
    ("br_handle_frame", Stage::Prerouting),
    ("ip_rcv", Stage::Prerouting),
    ("ip_sublist_rcv", Stage::Prerouting),
    ("ip_list_rcv", Stage::Prerouting),
    ("ipv6_rcv", Stage::Prerouting),
    ("ip6_sublist_rcv", Stage::Prerouting),
    ("ipv6_list_rcv", Stage::Prerouting),
    ("__netif_receive_skb_core", Stage::Receive),
    ("__netif_receive_skb_one_core", Stage::Receive),
    ("__dev_queue_xmit", Stage::Transmit),
];

/// The stage at which a packet was dropped.
pub fn stage(event: &Event, drop: &Drop, kind: DropKind) -> Stage {
    match kind {
        DropKind::Netfilter(_) => stage_by_refusal(drop)
            .or_else(|| stage_by_stack(drop))
            .or_else(|| stage_by_route(event, drop))
            .unwrap_or(Stage::Prerouting),
        DropKind::NoRoute
        | DropKind::Blackhole
        | DropKind::Prohibit
        | DropKind::RpFilter
        | DropKind::Martian
        | DropKind::TtlExpired
        | DropKind::TooBig => Stage::Fib,
        DropKind::Neighbour | DropKind::Qdisc | DropKind::LinkDown => Stage::Queue,
        DropKind::OtherHost => Stage::Receive,
        DropKind::Bpf => bpf_stage(drop),
        DropKind::NoSocket
        | DropKind::Checksum
        | DropKind::SocketBuffer
        | DropKind::ListenQueue => Stage::Socket,
        DropKind::Bridge => Stage::BridgeReceive,
        DropKind::Tunnel => tunnel_stage(drop),
        DropKind::Header | DropKind::Benign | DropKind::Other => other_stage(event, drop),
    }
}

/// The hook itself has said which it is.
fn stage_by_refusal(drop: &Drop) -> Option<Stage> {
    let refusal = drop.refusal.as_ref()?;
    Some(match (refusal.family, refusal.hook) {
        (NfFamily::NETDEV, NfHook(0)) => Stage::Receive,
        (NfFamily::NETDEV, _) => Stage::Transmit,
        (_, NfHook::PREROUTING) => Stage::Prerouting,
        (_, NfHook::INPUT) => Stage::Input,
        (_, NfHook::FORWARD) => Stage::Forward,
        (_, NfHook::OUTPUT) => Stage::Output,
        (_, NfHook::POSTROUTING) => Stage::Postrouting,
        _ => return None,
    })
}

fn stage_by_stack(drop: &Drop) -> Option<Stage> {
    let mut stack = drop.stack.iter().map(|symbol| name(symbol));
    let (caller, stage) = stack.find_map(|symbol| {
        let mut callers = HOOK_CALLERS.iter();
        callers.find(|(caller, _)| *caller == symbol)
    })?;
    // What the node itself sends by a bridge is forwarded by the same function, through the bridge's OUTPUT.
    let sent = *caller == "__br_forward" && stack.any(|symbol| symbol == "br_dev_xmit");
    Some(if sent { Stage::Output } else { *stage })
}

/// Without a stack: what the packet's route already says (checked against all rows of the signal table).
fn stage_by_route(event: &Event, drop: &Drop) -> Option<Stage> {
    let Some(route) = &drop.route else {
        return Some(Stage::Prerouting);
    };
    let place = &event.place;
    match routed_to(route) {
        "ip_local_deliver" | "ip6_input" => Some(Stage::Input),
        "ip_forward" | "ip6_forward" if place.iif.is_none() || place.iif == place.ifindex => {
            Some(Stage::Forward)
        }
        "ip_forward" | "ip6_forward" => Some(Stage::Postrouting),
        _ => place.iif.is_none().then_some(Stage::Output),
    }
}

/// Receive functions of tunnel drivers are called `vxlan_rcv`, `geneve_udp_encap_recv`, `ipip_rcv` …
fn tunnel_stage(drop: &Drop) -> Stage {
    let freed_by = freed_by(drop);
    if ["rcv", "recv", "decap"]
        .iter()
        .any(|part| freed_by.contains(part))
    {
        Stage::Decapsulate
    } else {
        Stage::Encapsulate
    }
}

fn bpf_stage(drop: &Drop) -> Stage {
    match drop.reason.as_deref() {
        Some("SOCKET_FILTER") => Stage::Socket,
        Some("TC_EGRESS" | "BPF_CGROUP_EGRESS") => Stage::Transmit,
        _ if freed_by(drop) == "sch_handle_egress" => Stage::Transmit,
        _ => Stage::Receive,
    }
}

fn other_stage(event: &Event, drop: &Drop) -> Stage {
    let freed_by = freed_by(drop);
    let of_socket = |prefix: &&str| freed_by.starts_with(*prefix);
    match freed_by {
        "ip_rcv_finish_core" | "ip_rcv_core" | "ip6_rcv_core" | "ip_forward" | "ip6_forward" => {
            Stage::Fib
        }
        _ if ["tcp_", "udp", "__udp"].iter().any(of_socket) => Stage::Socket,
        _ if freed_by.contains("xmit") => Stage::Transmit,
        _ => stage_by_stack(drop)
            .or_else(|| stage_by_route(event, drop))
            .unwrap_or(Stage::Receive),
    }
}
