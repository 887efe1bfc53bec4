//! The one door into the core: inputs go in, verdicts come out.
//!
//! Pure: no I/O, no clock (time is an argument), no async. It cannot fail.

use crate::event::{Event, HookId, Ktime, Span};
use crate::inventory::{Delta, Inventory};
use crate::verdict::Verdict;

/// Everything that can happen to the core.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    Event(Event),
    Inventory(Delta),
    /// Events or map entries lost since the last such input, at this hook.
    Lost { hook: HookId, at: Ktime, count: u64 },
    /// It is now this late; deadlines may have passed.
    Tick(Ktime),
    /// The trace ends: decide what can be decided.
    Stop(Ktime),
}

/// What the user may tune.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// A request without an answer for this long has none.
    pub no_answer: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self { no_answer: Span::millis(3000) }
    }
}

/// Owns all state.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    inventory: Inventory,
}

impl Engine {
    pub fn new(config: Config) -> Self {
        Self { config, inventory: Inventory::default() }
    }

    /// Takes one input; returns the verdicts it decided, in order.
    pub fn step(&mut self, input: Input) -> Vec<Verdict> {
        let _ = (&self.config, input);
        Vec::new()
    }

    /// Some flow is still undecided and may yet be.
    pub fn pending(&self) -> bool {
        false
    }

    pub fn inventory(&self) -> &Inventory {
        &self.inventory
    }
}
