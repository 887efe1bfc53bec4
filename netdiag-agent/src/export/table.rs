//! `-o table`: for a tired human. Failing flows first, one line each, then each failing flow in full.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::io;

use super::counts::{Counts, rank};
use super::latest::{Entry, Latest};
use super::overview::overview;
use super::running::Running;
use super::style::{Tone, wrap};
use super::{Context, Exporter, Format, Options, Output, Style, path, words};
use crate::verdict::{BLIND_SPOT, Verdict};

pub(super) const FORMAT: Format = Format {
    name: "table",
    help: "for people: at the end, failing flows first (with -f each flow as it is decided)",
    make: |output, options| {
        if options.follow {
            Box::new(Running::new(output, options))
        } else {
            Box::new(AtEnd {
                output,
                options,
                latest: Latest::default(),
            })
        }
    },
};

/// Healthy flows listed without `-v`.
const HEALTHY_SHOWN: usize = 20;

/// Prints all at the end.
struct AtEnd {
    output: Output,
    options: Options,
    latest: Latest,
}

impl Exporter for AtEnd {
    fn verdict(&mut self, verdict: &Verdict, context: &Context) -> io::Result<()> {
        self.latest.insert(verdict, context);
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        let (mut entries, omitted) = self.latest.take();
        // Stable: flows of one kind stay in the order in which they were decided.
        entries.sort_by_key(|entry| rank(entry.verdict.outcome));
        let text = report(&entries, omitted, self.options);
        self.output.write_all(text.as_bytes())?;
        self.output.flush()
    }
}

fn report(entries: &[Entry], omitted: u64, options: Options) -> String {
    let style = options.style;
    let mut counts = Counts::default();
    for entry in entries {
        counts.add(entry.verdict.outcome);
    }
    let node = entries
        .iter()
        .find_map(|entry| entry.context.node_name.as_deref());
    let mut text = counts.line(node, style) + "\n";
    let healthy = counts.failing + counts.undetermined == 0;
    if !healthy || options.verbose {
        text += &rows(entries, counts.delivered as usize, options);
    }
    text += &caveats_of_healthy(entries, style);
    for group in groups(entries, options.verbose) {
        let others = group[1..].iter();
        let ports: Vec<u16> = others.map(|entry| entry.verdict.tuple.src.port()).collect();
        text += "\n";
        text += &path::block(&group[0].verdict, &group[0].context, options, &ports);
    }
    if !healthy || options.verbose {
        text += &blind_spots(entries.iter().map(|entry| &entry.verdict), style);
    }
    if omitted > 0 {
        let _ = writeln!(
            text,
            "\n{omitted} more flows than fit were left out; -o jsonl writes them all"
        );
    }
    text
}

/// The overview, without the last of many healthy flows.
fn rows(entries: &[Entry], delivered: usize, options: Options) -> String {
    let folded = if options.verbose {
        0
    } else {
        delivered.saturating_sub(HEALTHY_SHOWN)
    };
    let mut text = String::from("\n");
    text += &overview(&entries[..entries.len() - folded], options.style);
    if folded > 0 {
        let flows = words::plural(folded as u64, "more flow");
        let more = format!("  and {flows} delivered (-v lists all)");
        let _ = writeln!(text, "{}", options.style.paint(Tone::Dim, &more));
    }
    text
}

/// What the whole trace could not see, told once.
fn blind_spots<'a>(verdicts: impl Iterator<Item = &'a Verdict>, style: Style) -> String {
    let caveats = verdicts.flat_map(|verdict| &verdict.caveats);
    let spots: BTreeSet<&str> = caveats
        .filter_map(|caveat| caveat.strip_prefix(BLIND_SPOT))
        .collect();
    if spots.is_empty() {
        return String::new();
    }
    let mut text = format!(
        "\n{}\n",
        style.paint(Tone::Dim, "not seen by this trace (see netdiag doctor)")
    );
    for spot in spots {
        for line in wrap(&words::clean(spot, style), style.width, 2) {
            let _ = writeln!(text, "  {}", style.paint(Tone::Dim, &line));
        }
    }
    text
}

/// A delivered flow with a caveat gets no block of its own, but the caveat is said.
fn caveats_of_healthy(entries: &[Entry], style: Style) -> String {
    let mut caveats: Vec<(&str, u64)> = Vec::new();
    for caveat in entries
        .iter()
        .filter(|entry| !entry.verdict.outcome.is_failing())
        .flat_map(|entry| &entry.verdict.caveats)
        .filter(|caveat| !caveat.starts_with(BLIND_SPOT))
    {
        match caveats.iter_mut().find(|(known, _)| known == caveat) {
            Some((_, count)) => *count += 1,
            None => caveats.push((caveat, 1)),
        }
    }
    let mut text = String::new();
    for (caveat, count) in caveats {
        let line = format!(
            "note, {}: {}",
            words::plural(count, "flow"),
            words::clean(caveat, style)
        );
        let _ = writeln!(text, "  {}", style.paint(Tone::Dim, &line));
    }
    if text.is_empty() {
        text
    } else {
        format!("\n{text}")
    }
}

/// Failing flows that differ only in their source port are told once.
fn groups(entries: &[Entry], apart: bool) -> Vec<Vec<&Entry>> {
    let mut groups: Vec<Vec<&Entry>> = Vec::new();
    let wanted = |entry: &&Entry| {
        entry.verdict.outcome.is_failing() || (apart && !entry.verdict.history.is_empty())
    };
    for entry in entries.iter().filter(wanted) {
        let alike = groups
            .iter_mut()
            .find(|group| !apart && is_alike(&group[0].verdict, &entry.verdict));
        match alike {
            Some(group) => group.push(entry),
            None => groups.push(vec![entry]),
        }
    }
    groups
}

fn is_alike(one: &Verdict, other: &Verdict) -> bool {
    let key = |verdict: &Verdict| {
        let tuple = verdict.tuple;
        let end = (
            verdict.outcome,
            verdict.cause,
            verdict.confidence,
            verdict.is_reply,
        );
        (tuple.proto, tuple.src.ip(), tuple.dst, end)
    };
    key(one) == key(other) && one.died_between == other.died_between && one.source == other.source
}
