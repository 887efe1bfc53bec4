//! `--explain-rule`: trace tables in the namespaces whose rules may decide on the flow, and what the kernel says through
//! them.

use std::net::IpAddr;

use crate::event::Event;
use crate::identity::rule_trace::{RuleTrace, Scope};
use crate::identity::{NetnsHandle, Target};
use crate::inventory::{BlindSpot, Delta};
use crate::ruleset::Ruleset;

/// Name of the option, in blind spots.
const OPTION: &str = "--explain-rule";

/// Gone, with their tables, when dropped.
#[derive(Default)]
pub(super) struct Rulings(Vec<RuleTrace>);

impl Rulings {
    /// In the node and the traced pod; what cannot be traced comes back as blind spots.
    pub(super) fn start(
        target: &Target,
        targets: &[(Option<IpAddr>, Option<u16>)],
        rules: &[Delta],
    ) -> (Self, Vec<BlindSpot>) {
        let mut running = Self::default();
        let mut blind = Vec::new();
        let mut spot = |why: String| {
            blind.push(BlindSpot {
                what: OPTION.to_owned(),
                why,
            });
        };
        for namespace in std::iter::once(&target.node).chain(&target.pod) {
            let known = ruleset(namespace, rules);
            if known.is_some_and(Ruleset::has_legacy) {
                spot(format!(
                    "{}: the kernel does not trace rules of iptables-legacy here; those are only evaluated",
                    namespace.label()
                ));
            }
            let scope = Scope {
                addresses: target.pod_addresses.clone(),
                targets: targets.to_vec(),
                tracked: known.is_some_and(Ruleset::tracks_connections),
                bridge: known.is_some_and(Ruleset::filters_bridges),
            };
            match RuleTrace::start(namespace, &scope) {
                Ok(trace) => running.0.push(trace),
                Err(error) => spot(error.to_string()),
            }
        }
        (running, blind)
    }

    /// What the kernel said since the last call.
    pub(super) fn events(&mut self) -> Vec<Event> {
        self.0.iter_mut().flat_map(RuleTrace::events).collect()
    }
}

fn ruleset<'a>(namespace: &NetnsHandle, rules: &'a [Delta]) -> Option<&'a Ruleset> {
    rules.iter().find_map(|delta| match delta {
        Delta::Rules(reading) if reading.netns == namespace.netns() => Some(&reading.ruleset),
        _ => None,
    })
}
