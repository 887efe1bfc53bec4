//! A counter whose number of label sets has an upper bound.

use std::collections::HashSet;
use std::fmt::Debug;
use std::hash::Hash;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

/// A set of labels that knows what stands for all there is no room for.
pub trait Overflow {
    fn other() -> Self;
}

pub struct Capped<L: Clone + Debug + Hash + Eq + EncodeLabelSet + Send + Sync + 'static> {
    family: Family<L, Counter>,
    known: HashSet<L>,
    limit: usize,
    overflow: Counter,
}

impl<L: Clone + Debug + Hash + Eq + EncodeLabelSet + Overflow + Send + Sync + 'static> Capped<L> {
    pub fn new((limit, overflow): (usize, Counter)) -> Self {
        Self {
            family: Family::default(),
            known: HashSet::new(),
            limit,
            overflow,
        }
    }

    pub fn family(&self) -> Family<L, Counter> {
        self.family.clone()
    }

    pub fn add(&mut self, labels: &L, more: u64) {
        if more == 0 {
            return;
        }
        if !self.known.contains(labels) {
            if self.known.len() >= self.limit {
                self.overflow.inc_by(more);
                self.family.get_or_create(&L::other()).inc_by(more);
                return;
            }
            self.known.insert(labels.clone());
        }
        self.family.get_or_create(labels).inc_by(more);
    }
}
