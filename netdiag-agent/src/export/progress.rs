//! What the trace is doing, on standard error, where somebody is watching.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// One line that changes while the trace runs. Silent unless standard error is a terminal.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    /// `wanted`: false for a run that must leave the terminal alone.
    pub fn new(wanted: bool) -> Self {
        let watched = wanted && io::stderr().is_terminal();
        let target = if watched {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        if watched {
            bar.enable_steady_tick(Duration::from_millis(120));
        }
        Self { bar }
    }

    pub fn attached(&self, programs: usize, interfaces: usize) {
        self.bar.set_message(format!(
            "attached {programs} programs, watching {interfaces} interfaces; waiting for packets"
        ));
    }

    pub fn flows(&self, flows: usize, failing: usize) {
        let noun = if flows == 1 { "flow" } else { "flows" };
        self.bar
            .set_message(format!("{flows} {noun} seen, {failing} failing"));
    }

    /// The trace has ended; flows still open are waited for.
    pub fn draining(&self) {
        self.bar.set_message("waiting for the last answers");
    }

    /// Writes something else to the terminal while the line is out of the way.
    pub fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        self.bar.suspend(write)
    }

    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}
