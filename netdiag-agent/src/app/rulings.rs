//! `--explain-rule`: trace tables in the namespaces whose rules may decide on the flows, and what the kernel says through
//! them.

use std::net::IpAddr;

use crate::event::Event;
use crate::identity::NetnsHandle;
use crate::identity::rule_trace::{RuleTrace, Scope};
use crate::inventory::{BlindSpot, Inventory};
use crate::ruleset::Ruleset;

/// Name of the option, in blind spots.
const OPTION: &str = "--explain-rule";

/// Gone, with their tables, when dropped.
pub(super) struct Rulings {
    node: NetnsHandle,
    targets: Vec<(Option<IpAddr>, Option<u16>)>,
    running: Vec<RuleTrace>,
}

impl Rulings {
    pub(super) fn new(node: NetnsHandle, targets: Vec<(Option<IpAddr>, Option<u16>)>) -> Self {
        Self {
            node,
            targets,
            running: Vec::new(),
        }
    }

    /// Of these pods, and no others, from now on; of the node's own packets where there are none. What cannot be traced
    /// comes back as blind spots.
    pub(super) fn follow(
        &mut self,
        pods: &[NetnsHandle],
        addresses: &[IpAddr],
        inventory: &Inventory,
    ) -> Vec<BlindSpot> {
        // A new table has the name of the old one.
        self.running.clear();
        let mut blind = Vec::new();
        let mut spot = |why: String| {
            blind.push(BlindSpot {
                what: OPTION.to_owned(),
                why,
            });
        };
        for namespace in std::iter::once(&self.node).chain(pods) {
            let rules = inventory.rules(namespace.netns());
            let known = rules.map(|rules| &rules.after.ruleset);
            if known.is_some_and(Ruleset::has_legacy) {
                spot(format!(
                    "{}: the kernel does not trace rules of iptables-legacy here; those are only evaluated",
                    namespace.label()
                ));
            }
            let scope = Scope {
                addresses: addresses.to_vec(),
                targets: self.targets.clone(),
                tracked: known.is_some_and(Ruleset::tracks_connections),
                bridge: known.is_some_and(Ruleset::filters_bridges),
            };
            match RuleTrace::start(namespace, &scope) {
                Ok(trace) => self.running.push(trace),
                Err(error) => spot(error.to_string()),
            }
        }
        blind
    }

    /// What the kernel said since the last call.
    pub(super) fn events(&mut self) -> Vec<Event> {
        self.running
            .iter_mut()
            .flat_map(RuleTrace::events)
            .collect()
    }
}
