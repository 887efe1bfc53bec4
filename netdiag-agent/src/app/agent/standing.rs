//! The trace the agent always runs, at the level the budget allows.

use std::time::{Duration, Instant};

use super::worker::Worker;
use crate::agent::metrics::HookHealth;
use crate::agent::watchdog::Level;

/// Between a trace that failed and the next try; doubles up to `MAX_WAIT`.
const WAIT: Duration = Duration::from_secs(1);
const MAX_WAIT: Duration = Duration::from_mins(1);

/// How long a trace must have lasted for its end to count as a fresh trouble.
const SOUND: Duration = Duration::from_mins(1);

/// Where it is.
pub(super) enum State {
    /// Not wanted, by configuration or by the budget.
    Off,
    Running(Worker),
    /// Asked to end, so that another can take its place.
    Ending(Worker),
    /// Failed; to be tried again.
    Waiting {
        until: Instant,
        why: String,
    },
}

pub(super) struct Standing {
    pub state: State,
    /// Attached.
    pub ready: bool,
    pub level: Level,
    /// What was last told of the running one.
    pub hooks: Vec<HookHealth>,
    started: Instant,
    wait: Duration,
}

impl Standing {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            state: State::Off,
            ready: false,
            level: Level::Full,
            hooks: Vec::new(),
            started: now,
            wait: WAIT,
        }
    }

    /// The number of the trace at work.
    pub(super) fn worker(&self) -> Option<u64> {
        match &self.state {
            State::Running(worker) | State::Ending(worker) => Some(worker.id),
            State::Off | State::Waiting { .. } => None,
        }
    }

    pub(super) fn started(&mut self, worker: Worker, now: Instant) {
        self.state = State::Running(worker);
        self.ready = false;
        self.hooks.clear();
        self.started = now;
    }

    /// On its way to another level: what is spent meanwhile says nothing of either.
    pub(super) const fn in_transition(&self) -> bool {
        !self.ready && matches!(self.state, State::Running(_) | State::Ending(_))
    }

    /// Asks the trace at work to end; `false` when there is none.
    pub(super) fn stop(&mut self) -> bool {
        self.ready = false;
        self.state = match std::mem::replace(&mut self.state, State::Off) {
            State::Running(worker) => {
                worker.stop();
                State::Ending(worker)
            }
            State::Ending(worker) => State::Ending(worker),
            State::Off | State::Waiting { .. } => return false,
        };
        true
    }

    /// The trace at work has ended by itself.
    pub(super) fn failed(&mut self, why: String, now: Instant) {
        if now.duration_since(self.started) > SOUND {
            self.wait = WAIT;
        }
        self.ready = false;
        self.state = State::Waiting {
            until: now + self.wait,
            why,
        };
        self.wait = (self.wait * 2).min(MAX_WAIT);
    }

    /// Why it does not observe, if it does not.
    pub(super) fn trouble(&self) -> Option<&str> {
        match &self.state {
            State::Waiting { why, .. } => Some(why),
            _ => None,
        }
    }
}
