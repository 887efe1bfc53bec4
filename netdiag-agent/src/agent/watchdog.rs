//! Keeps the agent within its budget: follows less when it costs too much, more again when that seems safe.
//!
//! Pure: it is told what was used in the last second, and says what to do.

use std::fmt;
use std::time::Duration;

use super::config::Budget;

/// How much is followed; each step costs less than the one before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Connection attempts at every interface, and deaths.
    #[default]
    Full,
    /// Deaths only: nothing is attached to interfaces.
    DropsOnly,
    /// Nothing is attached at all.
    Paused,
}

impl Level {
    pub const ALL: [Self; 3] = [Self::Full, Self::DropsOnly, Self::Paused];

    /// As metrics and the API spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::DropsOnly => "drops_only",
            Self::Paused => "paused",
        }
    }

    const fn less(self) -> Option<Self> {
        match self {
            Self::Full => Some(Self::DropsOnly),
            Self::DropsOnly => Some(Self::Paused),
            Self::Paused => None,
        }
    }

    const fn more(self) -> Option<Self> {
        match self {
            Self::Full => None,
            Self::DropsOnly => Some(Self::Full),
            Self::Paused => Some(Self::DropsOnly),
        }
    }
}

/// What the agent used since it was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Processor time per time.
    pub cpu: f64,
    pub events_per_second: f64,
}

/// A step to another level, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub from: Level,
    pub to: Level,
    pub reason: Reason,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reason {
    Cpu {
        used: f64,
        allowed: f64,
    },
    Events {
        seen: f64,
        allowed: u64,
    },
    /// It was quiet for this long.
    Recovered(Duration),
}

impl Reason {
    /// For a label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu { .. } => "cpu",
            Self::Events { .. } => "events",
            Self::Recovered(_) => "recovered",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu { used, allowed } => {
                write!(f, "{used:.2} processors used, {allowed} allowed")
            }
            Self::Events { seen, allowed } => {
                write!(f, "{seen:.0} events per second, {allowed} allowed")
            }
            Self::Recovered(quiet) => write!(f, "within budget for {quiet:?}"),
        }
    }
}

/// After a recovery that did not last, the next is tried this many times later; each time again, up to `MAX_PATIENCE`.
const BACK_OFF: u32 = 2;
const MAX_PATIENCE: u32 = 32;

/// A recovery that fails within this many times `patience` did not last.
const LASTED: u32 = 6;

#[derive(Clone, Debug)]
pub struct Watchdog {
    budget: Budget,
    level: Level,
    /// How long it has been over the budget, or within.
    over: Duration,
    within: Duration,
    /// Since the last step up.
    recovered: Option<Duration>,
    /// Factor to `recover_after`.
    caution: u32,
}

impl Watchdog {
    pub fn new(budget: Budget) -> Self {
        Self {
            budget,
            level: Level::Full,
            over: Duration::ZERO,
            within: Duration::ZERO,
            recovered: None,
            caution: 1,
        }
    }

    pub const fn level(&self) -> Level {
        self.level
    }

    /// The budget in force; the level stays until usage says otherwise.
    pub fn set_budget(&mut self, budget: Budget) {
        self.budget = budget;
        self.over = Duration::ZERO;
        self.within = Duration::ZERO;
        self.caution = 1;
    }

    /// Takes the usage of the last `elapsed`; a change is to be carried out by the caller.
    pub fn observe(&mut self, usage: Usage, elapsed: Duration) -> Option<Change> {
        if let Some(recovered) = &mut self.recovered {
            *recovered += elapsed;
            if *recovered > self.budget.patience.0 * LASTED {
                self.recovered = None;
                self.caution = 1;
            }
        }
        let Some(excess) = self.excess(usage) else {
            self.over = Duration::ZERO;
            self.within += elapsed;
            return self.recover();
        };
        self.within = Duration::ZERO;
        self.over += elapsed;
        if self.over < self.budget.patience.0 {
            return None;
        }
        let to = self.level.less()?;
        if self.recovered.take().is_some() {
            self.caution = (self.caution * BACK_OFF).min(MAX_PATIENCE);
        }
        Some(self.step(to, excess))
    }

    fn recover(&mut self) -> Option<Change> {
        let to = self.level.more()?;
        let quiet = self.within;
        if quiet < self.budget.recover_after.0 * self.caution {
            return None;
        }
        self.recovered = Some(Duration::ZERO);
        Some(self.step(to, Reason::Recovered(quiet)))
    }

    fn step(&mut self, to: Level, reason: Reason) -> Change {
        let from = std::mem::replace(&mut self.level, to);
        self.over = Duration::ZERO;
        self.within = Duration::ZERO;
        Change { from, to, reason }
    }

    fn excess(&self, usage: Usage) -> Option<Reason> {
        let budget = &self.budget;
        if usage.cpu > budget.cpu {
            return Some(Reason::Cpu {
                used: usage.cpu,
                allowed: budget.cpu,
            });
        }
        (usage.events_per_second > budget.events_per_second as f64).then_some(Reason::Events {
            seen: usage.events_per_second,
            allowed: budget.events_per_second,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const QUIET: Usage = Usage {
        cpu: 0.01,
        events_per_second: 10.0,
    };
    const FLOOD: Usage = Usage {
        cpu: 0.1,
        events_per_second: 1e6,
    };
    const BUSY: Usage = Usage {
        cpu: 0.9,
        events_per_second: 10.0,
    };

    fn run(watchdog: &mut Watchdog, usage: Usage, seconds: u32) -> Vec<(u32, Level)> {
        (1..=seconds)
            .filter_map(|at| Some((at, watchdog.observe(usage, SECOND)?.to)))
            .collect()
    }

    #[test]
    fn within_the_budget_nothing_changes() {
        let mut watchdog = Watchdog::new(Budget::default());
        assert_eq!(run(&mut watchdog, QUIET, 10_000), []);
    }

    #[test]
    fn a_short_burst_is_borne_and_a_long_one_steps_down_to_a_pause() {
        let mut watchdog = Watchdog::new(Budget::default());
        assert_eq!(run(&mut watchdog, FLOOD, 4), []);
        assert_eq!(run(&mut watchdog, QUIET, 1), []);
        let steps = run(&mut watchdog, FLOOD, 60);
        assert_eq!(steps, [(5, Level::DropsOnly), (10, Level::Paused)]);
    }

    #[test]
    fn the_reason_says_what_was_too_much() {
        let mut watchdog = Watchdog::new(Budget::default());
        run(&mut watchdog, BUSY, 4);
        let change = watchdog.observe(BUSY, SECOND).unwrap();
        assert_eq!(
            change.reason.to_string(),
            "0.90 processors used, 0.3 allowed"
        );
        run(&mut watchdog, FLOOD, 4);
        let change = watchdog.observe(FLOOD, SECOND).unwrap();
        assert_eq!(
            change.reason.to_string(),
            "1000000 events per second, 20000 allowed"
        );
    }

    #[test]
    fn it_recovers_step_by_step() {
        let mut watchdog = Watchdog::new(Budget::default());
        run(&mut watchdog, FLOOD, 10);
        let steps = run(&mut watchdog, QUIET, 200);
        assert_eq!(steps, [(60, Level::DropsOnly), (120, Level::Full)]);
    }

    #[test]
    fn a_recovery_that_fails_is_tried_less_often() {
        let mut watchdog = Watchdog::new(Budget::default());
        run(&mut watchdog, FLOOD, 5);
        assert_eq!(run(&mut watchdog, QUIET, 60), [(60, Level::Full)]);
        assert_eq!(run(&mut watchdog, FLOOD, 5), [(5, Level::DropsOnly)]);
        assert_eq!(run(&mut watchdog, QUIET, 120), [(120, Level::Full)]);
        assert_eq!(run(&mut watchdog, FLOOD, 5), [(5, Level::DropsOnly)]);
        assert_eq!(run(&mut watchdog, QUIET, 240), [(240, Level::Full)]);
        // This time it lasts, and the next trouble is met as the first was.
        assert_eq!(run(&mut watchdog, QUIET, 100), []);
        assert_eq!(run(&mut watchdog, FLOOD, 5), [(5, Level::DropsOnly)]);
        assert_eq!(run(&mut watchdog, QUIET, 60), [(60, Level::Full)]);
    }
}
