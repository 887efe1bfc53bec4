//! What the node's NAT rules say of a flow that leaves a pod: which gives it another source, which keeps it from one.

use std::net::SocketAddr;

use super::case::Case;
use super::firewall::address_type;
use super::rule_component::component;
use super::types::{Component, HopName, NatKind};
use crate::event::{CtStatus, Tuple};
use crate::flow::place::{Leg, Stage};
use crate::flow::record::{Direction, Sighting};
use crate::inventory::Role;
use crate::ruleset::{
    Candidate, CtFacts, CtState, Interface, Owner, PacketFacts, Ruleset, Translation, command,
    exempted, owner, place, translation,
};

pub(super) struct Masquerade<'a> {
    ruleset: &'a Ruleset,
    translation: Translation,
    facts: PacketFacts,
}

/// A rule, in the words of a verdict.
pub(super) struct Named {
    pub component: Component,
    pub owner: Owner,
    /// `rule 3 of IP-MASQ-AGENT (table nat) lets it go untranslated`
    pub place: String,
    /// The destinations it names: a network, an address or a set.
    pub destinations: Option<String>,
    /// What takes it away, where that is the thing to do.
    pub undo: Vec<String>,
}

impl<'a> Masquerade<'a> {
    /// `None`: the rules are not known, or it was not seen leaving.
    pub fn of(case: &Case<'a>) -> Option<Self> {
        let node = case.inventory.node_netns()?;
        let ruleset = &case.inventory.rules(node)?.after.ruleset;
        let flow = case.flow;
        let dnat = flow.nat.iter().find(|nat| nat.kind == NatKind::Dnat);
        let exit = flow
            .of(Direction::Original)
            .find(|sighting| leaves(sighting))?;
        let tuple = Tuple {
            dst: dnat.map_or(flow.tuple.dst, |nat| nat.after),
            ..flow.tuple
        };
        let translated = if dnat.is_some() {
            CtStatus::DST_NAT | CtStatus::DST_NAT_DONE
        } else {
            0
        };
        let facts = PacketFacts {
            oif: interface(case, exit),
            ct: CtFacts {
                state: Some(CtState::New),
                status: Some(translated),
                reply: Some(false),
                original: Some(flow.tuple),
                mark: None,
            },
            fragment: Some(false),
            src_type: address_type(case, node, tuple.src.ip()),
            dst_type: address_type(case, node, tuple.dst.ip()),
            ..PacketFacts::of(&tuple)
        };
        Some(Self {
            ruleset,
            translation: translation(ruleset, &facts),
            facts,
        })
    }

    /// The one rule that keeps it from a translation it would have had.
    pub fn spared(&self) -> Option<Named> {
        let due = self.translation.translating.iter().any(|rule| rule.certain);
        match self.translation.sparing.as_slice() {
            [only] if !due => Some(self.named(only)),
            _ => None,
        }
    }

    /// kube-proxy may have done it, on purpose: of a Service asked for under an address from outside the cluster, the answer
    /// has to pass the node again.
    pub fn is_of_service(&self) -> bool {
        let mut rules = self.translation.translating.iter();
        self.facts.ct.status.is_some_and(|status| status != 0)
            && rules.any(|rule| owner(rule, self.ruleset) == Owner::KubeProxy)
    }

    /// The one rule that certainly translates it.
    pub fn due(&self) -> Option<Named> {
        let rule = self.translation.translating.first()?;
        rule.certain.then(|| self.named(rule))
    }

    /// The one rule that may have translated it.
    pub fn translated(&self) -> Option<Named> {
        match self.translation.translating.as_slice() {
            [only] => Some(self.named(only)),
            [first, ..] if first.certain => Some(self.named(first)),
            _ => None,
        }
    }

    fn named(&self, rule: &Candidate) -> Named {
        let owner = owner(rule, self.ruleset);
        let destination = SocketAddr::new(self.facts.dst, 0).ip();
        // Of a rule that translates all but some, the exception is to go and not the rule.
        let translates = ["MASQUERADE", "SNAT", "masquerade", "snat"]
            .iter()
            .any(|word| rule.text.contains(word));
        Named {
            component: component(rule, owner, rule.fate.name()),
            owner,
            place: place(rule),
            destinations: exempted(self.ruleset, rule, destination),
            undo: if translates || owner != Owner::Plain {
                Vec::new()
            } else {
                vec![command(rule)]
            },
        }
    }
}

/// On its way out of the node, or into another pod of it.
fn leaves(sighting: &Sighting) -> bool {
    let hop = sighting.spot.hop;
    sighting.spot.leg == Leg::Node
        && (hop == HopName::NicEgress
            || (hop == HopName::PodVeth && sighting.spot.stage == Stage::Transmit))
}

/// As POSTROUTING sees it: for the port of a bridge that is the bridge, which is not told here.
fn interface(case: &Case<'_>, exit: &Sighting) -> Interface {
    let bridges = case.inventory.links().any(|link| link.role == Role::Bridge);
    match &exit.ifname {
        Some(name) if exit.spot.hop == HopName::NicEgress || !bridges => {
            Interface::Named(name.to_string())
        }
        _ => Interface::Unknown,
    }
}
