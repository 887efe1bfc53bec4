//! Marks, arrows and colour: what a terminal shows and what a file gets instead.

use std::io::{self, IsTerminal};

/// `--color`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ColorChoice {
    /// Rich on a terminal, unless `NO_COLOR` is set or the terminal is dumb.
    #[default]
    Auto,
    Always,
    Never,
}

/// How to write for the reader at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Colour and drawn marks; plain ASCII otherwise.
    pub rich: bool,
    /// Columns of the terminal; `None` when the text goes to a file.
    pub width: Option<u16>,
}

/// The meaning of a coloured piece of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    Good,
    Bad,
    Doubt,
    Dim,
    Strong,
}

/// What stands in front of a flow or a hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    Good,
    Bad,
    Nothing,
    Doubt,
}

impl Style {
    /// For files and pipes.
    pub const PLAIN: Self = Self {
        rich: false,
        width: None,
    };

    /// What standard output can show.
    pub fn of_stdout(choice: ColorChoice) -> Self {
        let terminal = io::stdout().is_terminal();
        let width = terminal
            .then(|| comfy_table::Table::new().width())
            .flatten();
        Self {
            rich: choice.is_rich(terminal, Env::read()),
            width,
        }
    }

    pub fn paint(self, tone: Tone, text: &str) -> String {
        if !self.rich || text.is_empty() {
            return text.to_owned();
        }
        let code = match tone {
            Tone::Good => "32",
            Tone::Bad => "1;31",
            Tone::Doubt => "33",
            Tone::Dim => "2",
            Tone::Strong => "1",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// Without colour: one column wide in both styles.
    pub const fn mark(self, mark: Mark) -> &'static str {
        match (mark, self.rich) {
            (Mark::Good, true) => "✔",
            (Mark::Good, false) => "+",
            (Mark::Bad, true) => "✘",
            (Mark::Bad, false) => "X",
            (Mark::Nothing, true) => "·",
            (Mark::Nothing, false) => ".",
            (Mark::Doubt, _) => "?",
        }
    }

    pub fn painted_mark(self, mark: Mark) -> String {
        self.paint(mark.tone(), self.mark(mark))
    }

    pub const fn arrow(self) -> &'static str {
        if self.rich { "→" } else { "->" }
    }
}

/// Directions of a hop.
impl Style {
    pub const fn onward(self) -> &'static str {
        if self.rich { "→ " } else { "> " }
    }

    pub const fn back(self) -> &'static str {
        if self.rich { "← " } else { "< " }
    }
}

impl Mark {
    pub const fn tone(self) -> Tone {
        match self {
            Self::Good => Tone::Good,
            Self::Bad => Tone::Bad,
            Self::Nothing => Tone::Dim,
            Self::Doubt => Tone::Doubt,
        }
    }
}

/// The environment variables that speak about colour.
#[derive(Clone, Copy, Debug, Default)]
struct Env {
    no_color: bool,
    dumb: bool,
}

impl Env {
    fn read() -> Self {
        Self {
            // no-color.org: set and not empty.
            no_color: std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()),
            dumb: std::env::var_os("TERM").is_some_and(|term| term == "dumb"),
        }
    }
}

impl ColorChoice {
    const fn is_rich(self, terminal: bool, env: Env) -> bool {
        match self {
            Self::Auto => terminal && !env.no_color && !env.dumb,
            Self::Always => true,
            Self::Never => false,
        }
    }
}

/// Breaks prose at spaces so that `indent` and a line fit into `width`; a word longer than that stays whole.
pub fn wrap(text: &str, width: Option<u16>, indent: usize) -> Vec<String> {
    let room = usize::from(width.unwrap_or(100))
        .saturating_sub(indent)
        .max(24);
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > room {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

/// Text from outside for a terminal: no control characters, and ASCII where the style is plain.
pub fn clean(text: &str, style: Style) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            control if control.is_control() => out.push(' '),
            '…' if !style.rich => out.push_str("..."),
            '→' if !style.rich => out.push_str("->"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_is_rich_only_on_a_willing_terminal() {
        let plain = Env::default();
        assert!(ColorChoice::Auto.is_rich(true, plain));
        assert!(!ColorChoice::Auto.is_rich(false, plain));
        assert!(!ColorChoice::Auto.is_rich(
            true,
            Env {
                no_color: true,
                dumb: false
            }
        ));
        assert!(!ColorChoice::Auto.is_rich(
            true,
            Env {
                no_color: false,
                dumb: true
            }
        ));
        assert!(ColorChoice::Always.is_rich(
            false,
            Env {
                no_color: true,
                dumb: true
            }
        ));
        assert!(!ColorChoice::Never.is_rich(true, plain));
    }

    #[test]
    fn plain_style_is_ascii_without_escapes() {
        for mark in [Mark::Good, Mark::Bad, Mark::Nothing, Mark::Doubt] {
            assert!(Style::PLAIN.painted_mark(mark).is_ascii());
            assert_eq!(Style::PLAIN.painted_mark(mark).len(), 1);
        }
        assert_eq!(Style::PLAIN.paint(Tone::Bad, "x"), "x");
    }

    #[test]
    fn wrapped_prose_fits_and_loses_no_word() {
        let text = "a rule of the node's firewall dropped the packet and nobody was told about it";
        let lines = wrap(text, Some(40), 4);
        assert!(lines.iter().all(|line| line.len() <= 36), "{lines:?}");
        assert_eq!(lines.join(" "), text);
        assert_eq!(wrap("", Some(40), 4), Vec::<String>::new());
    }
}
