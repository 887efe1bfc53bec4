//! Connections a namespace's conntrack table was read to hold: those older than the trace, and those read on demand.

use std::collections::{BTreeMap, HashMap};

use crate::event::{Conntrack, Tuple};

/// Entries kept per namespace; a node's table may hold millions.
const LIMIT: usize = 16_384;

/// Found by any tuple their packets travel under.
#[derive(Clone, Debug, Default)]
pub struct Connections {
    entries: BTreeMap<Tuple, Conntrack>,
    /// A packet's tuple, the entry's original tuple, and whether the packet is an answer.
    ways: HashMap<Tuple, (Tuple, bool)>,
}

impl Connections {
    /// Adds an entry, or replaces the one of the same original tuple; false when there is no room.
    pub(super) fn insert(&mut self, entry: Conntrack) -> bool {
        self.forget(&entry.orig);
        if self.entries.len() >= LIMIT {
            return false;
        }
        for (tuple, reply) in ways(&entry) {
            self.ways.insert(tuple, (entry.orig, reply));
        }
        self.entries.insert(entry.orig, entry);
        true
    }

    /// Forgets the entry a packet of this tuple belongs to.
    pub(super) fn forget(&mut self, tuple: &Tuple) {
        let Some(orig) = self.ways.get(tuple).map(|(orig, _)| *orig) else {
            return;
        };
        if let Some(entry) = self.entries.remove(&orig) {
            for (tuple, _) in ways(&entry) {
                // The tuple may be another entry's by now.
                if self
                    .ways
                    .get(&tuple)
                    .is_some_and(|(owner, _)| *owner == orig)
                {
                    self.ways.remove(&tuple);
                }
            }
        }
    }

    /// The entry of a packet, as if the packet carried it.
    pub fn of(&self, tuple: &Tuple) -> Option<Conntrack> {
        let (orig, reply) = *self.ways.get(tuple)?;
        let entry = self.entries.get(&orig)?;
        Some(Conntrack { reply, ..*entry })
    }

    pub fn iter(&self) -> impl Iterator<Item = &Conntrack> {
        self.entries.values()
    }
}

/// The tuples of an entry's packets: before and after translation, both ways.
fn ways(entry: &Conntrack) -> [(Tuple, bool); 4] {
    [
        (entry.orig, false),
        (entry.answer.reversed(), false),
        (entry.answer, true),
        (entry.orig.reversed(), true),
    ]
}
