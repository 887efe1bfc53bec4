//! Wires a node: links, addresses, routes, forwarding, masquerade, Services. Only `ip`, `iptables` and sysctls.

use std::fmt::Write;

use anyhow::Result;

use crate::netns::Netns;
use crate::node::Node;
use crate::plan::{Addresses, Family, Plan, Topology};
use crate::server::port;

/// Calico's MAC for host-side veths, and the link-local address the kernel derives from it.
const VETH_MAC: &str = "ee:ee:ee:ee:ee:ee";
const VETH_LINK_LOCAL: &str = "fe80::ecee:eeff:feee:eeee";
/// Calico's gateway that nobody has: the host-side veth answers ARP for it.
const PROXIED_GATEWAY: &str = "169.254.1.1";

pub fn lay(node: &Node) -> Result<()> {
    let all = [&node.netns, &node.external]
        .into_iter()
        .chain(&node.pods)
        .chain(&node.router);
    all.into_iter().try_for_each(quiet)?;
    node.netns.sysctl(&FORWARDING)?;
    // Errors must come for every packet, not one per second.
    node.netns
        .sysctl(&[("ipv4/icmp_ratelimit", "0"), ("ipv6/icmp/ratelimit", "0")])?;
    uplink(node)?;
    match node.plan.topology {
        Topology::Bridge => bridge(node)?,
        Topology::PointToPoint => point_to_point(node)?,
    }
    translate(node)
}

const FORWARDING: [(&str, &str); 2] = [("ipv4/ip_forward", "1"), ("ipv6/conf/all/forwarding", "1")];

/// No address detection delays, no router advertisements, no reverse-path filter until a fault wants one.
fn quiet(netns: &Netns) -> Result<()> {
    netns.sysctl(&[
        ("ipv6/conf/all/disable_ipv6", "0"),
        ("ipv6/conf/default/disable_ipv6", "0"),
        ("ipv6/conf/all/accept_dad", "0"),
        ("ipv6/conf/default/accept_dad", "0"),
        ("ipv6/conf/default/accept_ra", "0"),
        ("ipv6/conf/default/router_solicitations", "0"),
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv4/conf/default/rp_filter", "0"),
    ])
}

/// The link off the node and the external host behind it, one router further if the plan says so.
fn uplink(node: &Node) -> Result<()> {
    let Plan { names, v4, v6, .. } = &node.plan;
    let next = node.router.as_ref().unwrap_or(&node.external);
    let up = &names.uplink;
    let mut script = format!(
        "link add {up} type veth peer name lan0 netns {}\n",
        next.name()
    );
    for a in [v4, v6] {
        let _ = writeln!(
            script,
            "addr add {}/{} dev {up} nodad",
            a.node, a.link_prefix
        );
    }
    let _ = writeln!(script, "link set {up} up");
    node.netns.ip_batch(&script)?;

    let mut script = "link set lan0 up\n".to_owned();
    for a in [v4, v6] {
        let _ = writeln!(
            script,
            "addr add {}/{} dev lan0 nodad",
            a.upstream, a.link_prefix
        );
    }
    next.ip_batch(&script)?;
    if let Some(router) = &node.router {
        beyond_router(node, router)?;
    }

    let mut script = String::new();
    for a in [v4, v6] {
        for address in a.external {
            let _ = writeln!(script, "addr add {address} dev lo nodad");
        }
    }
    node.external.ip_batch(&script)?;
    let routes = [v4, v6].map(|a| format!("route add default via {} dev {up}\n", a.upstream));
    node.netns.ip_batch(&routes.concat())
}

fn beyond_router(node: &Node, router: &Netns) -> Result<()> {
    router.sysctl(&FORWARDING)?;
    let external = &node.external;
    let mut near = format!(
        "link add wan0 type veth peer name lan0 netns {}\n",
        external.name()
    );
    let mut far = "link set lan0 up\n".to_owned();
    let _ = writeln!(near, "link set wan0 up");
    let mut through = String::new();
    for a in [&node.plan.v4, &node.plan.v6] {
        let [here, there] = a.far;
        let _ = writeln!(near, "addr add {here}/{} dev wan0 nodad", a.far_prefix);
        let _ = writeln!(far, "addr add {there}/{} dev lan0 nodad", a.far_prefix);
        let _ = writeln!(far, "route add default via {here}");
        for address in a.external {
            let _ = writeln!(through, "route add {address} via {there}");
        }
    }
    router.ip_batch(&near)?;
    external.ip_batch(&far)?;
    router.ip_batch(&through)
}

fn bridge(node: &Node) -> Result<()> {
    let Plan { names, v4, v6, .. } = &node.plan;
    let (bridge, inside) = (&names.bridge, &names.pod_interface);
    let mut script = format!("link add {bridge} type bridge forward_delay 0 mcast_snooping 0\n");
    for a in [v4, v6] {
        let _ = writeln!(
            script,
            "addr add {}/{} dev {bridge} nodad",
            a.gateway, a.pods_prefix
        );
    }
    let _ = writeln!(script, "link set {bridge} up");
    for (veth, pod) in names.veths.iter().zip(&node.pods) {
        let _ = writeln!(
            script,
            "link add {veth} type veth peer name {inside} netns {}",
            pod.name()
        );
        let _ = writeln!(script, "link set {veth} master {bridge} up");
    }
    node.netns.ip_batch(&script)?;
    for (index, pod) in node.pods.iter().enumerate() {
        let mut script = format!("link set {inside} up\n");
        for a in [v4, v6] {
            let _ = writeln!(
                script,
                "addr add {}/{} dev {inside} nodad",
                a.pod[index], a.pods_prefix
            );
            let _ = writeln!(script, "route add default via {} dev {inside}", a.gateway);
        }
        pod.ip_batch(&script)?;
    }
    Ok(())
}

fn point_to_point(node: &Node) -> Result<()> {
    let Plan { names, v4, v6, .. } = &node.plan;
    let inside = &names.pod_interface;
    for (index, (veth, pod)) in names.veths.iter().zip(&node.pods).enumerate() {
        let mut script = format!(
            "link add {veth} address {VETH_MAC} type veth peer name {inside} netns {}\n",
            pod.name()
        );
        let _ = writeln!(script, "link set {veth} up");
        for a in [v4, v6] {
            let _ = writeln!(script, "route add {} dev {veth} scope link", a.pod[index]);
        }
        node.netns.ip_batch(&script)?;
        // The kernel answers for 169.254.1.1 only while it has a route to it elsewhere (the default route), and
        // by default up to 0.8 s late.
        node.netns.sysctl(&[
            (&format!("ipv4/conf/{veth}/proxy_arp"), "1"),
            (&format!("ipv4/neigh/{veth}/proxy_delay"), "0"),
        ])?;
        pod.ip_batch(&format!(
            "link set {inside} up\n\
             addr add {}/32 dev {inside}\n\
             addr add {}/128 dev {inside} nodad\n\
             route add {PROXIED_GATEWAY} dev {inside} scope link\n\
             route add default via {PROXIED_GATEWAY} dev {inside}\n\
             route add default via {VETH_LINK_LOCAL} dev {inside}\n",
            v4.pod[index], v6.pod[index],
        ))?;
    }
    Ok(())
}

/// The iptables program that writes nftables rules.
pub const fn nft_tool(family: Family) -> &'static str {
    match family {
        Family::V4 => "iptables-nft",
        Family::V6 => "ip6tables-nft",
    }
}

/// The iptables program that writes x_tables rules.
pub const fn legacy_tool(family: Family) -> &'static str {
    match family {
        Family::V4 => "iptables-legacy",
        Family::V6 => "ip6tables-legacy",
    }
}

/// Pods leave by the uplink under the node's address, as with any kubenet-like plugin. Two Services: the one in front of
/// the external host is an iptables DNAT, the one in front of the second pod a plain nftables one.
fn translate(node: &Node) -> Result<()> {
    let mut local = String::new();
    for family in Family::ALL {
        iptables_nat(node, family)?;
        local += &local_service(node.addresses(family), family.nft());
    }
    node.netns.feed("nft", &["-f", "-"], &local).map(drop)
}

fn iptables_nat(node: &Node, family: Family) -> Result<()> {
    let a = node.addresses(family);
    let (pods, up) = (&a.pods, node.uplink());
    let mut script = format!("*nat\n-A POSTROUTING -s {pods} ! -d {pods} -o {up} -j MASQUERADE\n");
    for (protocol, port) in [
        ("tcp", port::TCP[0]),
        ("udp", port::UDP[0]),
        ("udp", port::DNS),
    ] {
        let (vip, at) = (a.vip_external, service_port(port));
        let target = std::net::SocketAddr::new(a.external[0], port);
        let _ = writeln!(
            script,
            "-A PREROUTING -d {vip} -p {protocol} --dport {at} -j DNAT --to-destination {target}"
        );
    }
    script += "COMMIT\n";
    let restore = format!("{}-restore", nft_tool(family));
    node.netns
        .feed(&restore, &["-w", "--noflush"], &script)
        .map(drop)
}

fn local_service(a: &Addresses, table: &str) -> String {
    let (vip, pod) = (a.vip_local, a.pod[1]);
    let to = |port| std::net::SocketAddr::new(pod, port);
    format!(
        "table {table} services {{ chain prerouting {{ type nat hook prerouting priority dstnat + 1;\n\
         {table} daddr {vip} tcp dport {} dnat to {}\n\
         {table} daddr {vip} udp dport {} dnat to {}\n}}\n}}\n",
        service_port(port::TCP[0]),
        to(port::TCP[0]),
        service_port(port::UDP[0]),
        to(port::UDP[0]),
    )
}

/// Where a Service listens whose backend has this port.
pub const fn service_port(backend: u16) -> u16 {
    match backend {
        8080 => 80,
        9000 => 90,
        other => other,
    }
}
