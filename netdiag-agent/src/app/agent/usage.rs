//! What this process costs.

use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

use crate::agent::watchdog::Usage;

/// Measures from one look to the next.
pub(super) struct Meter {
    looked: Instant,
    cpu: Duration,
    events: u64,
}

impl Meter {
    pub(super) fn new() -> Self {
        Self {
            looked: Instant::now(),
            cpu: cpu(),
            events: 0,
        }
    }

    /// More events of any trace.
    pub(super) fn events(&mut self, more: u64) {
        self.events += more;
    }

    /// Since the look before, and how long that is ago.
    pub(super) fn look(&mut self) -> (Usage, Duration) {
        let (now, cpu) = (Instant::now(), cpu());
        let elapsed = now.duration_since(self.looked);
        let seconds = elapsed.as_secs_f64().max(1e-3);
        let usage = Usage {
            cpu: cpu.saturating_sub(self.cpu).as_secs_f64() / seconds,
            events_per_second: self.events as f64 / seconds,
        };
        *self = Self {
            looked: now,
            cpu,
            events: 0,
        };
        (usage, elapsed)
    }
}

/// Of this process and of the programs it ran, such as `nft`.
fn cpu() -> Duration {
    let used = |who| {
        getrusage(who).map_or(Duration::ZERO, |usage| {
            span(usage.user_time()) + span(usage.system_time())
        })
    };
    used(UsageWho::RUSAGE_SELF) + used(UsageWho::RUSAGE_CHILDREN)
}

fn span(time: TimeVal) -> Duration {
    Duration::new(time.tv_sec() as u64, time.tv_usec() as u32 * 1000)
}
