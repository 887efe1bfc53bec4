//! One line per flow, as wide as the terminal allows.

use comfy_table::{Attribute, Cell, Color, Table, presets};

use super::latest::Entry;
use super::style::Mark;
use super::{Style, path, words};

/// Columns by importance; the last are left out first where the terminal is narrow: the blocks below say it all.
const COLUMNS: [&str; 7] = ["", "FLOW", "OUTCOME", "CAUSE", "DIED", "SURE", "PROTO"];

pub(super) fn overview(entries: &[Entry], style: Style) -> String {
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
