//! `UNKNOWN`: lost on this node, for a reason no rule knows.

use super::{Page, Rule, death, ip};
use crate::event::Proto;
use crate::flow::record::Direction;
use crate::inventory::NamespaceKind;
use crate::verdict::case::Case;
use crate::verdict::finding::Finding;
use crate::verdict::types::{Cause, Confidence, Outcome};

#[derive(Debug)]
pub struct Unknown;

/// Where to look, for reasons of the kernel that are no cause of their own.
struct Hint {
    reason: &'static str,
    meaning: &'static str,
    commands: [&'static str; 3],
}

const HINTS: &[Hint] = &[Hint {
    reason: "XFRM_POLICY",
    meaning: "an IPsec policy blocks it, or asks for a protection the packet did not have",
    commands: ["ip xfrm policy", "ip xfrm state", "cat /proc/net/xfrm_stat"],
}];

impl Rule for Unknown {
    fn cause(&self) -> Cause {
        Cause("UNKNOWN")
    }

    fn page(&self) -> Page {
        Page {
            what_happened: "The packet was lost on this node, and no rule of netdiag knows this kind of loss.",
            how_we_know: "Either the kernel freed it at the place given in the evidence, or it was seen entering the node and neither leaving it nor being dropped.",
            what_else: "A cause that netdiag should learn: please keep the recording (`--record`) with the report.",
            what_to_do: "Look up the kernel function named in the evidence; it is the place that freed the packet.",
        }
    }

    fn judge(&self, case: &Case<'_>) -> Option<Finding> {
        if let Some(found) = case.death() {
            let location = found
                .group
                .drop
                .location
                .as_deref()
                .unwrap_or("an unknown function");
            let finding = Finding {
                confidence: Confidence::Unknown,
                ..death(self.cause(), found)
            };
            let reason = found.group.drop.reason.as_deref().unwrap_or_default();
            let hint = HINTS.iter().find(|hint| hint.reason == reason);
            return Some(match hint {
                Some(hint) => finding.remedy(hint.meaning, hint.commands.map(str::to_owned)),
                None => finding.remedy(
                    format!("dropped in {location}: no rule of netdiag knows this loss yet"),
                    [],
                ),
            });
        }
        if !case.deadline_passed()
            || case.answered()
            || case.left_node() && case.flow.of(Direction::Reply).next().is_none()
        {
            return None;
        }
        self.vanished(case).or_else(|| self.swallowed(case))
    }
}

impl Unknown {
    /// In, but not out, and no drop seen.
    fn vanished(&self, case: &Case<'_>) -> Option<Finding> {
        let came_back = case.flow.of(Direction::Reply).next().is_some();
        let pod = case
            .initiator()
            .is_some_and(|namespace| namespace.kind == NamespaceKind::Pod);
        let outcome = if came_back && pod && case.flow.resets.is_empty() && !case.established() {
            Outcome::ReplyLost
        } else {
            return None;
        };
        let finding = Finding::new(outcome, self.cause(), Confidence::Unknown);
        Some(finding.remedy(
            "the reply entered this node and did not reach the pod; no drop was seen",
            [],
        ))
    }

    /// Meant for somebody on this node, and nothing came out again.
    fn swallowed(&self, case: &Case<'_>) -> Option<Finding> {
        let proto = case.flow.tuple.proto;
        let wants_answer = proto == Proto::TCP || proto.is_icmp();
        let silent = case.flow.of(Direction::Reply).next().is_none() && case.flow.resets.is_empty();
        let to = case.responder_address();
        let responder = case.inventory.owner_of(to)?;
        case.initiator()?;
        if !wants_answer || !silent || case.established() || case.icmp_refusal().is_some() {
            return None;
        }
        let name = responder.name.as_deref().unwrap_or("the node");
        let (summary, from) = if case.reached_responder() {
            let summary = format!(
                "the request reached {name}, and no answer came out of it; no drop was seen"
            );
            (summary, case.flow.tuple.src.ip())
        } else {
            let summary = format!("the request did not reach {name}; no drop was seen");
            (summary, to)
        };
        let finding = Finding::new(Outcome::DroppedHere, self.cause(), Confidence::Unknown)
            .suspect("return_route", format!("{name} may have no way back to {}: its routes and its gateway decide", case.flow.tuple.src.ip()))
            .suspect("listener", "its socket may be full, filtered, or told to be silent: its own counters decide (nstat -az)");
        let mut commands = vec![format!("{} route get {from}", ip(from))];
        commands.extend(["ss -ltn", "nstat -az"].map(str::to_owned));
        let commands = commands
            .into_iter()
            .map(|command| super::inside(Some(responder), &command));
        Some(finding.remedy(summary, commands.collect::<Vec<_>>()))
    }
}
