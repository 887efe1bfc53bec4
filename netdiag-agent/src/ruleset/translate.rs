//! Which rules decide on the source address of a packet that leaves the node?

use std::net::IpAddr;

use super::evaluate::{Candidate, Fate};
use super::facts::PacketFacts;
use super::matching::{View, number};
use super::model::{
    Chain, Compare, Element, Field, Hook, Match, Nat, Operand, Pattern, Rule, Ruleset, Step, Table,
    Target, Tri,
};
use super::order::{base_chains, changed_mark_bits};
use super::state::State;
use super::walk::Walk;

/// Of the first packet of a connection, at POSTROUTING.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Translation {
    /// Rules that would or could give it another source, in the order it meets them.
    pub translating: Vec<Candidate>,
    /// Rules that keep it from one because of where it goes.
    pub sparing: Vec<Candidate>,
}

/// The packet's way through the chains that translate.
pub fn translation(ruleset: &Ruleset, facts: &PacketFacts) -> Translation {
    let groups = base_chains(ruleset, Hook::Postrouting, facts);
    let state = State::on_entry(facts, changed_mark_bits(groups.iter().flatten()));
    let mut found = Vec::new();
    let mut certain = true;
    for line in groups.iter().flatten().filter(|line| line.base.nat) {
        let view = View {
            ruleset,
            table: line.table,
            facts,
            hook: Hook::Postrouting,
            before_nat: true,
            at_bridge: false,
        };
        let Some(at) = line.table.position(&line.chain.name) else {
            continue;
        };
        let passed = line.passed == Tri::Yes;
        let flow = Walk::translating(view, line, &mut found).chain(at, state, certain && passed);
        certain &= !flow.lost;
    }
    let mut translation = Translation::default();
    for found in found {
        match found.candidate.fate {
            Fate::Translated => translation.translating.push(found.candidate),
            Fate::Spared => translation.sparing.push(found.candidate),
            Fate::Drop | Fate::Reject | Fate::Handed => {}
        }
    }
    translation
}

/// This rule lets a packet be for the sake of its destination: one that ends the chain in front of a rule that
/// translates, or one that translates all but some.
pub fn spares(view: &View<'_>, chain: &Chain, rule: &Rule, state: &State) -> Option<Tri> {
    match &rule.target {
        Target::Nat(Nat::Masquerade | Nat::Source) => excepts(view, rule, state),
        Target::Return | Target::Accept => {
            let by_destination = tests(rule).any(is_destination);
            let behind = chain
                .rules
                .iter()
                .skip_while(|other| other.at != rule.at)
                .skip(1);
            let translated = behind
                .filter(|other| translates(view.table, other))
                .any(|other| all(view, other, state) != Tri::No);
            (by_destination && translated).then(|| all(view, rule, state))
        }
        _ => None,
    }
}

fn tests(rule: &Rule) -> impl Iterator<Item = &Compare> {
    rule.steps.iter().filter_map(|step| match step {
        Step::Match(Match::Compare(compare)) => Some(compare),
        _ => None,
    })
}

fn is_destination(compare: &Compare) -> bool {
    let mut fields = compare.key.iter().map(|selector| selector.field);
    fields.any(|field| matches!(field, Field::Destination(_)))
}

fn all(view: &View<'_>, rule: &Rule, state: &State) -> Tri {
    let met = rule.steps.iter().map(|step| match step {
        Step::Match(test) => view.meets(test, state),
        Step::Effect(_) => Tri::Yes,
    });
    met.fold(Tri::Yes, Tri::and)
}

/// A rule that translates, or leads to one.
fn translates(table: &Table, rule: &Rule) -> bool {
    let is_nat = |rule: &Rule| matches!(rule.target, Target::Nat(Nat::Masquerade | Nat::Source));
    match &rule.target {
        Target::Jump(to) | Target::Goto(to) => {
            let chain = table.chain(to);
            chain.is_some_and(|chain| chain.rules.iter().any(is_nat))
        }
        _ => is_nat(rule),
    }
}

/// Everything but `! -d NETWORK` speaks for it.
fn excepts(view: &View<'_>, rule: &Rule, state: &State) -> Option<Tri> {
    let mut excepted = false;
    let mut rest = Tri::Yes;
    for step in &rule.steps {
        let Step::Match(test) = step else { continue };
        let met = view.meets(test, state);
        match test {
            Match::Compare(compare)
                if compare.negate && is_destination(compare) && met == Tri::No =>
            {
                excepted = true;
            }
            _ => rest = rest.and(met),
        }
    }
    (excepted && rest != Tri::No).then_some(rest)
}

/// The destinations a rule names that hold this one: a network, an address, or a set.
pub fn exempted(ruleset: &Ruleset, candidate: &Candidate, destination: IpAddr) -> Option<String> {
    let table = ruleset.tables.iter().find(|table| {
        (table.backend, table.family) == (candidate.backend, candidate.family)
            && table.name == candidate.table
    })?;
    let chain = table.chain(&candidate.chain)?;
    let rule = chain
        .rules
        .iter()
        .find(|rule| Some(rule.at) == candidate.rule)?;
    tests(rule)
        .filter(|compare| is_destination(compare))
        .find_map(|compare| match &compare.operand {
            Operand::Set(name) => Some(format!("set {name}")),
            Operand::In(elements) => elements
                .iter()
                .find_map(|element| network(element, destination)),
            Operand::AnyBit => None,
        })
}

/// `10.0.0.0/8`, where the pattern is that and holds the address.
fn network(element: &Element, address: IpAddr) -> Option<String> {
    let [Pattern::Range(low, high)] = element.0.as_slice() else {
        return None;
    };
    if !(*low..=*high).contains(&number(address)) {
        return None;
    }
    let hosts = low ^ high;
    if hosts & hosts.wrapping_add(1) != 0 || low & hosts != 0 {
        return None;
    }
    let (width, first): (u32, IpAddr) = match address {
        IpAddr::V4(_) => (32, std::net::Ipv4Addr::from_bits(*low as u32).into()),
        IpAddr::V6(_) => (128, std::net::Ipv6Addr::from_bits(*low).into()),
    };
    Some(format!("{first}/{}", width - hosts.count_ones()))
}
