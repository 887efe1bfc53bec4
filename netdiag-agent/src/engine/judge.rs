//! When a flow is looked at, and what is said of it: once as soon as it can be decided, again if that changes.

use super::{Engine, Span};
use crate::event::Ktime;
use crate::flow::{DropKind, Flow, FlowId};
use crate::verdict::{Case, Cause, Component, Confidence, Outcome, Verdict, build, names};

/// A flow that waits for its verdict.
#[derive(Clone, Copy, Debug)]
pub(super) struct Open {
    /// Not before this time can anything new be said.
    due: Ktime,
    /// Decided once; only a change would be news.
    pub(super) settled: bool,
}

/// What was last said of a flow.
#[derive(Clone, Debug)]
pub(super) struct Decided {
    revision: u32,
    said: Said,
    /// Packets behind it: a last revision at the end of the trace carries the final counts.
    weight: u64,
    /// What was known by name then.
    names: u8,
}

#[derive(Clone, Debug, PartialEq)]
struct Said {
    outcome: Outcome,
    cause: Option<Cause>,
    confidence: Confidence,
    component: Option<Component>,
}

/// A request that never got out waits this much longer while its next hop is being resolved:
/// the kernel gives up after three probes, one second apart.
const NEIGHBOUR_PATIENCE: Span = Span::millis(1500);

impl Engine {
    /// Something happened to this flow.
    pub(super) fn reopen(&mut self, id: FlowId, at: Ktime) {
        let settled = self.decided.contains_key(&id);
        self.open.insert(id, Open { due: at, settled });
    }

    /// New rules may name what dropped these.
    pub(super) fn reopen_firewall_deaths(&mut self) {
        let by_filter = |flow: &&Flow| {
            flow.drops
                .iter()
                .any(|group| matches!(group.kind, DropKind::Netfilter(_)))
        };
        let ids: Vec<FlowId> = self
            .flows
            .iter()
            .filter(by_filter)
            .map(|flow| flow.id)
            .collect();
        for id in ids {
            let settled = self.decided.contains_key(&id);
            self.open.insert(
                id,
                Open {
                    due: Ktime(0),
                    settled,
                },
            );
        }
    }

    /// What the cluster says since may name more, or explain more.
    pub(super) fn reopen_all(&mut self) {
        let ids: Vec<FlowId> = self.flows.iter().map(|flow| flow.id).collect();
        for id in ids {
            let settled = self.decided.contains_key(&id);
            let due = self.open.get(&id).map_or(Ktime(0), |open| open.due);
            self.open.insert(id, Open { due, settled });
        }
    }

    /// The flow's tuple is used by a new connection: last words.
    pub(super) fn retire(&mut self, id: FlowId, now: Ktime, verdicts: &mut Vec<Verdict>) {
        self.judge_one(id, now, true, verdicts);
        self.open.remove(&id);
        self.decided.remove(&id);
        if let Some(flow) = self.flows.remove(id) {
            self.bury(flow);
        }
    }

    pub(super) fn judge(&mut self, now: Ktime, ending: bool, verdicts: &mut Vec<Verdict>) {
        let due: Vec<FlowId> = if ending {
            self.flows.iter().map(|flow| flow.id).collect()
        } else {
            self.open
                .iter()
                .filter(|(_, open)| open.due <= now)
                .map(|(id, _)| *id)
                .collect()
        };
        for id in due {
            self.judge_one(id, now, ending, verdicts);
        }
    }

    fn judge_one(&mut self, id: FlowId, now: Ktime, ending: bool, verdicts: &mut Vec<Verdict>) {
        let Some(flow) = self.flows.get(id) else {
            return;
        };
        let mut case = Case {
            flow,
            inventory: &self.inventory,
            neighbours: &self.neighbours,
            others: &self.flows,
            now,
            no_answer: self.config.no_answer,
            ending,
            lost: self
                .losses
                .iter()
                .filter(|(at, _)| *at >= flow.first)
                .map(|(_, count)| count)
                .sum(),
        };
        if case.deadline_passed() && !ending && case.resolving_neighbour() {
            case.no_answer = self.config.no_answer.plus(NEIGHBOUR_PATIENCE);
        }
        let Some(finding) = case.judge() else {
            if let Some(due) = case.next_look() {
                let settled = self.decided.contains_key(&id);
                self.open.insert(id, Open { due, settled });
            } else {
                self.open.remove(&id);
            }
            return;
        };
        let weight = case.weight();
        let said = Said {
            outcome: finding.outcome,
            cause: finding.cause,
            confidence: finding.confidence,
            component: finding.component.clone(),
        };
        let names = names(&case);
        let before = self.decided.get(&id);
        let news = before.is_none_or(|decided| {
            decided.said != said || decided.names < names || (ending && decided.weight != weight)
        });
        if news {
            let revision = before.map_or(1, |decided| decided.revision + 1);
            verdicts.push(build::verdict(&case, finding, revision));
            self.decided.insert(
                id,
                Decided {
                    revision,
                    said,
                    weight,
                    names,
                },
            );
        }
        // A healthy flow may yet die and a dead one come back, but only by a new event, which opens it again.
        self.open.remove(&id);
    }
}
