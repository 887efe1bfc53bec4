//! The last revision of each flow, in the order in which the flows were first decided. Bounded.

use std::collections::{BTreeMap, HashMap};

use super::Context;
use crate::verdict::Verdict;

/// Flows kept for the end of a run; with some 3 KiB each they stay below 24 MiB.
const CAPACITY: usize = 8192;

pub(super) struct Latest {
    capacity: usize,
    next: u64,
    /// By order of arrival.
    entries: BTreeMap<u64, Entry>,
    /// Place of each uuid in `entries`.
    places: HashMap<String, u64>,
    omitted: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub verdict: Verdict,
    pub context: Context,
}

impl Default for Latest {
    fn default() -> Self {
        Self::with_capacity(CAPACITY)
    }
}

impl Latest {
    fn with_capacity(capacity: usize) -> Self {
        Self {
            capacity,
            next: 0,
            entries: BTreeMap::new(),
            places: HashMap::new(),
            omitted: 0,
        }
    }

    pub fn insert(&mut self, verdict: &Verdict, context: &Context) {
        let entry = Entry {
            verdict: verdict.clone(),
            context: context.clone(),
        };
        if let Some(place) = self.places.get(&verdict.uuid) {
            self.entries.insert(*place, entry);
            return;
        }
        if self.entries.len() >= self.capacity && !self.make_room(verdict.outcome.is_failing()) {
            return;
        }
        self.places.insert(verdict.uuid.clone(), self.next);
        self.entries.insert(self.next, entry);
        self.next += 1;
    }

    /// Drops the oldest healthy flow; without one, the newcomer stays out. Failing flows are what the reader came for.
    fn make_room(&mut self, for_failing: bool) -> bool {
        self.omitted += 1;
        if !for_failing {
            return false;
        }
        let healthy = self
            .entries
            .iter()
            .find(|(_, entry)| !entry.verdict.outcome.is_failing());
        let Some(place) = healthy.map(|(place, _)| *place) else {
            return false;
        };
        if let Some(entry) = self.entries.remove(&place) {
            self.places.remove(&entry.verdict.uuid);
        }
        true
    }

    /// Everything kept, and how many flows were not.
    pub fn take(&mut self) -> (Vec<Entry>, u64) {
        self.places.clear();
        (
            std::mem::take(&mut self.entries).into_values().collect(),
            std::mem::take(&mut self.omitted),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::fixtures;

    fn named(uuid: &str, verdict: Verdict) -> Verdict {
        Verdict {
            uuid: uuid.to_owned(),
            ..verdict
        }
    }

    fn uuids(latest: &mut Latest) -> (Vec<String>, u64) {
        let (entries, omitted) = latest.take();
        (
            entries
                .into_iter()
                .map(|entry| entry.verdict.uuid)
                .collect(),
            omitted,
        )
    }

    #[test]
    fn a_later_revision_replaces_the_earlier_in_place() {
        let context = fixtures::context();
        let mut latest = Latest::default();
        latest.insert(&named("a", fixtures::delivered()), &context);
        latest.insert(&named("b", fixtures::delivered()), &context);
        latest.insert(
            &Verdict {
                revision: 2,
                ..named("a", fixtures::firewall_drop())
            },
            &context,
        );
        let (entries, omitted) = latest.take();
        assert_eq!(omitted, 0);
        assert_eq!(entries.len(), 2);
        assert_eq!(
            (
                entries[0].verdict.uuid.as_str(),
                entries[0].verdict.revision
            ),
            ("a", 2)
        );
    }

    #[test]
    fn a_full_table_gives_up_healthy_flows_first_and_counts_them() {
        let context = fixtures::context();
        let mut latest = Latest::with_capacity(2);
        latest.insert(&named("healthy", fixtures::delivered()), &context);
        latest.insert(&named("broken", fixtures::firewall_drop()), &context);
        latest.insert(&named("late healthy", fixtures::delivered()), &context);
        latest.insert(&named("late broken", fixtures::firewall_drop()), &context);
        latest.insert(&named("too late", fixtures::firewall_drop()), &context);
        let expected = vec!["broken".to_owned(), "late broken".to_owned()];
        assert_eq!(uuids(&mut latest), (expected, 3));
    }
}
