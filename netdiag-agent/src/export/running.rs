//! `-o table -f`: each verdict as it is decided.

use std::collections::{HashMap, VecDeque};
use std::io;

use super::counts::Counts;
use super::style::Tone;
use super::{Context, Exporter, Options, Output, path, words};
use crate::verdict::{Cause, Outcome, Verdict};

/// Flows remembered to tell a revision that changes something from one that only counts on.
const REMEMBERED: usize = 8192;

pub(super) struct Running {
    output: Output,
    options: Options,
    counts: Counts,
    ends: Ends,
}

/// How a flow ended, as far as a reader cares.
type End = (Outcome, Option<Cause>);

/// The last `REMEMBERED` flows.
#[derive(Default)]
struct Ends {
    by_uuid: HashMap<String, End>,
    order: VecDeque<String>,
}

impl Ends {
    /// Remembers an end; returns what was known before.
    fn insert(&mut self, uuid: &str, end: End) -> Option<End> {
        let before = self.by_uuid.insert(uuid.to_owned(), end);
        if before.is_none() {
            self.order.push_back(uuid.to_owned());
            if self.order.len() > REMEMBERED
                && let Some(oldest) = self.order.pop_front()
            {
                self.by_uuid.remove(&oldest);
            }
        }
        before
    }
}

impl Running {
    pub fn new(output: Output, options: Options) -> Self {
        Self {
            output,
            options,
            counts: Counts::default(),
            ends: Ends::default(),
        }
    }

    fn text(&self, verdict: &Verdict, context: &Context) -> String {
        let style = self.options.style;
        let time = context
            .timestamp(verdict.at)
            .strftime("%H:%M:%S")
            .to_string();
        let time = style.paint(Tone::Dim, &time);
        if verdict.outcome.is_failing() || self.options.verbose {
            let revised = if verdict.revision > 1 {
                " (revised)"
            } else {
                ""
            };
            let block = path::block(verdict, context, self.options, &[]);
            return format!("{time}{revised}\n{block}\n");
        }
        let flow = words::clean(&words::flow_short(verdict, context, style), style);
        let mark = style.painted_mark(path::mark(verdict));
        let (proto, outcome) = (verdict.tuple.proto, words::outcome(verdict.outcome));
        format!("{time} {mark} {flow} {proto} {outcome}\n")
    }
}

impl Exporter for Running {
    fn verdict(&mut self, verdict: &Verdict, context: &Context) -> io::Result<()> {
        let end = (verdict.outcome, verdict.cause);
        match self.ends.insert(&verdict.uuid, end) {
            Some(before) if before == end => return Ok(()),
            Some((outcome, _)) => self.counts.replace(outcome, verdict.outcome),
            None => self.counts.add(verdict.outcome),
        }
        self.output
            .write_all(self.text(verdict, context).as_bytes())?;
        self.output.flush()
    }

    fn finish(&mut self) -> io::Result<()> {
        writeln!(
            self.output,
            "{}",
            self.counts.line(None, self.options.style)
        )?;
        self.output.flush()
    }
}
