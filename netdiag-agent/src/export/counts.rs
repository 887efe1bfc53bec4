//! How many flows ended how, and the line that says so.

use super::style::{Mark, Tone};
use super::{Style, words};
use crate::verdict::Outcome;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub failing: u64,
    pub undetermined: u64,
    pub delivered: u64,
}

impl Counts {
    pub fn add(&mut self, outcome: Outcome) {
        *self.of(outcome) += 1;
    }

    /// A revision changed how a counted flow ended.
    pub fn replace(&mut self, before: Outcome, after: Outcome) {
        let count = self.of(before);
        *count = count.saturating_sub(1);
        self.add(after);
    }

    fn of(&mut self, outcome: Outcome) -> &mut u64 {
        match rank(outcome) {
            0 => &mut self.failing,
            1 => &mut self.undetermined,
            _ => &mut self.delivered,
        }
    }

    /// The first line, and for a healthy run the only one.
    pub fn line(&self, node: Option<&str>, style: Style) -> String {
        let Self {
            failing,
            undetermined,
            delivered,
        } = *self;
        let all = failing + undetermined + delivered;
        let on = node.map_or_else(String::new, |node| {
            format!(" on {}", words::clean(node, style))
        });
        let unclear = match undetermined {
            0 => String::new(),
            count => format!(", {count} undetermined"),
        };
        let (mark, text) = match (all, failing) {
            (0, _) => (Mark::Nothing, format!("no flow was seen{on}")),
            (_, 0) if undetermined == 0 => {
                let each = if all == 1 {
                    "delivered"
                } else {
                    "all delivered"
                };
                (
                    Mark::Good,
                    format!("{}{on}, {each}", words::plural(all, "flow")),
                )
            }
            (_, 0) => (
                Mark::Doubt,
                format!(
                    "{}{on}: {delivered} delivered{unclear}",
                    words::plural(all, "flow")
                ),
            ),
            _ => (
                Mark::Bad,
                format!(
                    "{failing} of {} failed{on}{unclear}",
                    words::plural(all, "flow")
                ),
            ),
        };
        format!(
            "{} {}",
            style.painted_mark(mark),
            style.paint(Tone::Strong, &text)
        )
    }
}

/// Order of the overview: failing, unclear, healthy.
pub(super) const fn rank(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Undetermined => 1,
        Outcome::Delivered => 2,
        _ => 0,
    }
}
