//! From the core's verdict to the mirror types of [`super::record`].

use jiff::Timestamp;

use super::record::{
    Component, Conntrack, Endpoint, Evidence, FlowKey, FlowVerdict, Hop, HubbleVerdict, Icmp, Id,
    Ip, IpVersion, L4, Nat, Ports, Remediation, SCHEMA, Service, Suspect, Tcp, TcpFlags, Time,
    Workload,
};
use crate::event::{IcmpKind, Ktime, Proto, Tuple};
use crate::inventory::Inventory;
use crate::verdict::{self, Action, Outcome, RuleRef, Verdict};

/// What a verdict does not carry itself: the node's name and its wall clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    pub node_name: Option<String>,
    /// Nanoseconds to add to a [`Ktime`] to get nanoseconds since the Unix epoch.
    pub wall_offset: i64,
}

impl From<&Inventory> for Context {
    fn from(inventory: &Inventory) -> Self {
        inventory
            .node
            .as_ref()
            .map_or_else(Self::default, |node| Self {
                node_name: some_text(&node.name),
                wall_offset: node.wall_offset,
            })
    }
}

impl Context {
    /// Wall time of a kernel time, kept within the years RFC 3339 can write.
    pub fn timestamp(&self, at: Ktime) -> Timestamp {
        /// 9999-12-30T22:00:00Z, the latest time jiff has.
        const END: i128 = 253_402_207_200_000_000_000 - 1;
        let nanoseconds = (i128::from(at.0) + i128::from(self.wall_offset)).clamp(0, END);
        Timestamp::from_nanosecond(nanoseconds).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    pub fn time(&self, at: Ktime) -> Time {
        self.timestamp(at).into()
    }
}

pub(super) fn flow_verdict(verdict: &Verdict, context: &Context) -> FlowVerdict {
    FlowVerdict {
        schema: SCHEMA.to_owned(),
        time: context.time(verdict.at),
        uuid: verdict.uuid.clone(),
        revision: verdict.revision,
        node_name: context.node_name.clone(),
        outcome: verdict.outcome.into(),
        cause: verdict.cause.map(|cause| cause.0.to_owned()),
        confidence: verdict.confidence.into(),
        verdict: hubble_verdict(verdict),
        drop_reason_desc: verdict.drop_reason.as_deref().and_then(some_text),
        traffic_direction: verdict.direction.map(Into::into),
        is_reply: verdict.is_reply,
        ip: ip(&verdict.tuple),
        l4: l4(verdict),
        source: endpoint(&verdict.source, context),
        destination: endpoint(&verdict.destination, context),
        flow_key: flow_key(&verdict.key, context),
        hops: verdict
            .hops
            .iter()
            .zip(1..)
            .map(|(hop, seq)| self::hop(hop, seq, context))
            .collect(),
        died_between: verdict
            .died_between
            .map(|(last, next)| [last.into(), next.into()]),
        nat: verdict.nat.iter().map(nat).collect(),
        conntrack: verdict.conntrack.as_ref().map(|conntrack| Conntrack {
            state: conntrack.state.to_owned(),
            seen_reply: conntrack.seen_reply,
            zone: conntrack.zone,
        }),
        evidence: verdict.evidence.iter().map(evidence).collect(),
        suspects: verdict
            .suspects
            .iter()
            .map(|suspect| Suspect {
                name: suspect.name.clone(),
                reason: suspect.reason.clone(),
            })
            .collect(),
        caveats: verdict.caveats.clone(),
        lost_events: verdict.lost_events,
        remediation: verdict.remediation.as_ref().map(|remediation| Remediation {
            summary: remediation.summary.clone(),
            commands: remediation.commands.clone(),
        }),
    }
}

/// A failing flow is never FORWARDED, although the node may have forwarded it: dashboards count that word as healthy.
fn hubble_verdict(verdict: &Verdict) -> HubbleVerdict {
    let dropped_here = || verdict.hops.iter().any(|hop| hop.action == Action::Dropped);
    match verdict.outcome {
        Outcome::Delivered => HubbleVerdict::Forwarded,
        Outcome::DroppedHere => HubbleVerdict::Dropped,
        Outcome::ReplyLost if dropped_here() => HubbleVerdict::Dropped,
        Outcome::Refused
        | Outcome::LeftNodeNoAnswer
        | Outcome::NeverArrived
        | Outcome::ReplyLost => HubbleVerdict::Error,
        Outcome::Undetermined => HubbleVerdict::VerdictUnknown,
    }
}

fn ip(tuple: &Tuple) -> Ip {
    let ip_version = if tuple.is_ipv6() {
        IpVersion::V6
    } else {
        IpVersion::V4
    };
    Ip {
        source: tuple.src.ip(),
        destination: tuple.dst.ip(),
        ip_version,
    }
}

fn l4(verdict: &Verdict) -> Option<L4> {
    let tuple = &verdict.tuple;
    let known = |port: u16| (port != 0).then_some(port);
    let (source_port, destination_port) = (known(tuple.src.port()), known(tuple.dst.port()));
    let ports = Ports {
        source_port,
        destination_port,
    };
    let icmp = |IcmpKind { kind, code }| Icmp { kind, code };
    match tuple.proto {
        Proto::TCP => {
            let flags = verdict
                .tcp_flags
                .filter(|flags| flags.0 != 0)
                .map(|flags| tcp_flags(flags.0));
            Some(L4::Tcp(Tcp {
                source_port,
                destination_port,
                flags,
            }))
        }
        Proto::UDP => Some(L4::Udp(ports)),
        Proto(132) => Some(L4::Sctp(ports)),
        Proto::ICMP => verdict.icmp.map(icmp).map(L4::Icmpv4),
        Proto::ICMPV6 => verdict.icmp.map(icmp).map(L4::Icmpv6),
        _ => None,
    }
}

const fn tcp_flags(bits: u8) -> TcpFlags {
    TcpFlags {
        fin: bits & 0x01 != 0,
        syn: bits & 0x02 != 0,
        rst: bits & 0x04 != 0,
        psh: bits & 0x08 != 0,
        ack: bits & 0x10 != 0,
        urg: bits & 0x20 != 0,
        ece: bits & 0x40 != 0,
        cwr: bits & 0x80 != 0,
    }
}

fn endpoint(endpoint: &verdict::Endpoint, context: &Context) -> Endpoint {
    let pod = endpoint.pod.as_deref();
    let labels = pod.into_iter().flat_map(|pod| &pod.labels);
    let workload = pod.and_then(|pod| pod.workload.as_ref()).into_iter();
    Endpoint {
        host: endpoint.host,
        node_name: endpoint
            .machine
            .as_deref()
            .and_then(some_text)
            .or_else(|| context.node_name.clone().filter(|_| endpoint.host)),
        netns: endpoint.netns.as_deref().and_then(some_text),
        external: endpoint.external,
        namespace: pod.map(|pod| pod.name.namespace.to_string()),
        pod_name: pod.map(|pod| pod.name.name.to_string()),
        labels: labels
            .map(|(key, value)| format!("{key}={value}"))
            .collect(),
        workloads: workload
            .map(|workload| Workload {
                kind: workload.kind.to_string(),
                name: workload.name.to_string(),
            })
            .collect(),
        service: endpoint.service.as_ref().map(|service| Service {
            namespace: service.name.namespace.to_string(),
            name: service.name.name.to_string(),
            port_name: service.port_name.as_deref().and_then(some_text),
        }),
        port_name: endpoint.port_name.as_deref().and_then(some_text),
    }
}

fn flow_key(key: &verdict::FlowKey, context: &Context) -> FlowKey {
    FlowKey {
        isn: key.isn.map(|isn| Id::from(u64::from(isn))),
        first_seen: context.time(key.first_seen),
        last_seen: context.time(key.last_seen),
        syn_count: (key.syn_count > 0).then_some(key.syn_count),
    }
}

fn hop(hop: &verdict::Hop, seq: u32, context: &Context) -> Hop {
    Hop {
        seq,
        name: hop.name.into(),
        interface: hop.interface.as_deref().and_then(some_text),
        ifindex: hop.ifindex.map(|index| index.0),
        netns: hop.netns.map(|netns| Id::from(u64::from(netns.0))),
        time: hop.at.map(|at| context.time(at)),
        action: hop.action.into(),
        reply: hop.reply,
        count: (hop.count > 0).then_some(hop.count),
        component: hop.component.as_ref().map(component),
    }
}

fn component(component: &verdict::Component) -> Component {
    let (rule, handle) = match component.rule {
        Some(RuleRef::Number(number)) => (Some(u64::from(number)), None),
        Some(RuleRef::Handle(handle)) => (Some(handle), Some(Id::from(handle))),
        None => (None, None),
    };
    let text = |text: &Option<String>| text.as_deref().and_then(some_text);
    Component {
        kind: component.kind.clone(),
        backend: text(&component.backend),
        family: text(&component.family),
        table: text(&component.table),
        chain: text(&component.chain),
        rule,
        handle,
        text: text(&component.text),
        verdict: text(&component.verdict),
        owner: text(&component.owner),
        policies: component.policies.clone(),
        name: text(&component.name),
        id: component.id,
        listening: component.listening.clone(),
    }
}

fn nat(nat: &verdict::Nat) -> Nat {
    Nat {
        kind: nat.kind.into(),
        hop: nat.hop.into(),
        before: nat.before,
        after: nat.after,
        source: nat.source.to_owned(),
    }
}

fn evidence(evidence: &verdict::Evidence) -> Evidence {
    Evidence {
        source: evidence.source.clone(),
        count: evidence.count,
        value: evidence.value,
        detail: evidence.detail.as_deref().and_then(some_text),
    }
}

/// Unknown is absent, never "".
fn some_text(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}
