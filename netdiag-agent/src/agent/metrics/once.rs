//! What has already been counted of a flow, so that its next revision adds only what is new.

use std::collections::{HashMap, VecDeque};

use crate::export::record::{Action, FlowVerdict};

/// Flows remembered; a revision of one forgotten counts as a flow of its own.
const REMEMBERED: usize = 16_384;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Packets dropped.
    pub drops: u64,
    /// Connection attempts.
    pub syns: u64,
}

#[derive(Debug, Default)]
pub struct Once {
    flows: HashMap<String, Counted>,
    order: VecDeque<String>,
}

impl Once {
    /// What was counted before; `None` for a new flow.
    pub fn remember(&mut self, verdict: &FlowVerdict) -> Option<Counted> {
        let drops = verdict
            .hops
            .iter()
            .rev()
            .find(|hop| hop.action == Action::Dropped)
            .map_or(0, |hop| hop.count.unwrap_or(1));
        let now = Counted {
            drops,
            syns: verdict.flow_key.syn_count.unwrap_or(1).into(),
        };
        let before = self.flows.get(&verdict.uuid).copied();
        let most = before.map_or(now, |before| Counted {
            drops: before.drops.max(now.drops),
            syns: before.syns.max(now.syns),
        });
        self.flows.insert(verdict.uuid.clone(), most);
        if before.is_none() {
            self.order.push_back(verdict.uuid.clone());
            if self.order.len() > REMEMBERED
                && let Some(oldest) = self.order.pop_front()
            {
                self.flows.remove(&oldest);
            }
        }
        before
    }
}
