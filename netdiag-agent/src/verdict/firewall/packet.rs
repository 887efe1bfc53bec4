//! The dropped packet as the rules of its hook saw it: what the event tells, and what the inventory knows besides.

use std::net::IpAddr;

use crate::event::{IfIndex, Netns, Packet};
use crate::flow::place::Stage;
use crate::flow::record::DropGroup;
use crate::inventory::Role;
use crate::ruleset::{AddressType, Hook, Interface, PacketFacts};
use crate::verdict::case::Case;

/// The packet as it stood at the hook.
pub(super) fn facts(case: &Case<'_>, group: &DropGroup, hook: Hook) -> Option<PacketFacts> {
    let packet = group.packet.as_ref()?;
    // The rules saw the tunnel's packet, not the one it carries.
    let outer = packet.outer.map(|tuple| Packet {
        tuple,
        tcp: None,
        icmp: None,
        ..packet.clone()
    });
    let packet = outer.as_ref().unwrap_or(packet);
    let netns = group.spot.netns?;
    let mut facts = PacketFacts::of_event(hook, packet, group.conntrack.as_ref());
    facts.src_type = address_type(case, netns, packet.tuple.src.ip());
    facts.dst_type = address_type(case, netns, packet.tuple.dst.ip());
    interfaces(case, group, netns, hook, &mut facts);
    Some(facts)
}

/// Seen from the namespace the rules are in.
pub(in crate::verdict) fn address_type(
    case: &Case<'_>,
    netns: Netns,
    address: IpAddr,
) -> Option<AddressType> {
    if address.is_multicast() {
        return Some(AddressType::Multicast);
    }
    let own = case
        .inventory
        .links()
        .any(|link| link.netns == netns && link.addresses.contains(&address));
    // A subnet's broadcast address looks like any other without its prefix length.
    if matches!(address, IpAddr::V4(v4) if v4.octets()[3] == 255) {
        return None;
    }
    Some(if own || address.is_loopback() {
        AddressType::Local
    } else {
        AddressType::Unicast
    })
}

/// Interfaces as the hook's rules see them.
fn interfaces(
    case: &Case<'_>,
    group: &DropGroup,
    netns: Netns,
    hook: Hook,
    facts: &mut PacketFacts,
) {
    let name = |index: IfIndex| {
        case.inventory
            .link(netns, index)
            .map(|link| Interface::Named(link.name.to_string()))
    };
    let here = group.ifname.as_ref().map_or(Interface::Unknown, |name| {
        Interface::Named(name.to_string())
    });
    let came_by = group.iif.and_then(name).unwrap_or(Interface::Unknown);
    let leaves_by = group
        .drop
        .route
        .as_ref()
        .and_then(|route| route.oif)
        .and_then(name)
        .unwrap_or(Interface::Unknown);
    if by_bridge_family(&group.drop.stack) {
        facts.bridged = true;
        match hook {
            // On its way up the frame already belongs to the bridge; the rules still see the port.
            Hook::Input => facts.bridge_in = entry_port(case, group, netns),
            Hook::Prerouting => facts.bridge_in = here.clone(),
            Hook::Postrouting | Hook::Output => facts.bridge_out = here.clone(),
            _ => {}
        }
    }
    match hook {
        Hook::Forward if by_bridge(&group.drop.stack) => {
            let bridge = the_bridge(case, netns);
            facts.bridged = true;
            facts.iif.clone_from(&bridge);
            facts.oif = bridge;
        }
        Hook::Ingress | Hook::Prerouting | Hook::Input => {
            facts.iif = here;
            facts.oif = Interface::None;
        }
        Hook::Forward => {
            facts.iif = here;
            facts.oif = leaves_by;
        }
        Hook::Output => {
            facts.iif = Interface::None;
            facts.oif = if leaves_by == Interface::Unknown {
                here
            } else {
                leaves_by
            };
        }
        Hook::Postrouting | Hook::Egress => {
            facts.iif = if group.iif.is_none() {
                Interface::None
            } else {
                came_by
            };
            facts.oif = here;
        }
    }
}

/// Whether br_netfilter handed it to FORWARD: such a packet has no route, and the bridge stands for its ports. One that
/// came in through a bridge and is routed has the bridge's functions on its stack too, but further out.
fn by_bridge<S: AsRef<str>>(stack: &[S]) -> bool {
    let decides = stack.iter().map(AsRef::as_ref).find_map(|symbol| {
        let bridge = symbol.starts_with("br_nf_") || symbol.starts_with("br_forward");
        let route = symbol.starts_with("ip_forward") || symbol.starts_with("ip6_forward");
        (bridge || route).then_some(bridge)
    });
    decides.unwrap_or(false)
}

/// Whether a hook of the bridge itself refused it, rather than one of IP on its way through a bridge: the innermost
/// function that is of the one or the other decides. The chain is on the stack of newer kernels only; older ones free the
/// packet when it has returned.
pub(super) fn by_bridge_family<S: AsRef<str>>(stack: &[S]) -> bool {
    let decides = stack.iter().map(AsRef::as_ref).find_map(|symbol| {
        if let Some(family) = symbol.strip_prefix("nft_do_chain_") {
            return Some(family.starts_with("bridge"));
        }
        let is = |prefixes: &[&str]| prefixes.iter().any(|prefix| symbol.starts_with(prefix));
        if is(&["br_nf_", "ip_", "ip6_", "ipv6_", "ipt_", "ip6t_"]) {
            return Some(false);
        }
        is(&["br_", "__br_"]).then_some(true)
    });
    decides.unwrap_or(false)
}

/// The port by which the frame came to the bridge.
fn entry_port(case: &Case<'_>, group: &DropGroup, netns: Netns) -> Interface {
    let mut seen = case.flow.of(group.direction);
    let entry = seen.find(|sighting| {
        sighting.spot.netns == Some(netns) && sighting.spot.stage == Stage::Receive
    });
    entry
        .and_then(|sighting| sighting.ifname.as_ref())
        .map_or(Interface::Unknown, |name| {
            Interface::Named(name.to_string())
        })
}

/// The node's bridge, when it has just one.
fn the_bridge(case: &Case<'_>, netns: Netns) -> Interface {
    let mut bridges = case
        .inventory
        .links()
        .filter(|link| link.netns == netns && link.role == Role::Bridge);
    match (bridges.next(), bridges.next()) {
        (Some(only), None) => Interface::Named(only.name.to_string()),
        _ => Interface::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::{by_bridge, by_bridge_family};

    #[test]
    fn the_bridges_own_hooks_are_told_from_those_of_ip() {
        let frame_up = ["nf_hook_slow", "br_pass_frame_up", "br_handle_frame_finish"];
        assert!(by_bridge_family(&frame_up));
        let by_chain = ["nft_do_chain", "nft_do_chain_bridge", "nf_hook_slow"];
        assert!(by_bridge_family(&by_chain));
        let lent_to_ip = [
            "nf_hook_slow",
            "br_nf_forward_ip",
            "nf_hook_slow",
            "__br_forward",
        ];
        assert!(!by_bridge_family(&lent_to_ip));
        let through_a_bridge = [
            "nf_hook_slow",
            "ip_local_deliver",
            "ip_rcv",
            "br_pass_frame_up",
        ];
        assert!(!by_bridge_family(&through_a_bridge));
        let inet = [
            "nft_do_chain",
            "nft_do_chain_inet",
            "nf_hook_slow",
            "br_pass_frame_up",
        ];
        assert!(!by_bridge_family(&inet));
        assert!(!by_bridge_family::<&str>(&[]));
    }

    #[test]
    fn the_innermost_function_that_forwards_decides() {
        let came_by_a_bridge = [
            "nft_do_chain_ipv4",
            "nf_hook_slow",
            "ip_forward",
            "ip_sabotage_in",
            "nf_hook_slow",
            "ip_rcv",
            "br_handle_frame_finish",
            "br_nf_pre_routing_finish",
        ];
        assert!(!by_bridge(&came_by_a_bridge));
        let stays_on_it = [
            "nft_do_chain_ipv4",
            "nf_hook_slow",
            "br_nf_forward_ip",
            "nf_hook_slow",
            "__br_forward",
            "br_nf_pre_routing_finish",
        ];
        assert!(by_bridge(&stays_on_it));
        assert!(!by_bridge(&["nf_hook_slow", "ip6_forward"]));
        assert!(!by_bridge::<&str>(&[]));
    }
}
