//! `netdiag verdicts`: what an agent has stored, from its files or from itself.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use super::Error;
use crate::agent::client::{self, Address};
use crate::cli::{self, Api, Listing, ReportFormat, Source, exit};
use crate::export::Style;
use crate::export::listing::{Row, is_failing, table};
use crate::export::record::{FlowVerdict, Outcome, Time};
use crate::store::{self, Query};

/// Rows a table is made of; JSON has no such limit.
const MAX_ROWS: usize = 10_000;

pub(super) fn run(options: &cli::Verdicts, style: Style) -> Result<u8, Error> {
    let mut printer = Printer::new(options.output, style);
    match &options.source {
        Source::Store(folder) => {
            let query = Query {
                since: options.since.map(|span| Time::from(before_now(span))),
                outcomes: options.outcomes.clone(),
            };
            let read = store::select(folder, &query, |line| printer.line(line))?;
            printer.unreadable += read.unreadable;
        }
        Source::Api { at, ca, token } => {
            let address = address(at, ca.as_deref(), token.as_deref())?;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(Error::Runtime)?;
            let path = path(options.since, &options.outcomes);
            runtime.block_on(client::lines(&address, &path, |line| printer.line(line)))?;
        }
    }
    printer.finish()
}

fn before_now(span: Duration) -> Timestamp {
    Timestamp::now()
        .checked_sub(span)
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

fn address(at: &Api, ca: Option<&Path>, token: Option<&Path>) -> Result<Address, Error> {
    let input = |fault: String| Error::Cli(cli::Error::Input(fault));
    Ok(match at {
        Api::Unix(path) => Address::Unix(path.clone()),
        Api::Http(host, port) => Address::Http(host.clone(), *port),
        Api::Https(host, port) => Address::Https {
            host: host.clone(),
            port: *port,
            ca: ca
                .ok_or_else(|| {
                    input(
                        "https needs --ca FILE: who may have signed the agent's certificate"
                            .to_owned(),
                    )
                })?
                .to_owned(),
            token: token
                .map(|file| {
                    fs::read_to_string(file)
                        .map(|text| text.trim().to_owned())
                        .map_err(|error| input(format!("--token-file {}: {error}", file.display())))
                })
                .transpose()?,
        },
    })
}

/// Only letters, digits and what needs no escape stands in it.
fn path(since: Option<Duration>, outcomes: &[Outcome]) -> String {
    let since = since.map(|span| format!("since={}ms", span.as_millis().max(1)));
    let names: Vec<String> = outcomes
        .iter()
        .filter_map(|outcome| {
            serde_json::to_value(outcome)
                .ok()?
                .as_str()
                .map(str::to_owned)
        })
        .collect();
    let outcome = (!names.is_empty()).then(|| format!("outcome={}", names.join(",")));
    let asked: Vec<String> = since.into_iter().chain(outcome).collect();
    format!("/v1/verdicts?{}", asked.join("&"))
}

/// Standard output, one verdict after the other.
struct Printer {
    listing: Listing,
    style: Style,
    rows: Vec<Row>,
    /// Verdicts beyond `MAX_ROWS`.
    omitted: u64,
    printed: u64,
    failing: bool,
    unreadable: u64,
}

impl Printer {
    const fn new(listing: Listing, style: Style) -> Self {
        Self {
            listing,
            style,
            rows: Vec::new(),
            omitted: 0,
            printed: 0,
            failing: false,
            unreadable: 0,
        }
    }

    fn line(&mut self, line: &str) -> Result<(), Error> {
        let Ok(verdict) = serde_json::from_str::<FlowVerdict>(line) else {
            self.unreadable += 1;
            return Ok(());
        };
        self.failing |= is_failing(verdict.outcome);
        let mut out = io::stdout().lock();
        let written = match self.listing {
            Listing::Jsonl => writeln!(out, "{line}"),
            Listing::Report(ReportFormat::Json) => {
                let before = if self.printed == 0 { "[" } else { "," };
                writeln!(out, "{before}\n{line}")
            }
            Listing::Report(ReportFormat::Table) => {
                if self.rows.len() < MAX_ROWS {
                    self.rows.push(Row::of(&verdict, self.style));
                } else {
                    self.omitted += 1;
                }
                Ok(())
            }
        };
        self.printed += 1;
        written.map_err(Error::Output)
    }

    fn finish(self) -> Result<u8, Error> {
        let end = match (self.listing, self.printed) {
            (Listing::Jsonl, _) => String::new(),
            (Listing::Report(ReportFormat::Json), 0) => "[]\n".to_owned(),
            (Listing::Report(ReportFormat::Json), _) => "]\n".to_owned(),
            (Listing::Report(ReportFormat::Table), _) => table(&self.rows, self.style),
        };
        super::print(&end)?;
        let mut stderr = io::stderr();
        if self.printed == 0 {
            let _ = writeln!(stderr, "netdiag: no such verdict");
        }
        if self.omitted > 0 {
            let _ = writeln!(
                stderr,
                "netdiag: {} more; -o jsonl prints them all",
                self.omitted
            );
        }
        if self.unreadable > 0 {
            let _ = writeln!(
                stderr,
                "netdiag: {} lines were no verdicts",
                self.unreadable
            );
        }
        Ok(if self.failing {
            exit::FAILING
        } else {
            exit::HEALTHY
        })
    }
}
