//! What the file says in words.

use std::fmt::Write as _;

use super::shots::Seen;
use crate::event::{Drop, IcmpKind};
use crate::export::words;
use crate::verdict::{Action, Verdict};

/// Flows named in the section's comment.
const MAX_FLOWS: usize = 200;

/// An option's length is a 16-bit number.
const MAX_TEXT: usize = 60_000;

/// A drop, as the kernel reported it.
pub(super) fn drop(drop: &Drop) -> String {
    let reason = drop.reason.as_deref().unwrap_or("no reason given");
    match &drop.location {
        Some(location) => format!("dropped: {reason} in {location}"),
        None => format!("dropped: {reason}"),
    }
}

pub(super) fn icmp(kind: IcmpKind) -> String {
    format!(
        "answered by this node with ICMP type {} code {}",
        kind.kind, kind.code
    )
}

/// The verdict on the flow of a packet.
pub(super) fn verdict(verdict: &Verdict) -> String {
    let mut text = format!("netdiag: {}", line(verdict));
    let culprit = verdict
        .hops
        .iter()
        .filter(|hop| hop.action == Action::Dropped)
        .find_map(|hop| hop.component.as_ref());
    if let Some(component) = culprit {
        let _ = write!(text, "\n{}", words::component(component));
    }
    if let Some(remediation) = &verdict.remediation {
        let _ = write!(text, "\n{}", remediation.summary);
        for command in &remediation.commands {
            let _ = write!(text, "\n  {command}");
        }
    }
    cut(text)
}

/// `HOST_FIREWALL_DROP at NF_FORWARD (DROPPED_HERE, proven): tcp 10.0.0.1:4711 > 198.51.100.10:443`.
fn line(verdict: &Verdict) -> String {
    let outcome = verdict.cause.map_or_else(String::new, |_| {
        format!("{}, ", words::outcome_name(verdict.outcome))
    });
    let mut text = format!(
        "{} ({outcome}{}): {}",
        words::summary(verdict),
        words::confidence(verdict.confidence),
        verdict.tuple
    );
    for nat in &verdict.nat {
        let kind = words::nat_kind(nat.kind);
        let _ = write!(text, ", {kind} {} > {}", nat.before, nat.after);
    }
    text
}

/// All verdicts, failing ones first, and what the file does not hold.
pub(super) fn section<'a>(seen: &Seen<'_>, verdicts: impl Iterator<Item = &'a Verdict>) -> String {
    let mut verdicts: Vec<&Verdict> = verdicts.collect();
    verdicts.sort_by_key(|verdict| {
        let healthy = !verdict.outcome.is_failing();
        (healthy, verdict.key.first_seen, verdict.tuple)
    });
    let failing = verdicts
        .iter()
        .filter(|verdict| verdict.outcome.is_failing())
        .count();
    let mut text = format!(
        "netdiag: {}, {failing} failing; {}",
        words::plural(verdicts.len() as u64, "flow"),
        words::plural(seen.shots.len() as u64, "packet")
    );
    if seen.left_out > 0 {
        let _ = write!(
            text,
            "; {} left out: the file would be too large",
            seen.left_out
        );
    }
    if seen.forgotten > 0 {
        let _ = write!(
            text,
            "; {} later events of long flows not kept",
            seen.forgotten
        );
    }
    for verdict in verdicts.iter().take(MAX_FLOWS) {
        let _ = write!(text, "\n{}", line(verdict));
    }
    if let Some(more) = verdicts
        .len()
        .checked_sub(MAX_FLOWS)
        .filter(|more| *more > 0)
    {
        let _ = write!(text, "\nand {}", words::plural(more as u64, "more flow"));
    }
    cut(text)
}

fn cut(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        let end = (0..=MAX_TEXT).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
    }
    text
}
