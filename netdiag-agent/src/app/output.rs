//! From verdicts to standard output and to the exit code.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::Error;
use crate::cli::{self, exit};
use crate::engine::Engine;
use crate::export::{Context, Exporter, Format, Options, Style, words};
use crate::inventory::Inventory;
use crate::pcap::{Capture, Written};
use crate::recording::{Limits, Reader};
use crate::replay;
use crate::verdict::Verdict;

/// Prints verdicts and remembers whether any flow ended badly.
pub(super) struct Report {
    exporter: Box<dyn Exporter>,
    /// Last word on each flow.
    failing: HashMap<String, bool>,
}

impl Report {
    pub(super) fn new(format: &Format, style: Style, follow: bool, verbose: bool) -> Self {
        let options = Options {
            style,
            follow,
            verbose,
        };
        Self {
            exporter: format.exporter(Box::new(io::stdout()), options),
            failing: HashMap::new(),
        }
    }

    pub(super) fn verdict(
        &mut self,
        verdict: &Verdict,
        inventory: &Inventory,
    ) -> Result<(), Error> {
        self.failing
            .insert(verdict.uuid.clone(), verdict.outcome.is_failing());
        let written = self.exporter.verdict(verdict, &Context::from(inventory));
        written.map_err(|error| self.unwritten(error))
    }

    fn unwritten(&self, error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Error::Unread(self.code()),
            _ => Error::Output(error),
        }
    }

    pub(super) fn flows(&self) -> usize {
        self.failing.len()
    }

    pub(super) fn failing(&self) -> usize {
        self.failing.values().filter(|failing| **failing).count()
    }

    pub(super) fn finish(&mut self) -> Result<u8, Error> {
        let written = self.exporter.finish();
        written.map_err(|error| self.unwritten(error))?;
        Ok(self.code())
    }

    fn code(&self) -> u8 {
        if self.failing() > 0 {
            exit::FAILING
        } else {
            exit::HEALTHY
        }
    }
}

pub(super) fn replay(options: &cli::Replay, style: Style) -> Result<u8, Error> {
    // A name that was mistyped ends it before anything is printed, or an earlier capture is written over.
    for file in &options.files {
        Reader::open(file, Limits::default())?;
    }
    let mut capture = options.pcap.as_deref().map(Capture::create).transpose()?;
    let mut report = Report::new(options.output, style, false, options.verbose);
    // What could be read of a recording that breaks off is printed before its fault is reported.
    let read = options
        .files
        .iter()
        .try_for_each(|file| replay_file(file, &mut report, capture.as_mut()));
    let code = report.finish()?;
    read.map(|()| code)
}

fn replay_file(
    file: &Path,
    report: &mut Report,
    mut capture: Option<&mut PacketFile>,
) -> Result<(), Error> {
    let reader = Reader::open(file, Limits::default())?;
    let mut written = Ok(());
    let (engine, end) = replay::engine_after(reader, |verdict, inventory| {
        if let Some(capture) = &mut capture {
            capture.verdict(verdict);
        }
        if written.is_ok() {
            written = report.verdict(verdict, inventory);
        }
    });
    if let Some(capture) = capture
        && save_packets(capture, &engine)?.packets == 0
    {
        let _ = writeln!(
            io::stderr(),
            "netdiag: {} holds no packets: its trace had no --pcap",
            file.display()
        );
    }
    end?;
    written
}

pub(super) type PacketFile = Capture<BufWriter<File>>;

/// Writes the packets of an engine that has decided all, and says how many they are.
pub(super) fn save_packets(capture: &mut PacketFile, engine: &Engine) -> Result<Written, Error> {
    let written = capture.section(engine)?;
    let left_out = match written.left_out {
        0 => String::new(),
        more => format!("; {more} more did not fit"),
    };
    let _ = writeln!(
        io::stderr(),
        "netdiag: {} in {}{left_out}",
        words::plural(written.packets as u64, "packet"),
        capture.file()
    );
    Ok(written)
}
