//! Which of the candidates did the counters see at work?

use super::evaluate::Candidate;
use super::model::{Backend, Counter, Rule, Ruleset, Table};

/// Keeps the candidates whose counters moved by what was dropped, and those that count nothing; when no counter
/// moved enough, only the latter. Other traffic moves the same counters, so agreement alone proves nothing.
pub fn narrow(
    candidates: &[Candidate],
    before: &Ruleset,
    after: &Ruleset,
    drops: u64,
) -> Vec<Candidate> {
    let moves: Vec<_> = candidates
        .iter()
        .map(|candidate| moved(candidate, before, after))
        .collect();
    let enough = |moved: &Move| matches!(moved, Move::By(packets) if *packets >= drops.max(1));
    let explained = moves.iter().any(enough);
    let keep = |moved: &Move| {
        enough(moved) || *moved == Move::Uncounted || (*moved == Move::NeverCounted && !explained)
    };
    candidates
        .iter()
        .zip(&moves)
        .filter(|(_, moved)| keep(moved))
        .map(|(candidate, _)| candidate.clone())
        .collect()
}

impl Candidate {
    /// Packets its counter took from one reading to the next; `None` when it counts nothing.
    pub fn moved(&self, before: &Ruleset, after: &Ruleset) -> Option<u64> {
        match moved(self, before, after) {
            Move::By(packets) => Some(packets),
            Move::Uncounted | Move::NeverCounted => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Move {
    By(u64),
    Uncounted,
    /// Zero, where that may mean that there is no counter: iptables prints it so for a rule nft made.
    NeverCounted,
}

/// Packets the candidate's counter took from one reading to the next.
fn moved(candidate: &Candidate, before: &Ruleset, after: &Ruleset) -> Move {
    match (counter(candidate, before), counter(candidate, after)) {
        (Some(_), Some(Counter { packets: 0, .. }))
            if candidate.backend == Backend::IptablesNft =>
        {
            Move::NeverCounted
        }
        (Some(old), Some(new)) => Move::By(new.packets.saturating_sub(old.packets)),
        _ => Move::Uncounted,
    }
}

fn counter(candidate: &Candidate, ruleset: &Ruleset) -> Option<Counter> {
    let table = table(candidate, ruleset)?;
    let chain = table.chain(&candidate.chain)?;
    let Some(at) = candidate.rule else {
        return chain.base.as_ref()?.counter;
    };
    let same_text = |rule: &&Rule| rule.text == candidate.text;
    let here = chain
        .rules
        .iter()
        .find(|rule| rule.at == at)
        .filter(same_text);
    // Numbers shift when rules are added in front.
    here.or_else(|| chain.rules.iter().find(same_text))?.counter
}

fn table<'a>(candidate: &Candidate, ruleset: &'a Ruleset) -> Option<&'a Table> {
    ruleset.tables.iter().find(|table| {
        table.backend == candidate.backend
            && table.family == candidate.family
            && table.name == candidate.table
    })
}
