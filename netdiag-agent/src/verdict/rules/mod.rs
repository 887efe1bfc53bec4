//! One failure cause per file, and the list of them all.

mod blackhole_route;
mod bpf_program_drop;
mod bridge_drop;
mod checksum;
mod conntrack_full;
mod conntrack_invalid;
mod conntrack_lost;
mod dns_timeout;
mod header_error;
mod host_firewall_drop;
mod kube_proxy_rules_missing;
mod link_down;
mod listen_overflow;
mod martian;
mod masq_missing;
mod masq_unexpected;
mod mtu_exceeded;
mod neigh_failed;
mod netpol_drop;
mod no_answer;
mod no_route;
mod peer_refused;
mod port_not_listening;
mod prohibit_route;
mod qdisc_drop;
mod routing_loop;
mod rp_filter;
mod service;
mod snat_ports_exhausted;
mod socket_buffer_full;
mod svc_backends_not_ready;
mod svc_no_endpoints;
mod svc_port_undefined;
mod target_port_mismatch;
mod ttl_expired;
mod tunnel_drop;
mod unknown;

use crate::flow::drops::DropKind;
use crate::flow::record::{Direction, DropGroup};
use crate::inventory::{Namespace, NamespaceKind};
use crate::verdict::case::{Case, Death};
use crate::verdict::finding::Finding;
use crate::verdict::types::{Cause, Component, Confidence, Outcome};

/// Finds one cause, and explains it.
pub trait Rule: Sync + std::fmt::Debug {
    fn cause(&self) -> Cause;

    /// The page `netdiag explain CAUSE` prints.
    fn page(&self) -> Page;

    /// `None`: this is not what happened, or it cannot be said yet.
    fn judge(&self, case: &Case<'_>) -> Option<Finding>;

    /// What is worth saying of a flow that was delivered.
    fn remark(&self, _case: &Case<'_>) -> Option<Remark> {
        None
    }
}

/// Of a delivered flow: nothing failed, but something is not as it should be.
#[derive(Clone, Debug)]
pub struct Remark {
    pub cause: Cause,
    pub caveat: String,
    /// The rule or thing behind it, where it is known.
    pub component: Option<Component>,
    pub summary: String,
    pub commands: Vec<String>,
}

/// Fixed headings of a cause's documentation.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    pub what_happened: &'static str,
    pub how_we_know: &'static str,
    pub what_else: &'static str,
    pub what_to_do: &'static str,
}

impl Page {
    /// What happened, without the details.
    pub fn in_one_sentence(&self) -> &'static str {
        let text = self.what_happened;
        text.find(". ").map_or(text, |end| &text[..=end])
    }
}

/// All rules, in the order they are tried: drops by kind, refusals, silence, and what nobody else could name.
pub const RULES: &[&dyn Rule] = &[
    &conntrack_full::ConntrackFull,
    &snat_ports_exhausted::SnatPortsExhausted,
    &conntrack_invalid::ConntrackInvalid,
    &svc_port_undefined::SvcPortUndefined,
    &svc_backends_not_ready::SvcBackendsNotReady,
    &target_port_mismatch::TargetPortMismatch,
    &svc_no_endpoints::SvcNoEndpoints,
    &kube_proxy_rules_missing::KubeProxyRulesMissing,
    &netpol_drop::NetpolDrop,
    &host_firewall_drop::HostFirewallDrop,
    &blackhole_route::BlackholeRoute,
    &prohibit_route::ProhibitRoute,
    &no_route::NoRoute,
    &rp_filter::RpFilter,
    &martian::Martian,
    &routing_loop::RoutingLoop,
    &ttl_expired::TtlExpired,
    &mtu_exceeded::MtuExceeded,
    &link_down::LinkDown,
    &neigh_failed::NeighFailed,
    &bpf_program_drop::BpfProgramDrop,
    &qdisc_drop::QdiscDrop,
    &bridge_drop::BridgeDrop,
    &tunnel_drop::TunnelDrop,
    &header_error::HeaderError,
    &checksum::Checksum,
    &socket_buffer_full::SocketBufferFull,
    &listen_overflow::ListenOverflow,
    &conntrack_lost::ConntrackLost,
    &port_not_listening::PortNotListening,
    &peer_refused::PeerRefused,
    &dns_timeout::DnsTimeout,
    &masq_missing::MasqMissing,
    &masq_unexpected::MasqUnexpected,
    &no_answer::NoAnswer,
    &unknown::Unknown,
];

/// The finding of a proven drop: dropped here, or the reply lost.
fn death(cause: Cause, death: Death<'_>) -> Finding {
    let outcome = match death.group.direction {
        Direction::Original => Outcome::DroppedHere,
        Direction::Reply => Outcome::ReplyLost,
    };
    Finding {
        drop: Some(death.index),
        ..Finding::new(outcome, cause, Confidence::Proven)
    }
}

/// A drop where received packets are routed, by a kernel that gives no reason there: several checks end in one function.
fn unexplained_at_input_routing<'a>(case: &Case<'a>) -> Option<Death<'a>> {
    let found = case.death_of(|kind| kind == DropKind::Other)?;
    let location = found.group.drop.location.as_deref()?;
    INPUT_ROUTING
        .iter()
        .any(|function| location.starts_with(function))
        .then_some(found)
}

/// A drop where a socket receives, by a kernel that gives no reason there: most of what ends there has been delivered, but
/// a SYN that is followed by silence has not.
fn unexplained_at_socket<'a>(case: &Case<'a>) -> Option<Death<'a>> {
    if case.answered() || case.reset().is_some() {
        return None;
    }
    let is_udp = |location: &str| location.starts_with("udp") || location.starts_with("__udp");
    let datagram = case.death_of(|kind| kind == DropKind::Other);
    let datagram =
        datagram.filter(|death| death.group.drop.location.as_deref().is_some_and(is_udp));
    if datagram.is_some() {
        return datagram;
    }
    if !case.ending && !case.deadline_passed() {
        return None;
    }
    let is_syn = |group: &DropGroup| {
        let tcp = group.packet.as_ref().and_then(|packet| packet.tcp);
        let location = group.drop.location.as_deref().unwrap_or_default();
        tcp.is_some_and(|tcp| tcp.flags.is_syn())
            && (location.starts_with("tcp_v4_rcv") || location.starts_with("tcp_v6_rcv"))
    };
    let mut drops = case.flow.drops.iter().enumerate();
    drops
        .find(|(_, group)| is_syn(group))
        .map(|(index, group)| Death { index, group })
}

const INPUT_ROUTING: [&str; 3] = ["ip_rcv_finish", "ip_route_input", "br_validate_ip"];

/// How much a counter of the namespace of the drop has moved; `None` when it has not.
fn counted(case: &Case<'_>, death: Death<'_>, name: &str) -> Option<u64> {
    let netns = death.group.spot.netns?;
    case.inventory
        .counter_delta(netns, name)
        .filter(|delta| *delta > 0)
}

/// Destination of the dropped packet, for words and commands.
fn towards(case: &Case<'_>, death: Death<'_>) -> std::net::IpAddr {
    match death.group.direction {
        Direction::Original => case.responder_address(),
        Direction::Reply => case.flow.tuple.src.ip(),
    }
}

/// Asks the kernel for the route of the dropped packet, as that packet did: rules may send each source, interface and mark
/// to a table of their own. `to` where there was no packet yet.
fn route_get(case: &Case<'_>, death: Death<'_>, to: std::net::IpAddr) -> String {
    let group = death.group;
    let Some(packet) = &group.packet else {
        return format!("{} route get {to}", ip(to));
    };
    let tuple = packet.outer.unwrap_or(packet.tuple);
    let (from, to) = (tuple.src.ip(), tuple.dst.ip());
    let came_in_by = group.spot.netns.zip(group.iif);
    let came_in_by = came_in_by.and_then(|(netns, iif)| case.inventory.link(netns, iif));
    let own = case.owner_of(from).map(|owner| owner.netns) == group.spot.netns;
    let origin = match came_in_by {
        Some(link) => format!(" from {from} iif {}", link.name),
        None if own => format!(" from {from}"),
        None => String::new(),
    };
    let mark = match packet.mark {
        0 => String::new(),
        mark => format!(" mark {mark:#x}"),
    };
    format!("{} route get {to}{origin}{mark}", ip(to))
}

/// A command that must see a pod's own network: run elsewhere it would show, or change, somebody else's.
pub(super) fn inside(namespace: Option<&Namespace>, command: &str) -> String {
    let pod = namespace.filter(|namespace| namespace.kind == NamespaceKind::Pod);
    // What they look at is the cluster's, the machine's, or said to be elsewhere.
    let anywhere = [
        "kubectl ",
        "bpftool ",
        "netdiag ",
        "sysctl -w net.core.",
        "ip netns ",
        "nsenter ",
    ];
    match pod.and_then(|pod| pod.name.as_deref()) {
        Some(name) if !anywhere.iter().any(|start| command.starts_with(start)) => {
            match name.strip_prefix("pid ") {
                Some(pid) => format!("nsenter --net=/proc/{pid}/ns/net {command}"),
                None => format!("ip netns exec {name} {command}"),
            }
        }
        _ => command.to_owned(),
    }
}

/// `ip` or `ip -6`.
fn ip(address: std::net::IpAddr) -> &'static str {
    if address.is_ipv6() { "ip -6" } else { "ip" }
}
