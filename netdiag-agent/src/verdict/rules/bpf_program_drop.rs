//! `BPF_PROGRAM_DROP`: somebody's BPF program dropped the packet.

use std::net::SocketAddr;

use super::{Page, Rule, death};
use crate::flow::drops::DropKind;
use crate::flow::record::{Direction, DropGroup};
use crate::verdict::case::{Case, Death};
use crate::verdict::finding::Finding;
use crate::verdict::types::{Cause, Component, Confidence, NatKind};

#[derive(Debug)]
pub struct BpfProgramDrop;

impl Rule for BpfProgramDrop {
    fn cause(&self) -> Cause {
        Cause("BPF_PROGRAM_DROP")
    }

    fn page(&self) -> Page {
        Page {
            what_happened: "A BPF program or filter at TC, XDP or a cgroup (a CNI's datapath, a security agent, a DDoS filter) dropped the packet.",
            how_we_know: "The kernel freed it with reason TC_INGRESS, TC_EGRESS, XDP or BPF_CGROUP_EGRESS, or in the function that runs XDP on this device. The programs attached to that interface are named.",
            what_else: "TC actions without BPF (`action drop`) have the same reason. XDP in a NIC driver drops before there is a packet to see.",
            what_to_do: "Ask the owner of the named program for its policy; `bpftool net` and `tc filter show` list what is attached.",
        }
    }

    fn judge(&self, case: &Case<'_>) -> Option<Finding> {
        let (found, confidence) = match case.death_of(|kind| kind == DropKind::Bpf) {
            Some(found) => (found, Confidence::Proven),
            None => (suspected(case)?, Confidence::Inferred),
        };
        let group = found.group;
        if group.drop.reason.as_deref() == Some("SOCKET_FILTER") {
            return Some(self.at_socket(case, found));
        }
        let interface = group.ifname.as_deref().unwrap_or("DEVICE");
        let programs = match (group.spot.netns, group.spot.ifindex) {
            (Some(netns), Some(ifindex)) => case.inventory.programs(netns, ifindex),
            _ => &[],
        };
        let wanted = match group.drop.reason.as_deref() {
            Some("TC_EGRESS") => "egress",
            Some("TC_INGRESS") => "ingress",
            _ => at_tc(group).unwrap_or("xdp"),
        };
        let suspects: Vec<_> = programs
            .iter()
            .filter(|program| program.attach.contains(wanted))
            .collect();
        let mut component = Component {
            kind: "bpf_program".to_owned(),
            ..Component::default()
        };
        let mut finding = Finding {
            confidence,
            ..death(self.cause(), found)
        };
        match suspects.as_slice() {
            [program] => {
                component.name = Some(program.name.clone());
                component.id = Some(program.id);
            }
            [] => {
                finding = finding.caveat(format!(
                    "no program could be named at {interface}: a TC action, or one detached since"
                ));
            }
            several => {
                finding.confidence = confidence;
                for program in several {
                    finding = finding.suspect(
                        &program.name,
                        format!("{} program {} at {interface}", program.attach, program.id),
                    );
                }
            }
        }
        let what = component.name.as_deref().map_or_else(
            || "a program or TC action".to_owned(),
            |name| format!("program {name}"),
        );
        let summary = format!("{what} at {interface} drops {}", case.flow.tuple);
        let commands = [
            format!("bpftool net show dev {interface}"),
            format!(
                "tc filter show dev {interface} {}",
                if wanted == "egress" {
                    "egress"
                } else {
                    "ingress"
                }
            ),
        ];
        Some(finding.component(component).remedy(summary, commands))
    }
}

impl BpfProgramDrop {
    /// The receiver itself put it there (SO_ATTACH_FILTER, SO_ATTACH_BPF).
    fn at_socket(&self, case: &Case<'_>, found: Death<'_>) -> Finding {
        let dnat = case.flow.nat.iter().find(|nat| nat.kind == NatKind::Dnat);
        let port = dnat.map_or(case.flow.tuple.dst, |nat| nat.after).port();
        let to = super::towards(case, found);
        let socket = match found.group.direction {
            Direction::Original => SocketAddr::new(to, port),
            Direction::Reply => SocketAddr::new(to, case.flow.tuple.src.port()),
        };
        let component = Component {
            kind: "bpf_program".to_owned(),
            name: Some(format!("filter of socket {socket}")),
            ..Component::default()
        };
        let summary = format!("the filter that a program put on its own socket {socket} drops it");
        let kind = if case.flow.is_tcp() { "t" } else { "u" };
        let look = format!("ss -{kind}anpb sport = :{}", socket.port());
        death(self.cause(), found)
            .component(component)
            .remedy(summary, [look])
    }
}

/// The direction of TC, where the kernel gives no reason and TC's part is inlined into these.
fn at_tc(group: &DropGroup) -> Option<&'static str> {
    let location = group.drop.location.as_deref()?;
    if group.drop.reason.is_some() {
        None
    } else if location.starts_with("__netif_receive_skb") {
        Some("ingress")
    } else if location.starts_with("__dev_queue_xmit") {
        Some("egress")
    } else {
        None
    }
}

/// Freed where TC runs, for no reason given, at an interface that has a program there.
fn suspected<'a>(case: &Case<'a>) -> Option<Death<'a>> {
    let found = case.death_of(|kind| kind == DropKind::Other)?;
    let wanted = at_tc(found.group)?;
    let (netns, ifindex) = (found.group.spot.netns?, found.group.spot.ifindex?);
    let mut programs = case.inventory.programs(netns, ifindex).iter();
    programs
        .any(|program| program.attach.contains(wanted))
        .then_some(found)
}
