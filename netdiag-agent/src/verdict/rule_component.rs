//! A rule of the packet filter, as a verdict names it.

use super::types::Component;
use crate::ruleset::{Candidate, Owner, policies};

/// `verdict` is what it does to the packet: `DROP`, `REJECT`, `SNAT`, `RETURN`.
pub(super) fn component(rule: &Candidate, owner: Owner, verdict: &str) -> Component {
    let tool = if rule.backend.is_iptables() {
        "iptables"
    } else {
        "nft"
    };
    let kind = if rule.rule.is_some() {
        "rule"
    } else {
        "policy"
    };
    Component {
        kind: format!("{tool}_{kind}"),
        backend: Some(rule.backend.name().to_owned()),
        family: Some(rule.family.name().to_owned()),
        table: Some(rule.table.clone()),
        chain: Some(rule.chain.clone()),
        rule: rule.rule,
        text: Some(rule.text.clone()).filter(|text| !text.is_empty()),
        verdict: Some(verdict.to_owned()),
        owner: Some(owner.name().to_owned()).filter(|_| owner != Owner::Plain),
        policies: policies(rule),
        ..Component::default()
    }
}
