//! The node's addresses and its way out: a router with a host behind it, in a namespace of their own.

use anyhow::{Context, Result};

use super::node::Node;

/// The node's address.
pub const NODE: &str = "10.99.0.1";
const ROUTER: &str = "10.99.0.254";
/// A host beyond the router, from the range for documentation.
const BEYOND: &str = "198.51.100.10";
/// All pods everywhere, those of this node, and Services.
pub const PODS: &str = "10.244.0.0/16";
pub const PODS_HERE: &str = "10.244.1.0/24";
pub const SERVICES: &str = "10.96.0.0/16";
/// The first address of the range is the API server's own Service.
pub const API_SERVICE: &str = "10.96.0.1";
pub const DNS_SERVICE: &str = "10.96.0.10";

/// Gives the node an uplink. The router's namespace is called `outside` on the node.
pub fn make(node: &Node) -> Result<()> {
    node.script(&format!(
        "ip link set lo up
         ip netns add outside
         ip link add eth0 type veth peer name eth0 netns outside
         ip addr add {NODE}/24 dev eth0
         ip link set eth0 up
         ip route add default via {ROUTER}
         ip -n outside link set lo up
         ip -n outside addr add {ROUTER}/24 dev eth0
         ip -n outside addr add {BEYOND}/32 dev lo
         ip -n outside link set eth0 up
         echo 1 > /proc/sys/net/ipv4/ip_forward"
    ))
    .context("give the node its network")
    .map(drop)
}
