//! Which rule dropped it: the dropped packet, walked through the rules of the hook that dropped it.
//!
//! Passive: nothing is added to the node's rules. The walk names every rule that would or could drop the packet; counters
//! of a reading before and one after the drop narrow the list. A rule that only the reading before has is gone since.

mod packet;

pub(super) use packet::address_type;

use super::case::{Case, Death};
use super::finding::Finding;
use super::rule_component::component;
use super::types::{Component, Confidence, HopName, Remediation};
use crate::event::{NfFamily, Refusal, Refuser};
use crate::flow::drops::{Backend, DropKind, no_queue_took};
use crate::flow::place::Stage;
use crate::flow::record::DropGroup;
use crate::inventory::Rules;
use crate::ruleset::{
    Candidate, Family, Fate, Hook, Owner, PacketFacts, Ruleset, evaluate, narrow, owner,
    service_without_endpoints, traced, undo,
};

/// A netfilter drop and what is known of its rule.
pub(super) struct Dropped<'a> {
    pub death: Death<'a>,
    pub hook: Option<Hook>,
    /// `DROP` or `REJECT`, as the packet experienced it.
    pub verdict: &'static str,
    backend: Option<Backend>,
    /// What is left of the rules that could have done it, in the order the packet meets them.
    candidates: Vec<Candidate>,
    owner: Owner,
    /// Packets the one rule has counted since the trace began.
    moved: Option<u64>,
    /// Packets the kernel's own trace followed to it.
    traced: Option<u64>,
    facts: Option<PacketFacts>,
    /// The rule is no longer there.
    gone: bool,
}

/// The case's netfilter death, with its rule; `None`: it did not die so.
pub(super) fn dropped<'a>(case: &Case<'a>) -> Option<Dropped<'a>> {
    let death = case.death_of(|kind| matches!(kind, DropKind::Netfilter(_)))?;
    let group = death.group;
    let DropKind::Netfilter(backend) = group.kind else {
        return None;
    };
    let refusal = group.drop.refusal.as_ref();
    // Connection tracking and NAT refuse packets without any rule.
    if refusal.is_some_and(|refusal| !may_be_rule(refusal.by)) {
        return None;
    }
    let hook = hook(group);
    let rules = group
        .spot
        .netns
        .and_then(|netns| case.inventory.rules(netns));
    let backend = if refusal.is_some_and(|refusal| refusal.by != Refuser::Unknown) {
        backend
    } else {
        settled(backend, rules)
    };
    let facts = hook
        .and_then(|hook| packet::facts(case, group, hook))
        .map(|facts| PacketFacts {
            by_legacy: backend.map(|backend| backend == Backend::Legacy),
            queued: no_queue_took(&group.drop),
            ..facts
        });
    let candidates = match (rules, hook, &facts) {
        (Some(rules), Some(hook), Some(facts)) => {
            candidates(&rules.after.ruleset, rules, hook, facts, group)
        }
        _ => Vec::new(),
    };
    let (mut candidates, traced) = match (rules, hook) {
        (Some(rules), Some(hook)) => ruled(case, group, rules, hook, candidates),
        _ => (candidates, None),
    };
    let gone = candidates.is_empty();
    if let (true, Some(rules), Some(hook), Some(facts)) = (gone, rules, hook, &facts) {
        candidates = self::candidates(&rules.before.ruleset, rules, hook, facts, group);
    }
    let owner = match (candidates.as_slice(), rules) {
        ([only], Some(rules)) if gone => owner(only, &rules.before.ruleset),
        ([only], Some(rules)) => owner(only, &rules.after.ruleset),
        _ => Owner::Plain,
    };
    let moved = match (candidates.as_slice(), rules) {
        ([only], Some(rules)) => only.moved(&rules.before.ruleset, &rules.after.ruleset),
        _ => None,
    };
    // The rule tells best: what a REJECT in OUTPUT sends back passes no hook of ours.
    let rejected = match candidates.as_slice() {
        [only] if only.fate != Fate::Handed => only.fate == Fate::Reject,
        _ => case.rejected(group),
    };
    let verdict = if rejected { "REJECT" } else { "DROP" };
    Some(Dropped {
        death,
        hook,
        verdict,
        backend,
        candidates,
        owner,
        moved,
        traced,
        facts,
        gone,
    })
}

impl Dropped<'_> {
    /// The one rule that did it, when no other is left.
    pub fn rule(&self) -> Option<&Candidate> {
        match self.candidates.as_slice() {
            [only] => Some(only),
            _ => None,
        }
    }

    /// Whose rule it is, where one rule is left.
    pub const fn owner(&self) -> Owner {
        self.owner
    }

    pub fn is_policy(&self) -> bool {
        self.rule().is_some() && self.owner.is_policy_engine()
    }

    /// The Service that has no endpoints, as `namespace/name:port`.
    pub fn service(&self) -> Option<String> {
        let service = service_without_endpoints(self.rule()?)?;
        let port = service
            .port
            .map_or_else(String::new, |port| format!(":{port}"));
        Some(format!("{}/{}{port}", service.namespace, service.name))
    }

    /// The hook by the name of its built-in chain.
    pub fn chain(&self) -> Option<&'static str> {
        self.hook.map(|hook| match hook {
            Hook::Ingress => "INGRESS",
            Hook::Prerouting => "PREROUTING",
            Hook::Input => "INPUT",
            Hook::Forward => "FORWARD",
            Hook::Output => "OUTPUT",
            Hook::Postrouting => "POSTROUTING",
            Hook::Egress => "EGRESS",
        })
    }

    pub fn backend(&self) -> Option<&'static str> {
        self.rule().map(|rule| rule.backend.name()).or_else(|| {
            self.backend.map(|backend| match backend {
                Backend::Nft => "nft",
                Backend::Legacy => "legacy",
            })
        })
    }

    pub fn component(&self, v6: bool) -> Component {
        let Some(rule) = self.rule() else {
            return Component {
                kind: "netfilter".to_owned(),
                backend: self.backend().map(str::to_owned),
                family: Some(if v6 { "ip6" } else { "ip" }.to_owned()),
                chain: self.chain().map(str::to_owned),
                verdict: Some(self.verdict.to_owned()),
                ..Component::default()
            };
        };
        component(rule, self.owner, self.verdict)
    }

    /// The exact undo of the rule, or its owner's way; `None` when no single rule is left.
    pub fn undo(&self) -> Option<Remediation> {
        let undo = undo(self.rule()?, self.owner, self.facts.as_ref()?);
        if self.gone {
            // Commands name the rule by a number another one may have now.
            return Some(Remediation {
                summary: format!("{}: gone since, so try again", undo.summary),
                commands: Vec::new(),
            });
        }
        Some(Remediation {
            summary: undo.summary,
            commands: undo.commands,
        })
    }

    /// Adds what is known of the rule: its candidates when there are several, and how sure the one is.
    pub fn tell(&self, mut finding: Finding) -> Finding {
        let certain = self.rule().is_some_and(|rule| rule.certain);
        if let Some(moved) = self.moved.filter(|moved| *moved > 0) {
            finding = finding.counter("rule_counter_delta", moved);
        }
        if let Some(traced) = self.traced {
            finding = finding.evidence(
                "nft_trace",
                Some(traced),
                "the kernel's own trace names this rule",
            );
        }
        if self.rule().is_some() && !certain {
            finding = finding.caveat(
                "the rule is named by its counter and by elimination: part of what it matches could not be evaluated",
            );
        }
        if self.gone && self.rule().is_some() {
            finding = finding.caveat(
                "the rule was there when the trace began and was gone when the rules were read again",
            );
            if finding.confidence == Confidence::Proven {
                finding.confidence = Confidence::Inferred;
            }
        }
        for candidate in self
            .candidates
            .iter()
            .filter(|_| self.candidates.len() > 1)
            .take(8)
        {
            let place = format!(
                "{} {} {}",
                candidate.backend.name(),
                candidate.table,
                candidate.chain
            );
            let which = candidate
                .rule
                .map_or_else(|| "policy".to_owned(), |rule| rule.to_string());
            finding = finding.suspect(
                "firewall_rule",
                format!("{place} {which}: {}", candidate.text),
            );
        }
        if finding.confidence == Confidence::Proven && self.is_policy() && !certain {
            finding.confidence = Confidence::Inferred;
        }
        finding
    }
}

fn hook(group: &DropGroup) -> Option<Hook> {
    match group.spot.hop {
        HopName::NfPrerouting => Some(Hook::Prerouting),
        HopName::NfInput => Some(Hook::Input),
        HopName::NfForward => Some(Hook::Forward),
        HopName::NfOutput => Some(Hook::Output),
        HopName::NfPostrouting => Some(Hook::Postrouting),
        // Chains of family netdev belong to a device.
        _ => match group.spot.stage {
            Stage::Receive => Some(Hook::Ingress),
            Stage::Transmit => Some(Hook::Egress),
            _ => None,
        },
    }
}

/// Where nft frees packets itself, a drop by `nf_hook_slow` was a legacy rule's. Kernels whose nft leaves that to
/// `nf_hook_slow` too look the same from outside (6.1 before its backport), so the rules have the last word.
fn settled(backend: Option<Backend>, rules: Option<&Rules>) -> Option<Backend> {
    let legacy = |rules: &Rules| {
        rules
            .after
            .ruleset
            .tables
            .iter()
            .any(|table| table.backend.name() == "legacy")
    };
    match (backend, rules) {
        (Some(Backend::Legacy), Some(rules)) if !legacy(rules) => Some(Backend::Nft),
        (Some(Backend::Legacy), None) => None,
        _ => backend,
    }
}

/// What the kernel's own trace named, where there is one; the candidates else.
fn ruled(
    case: &Case<'_>,
    group: &DropGroup,
    rules: &Rules,
    hook: Hook,
    candidates: Vec<Candidate>,
) -> (Vec<Candidate>, Option<u64>) {
    let rulings = case.flow.rulings.iter().filter(|ruling| {
        ruling.direction == group.direction
            && ruling.netns == group.spot.netns
            && ruling.last >= group.first
    });
    let mut count = 0;
    let mut found: Vec<Candidate> = Vec::new();
    for ruling in rulings {
        let named = traced(&rules.after.ruleset, hook, &candidates, &ruling.rule);
        if let Some(candidate) = named {
            count += ruling.count;
            found.push(candidate);
        }
    }
    if found.is_empty() {
        return (candidates, None);
    }
    (found, Some(count))
}

/// Rules that could have done it; where a second reading exists, those whose counters moved.
fn candidates(
    ruleset: &Ruleset,
    rules: &Rules,
    hook: Hook,
    facts: &PacketFacts,
    group: &DropGroup,
) -> Vec<Candidate> {
    let mut found = evaluate(ruleset, hook, facts).candidates;
    if found.is_empty() && facts.by_legacy.is_some() {
        // The kernel's location named the wrong back end.
        let either = PacketFacts {
            by_legacy: None,
            ..facts.clone()
        };
        found = evaluate(ruleset, hook, &either).candidates;
    }
    if packet::by_bridge_family(&group.drop.stack) {
        found.retain(|candidate| candidate.family == Family::Bridge);
    }
    if let Some(refusal) = &group.drop.refusal {
        let in_table: Vec<_> = found
            .iter()
            .filter(|candidate| is_in_table(candidate, refusal))
            .cloned()
            .collect();
        if !in_table.is_empty() {
            found = in_table;
        }
    }
    if found.len() < 2 || rules.after.at <= group.first {
        return found;
    }
    let narrowed = narrow(&found, &rules.before.ruleset, &rules.after.ruleset, 1);
    if narrowed.is_empty() { found } else { narrowed }
}

const fn may_be_rule(refuser: Refuser) -> bool {
    matches!(refuser, Refuser::Unknown | Refuser::Nft | Refuser::Legacy)
}

/// The rule lies in the table the kernel named, as far as it did. A rule of iptables on nft is in a table of nft.
fn is_in_table(candidate: &Candidate, refusal: &Refusal) -> bool {
    let table = refusal
        .table
        .as_deref()
        .is_none_or(|table| table == candidate.table);
    let family = refusal
        .table_family
        .and_then(NfFamily::name)
        .is_none_or(|family| family == candidate.family.name());
    table && family
}
