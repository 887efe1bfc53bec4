//! Verdicts to the outside: one exporter per file, and the list of them all.
//!
//! Depends on `verdict` and on nothing that gathers packets, so that a replay prints exactly what a trace prints.

mod convert;
mod counts;
pub mod doctor;
mod hubble;
mod json;
mod jsonl;
mod latest;
pub mod listing;
mod overview;
mod path;
pub mod progress;
pub mod record;
mod running;
pub mod schema;
pub mod style;
mod table;
pub(crate) mod words;

use std::fmt;
use std::io::{self, Write};

pub use record::Context;
pub use style::{ColorChoice, Style};

use crate::verdict::Verdict;

/// Where verdicts go. Methods fail only when the output cannot be written.
pub trait Exporter {
    /// A revision was decided.
    fn verdict(&mut self, verdict: &Verdict, context: &Context) -> io::Result<()>;

    /// No more will come.
    fn finish(&mut self) -> io::Result<()>;
}

/// How an exporter is to write.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub style: Style,
    /// The run has no end of its own: do not keep things for it.
    pub follow: bool,
    /// With the events behind each verdict.
    pub verbose: bool,
}

/// Where an exporter writes to.
pub type Output = Box<dyn Write>;

/// One value of `-o`.
pub struct Format {
    pub name: &'static str,
    pub help: &'static str,
    make: fn(Output, Options) -> Box<dyn Exporter>,
}

/// All exporters; the first is the default.
pub const EXPORTERS: &[Format] = &[table::FORMAT, json::FORMAT, jsonl::FORMAT, hubble::FORMAT];

impl Format {
    pub fn by_name(name: &str) -> Option<&'static Self> {
        EXPORTERS.iter().find(|format| format.name == name)
    }

    pub fn exporter(&self, output: Output, options: Options) -> Box<dyn Exporter> {
        (self.make)(output, options)
    }
}

impl fmt::Debug for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Format").field(&self.name).finish()
    }
}

impl PartialEq for Format {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// Writes a line of JSON and pushes it out: whoever reads the pipe is waiting for it.
fn write_line(output: &mut Output, value: &impl serde::Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    output.write_all(&line)?;
    output.flush()
}

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod tests;
