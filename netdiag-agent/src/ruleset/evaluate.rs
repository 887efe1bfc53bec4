//! Which rules of a hook would, or could, drop this packet?
//!
//! The packet walks the base chains in the kernel's order. Where a match cannot be told, the walk takes both ways at
//! once: what is behind it is only a possibility, and what the two ways make of the packet's marks is joined bit by bit
//! ([`State`]). A chain reached as a mere possibility is walked once per state, so the work stays linear in the rules.

use super::facts::{Interface, PacketFacts};
use super::matching::View;
use super::model::{Backend, Counter, Family, Hook, RuleRef, Ruleset, Tri};
use super::order::{Line, base_chains, changed_mark_bits};
use super::state::{Bits, CtView, State, join};
use super::walk::{Found, Walk};

/// Priority of conntrack's own hook functions.
const CONNTRACK: i32 = -200;

/// What a hook's rules do to a packet.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evaluation {
    /// Everything that would or could drop it, in the order it would get there.
    pub candidates: Vec<Candidate>,
}

impl Evaluation {
    /// The one rule or policy that did it, when the rules leave no other.
    pub fn proven(&self) -> Option<&Candidate> {
        match self.candidates.as_slice() {
            [only] if only.certain => Some(only),
            _ => None,
        }
    }
}

/// A rule or chain policy that drops.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    pub backend: Backend,
    pub family: Family,
    pub hook: Hook,
    pub table: String,
    pub chain: String,
    /// `None`: the policy of the chain.
    pub rule: Option<RuleRef>,
    /// As the tool prints it.
    pub text: String,
    /// Of the rule, or of the map element that named the verdict.
    pub comment: Option<String>,
    pub fate: Fate,
    /// Nothing undecidable lies on the way.
    pub certain: bool,
    pub counter: Option<Counter>,
    /// The rule is a verdict map, and this element of it says so.
    pub element: Option<ElementRef>,
    /// The jumps that led here, outermost first.
    pub via: Vec<Via>,
}

/// An element of a named map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ElementRef {
    pub map: String,
    /// As the tool prints it.
    pub key: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Drop,
    Reject,
    /// Handed to a program, or taken by a target we do not know: it may have dropped it.
    Handed,
    /// Gets another source address; of [`super::translation`] only.
    Translated,
    /// Keeps its source address for the sake of its destination; likewise.
    Spared,
}

impl Fate {
    /// As it stands in a verdict's component.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Drop | Self::Handed => "DROP",
            Self::Translated => "SNAT",
            Self::Spared => "RETURN",
            Self::Reject => "REJECT",
        }
    }
}

/// One jump on the way to a candidate.
#[derive(Clone, Debug, PartialEq)]
pub struct Via {
    pub chain: String,
    pub rule: RuleRef,
    pub text: String,
    /// Of the map element that led on, else of the rule.
    pub comment: Option<String>,
}

/// All rules and policies at `hook` that would or could drop the packet.
pub fn evaluate(ruleset: &Ruleset, hook: Hook, facts: &PacketFacts) -> Evaluation {
    let groups = base_chains(ruleset, hook, facts);
    let mut state = State::on_entry(facts, changed_mark_bits(groups.iter().flatten()));
    let mut found: Vec<Found> = Vec::new();
    for group in &groups {
        let certain = found.is_empty();
        let (passed, new) = Pass {
            ruleset,
            hook,
            facts,
        }
        .group(group, state, certain);
        found.extend(new);
        match passed {
            Some(passed) => state = passed,
            None => break,
        }
    }
    // The mark it was dropped with tells which ways it cannot have taken.
    let mark = facts
        .mark
        .map_or(Bits::UNKNOWN, |mark| Bits::known(u128::from(mark)));
    let possible = found
        .into_iter()
        .filter(|found| found.candidate.certain || found.mark.agrees(mark))
        .filter(|found| !facts.queued || found.candidate.fate == Fate::Handed);
    Evaluation {
        candidates: possible.map(|found| found.candidate).collect(),
    }
}

#[derive(Clone, Copy)]
struct Pass<'a> {
    ruleset: &'a Ruleset,
    hook: Hook,
    facts: &'a PacketFacts,
}

impl<'a> Pass<'a> {
    /// Chains of equal priority: as their order is unknown, each may see what any other makes of the packet.
    fn group(
        &self,
        group: &'a [Line<'a>],
        mut entry: State,
        certain: bool,
    ) -> (Option<State>, Vec<Found>) {
        loop {
            let mut found = Vec::new();
            let mut dropping = 0;
            let mut blocked = false;
            let mut exit = entry;
            for line in group {
                let before = found.len();
                let passed = self.line(line, entry, certain, &mut found);
                let innocent = self
                    .facts
                    .by_legacy
                    .is_some_and(|legacy| legacy != (line.table.backend == Backend::Legacy));
                if innocent {
                    found.truncate(before);
                }
                match passed {
                    None if innocent => {}
                    Some(state) if group.len() == 1 => exit = state,
                    Some(state) => exit = exit.join(state),
                    None => blocked = true,
                }
                dropping += usize::from(found.len() > before);
            }
            if group.len() > 1 && exit != entry {
                entry = exit;
                continue;
            }
            if dropping > 1 {
                for found in &mut found {
                    found.candidate.certain = false;
                }
            }
            return ((!blocked).then_some(exit), found);
        }
    }

    fn line(
        &self,
        line: &'a Line<'a>,
        entry: State,
        certain: bool,
        found: &mut Vec<Found>,
    ) -> Option<State> {
        let nat = if matches!(self.hook, Hook::Prerouting | Hook::Output) {
            -100
        } else {
            100
        };
        let view = View {
            ruleset: self.ruleset,
            table: line.table,
            facts: self.facts,
            hook: self.hook,
            before_nat: line.base.priority <= nat,
            at_bridge: line.table.family == Family::Bridge,
        };
        let state = State {
            ct: self.ct_view(line, entry),
            ..entry
        };
        let certain = certain && line.passed == Tri::Yes;
        let flow = {
            let at = line.table.position(&line.chain.name)?;
            Walk::new(view, line, found).chain(at, state, certain)
        };
        let passed = if line.base.drops {
            if let Some(state) = flow.returns {
                found.push(policy(line, certain && !flow.lost, state));
            }
            flow.accepted
        } else {
            join(flow.accepted, flow.returns)
        };
        let around = (line.passed == Tri::Maybe).then_some(state);
        join(passed, around).map(|state| State {
            ct: self.ct_after(state),
            ..state
        })
    }

    /// In front of conntrack a packet carries no entry, unless it came over loopback.
    fn ct_view(&self, line: &Line<'_>, entry: State) -> CtView {
        if !matches!(self.hook, Hook::Prerouting | Hook::Output | Hook::Ingress) {
            return entry.ct;
        }
        if self.hook != Hook::Ingress && line.base.priority >= CONNTRACK {
            return entry.ct;
        }
        match &self.facts.iif {
            Interface::Named(name) if name != "lo" => CtView::None,
            Interface::None => CtView::None,
            Interface::Named(_) | Interface::Unknown => CtView::Unknown,
        }
    }

    /// The event tells what conntrack made of the packet in the end.
    const fn ct_after(&self, state: State) -> CtView {
        match (self.facts.ct.state, state.ct) {
            (None, CtView::Untracked) => CtView::Untracked,
            _ => CtView::AsFacts,
        }
    }
}

fn policy(line: &Line<'_>, certain: bool, state: State) -> Found {
    let text = if line.table.backend.is_iptables() {
        "-P {} DROP"
    } else {
        "policy drop"
    };
    let candidate = Candidate {
        backend: line.table.backend,
        family: line.table.family,
        hook: line.base.hook,
        table: line.table.name.clone(),
        chain: line.chain.name.clone(),
        rule: None,
        text: text.replace("{}", &line.chain.name),
        comment: None,
        fate: Fate::Drop,
        certain,
        counter: line.base.counter,
        element: None,
        via: Vec::new(),
    };
    Found {
        candidate,
        mark: state.mark,
    }
}
