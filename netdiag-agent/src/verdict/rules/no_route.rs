//! `NO_ROUTE`: no route to the destination.

use std::net::IpAddr;

use super::{Page, Rule, death, ip, route_get, towards};
use crate::flow::drops::{DropKind, by_unreachable_route};
use crate::inventory::Role;
use crate::verdict::case::{Case, Death};
use crate::verdict::finding::Finding;
use crate::verdict::types::{Cause, Component};

#[derive(Debug)]
pub struct NoRoute;

impl Rule for NoRoute {
    fn cause(&self) -> Cause {
        Cause("NO_ROUTE")
    }

    fn page(&self) -> Page {
        Page {
            what_happened: "The routing lookup found no usable route to the destination (or an unreachable route).",
            how_we_know: "The packet was freed with reason IP_INNOROUTES, or with an error route attached (ENETUNREACH, EHOSTUNREACH); or a lookup in the sender's own namespace failed before there was a packet.",
            what_else: "Policy routing may look into another table than main: see `ip rule`.",
            what_to_do: "Ask the kernel with `ip route get`, then add the missing route (or repair the CNI plugin, routing daemon or cloud route table that should have).",
        }
    }

    fn judge(&self, case: &Case<'_>) -> Option<Finding> {
        let found = case.death_of(|kind| kind == DropKind::NoRoute)?;
        let to = towards(case, found);
        if found.group.drop.reason.as_deref() == Some("IP_INADDRERRORS") {
            return Some(not_a_router(case, found, death(self.cause(), found), to));
        }
        if let Some(device) = tunnel(case, found) {
            return Some(no_underlay(death(self.cause(), found), device));
        }
        let ip = ip(to);
        let (name, summary, look) = if by_unreachable_route(&found.group.drop) {
            (
                "unreachable",
                format!("an unreachable route covers {to}: delete it or add a more specific route"),
                [
                    format!("{ip} rule"),
                    format!("{ip} route show type unreachable table all"),
                ],
            )
        } else {
            (
                "none",
                format!(
                    "no route to {to}: add one, or delete the unreachable rule that forbids it"
                ),
                [
                    format!("{ip} rule # unreachable: refuses as if there were no route"),
                    format!("{ip} route show table all"),
                ],
            )
        };
        let component = Component {
            kind: "route".to_owned(),
            name: Some(name.to_owned()),
            ..Component::default()
        };
        let [rules, routes] = look;
        let commands = [route_get(case, found, to), rules, routes];
        Some(
            death(self.cause(), found)
                .component(component)
                .remedy(summary, commands),
        )
    }
}

/// The tunnel device that could not send what it had wrapped up.
fn tunnel<'a>(case: &Case<'a>, found: Death<'_>) -> Option<&'a str> {
    let spot = found.group.spot;
    let link = case.inventory.link(spot.netns?, spot.ifindex?)?;
    (link.role == Role::Tunnel).then_some(link.name.as_ref())
}

/// There is a route into the tunnel, and none for the tunnel's own packets.
fn no_underlay(finding: Finding, device: &str) -> Finding {
    let component = Component {
        kind: "route".to_owned(),
        name: Some(format!("none for the remote end of {device}")),
        ..Component::default()
    };
    let commands = [
        format!("bridge fdb show dev {device} # dst: the remote end"),
        format!("ip -d link show {device}"),
        "ip route show table all # what covers the remote end: nothing, or a blackhole?".to_owned(),
    ];
    let summary =
        format!("the node cannot reach the remote end of tunnel {device}: route its packets");
    finding.component(component).remedy(summary, commands)
}

/// The packet was sent to a machine that forwards nothing: by mistake, or the node is no router any more.
fn not_a_router(case: &Case<'_>, found: Death<'_>, finding: Finding, to: IpAddr) -> Finding {
    let component = Component {
        kind: "route".to_owned(),
        name: Some("no forwarding".to_owned()),
        ..Component::default()
    };
    let finding = finding.component(component);
    if found.group.spot.netns == case.inventory.node_netns() {
        let interface = found.group.ifname.as_deref().unwrap_or("DEVICE");
        let summary =
            format!("this node does not forward what comes in by {interface}: pods need it to");
        let commands = if to.is_ipv6() {
            vec!["sysctl -w net.ipv6.conf.all.forwarding=1".to_owned()]
        } else {
            vec![
                "sysctl -w net.ipv4.ip_forward=1".to_owned(),
                format!("sysctl -w net.ipv4.conf.{interface}.forwarding=1"),
            ]
        };
        return finding.remedy(summary, commands);
    }
    let summary = format!(
        "a namespace that does not forward was sent a packet for {to}: the sender's gateway is wrong"
    );
    let ip = ip(to);
    let commands = [
        format!("{ip} route get {to} # where the packet came from: which gateway?"),
        "sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding".to_owned(),
    ];
    finding.remedy(summary, commands)
}
