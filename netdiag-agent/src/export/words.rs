//! A verdict in words: short enough for a table, plain enough for a tired human.

use std::net::SocketAddr;

pub use super::style::clean;
use super::{Context, Style};
use crate::event::{Proto, Tuple};
use crate::inventory::cluster::Name;
use crate::verdict::{
    Action, Component, Confidence, Endpoint, Evidence, Hop, HopName, NatKind, Outcome, Verdict,
};

/// Longer names of namespaces (CNI plugins make them from UUIDs) do not help in a table.
const SHORT_NAME: usize = 20;

/// A name of the JSON format, where the words are defined once.
macro_rules! spelling {
    ($($function:ident($core:ty): $mirror:ident)*) => { $(
        pub fn $function(word: $core) -> String {
            match serde_json::to_value(super::record::$mirror::from(word)) {
                Ok(serde_json::Value::String(word)) => word,
                _ => String::new(),
            }
        }
    )* };
}

spelling! {
    hop_name(HopName): HopName
    nat_kind(NatKind): NatKind
    outcome_name(Outcome): Outcome
}

pub const fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Delivered => "delivered",
        Outcome::Refused => "refused",
        Outcome::DroppedHere => "dropped here",
        Outcome::LeftNodeNoAnswer => "no answer",
        Outcome::NeverArrived => "never arrived",
        Outcome::ReplyLost => "reply lost",
        Outcome::Undetermined => "undetermined",
    }
}

pub const fn confidence(confidence: Confidence) -> &'static str {
    match confidence {
        Confidence::Proven => "proven",
        Confidence::Inferred => "inferred",
        Confidence::Unknown => "unknown",
    }
}

/// `HOST_FIREWALL_DROP at NF_FORWARD`; the outcome where there is no cause.
pub fn summary(verdict: &Verdict) -> String {
    let what = verdict
        .cause
        .map_or_else(|| outcome_name(verdict.outcome), |cause| cause.0.to_owned());
    match dropped_at(verdict) {
        Some(hop) => format!("{what} at {}", hop_name(hop)),
        None => what,
    }
}

/// How the flow ended, as a sentence without its full stop.
pub fn headline(verdict: &Verdict) -> String {
    let at = dropped_at(verdict).map_or_else(String::new, |hop| format!(" at {}", hop_name(hop)));
    match verdict.outcome {
        Outcome::Delivered => "delivered: the other side answered".to_owned(),
        Outcome::Refused => format!("refused{at}: the answer was no"),
        Outcome::DroppedHere => format!("dropped on this node{at}"),
        Outcome::LeftNodeNoAnswer => match last_interface(verdict) {
            Some(interface) => format!("left this node by {interface}, and nothing came back"),
            None => "left this node, and nothing came back".to_owned(),
        },
        Outcome::NeverArrived => "expected here, and never arrived".to_owned(),
        Outcome::ReplyLost if at.is_empty() => "answered, but the answer got lost".to_owned(),
        Outcome::ReplyLost => format!("answered, but this node dropped the answer{at}"),
        Outcome::Undetermined => "not enough was seen to tell".to_owned(),
    }
}

/// Where it died, for a column.
pub fn died(verdict: &Verdict, style: Style) -> String {
    let way_back = if verdict.is_reply { "reply, " } else { "" };
    let place = dropped_at(verdict).map(hop_name).or_else(|| {
        let (last, next) = verdict.died_between?;
        Some(match verdict.outcome {
            Outcome::LeftNodeNoAnswer => format!("after {}", hop_name(last)),
            _ => format!("{} {} {}", hop_name(last), style.arrow(), hop_name(next)),
        })
    });
    place.map_or_else(String::new, |place| format!("{way_back}{place}"))
}

fn dropped_at(verdict: &Verdict) -> Option<HopName> {
    if !verdict.outcome.is_failing() {
        return None;
    }
    let hop = verdict
        .hops
        .iter()
        .rev()
        .find(|hop| hop.action == Action::Dropped)?;
    Some(hop.name)
}

fn last_interface(verdict: &Verdict) -> Option<&str> {
    let is_way_out = |hop: &&Hop| !hop.reply && hop.action == Action::Seen;
    verdict.hops.iter().rfind(is_way_out)?.interface.as_deref()
}

/// For a row: `web:41822 → 198.51.100.10:443`; with names `web/api-7f9c → svc shop/db:5432 (10.96.0.9) → db-0`.
pub fn flow_short(verdict: &Verdict, context: &Context, style: Style) -> String {
    let Tuple { src, dst, .. } = verdict.tuple;
    let source = match (&verdict.source.pod, name(&verdict.source, context)) {
        (Some(pod), _) => pod.name.to_string(),
        (None, Some(name)) if name.chars().count() <= SHORT_NAME => {
            with_port(&name, &verdict.tuple, src.port())
        }
        _ => socket(&verdict.tuple, src),
    };
    let arrow = style.arrow();
    let end = &verdict.destination;
    let destination = match (&end.service, &end.pod) {
        (Some(service), pod) => {
            let service_port = with_port(&service.name.to_string(), &verdict.tuple, dst.port());
            let behind = pod.as_deref().map_or_else(String::new, |pod| {
                let name = short(&pod.name, &service.name);
                format!(" {arrow} {name}")
            });
            format!("svc {service_port} ({}){behind}", dst.ip())
        }
        (None, Some(pod)) => with_port(&pod.name.to_string(), &verdict.tuple, dst.port()),
        (None, None) => socket(&verdict.tuple, dst),
    };
    format!("{source} {arrow} {destination}")
}

/// For a heading: `web 10.244.0.2:41822 → node-0 10.240.0.4:10250`, and between them the Service that was asked for.
pub fn flow_long(verdict: &Verdict, context: &Context, style: Style) -> String {
    let end = |endpoint: &Endpoint, address: SocketAddr| {
        let address = socket(&verdict.tuple, address);
        name(endpoint, context).map_or_else(|| address.clone(), |name| format!("{name} {address}"))
    };
    let Tuple { src, dst, .. } = verdict.tuple;
    let source = end(&verdict.source, src);
    let arrow = style.arrow();
    let Some(service) = &verdict.destination.service else {
        // Behind DNAT the name is that of who answers; the address is the one that was asked for.
        return format!("{source} {arrow} {}", end(&verdict.destination, dst));
    };
    let asked = format!("svc {} {}", service.name, socket(&verdict.tuple, dst));
    let behind = verdict.nat.iter().find(|nat| nat.kind == NatKind::Dnat);
    let behind = behind.map_or_else(String::new, |nat| {
        format!(" {arrow} {}", end(&verdict.destination, nat.after))
    });
    format!("{source} {arrow} {asked}{behind}")
}

fn name(endpoint: &Endpoint, context: &Context) -> Option<String> {
    if endpoint.host {
        return Some(context.node_name.as_deref().unwrap_or("node").to_owned());
    }
    let pod = endpoint.pod.as_ref().map(|pod| pod.name.to_string());
    pod.or_else(|| endpoint.netns.clone())
        .or_else(|| endpoint.machine.as_ref().map(ToString::to_string))
}

/// Without the namespace where it has been said.
fn short(name: &Name, said: &Name) -> String {
    if name.namespace == said.namespace {
        name.name.to_string()
    } else {
        name.to_string()
    }
}

fn socket(tuple: &Tuple, address: SocketAddr) -> String {
    if has_ports(tuple) {
        address.to_string()
    } else {
        address.ip().to_string()
    }
}

fn with_port(name: &str, tuple: &Tuple, port: u16) -> String {
    if has_ports(tuple) {
        format!("{name}:{port}")
    } else {
        name.to_owned()
    }
}

fn has_ports(tuple: &Tuple) -> bool {
    matches!(tuple.proto, Proto::TCP | Proto::UDP | Proto(132 | 136))
}

/// The component by the names its own tool uses: `iptables (nft) filter/INPUT rule 3 DROP: -p tcp …`.
pub fn component(component: &Component) -> String {
    let kind = match component.kind.as_str() {
        "iptables_rule" => "iptables".to_owned(),
        "nft_rule" => "nft".to_owned(),
        "bpf_program" => "BPF program".to_owned(),
        kind => kind.replace('_', " "),
    };
    let mut words = vec![kind];
    words.extend(
        component
            .backend
            .as_ref()
            .map(|backend| format!("({backend})")),
    );
    words.extend(component.family.clone());
    words.extend(match (&component.table, &component.chain) {
        (Some(table), Some(chain)) => Some(format!("{table}/{chain}")),
        (table, chain) => table.clone().or_else(|| chain.clone()),
    });
    words.extend(component.rule.map(|rule| rule.to_string()));
    words.extend(component.name.clone());
    words.extend(component.id.map(|id| format!("id {id}")));
    words.extend(component.verdict.clone());
    let mut text = words.join(" ");
    if let Some(owner) = &component.owner {
        text += ", owned by ";
        text += owner;
    }
    if !component.listening.is_empty() {
        text += "; listening: ";
        text += &component.listening.join(", ");
    }
    if let Some(rule) = &component.text {
        text += ": ";
        text += rule;
    }
    text
}

/// Words first, then who says so.
pub fn evidence(evidence: &Evidence) -> (String, &str) {
    let mut parts = Vec::new();
    parts.extend(evidence.count.map(packets));
    match (evidence.value, &evidence.detail) {
        (Some(value), Some(what)) => return (format!("{what} {value}"), &evidence.source),
        (Some(value), None) => parts.push(format!("counter rose by {value}")),
        (None, _) => {}
    }
    let mut text = parts.join(", ");
    match &evidence.detail {
        Some(detail) if text.is_empty() => text.clone_from(detail),
        Some(detail) => text = format!("{text}: {detail}"),
        None if text.is_empty() => "reported".clone_into(&mut text),
        None => {}
    }
    (text, &evidence.source)
}

pub fn packets(count: u64) -> String {
    plural(count, "packet")
}

pub fn plural(count: u64, noun: &str) -> String {
    if count == 1 {
        format!("1 {noun}")
    } else {
        format!("{count} {noun}s")
    }
}
