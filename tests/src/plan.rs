//! What a fake node is called and addressed by. Nothing else in the lab knows a name or an address.
//!
//! Two plans that share neither: a tool that leans on `cni0`, `eth0` or 10.244/16 fails on the second.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How pods hang on the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    /// All host-side veths are ports of one bridge, which is the pods' gateway.
    Bridge,
    /// Calico and AKS shape: each host-side veth answers ARP for 169.254.1.1, one host route per pod.
    PointToPoint,
}

impl Topology {
    pub const ALL: [Self; 2] = [Self::Bridge, Self::PointToPoint];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::PointToPoint => "ptp",
        }
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    pub const fn name(self) -> &'static str {
        match self {
            Self::V4 => "v4",
            Self::V6 => "v6",
        }
    }

    /// Bits of an address.
    pub const fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    /// For `ip -4`, `ip -6`.
    pub const fn flag(self) -> &'static str {
        match self {
            Self::V4 => "-4",
            Self::V6 => "-6",
        }
    }

    /// As nftables names the table family.
    pub const fn nft(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Everything a node is built from.
#[derive(Clone, Debug)]
pub struct Plan {
    pub topology: Topology,
    /// One more hop between the uplink and the external host.
    pub router: bool,
    pub names: Names,
    pub v4: Addresses,
    pub v6: Addresses,
}

#[derive(Clone, Debug)]
pub struct Names {
    pub bridge: String,
    pub uplink: String,
    /// Host-side veths of the first and the second pod.
    pub veths: [String; 2],
    /// The interface inside each pod.
    pub pod_interface: String,
}

/// The addresses of one family.
#[derive(Clone, Debug)]
pub struct Addresses {
    pub pods_prefix: u8,
    /// The network that holds the pods, as a CIDR.
    pub pods: String,
    /// Of the bridge; unused on point-to-point.
    pub gateway: IpAddr,
    /// First pod (traced) and second pod (local server).
    pub pod: [IpAddr; 2],
    pub link_prefix: u8,
    /// The node on its uplink.
    pub node: IpAddr,
    /// The next hop on the uplink.
    pub upstream: IpAddr,
    /// On the uplink's network, but nobody has it.
    pub nobody: IpAddr,
    /// The link between the optional router and the external host.
    pub far: [IpAddr; 2],
    pub far_prefix: u8,
    /// The external host's own addresses: the healthy one, then one to break.
    pub external: [IpAddr; 2],
    /// Service address whose backend is the external host.
    pub vip_external: IpAddr,
    /// Service address whose backend is the second pod.
    pub vip_local: IpAddr,
    /// A source the node would route to its uplink, not to a pod.
    pub stranger: IpAddr,
}

impl Plan {
    /// The usual names and documentation addresses on the bridge; quite others point-to-point.
    pub fn of(topology: Topology) -> Self {
        match topology {
            Topology::Bridge => Self {
                topology,
                router: false,
                names: Names::new("cni0", "eth0", ["veth6a1f22", "veth9c03be"], "eth0"),
                v4: Addresses::v4([10, 244, 1], [192, 0, 2], [10, 96, 0], [198, 51, 100]),
                v6: Addresses::v6(0xfd00, 0x0244, 0x2001_0db8),
            },
            Topology::PointToPoint => Self {
                topology,
                router: false,
                names: Names::new("br-unused", "ens5", ["calif0a1", "azv77be2"], "net0"),
                v4: Addresses::v4([172, 20, 33], [100, 64, 7], [10, 200, 9], [203, 0, 113]),
                v6: Addresses::v6(0xfd5a, 0x0033, 0x2a05_d018),
            },
        }
    }

    #[must_use]
    pub fn with_router(mut self) -> Self {
        self.router = true;
        self
    }

    pub const fn addresses(&self, family: Family) -> &Addresses {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }
}

impl Names {
    fn new(bridge: &str, uplink: &str, veths: [&str; 2], pod_interface: &str) -> Self {
        Self {
            bridge: bridge.to_owned(),
            uplink: uplink.to_owned(),
            veths: veths.map(str::to_owned),
            pod_interface: pod_interface.to_owned(),
        }
    }
}

impl Addresses {
    /// From four /24 networks: pods, uplink, services, the outside.
    fn v4(pods: [u8; 3], link: [u8; 3], services: [u8; 3], outside: [u8; 3]) -> Self {
        let host = |[a, b, c]: [u8; 3], d| IpAddr::V4(Ipv4Addr::new(a, b, c, d));
        Self {
            pods_prefix: 24,
            pods: format!("{}/24", host(pods, 0)),
            gateway: host(pods, 1),
            pod: [host(pods, 4), host(pods, 9)],
            link_prefix: 24,
            node: host(link, 11),
            upstream: host(link, 1),
            nobody: host(link, 77),
            far: [host(outside, 253), host(outside, 254)],
            far_prefix: 30,
            external: [host(outside, 10), host(outside, 20)],
            vip_external: host(services, 10),
            vip_local: host(services, 20),
            stranger: host([pods[0], pods[1], pods[2] ^ 0x80], 99),
        }
    }

    /// From the first word of the cluster's range, a word of this node, and the first two of the outside.
    fn v6(cluster: u16, node: u16, outside: u32) -> Self {
        let inside = |net, host| IpAddr::V6(Ipv6Addr::new(cluster, net, node, 0, 0, 0, 0, host));
        let (high, low) = ((outside >> 16) as u16, outside as u16);
        let beyond = |net, host| IpAddr::V6(Ipv6Addr::new(high, low, net, 0, 0, 0, 0, host));
        Self {
            pods_prefix: 64,
            pods: format!("{}/64", inside(0x0a, 0)),
            gateway: inside(0x0a, 1),
            pod: [inside(0x0a, 4), inside(0x0a, 9)],
            link_prefix: 64,
            node: beyond(2, 0x11),
            upstream: beyond(2, 1),
            nobody: beyond(2, 0x77),
            far: [beyond(4, 1), beyond(4, 2)],
            far_prefix: 64,
            external: [beyond(3, 0x10), beyond(3, 0x20)],
            vip_external: inside(0x96, 0x10),
            vip_local: inside(0x96, 0x20),
            stranger: inside(0xee, 0x99),
        }
    }
}

#[cfg(test)]
impl Addresses {
    fn all(&self) -> std::collections::BTreeSet<IpAddr> {
        let single = [
            self.gateway,
            self.node,
            self.upstream,
            self.nobody,
            self.stranger,
        ];
        let services = [self.vip_external, self.vip_local];
        [&self.pod[..], &self.far, &self.external, &single, &services]
            .concat()
            .into_iter()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_two_plans_share_no_name_and_no_address() {
        let [bridge, ptp] = Topology::ALL.map(Plan::of);
        assert_ne!(bridge.names.uplink, ptp.names.uplink);
        assert_ne!(bridge.names.pod_interface, ptp.names.pod_interface);
        for family in Family::ALL {
            let (a, b) = (bridge.addresses(family).all(), ptp.addresses(family).all());
            assert!(
                a.is_disjoint(&b),
                "shared: {:?}",
                a.intersection(&b).collect::<BTreeSet<_>>()
            );
        }
    }

    #[test]
    fn no_address_is_used_twice_in_a_plan() {
        for plan in Topology::ALL.map(Plan::of) {
            for family in Family::ALL {
                assert_eq!(
                    plan.addresses(family).all().len(),
                    13,
                    "{family} of {plan:?}"
                );
            }
        }
    }
}
