//! An object through time: a verdict is about the moment of its packets, not about the moment it is made.

use std::sync::Arc;

use crate::event::Ktime;

/// Versions kept of an object: packets in flight still need the ones before.
const VERSIONS: usize = 4;

/// Versions of one object, oldest first; `None` while it does not exist.
#[derive(Clone, Debug)]
pub(super) struct Dated<T>(Vec<(Ktime, Option<Arc<T>>)>);

impl<T: PartialEq> Dated<T> {
    pub fn new() -> Self {
        Self(Vec::new())
    }

    pub fn set(&mut self, from: Ktime, version: Option<Arc<T>>) {
        if self.0.last().is_some_and(|(_, last)| *last == version) {
            return;
        }
        if self.0.len() >= VERSIONS {
            self.0.remove(0);
        }
        self.0.push((from, version));
    }

    pub fn now(&self) -> Option<&Arc<T>> {
        self.0.last()?.1.as_ref()
    }

    pub fn at(&self, at: Ktime) -> Option<&Arc<T>> {
        let then = self.0.iter().rev().find(|(from, _)| *from <= at);
        then.and_then(|(_, version)| version.as_ref())
    }
}
