//! Which interface leads off the node and which to a pod. Pure: judges what `view` has read.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::view::{Kind, LinkView, Peers, View, is_link_local, netns_at};
use crate::event::Netns;
use crate::inventory::Role;

/// The node and everything that hangs on its pairs.
pub(super) struct Surroundings<'a> {
    pub(super) node: &'a View,
    pub(super) peers: &'a Peers,
    pub(super) peer_views: &'a BTreeMap<Netns, View>,
    /// The pods asked for: whatever leads to them is no way out.
    pub(super) pods: BTreeSet<Netns>,
    /// The uplinks where they are known already.
    pub(super) given: Option<Vec<u32>>,
    /// The user typed them.
    pub(super) typed: bool,
}

impl Surroundings<'_> {
    /// Interfaces that lead off the node, by the best sign there is: named by the user, device of a default route,
    /// of a route with a gateway, hardware, and last a pair with a subnet of its own.
    pub(super) fn uplinks(&self) -> Vec<u32> {
        if let Some(given) = &self.given {
            return given.clone();
        }
        let defaults = self
            .node
            .default_devices()
            .filter(|index| self.may_lead_out(*index));
        let mut found: BTreeSet<u32> = defaults.collect();
        // What a tunnel carries leaves the node through another device.
        if found
            .iter()
            .all(|index| self.kind(*index) == Some(Kind::Tunnel))
        {
            let more = [
                self.gateway_devices(),
                self.hardware(),
                self.pairs_with_subnets(),
            ];
            found.extend(
                more.into_iter()
                    .find(|devices| !devices.is_empty())
                    .unwrap_or_default(),
            );
        }
        let slaves: Vec<u32> = found
            .iter()
            .flat_map(|index| self.slaves_leading_out(*index))
            .collect();
        found.extend(slaves);
        found.into_iter().collect()
    }

    fn link(&self, index: u32) -> Option<&LinkView> {
        self.node.links.get(&index)
    }

    fn kind(&self, index: u32) -> Option<Kind> {
        self.link(index).map(|link| link.kind)
    }

    fn may_lead_out(&self, index: u32) -> bool {
        self.link(index)
            .is_some_and(|link| link.kind != Kind::Loopback && !self.leads_to_a_traced_pod(link))
    }

    fn leads_to_a_traced_pod(&self, link: &LinkView) -> bool {
        netns_at(self.peers, link).is_some_and(|netns| self.pods.contains(&netns))
    }

    /// The namespace behind this pair sends what it has for the world to us.
    fn leads_to_a_dependant(&self, link: &LinkView) -> bool {
        let (Some((_, peer_index)), Some(netns)) = (link.leads_to(), netns_at(self.peers, link))
        else {
            return false;
        };
        self.peer_views
            .get(&netns)
            .is_some_and(|view| view.default_devices().any(|device| device == peer_index))
    }

    fn gateway_devices(&self) -> Vec<u32> {
        let leads_out = |index: &u32| {
            self.may_lead_out(*index)
                && self.link(*index).is_some_and(|link| {
                    link.kind != Kind::Tunnel && !self.leads_to_a_dependant(link)
                })
        };
        self.node
            .gateways()
            .map(|(device, _)| device)
            .filter(leads_out)
            .collect()
    }

    fn hardware(&self) -> Vec<u32> {
        self.indices(|link| {
            matches!(link.kind, Kind::Device | Kind::Stacked | Kind::Slice)
                && link.master.is_none()
                && link.up
        })
    }

    fn pairs_with_subnets(&self) -> Vec<u32> {
        // Where a traced pod's own veth has a subnet too, only the peers' routes tell pods from the way out.
        let pods_have_subnets = self
            .node
            .links
            .values()
            .any(|link| self.leads_to_a_traced_pod(link) && has_subnet(link));
        self.indices(|link| {
            link.kind == Kind::Pair
                && link.master.is_none()
                && has_subnet(link)
                && !self.leads_to_a_traced_pod(link)
                && !(pods_have_subnets && self.leads_to_a_dependant(link))
        })
    }

    fn indices(&self, wanted: impl Fn(&LinkView) -> bool) -> Vec<u32> {
        self.node
            .links
            .iter()
            .filter(|(_, link)| wanted(link))
            .map(|(index, _)| *index)
            .collect()
    }

    /// The slaves of a bridge uplink through which packets leave: hardware, or the pair behind which a gateway sits.
    fn slaves_leading_out(&self, bridge: u32) -> Vec<u32> {
        if self.kind(bridge) != Some(Kind::Bridge) {
            return Vec::new();
        }
        self.node
            .slaves_of(bridge)
            .filter(|(_, link)| match link.kind {
                Kind::Device | Kind::Stacked => true,
                Kind::Pair => !self.leads_to_a_traced_pod(link) && self.leads_to_a_gateway(link),
                _ => false,
            })
            .map(|(index, _)| index)
            .collect()
    }

    fn leads_to_a_gateway(&self, link: &LinkView) -> bool {
        netns_at(self.peers, link).is_some_and(|netns| self.holds_a_gateway(netns))
    }

    /// The namespace owns the address of one of the node's gateways: it is a router next to the node, not a pod on it.
    fn holds_a_gateway(&self, netns: Netns) -> bool {
        let names_somebody =
            |address: &IpAddr| !matches!(address, IpAddr::V6(v6) if is_link_local(*v6));
        self.peer_views.get(&netns).is_some_and(|view| {
            let defaults = self
                .node
                .routes
                .iter()
                .filter(|route| route.default)
                .flat_map(|route| &route.hops);
            defaults
                .filter_map(|(_, gateway)| *gateway)
                .filter(names_somebody)
                .any(|gateway| view.owns(gateway))
        })
    }

    /// Namespaces next to the node: behind an uplink, or holding a gateway. Never pods.
    pub(super) fn outside(&self, uplinks: &[u32]) -> BTreeSet<Netns> {
        let behind_uplinks = uplinks
            .iter()
            .filter_map(|index| netns_at(self.peers, self.link(*index)?));
        let gateways = self
            .peer_views
            .keys()
            .copied()
            .filter(|netns| self.holds_a_gateway(*netns));
        behind_uplinks
            .chain(gateways)
            .filter(|netns| !self.pods.contains(netns))
            .collect()
    }

    pub(super) fn role(&self, index: u32, uplinks: &[u32], outside: &BTreeSet<Netns>) -> Role {
        let Some(link) = self.link(index) else {
            return Role::Other;
        };
        let is_uplink = uplinks.contains(&index);
        match link.kind {
            Kind::Loopback => Role::Loopback,
            Kind::Tunnel if !(self.typed && is_uplink) => Role::Tunnel,
            // Packets pass the bridge and then the slave; only one of them is the edge of the node.
            Kind::Bridge if !is_uplink || self.has_uplink_slave(index, uplinks) => Role::Bridge,
            _ if is_uplink => Role::Uplink,
            Kind::Pair => match netns_at(self.peers, link) {
                Some(netns) if outside.contains(&netns) => Role::Other,
                // A namespace without name or process is a pod all the same.
                _ if link.leads_to().is_some() => Role::PodVeth,
                _ => Role::Other,
            },
            _ => Role::Other,
        }
    }

    fn has_uplink_slave(&self, bridge: u32, uplinks: &[u32]) -> bool {
        self.node
            .slaves_of(bridge)
            .any(|(index, _)| uplinks.contains(&index))
    }

    /// The namespace in `node` is itself what others hang on: one behind its pairs sends its traffic for the world here,
    /// and it does not send its own there.
    pub(super) fn is_a_node(&self) -> bool {
        let defaults: BTreeSet<u32> = self.node.default_devices().collect();
        self.node
            .links
            .iter()
            .any(|(index, link)| !defaults.contains(index) && self.leads_to_a_dependant(link))
    }
}

fn has_subnet(link: &LinkView) -> bool {
    link.addresses
        .iter()
        .any(|(address, prefix)| match address {
            IpAddr::V4(_) => *prefix < 32,
            IpAddr::V6(v6) => *prefix < 128 && !is_link_local(*v6),
        })
}

#[cfg(test)]
#[path = "roles_tests.rs"]
mod tests;
