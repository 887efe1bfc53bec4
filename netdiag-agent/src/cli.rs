//! The command line: what was typed ([`grammar`]) becomes what it means ([`Config`], plain data).

mod agent;
mod destination;
mod grammar;
mod verdicts;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use tracing::level_filters::LevelFilter;

pub use agent::Agent;
pub use destination::{Destination, Host, Object, ObjectKind};
pub use verdicts::{Api, Listing, Source, Verdicts};

use crate::event::Span;
use crate::export::{ColorChoice, Format};
use crate::identity::pods::{Query, Sources};

/// Exit codes; see DESIGN §6.
pub mod exit {
    /// All flows are healthy.
    pub const HEALTHY: u8 = 0;
    /// At least one failing verdict.
    pub const FAILING: u8 = 1;
    /// Usage or input error.
    pub const INPUT: u8 = 2;
    /// No privilege or no hook: nothing could be observed.
    pub const BLIND: u8 = 3;
}

#[derive(Debug, PartialEq)]
pub struct Config {
    /// For the log on standard error.
    pub log_level: LevelFilter,
    pub color: ColorChoice,
    pub command: Command,
}

#[derive(Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "there is one in a run")]
pub enum Command {
    Trace(Trace),
    Replay(Replay),
    /// `None`: the list of all causes.
    Explain(Option<String>),
    Doctor(ReportFormat),
    Schema,
    /// The node mode.
    Agent(Agent),
    /// What an agent has stored.
    Verdicts(Verdicts),
}

#[derive(Debug, PartialEq)]
pub struct Trace {
    pub subject: Subject,
    /// Empty: the node's default routes say which.
    pub uplinks: Vec<String>,
    /// `None`: every destination.
    pub to: Option<Destination>,
    pub until: Until,
    pub no_answer: Span,
    pub output: &'static Format,
    pub record: Option<PathBuf>,
    /// Where the packets go, as pcapng.
    pub pcap: Option<PathBuf>,
    /// Use no more than this tier; `None`: all this kernel has.
    pub max_tier: Option<u8>,
    /// Let the kernel name the rule that drops, through a table of our own among the rules.
    pub explain_rule: bool,
    pub verbose: bool,
    /// `None`: the first credentials there are.
    pub kubeconfig: Option<PathBuf>,
    /// Of the pods, and of what `--to` names without one.
    pub namespace: Option<String>,
}

/// Whose packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Name below /run/netns.
    NetnsName(String),
    NetnsPath(PathBuf),
    /// The network namespace of a process.
    Pid(u32),
    /// Everything that passes an interface of the node.
    Interface(String),
    /// Pods by what Kubernetes calls them, and whom to ask.
    Pods(Query, Sources),
}

/// When a trace ends, unless a signal ends it earlier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Until {
    Elapsed(Duration),
    /// Only a signal ends it.
    Interrupted,
    /// The command ended and its flows are decided; after `limit` at the latest, where one was given.
    CommandEnded {
        command: Vec<OsString>,
        limit: Option<Duration>,
    },
}

#[derive(Debug, PartialEq)]
pub struct Replay {
    pub files: Vec<PathBuf>,
    pub output: &'static Format,
    pub pcap: Option<PathBuf>,
    pub verbose: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportFormat {
    Table,
    Json,
}

/// Why there is no [`Config`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// clap's own words; also `--help` and `--version`.
    #[error(transparent)]
    Grammar(#[from] clap::Error),
    #[error("{0}")]
    Input(String),
}

impl Error {
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Grammar(error) if !error.use_stderr() => exit::HEALTHY,
            Self::Grammar(_) | Self::Input(_) => exit::INPUT,
        }
    }

    /// Prints help on standard output, errors on standard error. A reader that has gone away is no further error.
    pub fn report(&self) {
        let _ = match self {
            Self::Grammar(error) if error.use_stderr() => {
                writeln!(
                    std::io::stderr(),
                    "{}",
                    one_line(&error.render().to_string())
                )
            }
            Self::Grammar(error) => error.print(),
            Self::Input(fault) => writeln!(std::io::stderr(), "error: {fault}"),
        };
    }
}

/// What clap says of a fault, without the usage behind it.
fn one_line(text: &str) -> String {
    let said = text.lines().map(str::trim).take_while(|line| {
        !line.starts_with("Usage:") && !line.starts_with("For more information")
    });
    let parts: Vec<&str> = said.filter(|line| !line.is_empty()).collect();
    parts.join("; ").replace(":; ", ": ")
}

/// Reads the command line; does not touch the network: names in `--to` stay names.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Config, Error> {
    grammar::Cli::try_parse_from(args)?.try_into()
}

#[cfg(test)]
mod tests;
