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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{CtStatus, Proto};

    fn tuple(src: &str, dst: &str) -> Tuple {
        let parse = |text: &str| text.parse().expect("a socket address");
        Tuple {
            proto: Proto::TCP,
            src: parse(src),
            dst: parse(dst),
        }
    }

    fn entry(port: u16) -> Conntrack {
        Conntrack {
            status: CtStatus(0),
            reply: false,
            related: false,
            orig: tuple(&format!("10.0.0.2:{port}"), "10.96.0.1:80"),
            answer: tuple("198.51.100.1:8080", &format!("192.0.2.1:{port}")),
            tcp_state: 3,
            zone: 0,
        }
    }

    #[test]
    fn every_shape_of_its_packets_leads_to_the_entry() {
        let mut known = Connections::default();
        assert!(known.insert(entry(1)) && known.insert(entry(2)));
        let one = entry(1);
        for (tuple, reply) in ways(&one) {
            assert_eq!(known.of(&tuple), Some(Conntrack { reply, ..one }));
        }
        known.forget(&one.answer);
        assert!(
            ways(&one)
                .iter()
                .all(|(tuple, _)| known.of(tuple).is_none())
        );
        assert_eq!(known.of(&entry(2).orig), Some(entry(2)));
    }

    #[test]
    fn an_entry_read_again_replaces_the_older() {
        let mut known = Connections::default();
        let moved = Conntrack {
            answer: entry(9).answer,
            ..entry(1)
        };
        assert!(known.insert(entry(1)) && known.insert(moved));
        assert_eq!(known.of(&entry(1).answer), None);
        assert_eq!(known.iter().count(), 1);
    }
}
