//! The rule the kernel's own trace named, found among the rules as they were read.

use super::evaluate::{Candidate, Fate};
use super::model::{Backend, Chain, Family, Hook, Rule, RuleRef, Ruleset, Table, Target};
use crate::event::Ruled;

/// What dropped the packet at this hook, as a candidate that is certain; one of `candidates` where it is among them.
/// `None`: it belongs to another hook.
pub fn traced(
    ruleset: &Ruleset,
    hook: Hook,
    candidates: &[Candidate],
    ruled: &Ruled,
) -> Option<Candidate> {
    let family = Family::from_name(&ruled.family)?;
    let table = ruleset.tables.iter().find(|table| {
        table.backend != Backend::Legacy && table.family == family && table.name == *ruled.table
    });
    let backend = table.map_or(Backend::Nft, |table| table.backend);
    let at = ruled.handle.and_then(|handle| match backend {
        Backend::Nft => Some(RuleRef::Handle(handle)),
        _ => ruled.number.map(RuleRef::Number),
    });
    if ruled.handle.is_some() && at.is_none() {
        return None;
    }
    let named = |candidate: &&Candidate| {
        candidate.family == family
            && candidate.table == *ruled.table
            && candidate.chain == *ruled.chain
            && candidate.rule == at
            && candidate.backend == backend
    };
    let known = candidates.iter().find(named).cloned();
    let chain = table.and_then(|table| table.chain(&ruled.chain));
    let elsewhere = chain
        .and_then(|chain| chain.base.as_ref())
        .is_some_and(|base| base.hook != hook);
    if elsewhere {
        return None;
    }
    let mut found = known.unwrap_or_else(|| Candidate {
        backend,
        family,
        hook,
        table: ruled.table.as_ref().to_owned(),
        chain: ruled.chain.as_ref().to_owned(),
        rule: at,
        text: String::new(),
        comment: None,
        fate: Fate::Drop,
        certain: true,
        counter: None,
        element: None,
        via: Vec::new(),
    });
    found.certain = true;
    if found.text.is_empty()
        && let (Some(table), Some(chain)) = (table, chain)
    {
        describe(&mut found, table, chain);
    }
    Some(found)
}

/// What the reading says of a rule the evaluation did not name.
fn describe(found: &mut Candidate, table: &Table, chain: &Chain) {
    let Some(at) = found.rule else {
        found.counter = chain.base.as_ref().and_then(|base| base.counter);
        found.text = if table.backend.is_iptables() {
            format!("-P {} DROP", chain.name)
        } else {
            "policy drop".to_owned()
        };
        return;
    };
    let Some(rule) = chain.rules.iter().find(|rule| rule.at == at) else {
        return;
    };
    let Rule {
        target,
        text,
        comment,
        counter,
        ..
    } = rule;
    found.text.clone_from(text);
    found.comment.clone_from(comment);
    found.counter = *counter;
    if matches!(target, Target::Reject(_)) {
        found.fate = Fate::Reject;
    }
}
