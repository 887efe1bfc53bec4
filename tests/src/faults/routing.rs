//! Routes, source checks, MTU, neighbours.

use anyhow::{Context, Result};

use super::Case;
use crate::plan::{Family, Topology};
use crate::topology::nft_tool;

fn add_route(case: &Case, route: &str) -> Result<()> {
    case.node
        .run(&format!("ip {} route add {route}", case.family.flag()))
        .map(drop)
}

/// The node has no default route any more, only one to the healthy address.
pub fn no_route(case: &Case) -> Result<()> {
    let upstream = case.addresses().upstream;
    if case.node.plan.topology == Topology::PointToPoint && case.family == Family::V4 {
        // proxy_arp answers for the pods' gateway only while there is a route to it.
        add_route(case, &format!("169.254.0.0/16 via {upstream}"))?;
    }
    add_route(case, &format!("{} via {upstream}", case.healthy()))?;
    case.node
        .run(&format!("ip {} route del default", case.family.flag()))
        .map(drop)
}

/// An `unreachable` route to the broken address.
pub fn unreachable_route(case: &Case) -> Result<()> {
    add_route(case, &format!("unreachable {}", case.broken()))
}

pub fn blackhole_route(case: &Case) -> Result<()> {
    add_route(case, &format!("blackhole {}", case.broken()))
}

/// What comes from pods is looked up in a table of its own, in which only the healthy address has a way.
pub fn blackhole_by_rule(case: &Case) -> Result<()> {
    let (flag, inside) = (case.family.flag(), case.node.pod_side());
    let (healthy, upstream) = (case.healthy(), case.addresses().upstream);
    for line in [
        format!("route add {healthy} via {upstream} table 77"),
        format!("route add blackhole {} table 77", case.broken()),
        format!("rule add iif {inside} table 77 pref 777"),
    ] {
        case.node.run(&format!("ip {flag} {line}"))?;
    }
    Ok(())
}

pub fn prohibit_route(case: &Case) -> Result<()> {
    add_route(case, &format!("prohibit {}", case.broken()))
}

/// The pod itself has no default route any more: nothing ever leaves it.
pub fn no_route_in_pod(case: &Case) -> Result<()> {
    let flag = case.family.flag();
    let default = case
        .node
        .pod()
        .sh(&format!("ip {flag} route show default"))?;
    let way = default
        .trim()
        .trim_start_matches("default ")
        .trim_end_matches("metric 1024 pref medium");
    let healthy = case.healthy();
    case.node
        .pod()
        .sh(&format!("ip {flag} route add {healthy} {way}"))?;
    case.node
        .pod()
        .sh(&format!("ip {flag} route del default"))
        .map(drop)
}

/// Strict reverse-path filter where pods enter, and a pod address the node would route elsewhere.
pub fn reverse_path(case: &Case) -> Result<()> {
    case.node.netns.sysctl(&[(
        &format!("ipv4/conf/{}/rp_filter", case.node.pod_side()),
        "1",
    )])?;
    stranger_in_pod(case)
}

/// A second address in the pod that the node does not know.
fn stranger_in_pod(case: &Case) -> Result<()> {
    case.node
        .pod()
        .sh(&format!("ip addr add {} dev lo", case.addresses().stranger))
        .map(drop)
}

/// The uplink carries less than the pods think.
pub fn small_mtu(case: &Case) -> Result<()> {
    case.node.run(&format!(
        "ip link set {} mtu {SMALL_MTU}",
        case.node.uplink()
    ))?;
    let next = case.node.router.as_ref().unwrap_or(&case.node.external);
    next.sh(&format!("ip link set lan0 mtu {SMALL_MTU}"))
        .map(drop)
}

/// The least IPv6 allows is 1280.
pub const SMALL_MTU: u32 = 1300;

/// Only the route to the broken address is narrow; both ends still announce 1460-byte segments.
pub fn narrow_route(case: &Case) -> Result<()> {
    // Forwarding minds a route's MTU only when it is locked.
    let upstream = case.addresses().upstream;
    add_route(
        case,
        &format!("{} via {upstream} mtu lock {SMALL_MTU}", case.broken()),
    )
}

/// The outside knows the way to the pods: connections can come in.
pub fn pods_reachable(case: &Case) -> Result<()> {
    let (pods, node) = (&case.addresses().pods, case.addresses().node);
    case.node
        .external
        .sh(&format!("ip route add {pods} via {node}"))
        .map(drop)
}

/// The next hop sends what is for the stranger's address back to the node. The address is one of the cluster, so it is
/// exempt from masquerade: with the node's own source address the packet would not even come in again.
pub fn routing_loop(case: &Case) -> Result<()> {
    let (node, stranger) = (case.addresses().node, case.addresses().stranger);
    let tool = nft_tool(case.family);
    case.node.run(&format!(
        "{tool} -w -t nat -I POSTROUTING -d {stranger} -j RETURN"
    ))?;
    let external = &case.node.external;
    external.sysctl(&[("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")])?;
    external
        .sh(&format!("ip route add {stranger} via {node}"))
        .map(drop)
}

/// The far end of the uplink's cable is gone, and the node need not ask for its next hop.
pub fn uplink_down(case: &Case) -> Result<()> {
    let next = case.node.router.as_ref().unwrap_or(&case.node.external);
    let (upstream, uplink) = (case.addresses().upstream, case.node.uplink());
    case.node.run(&format!(
        "ip neigh replace {upstream} lladdr 02:00:00:00:00:01 dev {uplink} nud permanent"
    ))?;
    next.sh("ip link set lan0 down").map(drop)
}

/// A hardware address nobody has.
const NOBODY: &str = "02:00:00:00:00:98";

/// The pod reaches the broken address by a gateway whose hardware address it takes for another.
pub fn wrong_gateway(case: &Case) -> Result<()> {
    let interface = &case.node.plan.names.pod_interface;
    let (flag, gateway) = match case.family {
        Family::V4 => ("", "169.254.77.7"),
        Family::V6 => ("-6", "fe80::7777"),
    };
    let pod = case.node.pod();
    pod.sh(&format!(
        "ip {flag} neigh replace {gateway} lladdr {NOBODY} dev {interface} nud permanent"
    ))?;
    let broken = case.broken();
    pod.sh(&format!(
        "ip {flag} route add {broken} via {gateway} dev {interface} onlink"
    ))
    .map(drop)
}

/// The node takes a pod's hardware address for another.
fn wrong_pod(case: &Case, pod: usize) -> Result<()> {
    let (address, veth) = (case.addresses().pod[pod], &case.node.plan.names.veths[pod]);
    case.node
        .run(&format!(
            "ip neigh replace {address} lladdr {NOBODY} dev {veth} nud permanent"
        ))
        .map(drop)
}

/// As asked for by the traced pod.
pub fn wrong_responder(case: &Case) -> Result<()> {
    wrong_pod(case, 1)
}

/// The traced pod itself: no answer reaches it.
pub fn wrong_initiator(case: &Case) -> Result<()> {
    wrong_pod(case, 0)
}

/// The second pod's interface is down, and the node need not ask for its address.
pub fn pod_down(case: &Case) -> Result<()> {
    let names = &case.node.plan.names;
    let (pod, veth) = (case.local(), &names.veths[1]);
    case.node.run(&format!(
        "ip neigh replace {pod} lladdr 02:00:00:00:00:01 dev {veth} nud permanent"
    ))?;
    case.node.pods[1]
        .sh(&format!("ip link set {} down", names.pod_interface))
        .map(drop)
}

/// The bridge's port to the second pod is down; the first still knows its address.
pub fn bridge_port_down(case: &Case) -> Result<()> {
    let names = &case.node.plan.names;
    let (pod, interface) = (case.local(), &names.pod_interface);
    let link = case.node.pods[1].sh(&format!("ip -o link show dev {interface}"))?;
    let mut words = link.split_whitespace();
    let address = words
        .find(|word| *word == "link/ether")
        .and_then(|_| words.next())
        .with_context(|| format!("no link/ether in: {link}"))?;
    case.node.pod().sh(&format!(
        "ip neigh replace {pod} lladdr {address} dev {interface} nud permanent"
    ))?;
    case.node
        .run(&format!("ip link set {} down", names.veths[1]))
        .map(drop)
}

/// The far end of the uplink's cable is gone.
pub fn uplink_without_carrier(case: &Case) -> Result<()> {
    let next = case.node.router.as_ref().unwrap_or(&case.node.external);
    next.sh("ip link set lan0 down").map(drop)
}
