//! `NETPOL_DROP`: a chain or table of a network policy engine dropped the packet.

mod fix;

use super::{Page, Rule, death};
use crate::flow::record::Direction;
use crate::inventory::cluster::{Kind, Policy};
use crate::inventory::policy::{Conversation, End, Ruling, rulings};
use crate::verdict::case::Case;
use crate::verdict::finding::Finding;
use crate::verdict::firewall;
use crate::verdict::types::{Cause, NatKind};

#[derive(Debug)]
pub struct NetpolDrop;

impl Rule for NetpolDrop {
    fn cause(&self) -> Cause {
        Cause("NETPOL_DROP")
    }

    fn page(&self) -> Page {
        Page {
            what_happened: "A network policy forbids this traffic: a rule written by the policy engine (Calico, kube-router, Azure NPM …) dropped the packet.",
            how_we_know: "The kernel freed the packet in a netfilter hook, and of that hook's rules only one in a chain or table of a policy engine is left that drops it. Where the cluster can be asked, its NetworkPolicies are evaluated for both ends: which select the pod, and whether any allows the conversation.",
            what_else: "Chains of an engine that was removed, or of a policy that was deleted, can stay behind.",
            what_to_do: "Read the policies that select the pod (`kubectl get networkpolicy -A`), in both directions, and allow this peer and port. Do not delete the rule: the engine writes it again.",
        }
    }

    fn judge(&self, case: &Case<'_>) -> Option<Finding> {
        let dropped = firewall::dropped(case)?;
        if !dropped.is_policy() || dropped.service().is_some() {
            return None;
        }
        let finding = death(self.cause(), dropped.death)
            .component(dropped.component(case.flow.tuple.is_ipv6()));
        let undo = dropped.undo()?;
        let finding = dropped.tell(finding).remedy(undo.summary, undo.commands);
        if dropped.death.group.direction == Direction::Reply {
            // Policies allow answers with what they answer: it is not they that forbid this.
            return Some(finding);
        }
        Some(by_policies(finding, case))
    }
}

/// What the cluster's own policies say of it.
fn by_policies(mut finding: Finding, case: &Case<'_>) -> Finding {
    let said = conversation(case);
    let rulings = rulings(&case.inventory.cluster, &said);
    for ruling in &rulings {
        finding = finding.evidence("networkpolicy", None, told(ruling, &said));
    }
    let forbidding: Vec<&Ruling<'_>> = rulings.iter().filter(|one| one.forbids()).collect();
    if let Some(first) = forbidding.first() {
        let names = forbidding.iter().flat_map(|ruling| &ruling.selecting);
        let component = finding.component.get_or_insert_default();
        for name in names.map(|policy| policy.name.to_string()) {
            if !component.policies.contains(&name) {
                component.policies.push(name);
            }
        }
        let (summary, commands) = fix::of(first, &said, &case.inventory.cluster);
        return finding.remedy(summary, commands);
    }
    if case.inventory.cluster.synced(Kind::Policies) {
        let why = if rulings.is_empty() {
            "no NetworkPolicy of the cluster selects these pods"
        } else {
            "the NetworkPolicies of the cluster allow this"
        };
        finding = finding.caveat(format!(
            "{why}: the engine's rules are behind, or come from policies of its own"
        ));
    }
    finding
}

fn conversation<'a>(case: &Case<'a>) -> Conversation<'a> {
    let tuple = case.flow.tuple;
    let mut nats = case.flow.nat.iter();
    let dnat = nats.find(|nat| nat.kind == NatKind::Dnat);
    let to = dnat.map_or(tuple.dst, |nat| nat.after);
    let at = case.flow.first;
    let end = |address| End {
        address,
        pod: case.inventory.cluster.pod_at(address, at),
    };
    Conversation {
        proto: tuple.proto,
        port: to.port(),
        from: end(tuple.src.ip()),
        to: end(to.ip()),
        at,
    }
}

/// `egress of shop/web: deny-all selects it, and nothing allows tcp/5432 to shop/db`
fn told(ruling: &Ruling<'_>, said: &Conversation<'_>) -> String {
    let (side, pod) = (ruling.side.name(), &ruling.pod.name);
    let names = |policies: &[&std::sync::Arc<Policy>]| {
        let names = policies.iter().map(|policy| policy.name.name.to_string());
        names.collect::<Vec<_>>().join(", ")
    };
    let selecting = names(&ruling.selecting);
    let what = fix::what(ruling, said);
    if ruling.forbids() {
        format!("{side} of {pod}: selected by {selecting}, and none of them allows {what}")
    } else {
        let allowing = names(&ruling.allowing);
        format!("{side} of {pod}: {what} is allowed by {allowing}")
    }
}
