//! `-o table`: for a tired human. Failing flows first, one line each, then each failing flow in full.

use std::collections::BTreeSet;
use std::io;

use comfy_table::{Attribute, Cell, Color, Table, presets};

use super::latest::{Entry, Latest};
use super::style::{Mark, Tone, wrap};
use super::{Context, Exporter, Format, Options, Output, Style, path, words};
use crate::verdict::{BLIND_SPOT, Outcome, Verdict};

pub(super) const FORMAT: Format = Format {
    name: "table",
    help: "for people: at the end, failing flows first (with -f each flow as it is decided)",
    make: |output, options| {
        if options.follow {
            Box::new(Running {
                output,
                options,
                seen: Counts::default(),
            })
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

/// Prints each verdict as it is decided.
struct Running {
    output: Output,
    options: Options,
    seen: Counts,
}

impl Exporter for Running {
    fn verdict(&mut self, verdict: &Verdict, context: &Context) -> io::Result<()> {
        if verdict.revision <= 1 {
            self.seen.add(verdict.outcome);
        }
        let style = self.options.style;
        let time = context
            .timestamp(verdict.at)
            .strftime("%H:%M:%S")
            .to_string();
        let text = if verdict.outcome.is_failing() || self.options.verbose {
            let revised = if verdict.revision > 1 {
                " (revised)"
            } else {
                ""
            };
            let block = path::block(verdict, context, self.options, &[]);
            format!("{}{revised}\n{block}\n", style.paint(Tone::Dim, &time))
        } else {
            let flow = words::clean(&words::flow_short(verdict, context, style), style);
            let proto = verdict.tuple.proto;
            let mark = style.painted_mark(path::mark(verdict));
            format!(
                "{} {mark} {flow} {proto} {}\n",
                style.paint(Tone::Dim, &time),
                words::outcome(verdict.outcome)
            )
        };
        self.output.write_all(text.as_bytes())?;
        self.output.flush()
    }

    fn finish(&mut self) -> io::Result<()> {
        writeln!(self.output, "{}", self.seen.line(None, self.options.style))?;
        self.output.flush()
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    failing: u64,
    undetermined: u64,
    delivered: u64,
}

impl Counts {
    fn add(&mut self, outcome: Outcome) {
        match rank(outcome) {
            0 => self.failing += 1,
            1 => self.undetermined += 1,
            _ => self.delivered += 1,
        }
    }

    /// The first line, and for a healthy run the only one.
    fn line(&self, node: Option<&str>, style: Style) -> String {
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

const fn rank(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Undetermined => 1,
        Outcome::Delivered => 2,
        _ => 0,
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
        text +=
            &format!("\n{omitted} more flows than fit were left out; -o jsonl writes them all\n");
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
        text += &format!("{}\n", options.style.paint(Tone::Dim, &more));
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
            text += &format!("  {}\n", style.paint(Tone::Dim, &line));
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
        text += &format!("  {}\n", style.paint(Tone::Dim, &line));
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

/// Columns by importance; the last are left out first where the terminal is narrow: the blocks below say it all.
const COLUMNS: [&str; 7] = ["", "FLOW", "OUTCOME", "CAUSE", "DIED", "SURE", "PROTO"];

fn overview(entries: &[Entry], style: Style) -> String {
    for columns in (3..=COLUMNS.len()).rev() {
        let text = grid(entries, style, columns);
        let Some(width) = style.width else {
            return text;
        };
        let fits = |line: &str| visible_width(line) <= usize::from(width);
        if columns == 3 || text.lines().all(fits) {
            return text;
        }
    }
    String::new()
}

fn grid(entries: &[Entry], style: Style, columns: usize) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if style.rich {
        table.enforce_styling()
    } else {
        table.force_no_tty()
    };
    let heading = |name: &&str| Cell::new(name).add_attribute(Attribute::Dim);
    table.set_header(COLUMNS[..columns].iter().map(heading));
    for Entry { verdict, context } in entries {
        let mark = path::mark(verdict);
        let color = match mark {
            Mark::Good => Color::DarkGreen,
            Mark::Bad => Color::DarkRed,
            Mark::Nothing | Mark::Doubt => Color::DarkYellow,
        };
        let cause = verdict.cause.map_or("", |cause| cause.0);
        let cells = [
            Cell::new(style.mark(mark)).fg(color),
            Cell::new(words::clean(
                &words::flow_short(verdict, context, style),
                style,
            )),
            Cell::new(words::outcome(verdict.outcome)).fg(color),
            Cell::new(cause).add_attribute(Attribute::Bold),
            Cell::new(words::died(verdict, style)),
            Cell::new(words::confidence(verdict.confidence)),
            Cell::new(verdict.tuple.proto),
        ];
        table.add_row(cells.into_iter().take(columns));
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, if index + 1 < columns { 2 } else { 0 }));
    }
    let lines = table.lines().map(|line| line.trim_end().to_owned() + "\n");
    lines.collect()
}

/// Characters without escape sequences.
fn visible_width(line: &str) -> usize {
    let mut width = 0;
    let mut escaped = false;
    for character in line.chars() {
        match (escaped, character) {
            (false, '\x1b') => escaped = true,
            (false, _) => width += 1,
            (true, 'm') => escaped = false,
            (true, _) => {}
        }
    }
    width
}
