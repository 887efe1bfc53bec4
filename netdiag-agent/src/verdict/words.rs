//! Evidence, caveats and history in words a tired human reads.

use std::collections::BTreeMap;

use super::case::Case;
use super::finding::Finding;
use super::types::{BLIND_SPOT, Evidence, Outcome};
use crate::event::{Detail, Event, HookId, Pass, Refusal, Refuser};
use crate::flow::record::{Direction, DropGroup};

/// The drop itself: what freed the packet, where, how often.
pub fn drop_evidence(group: &DropGroup) -> Evidence {
    let mut detail = Vec::new();
    if let Some(reason) = &group.drop.reason {
        detail.push(format!("reason {reason}"));
    }
    if let Some(location) = &group.drop.location {
        detail.push(format!("in {location}"));
    }
    if let Some(interface) = &group.ifname {
        detail.push(format!("at {interface}"));
    }
    if let Some(refusal) = &group.drop.refusal {
        detail.push(refused(refusal).trim().to_lowercase());
    }
    Evidence {
        source: group.hook.name().to_owned(),
        count: Some(group.count),
        value: None,
        detail: (!detail.is_empty()).then(|| detail.join(", ")),
    }
}

/// Where the decisive packets were seen, one line per hook and spot, for verdicts that rest on it.
pub fn sightings(case: &Case<'_>, finding: &Finding) -> Vec<Evidence> {
    if finding.drop.is_some() || finding.outcome == Outcome::Undetermined {
        return Vec::new();
    }
    let direction = if finding.outcome == Outcome::LeftNodeNoAnswer {
        Direction::Original
    } else {
        Direction::Reply
    };
    case.flow
        .of(direction)
        .filter_map(|sighting| {
            let hook = sighting.hooks().next()?;
            let interface = sighting.ifname.as_deref().unwrap_or("?");
            let what = if direction == Direction::Reply {
                "answer"
            } else {
                "request"
            };
            Some(Evidence {
                source: hook.name().to_owned(),
                count: Some(sighting.packets()),
                value: None,
                detail: Some(format!("{what} seen at {interface} as {}", sighting.tuple)),
            })
        })
        .collect()
}

/// A sidecar that takes the pod's connections asks for the destination in its own name: that is another flow.
pub fn redirection(case: &Case<'_>) -> Option<String> {
    let to = case.redirected()?;
    Some(format!(
        "mesh: the pod redirects this connection to {to} in itself, as a sidecar's rules do; what that says to {} is a flow of its own",
        case.flow.tuple.dst
    ))
}

/// What could not be seen, for verdicts on this flow.
pub fn blind_spots(case: &Case<'_>) -> Vec<String> {
    let mut caveats: Vec<String> = case
        .inventory
        .blind
        .iter()
        .map(|spot| format!("{BLIND_SPOT}{} ({})", spot.what, spot.why))
        .collect();
    caveats.extend(unnamed(case));
    if case.lost > 0 {
        caveats.push(format!(
            "{} event(s) were lost while this flow lived",
            case.lost
        ));
    }
    if case.flow.overflow > 0 {
        caveats.push(format!(
            "{} packet(s) of this flow are not in its path: too many different ones",
            case.flow.overflow
        ));
    }
    caveats
}

/// What the cluster could not be asked, one line for each reason.
fn unnamed(case: &Case<'_>) -> Vec<String> {
    let mut kinds: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (kind, why) in case.inventory.cluster.unseen() {
        kinds.entry(why).or_default().push(kind.name());
    }
    let lines = kinds.into_iter();
    lines
        .map(|(why, kinds)| {
            format!(
                "{BLIND_SPOT}names of the cluster: {} ({why})",
                kinds.join(", ")
            )
        })
        .collect()
}

/// The events behind the verdict, oldest first; times relative to the first.
pub fn history(case: &Case<'_>) -> Vec<String> {
    let flow = case.flow;
    let mut lines: Vec<String> = flow
        .history
        .iter()
        .map(|event| line(event, flow.first.0))
        .collect();
    if flow.history_overflow > 0 {
        lines.push(format!("… and {} more", flow.history_overflow));
    }
    lines
}

fn line(event: &Event, start: u64) -> String {
    let millis = event.at.0.saturating_sub(start) as f64 / 1e6;
    let hook = event.hook.map_or("?", HookId::name);
    let place = &event.place;
    let interface = place.ifname.as_deref().unwrap_or("-");
    let netns = place
        .netns
        .map_or_else(|| "-".to_owned(), |netns| netns.to_string());
    let packet = event.packet.as_ref().map_or_else(String::new, |packet| {
        let flags = packet
            .tcp
            .map_or_else(String::new, |tcp| format!(" [{}]", flags(tcp.flags.0)));
        format!(" {}{flags} ttl {}", packet.tuple, packet.ttl)
    });
    format!(
        "{millis:+10.3} ms cpu{} {hook} {interface}@{netns}{packet}{}",
        event.cpu,
        detail(&event.detail)
    )
}

fn flags(bits: u8) -> String {
    const NAMES: [(u8, char); 6] = [
        (0x02, 'S'),
        (0x01, 'F'),
        (0x04, 'R'),
        (0x08, 'P'),
        (0x10, '.'),
        (0x20, 'U'),
    ];
    NAMES
        .iter()
        .filter(|(bit, _)| bits & bit != 0)
        .map(|(_, name)| name)
        .collect()
}

fn detail(detail: &Detail) -> String {
    match detail {
        Detail::Seen(Pass::Received) => " received".to_owned(),
        Detail::Seen(Pass::Sent) => " sent".to_owned(),
        Detail::Dropped(drop) => {
            let reason = drop.reason.as_deref().unwrap_or("no reason");
            let location = drop.location.as_deref().unwrap_or("?");
            let stack: Vec<&str> = drop.stack.iter().map(|symbol| &**symbol).collect();
            let stack = if stack.is_empty() {
                String::new()
            } else {
                format!(" < {}", stack.join(" < "))
            };
            let by = drop.refusal.as_ref().map_or_else(String::new, refused);
            format!(" DROPPED {reason} in {location}{stack}{by}")
        }
        Detail::IcmpSent(icmp) => format!(" answered with ICMP {}/{}", icmp.kind, icmp.code),
        Detail::ResetSent => " answered with RST".to_owned(),
        Detail::ResetReceived => " RST reached a socket".to_owned(),
        Detail::Retransmitted => " retransmitted".to_owned(),
        Detail::TcpState { old, new } => format!(" TCP state {old} -> {new}"),
        Detail::SocketError(errno) => format!(" socket error {errno}"),
        Detail::BadChecksum => " bad checksum".to_owned(),
        Detail::Neighbour { address, state } => {
            format!(" neighbour {address} state {:#x}", state.0)
        }
        Detail::FibError(errno) => format!(" route lookup failed: errno {errno}"),
        Detail::Refused(refusal) => refused(refusal),
        Detail::UdpQueueFull(errno) => format!(" socket queue refused it: errno {errno}"),
        Detail::Dns { message, .. } => format!(" DNS message of {} bytes", message.len()),
        Detail::Ruled(rule) => {
            let which = rule.handle.map_or_else(
                || "its policy".to_owned(),
                |handle| format!("handle {handle}"),
            );
            let (family, table, chain) = (&rule.family, &rule.table, &rule.chain);
            format!(" rule trace: {family} {table} {chain}, {which}, dropped it")
        }
        Detail::Unknown => String::new(),
    }
}

fn refused(refusal: &Refusal) -> String {
    let who = match refusal.by {
        Refuser::Unknown => "a hook function",
        Refuser::Nft => "nftables",
        Refuser::Legacy => "iptables",
        Refuser::Conntrack => "conntrack",
        Refuser::Confirm => "conntrack's insertion",
        Refuser::Nat => "NAT",
    };
    let table = refusal.table.as_deref().unwrap_or_default();
    let chain = refusal.chain.as_deref().unwrap_or_default();
    format!(
        " REFUSED at hook {} by {who} {table} {chain}",
        refusal.hook.0
    )
    .trim_end()
    .to_owned()
}
