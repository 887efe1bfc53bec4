//! Runs a command: the only module that knows all the others.

#[expect(clippy::disallowed_methods, reason = "time enters the program here")]
mod agent;
mod destination;
mod news;
mod output;
mod rulings;
#[expect(clippy::disallowed_methods, reason = "time enters the program here")]
mod running;
#[expect(clippy::disallowed_methods, reason = "time enters the program here")]
mod trace;
mod trigger;
mod verdicts;

use std::io::{self, Write};
use std::process::ExitCode;

use crate::agent::{api, client, config};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

use crate::cli::{self, Command, Config, ReportFormat, exit};
use crate::export::doctor::{Finding, Machine};
use crate::{explain, export, identity, kernel, pcap, privilege, recording, store};

/// Why a command could not do its work. One line each, and an exit code.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Cli(#[from] cli::Error),
    #[error(transparent)]
    Identity(#[from] identity::IdentityError),
    #[error(transparent)]
    Pods(#[from] identity::pods::FindError),
    #[error("{}", chain(.0))]
    Kernel(#[from] kernel::KernelError),
    #[error(transparent)]
    Recording(#[from] recording::Error),
    #[error(transparent)]
    Pcap(#[from] pcap::Error),
    #[error(transparent)]
    Explain(#[from] explain::UnknownCause),
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error(transparent)]
    Listen(#[from] api::ListenError),
    #[error("auth: kubernetes: {0}")]
    Auth(#[from] identity::kube::client::ClientError),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Client(#[from] client::Error),
    #[error(transparent)]
    Privilege(#[from] privilege::Error),
    #[error("--to {0}")]
    Destination(String),
    #[error("run {program}: {source}")]
    Command { program: String, source: io::Error },
    #[error("interface {0} is gone: its pod was deleted or restarted; the trace ends here")]
    Gone(String),
    #[error("write to standard output: {0}")]
    Output(#[source] io::Error),
    /// Nobody reads on; with the exit code of what was read.
    #[error("standard output is closed")]
    Unread(u8),
    #[error("start the runtime: {0}")]
    Runtime(#[source] io::Error),
}

/// An error and its sources on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |error| error.source());
    let mut text = error.to_string();
    for source in sources.map(ToString::to_string) {
        if !text.contains(&source) {
            text = format!("{text}: {}", source.lines().next().unwrap_or(""));
        }
    }
    text
}

impl Error {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Cli(error) => error.exit_code(),
            Self::Kernel(_) | Self::Runtime(_) | Self::Gone(_) | Self::Privilege(_) => exit::BLIND,
            Self::Identity(error) if error.is_unprivileged() => exit::BLIND,
            Self::Identity(_)
            | Self::Config(_)
            | Self::Listen(_)
            | Self::Auth(_)
            | Self::Store(_)
            | Self::Client(_)
            | Self::Pods(_)
            | Self::Recording(_)
            | Self::Pcap(_)
            | Self::Explain(_)
            | Self::Destination(_)
            | Self::Command { .. }
            | Self::Output(_) => exit::INPUT,
            Self::Unread(code) => *code,
        }
    }
}

/// Runs what was asked for and says how it went. A reader of our output that has gone away is no error.
pub fn run(config: Config) -> ExitCode {
    init_log(&config);
    let style = export::Style::of_stdout(config.color);
    let result = match config.command {
        Command::Trace(trace) => trace::run(&trace, style),
        Command::Replay(replay) => output::replay(&replay, style),
        Command::Explain(cause) => explain(cause.as_deref(), style),
        Command::Doctor(format) => doctor(format, style),
        Command::Schema => schema(),
        Command::Agent(agent) => agent::run(&agent),
        Command::Verdicts(verdicts) => verdicts::run(&verdicts, style),
    };
    match result {
        Ok(code) | Err(Error::Unread(code)) => ExitCode::from(code),
        Err(Error::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn init_log(config: &Config) {
    // Libraries tell of each failure anew; what is worth knowing of them comes as news and is told once.
    let libraries = match config.log_level {
        level if level >= LevelFilter::DEBUG => level,
        _ => LevelFilter::OFF,
    };
    let filter = ["kube_client", "kube_runtime", "hyper", "tower"]
        .iter()
        .fold(
            EnvFilter::default().add_directive(config.log_level.into()),
            |filter, library| match format!("{library}={libraries}").parse() {
                Ok(directive) => filter.add_directive(directive),
                Err(_) => filter,
            },
        );
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_target(false)
        .without_time()
        .init();
}

fn print(text: &str) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(Error::Output)
}

fn explain(cause: Option<&str>, style: export::Style) -> Result<u8, Error> {
    let text = match cause {
        Some(name) => explain::page(name, style)?,
        None => explain::list(style),
    };
    print(&text)?;
    Ok(exit::HEALTHY)
}

fn schema() -> Result<u8, Error> {
    let text = export::schema::pretty().map_err(|error| Error::Output(error.into()))?;
    print(&(text + "\n"))?;
    Ok(exit::HEALTHY)
}

fn doctor(format: ReportFormat, style: export::Style) -> Result<u8, Error> {
    let probed = kernel::probe();
    let able = kernel::ensure_observable().is_ok();
    let (node_name, kernel) = identity::machine();
    let machine = Machine {
        node_name,
        kernel,
        tier: able.then_some(probed.tier),
    };
    let findings: Vec<Finding> = probed
        .reports
        .into_iter()
        .map(|found| Finding {
            name: found.name,
            present: found.present,
            detail: found.detail,
            loses: found.loses,
            todo: found.todo,
        })
        .collect();
    let text = match format {
        ReportFormat::Table => export::doctor::table(&machine, &findings, style),
        ReportFormat::Json => {
            export::doctor::json(&machine, &findings)
                .map_err(|error| Error::Output(error.into()))?
                + "\n"
        }
    };
    print(&text)?;
    Ok(if machine.tier.is_some() {
        exit::HEALTHY
    } else {
        exit::BLIND
    })
}
