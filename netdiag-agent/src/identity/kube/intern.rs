//! One copy of each text: the labels of ten thousand pods repeat a few hundred.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use crate::inventory::cluster::Labels;

#[derive(Debug, Default)]
pub struct Interner(HashSet<Arc<str>>);

impl Interner {
    pub fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.get(text) {
            return Arc::clone(known);
        }
        let new: Arc<str> = text.into();
        self.0.insert(Arc::clone(&new));
        new
    }

    pub fn labels(&mut self, labels: Option<&BTreeMap<String, String>>) -> Labels {
        let pairs = labels.into_iter().flatten();
        pairs
            .map(|(key, value)| (self.text(key), self.text(value)))
            .collect()
    }

    /// Forgets texts that nobody else holds.
    pub fn sweep(&mut self) {
        self.0.retain(|text| Arc::strong_count(text) > 1);
    }
}
