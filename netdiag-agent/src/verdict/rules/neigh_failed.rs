//! `NEIGH_FAILED`: the next hop does not answer ARP or neighbour solicitations, or what is known of it is wrong.

use super::{Page, Rule, death, inside, ip};
use crate::event::NudState;
use crate::flow::drops::DropKind;
use crate::flow::place::Leg;
use crate::inventory::NamespaceKind;
use crate::verdict::case::Case;
use crate::verdict::finding::Finding;
use crate::verdict::types::{Cause, Component, Confidence, Outcome};

#[derive(Debug)]
pub struct NeighFailed;

impl Rule for NeighFailed {
    fn cause(&self) -> Cause {
        Cause("NEIGH_FAILED")
    }

    fn page(&self) -> Page {
        Page {
            what_happened: "The next hop (gateway, or the destination itself when it is on-link) answers no ARP request or neighbour solicitation, so the packet was never put on the wire; or it was put there with a hardware address that is not the next hop's.",
            how_we_know: "The neighbour entry went to FAILED and the waiting packets were freed with reason NEIGH_FAILED, about three seconds after the first. A wrong address: the receiver freed the frame with reason OTHERHOST, on a pod's own link or in the namespace that has the packet's destination.",
            what_else: "The next hop is down, in another VLAN, or the route points to an address that does not exist; a pod that is gone but still routed looks the same. Wrong addresses come of permanent entries and of two machines with one address.",
            what_to_do: "Check `ip neigh` for the next hop, the route that leads to it, and whether the machine with that address is alive on this segment.",
        }
    }

    fn judge(&self, case: &Case<'_>) -> Option<Finding> {
        self.misaddressed(case).or_else(|| self.unanswered(case))
    }
}

impl NeighFailed {
    /// The frame went to a hardware address that is not the next hop's.
    fn misaddressed(&self, case: &Case<'_>) -> Option<Finding> {
        let found = case.death_of(|kind| kind == DropKind::OtherHost)?;
        let spot = &found.group.spot;
        let here = spot.netns.and_then(|netns| case.inventory.namespace(netns));
        let link = spot
            .netns
            .zip(spot.ifindex)
            .and_then(|(netns, ifindex)| case.inventory.link(netns, ifindex));
        let interface = link.map_or("the interface", |link| &*link.name);
        let show = inside(here, &format!("ip -o link show dev {interface}"));
        let packet = found.group.packet.as_ref()?;
        // On a pod's own link the node hears nobody else; to a pod the node speaks, or a neighbour on the same bridge.
        let (entry, look) = if spot.leg == Leg::Node {
            let pod = case.owner_of(packet.tuple.src.ip());
            (
                "the pod's neighbour entry of its gateway",
                inside(pod, "ip neigh show"),
            )
        } else {
            let to = packet.tuple.dst.ip();
            (
                "the sender's neighbour entry of it",
                format!("{} neigh show {to}", ip(to)),
            )
        };
        let component = Component {
            kind: "interface".to_owned(),
            name: Some(interface.to_owned()),
            ..Component::default()
        };
        let summary = format!(
            "the frames that reach {interface} carry another hardware address than its own: {entry} is wrong; delete it"
        );
        let finding = death(self.cause(), found).component(component);
        Some(finding.remedy_placed(summary, [look, show]))
    }

    /// Nobody says what its hardware address is.
    fn unanswered(&self, case: &Case<'_>) -> Option<Finding> {
        let neighbour = case.unresolved_neighbour();
        let mut finding = if let Some(found) = case.death_of(|kind| kind == DropKind::Neighbour) {
            death(self.cause(), found)
        } else if case.deadline_passed() && case.resolving_neighbour() && case.death().is_none() {
            let proven = neighbour.is_some_and(|(_, state)| state == NudState::FAILED);
            let confidence = if proven {
                Confidence::Proven
            } else {
                Confidence::Inferred
            };
            Finding::new(Outcome::DroppedHere, self.cause(), confidence)
        } else {
            return None;
        };
        let next_hop = neighbour.map_or_else(|| case.responder_address(), |(address, _)| address);
        if let Some((address, state)) = neighbour {
            let word = if state == NudState::FAILED {
                "FAILED"
            } else {
                "INCOMPLETE"
            };
            finding = finding.evidence(
                "tp_btf:neigh_update",
                None,
                format!("neighbour {address} is {word}"),
            );
        }
        let ip = ip(next_hop);
        let look = [
            format!("{ip} neigh show {next_hop}"),
            format!("{ip} route get {next_hop}"),
        ];
        let death = case.death().map(|death| death.group.spot.netns);
        let here = death
            .flatten()
            .and_then(|netns| case.inventory.namespace(netns));
        let mut commands: Vec<_> = look.iter().map(|command| inside(here, command)).collect();
        let component = Component {
            kind: "neighbour".to_owned(),
            name: Some(next_hop.to_string()),
            ..Component::default()
        };
        let mut summary = format!(
            "{next_hop} does not answer address resolution: is it alive and on this segment?"
        );
        // Calico's and others' gateway is nobody's address: the node answers for it (net/ipv4/arp.c: arp_fwd_proxy).
        let in_pod = here.filter(|namespace| namespace.kind == NamespaceKind::Pod);
        if in_pod.is_some() && case.owner_of(next_hop).is_none() && next_hop.is_ipv4() {
            summary.push_str(
                "; a node that answers in its place does so only while it forwards and has a route to it",
            );
            commands
                .push("sysctl -a --pattern '^net.ipv4.(ip_forward|conf.*.proxy_arp)$'".to_owned());
            commands.push(format!("ip route get {next_hop} # on the node"));
        }
        Some(
            finding
                .component(component)
                .remedy_placed(summary, commands),
        )
    }
}
