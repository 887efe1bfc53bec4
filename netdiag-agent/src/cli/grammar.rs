//! clap's view of the command line, and its meaning.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use jiff::SignedDuration;
use tracing::level_filters::LevelFilter;

use super::{Command, Config, Destination, Error, Replay, ReportFormat, Subject, Trace, Until};
use crate::event::Span;
use crate::export::{ColorChoice, EXPORTERS, Format};
use crate::identity::pods::{Query, Sources, Wanted};

/// Watches real packets at every place a node can lose them and says, for each flow, where it died, why,
/// how sure that is, and what to do.
#[derive(Debug, Parser)]
#[command(name = "netdiag", version, max_term_width = 100, after_help = AFTER_HELP)]
pub(super) struct Cli {
    /// Log on standard error from this level on
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "warn",
        value_name = "LEVEL"
    )]
    log_level: LogLevel,
    /// Colour and drawn marks; auto: on a terminal, unless `NO_COLOR` is set
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "auto",
        value_name = "WHEN"
    )]
    color: Color,
    #[command(subcommand)]
    command: Typed,
}

const AFTER_HELP: &str = "\
Exit code: 0 all flows healthy, 1 at least one failing flow, 2 usage or input error, 3 could not observe.";

#[derive(Debug, Subcommand)]
enum Typed {
    /// Follow a pod's flows through this node and say where they die
    Trace(Box<TraceArgs>),
    /// The same verdicts again from a recording: no privilege, no kernel
    Replay(ReplayArgs),
    /// What a cause means, how it is known and what to do; without a name: all causes
    Explain {
        /// As printed in a verdict, such as `NO_ROUTE`
        cause: Option<String>,
    },
    /// What netdiag can see on this machine, what it cannot, and what to do about it
    Doctor {
        #[arg(
            short,
            long,
            value_enum,
            default_value = "table",
            value_name = "FORMAT"
        )]
        output: Report,
    },
    /// The JSON Schema of a verdict line
    Schema,
    /// Trace this node without end: verdicts to a store on disk, metrics, an API
    Agent(super::agent::AgentArgs),
    /// The verdicts an agent has stored
    Verdicts(super::verdicts::VerdictsArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  netdiag trace pod/web-0 -n shop --to 198.51.100.10:443
  netdiag trace -l app=web -n shop -f
  netdiag trace --netns web --to 198.51.100.10:443 --duration 10s
  netdiag trace --pid 4711 --record web.ndjson -- curl -sm5 https://example.com
  netdiag trace --interface eth0 -f -o jsonl")]
struct TraceArgs {
    /// What to follow: pod/NAME, pod/UID, container/ID, or all pods of deployment/NAME, daemonset/NAME, statefulset/NAME
    #[arg(value_name = "KIND/NAME")]
    pod: Option<String>,
    /// The pods' namespace [default: that of the kubeconfig's context, or else default]
    #[arg(short, long, value_name = "NS")]
    namespace: Option<String>,
    /// Follow all pods with these labels, such as app=web,tier!=db
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
    /// How to reach the API server [default: $KUBECONFIG, the service account, ~/.kube/config, the kubelet's]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Socket of the container runtime [default: that of containerd, CRI-O or cri-dockerd]
    #[arg(long, value_name = "unix://SOCKET")]
    runtime_endpoint: Option<String>,
    /// Follow this network namespace: a name below /run/netns or a path
    #[arg(long, value_name = "NAME|PATH")]
    netns: Option<OsString>,
    /// Follow the network namespace of this process
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pid: Option<u32>,
    /// Follow everything that passes this interface of the node
    #[arg(long, value_name = "IF")]
    interface: Option<String>,
    /// Interface that leads off the node; may be repeated [default: those of the default routes]
    #[arg(long, value_name = "IF")]
    uplink: Vec<String>,
    /// Only flows to this destination: address, [IPv6], host name, :PORT, svc/NAME[.NS][:PORT] or pod/NAME[.NS][:PORT]
    #[arg(long, value_name = "HOST[:PORT]")]
    to: Option<Destination>,
    /// End after this long: 500ms, 30s, 2m [default: 30s, or the end of COMMAND]
    #[arg(long, value_name = "SPAN", value_parser = span, allow_hyphen_values = true)]
    duration: Option<Duration>,
    /// Go on until Ctrl-C; print each verdict as it is decided
    #[arg(short, long)]
    follow: bool,
    /// A request without an answer for this long has none
    #[arg(long, value_name = "SPAN", value_parser = span, default_value = "3s", allow_hyphen_values = true)]
    no_answer: Duration,
    #[arg(short, long, value_name = "FORMAT", value_parser = format_parser(), default_value = EXPORTERS[0].name)]
    output: &'static Format,
    /// Use no more than this tier of what the kernel offers, to compare
    #[arg(long, hide = true, value_name = "TIER", value_parser = clap::value_parser!(u8).range(..=2))]
    tier: Option<u8>,
    /// Write all that was seen to FILE, for `netdiag replay`
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Write the start of each packet seen, hop by hop, to FILE for Wireshark and tshark (pcapng)
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    /// Let the kernel itself name the rule that drops: adds a table to the node's nftables that marks these flows and
    /// decides nothing, and removes it at the end (not for rules of iptables-legacy)
    #[arg(long)]
    explain_rule: bool,
    /// Print the events behind each verdict
    #[arg(short, long)]
    verbose: bool,
    /// Attach, run COMMAND, wait until its flows are decided, report
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

#[derive(Debug, Args)]
struct ReplayArgs {
    /// Written by `netdiag trace --record`
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[arg(short, long, value_name = "FORMAT", value_parser = format_parser(), default_value = EXPORTERS[0].name)]
    output: &'static Format,
    /// Write the packets to FILE as pcapng: those of a trace that had --pcap as well
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    /// Print the events behind each verdict
    #[arg(short, long)]
    verbose: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Report {
    Table,
    Json,
}

fn format_parser() -> impl TypedValueParser<Value = &'static Format> {
    let names = EXPORTERS
        .iter()
        .map(|format| PossibleValue::new(format.name).help(format.help));
    PossibleValuesParser::new(names)
        .map(|name| Format::by_name(&name).expect("the parser admits only names of EXPORTERS"))
}

pub(super) fn span(text: &str) -> Result<Duration, String> {
    const WANTED: &str = "wanted is a length of time such as 500ms, 30s or 2m";
    let span: SignedDuration = text.parse().map_err(|_| WANTED.to_owned())?;
    Duration::try_from(span)
        .ok()
        .filter(|span| !span.is_zero() && u64::try_from(span.as_nanos()).is_ok())
        .ok_or_else(|| WANTED.to_owned())
}

impl TryFrom<Cli> for Config {
    type Error = Error;

    fn try_from(cli: Cli) -> Result<Self, Error> {
        let command = match cli.command {
            Typed::Trace(args) => Command::Trace((*args).try_into()?),
            Typed::Replay(ReplayArgs {
                files,
                output,
                pcap,
                verbose,
            }) => Command::Replay(Replay {
                files,
                output,
                pcap,
                verbose,
            }),
            Typed::Explain { cause } => Command::Explain(cause),
            Typed::Doctor {
                output: Report::Table,
            } => Command::Doctor(ReportFormat::Table),
            Typed::Doctor {
                output: Report::Json,
            } => Command::Doctor(ReportFormat::Json),
            Typed::Schema => Command::Schema,
            Typed::Agent(args) => Command::Agent(args.into()),
            Typed::Verdicts(args) => Command::Verdicts(args.try_into()?),
        };
        Ok(Self {
            log_level: cli.log_level.into(),
            color: cli.color.into(),
            command,
        })
    }
}

impl TryFrom<TraceArgs> for Trace {
    type Error = Error;

    fn try_from(args: TraceArgs) -> Result<Self, Error> {
        Ok(Self {
            subject: args.subject()?,
            until: args.until()?,
            uplinks: args.uplink,
            to: args.to,
            // `span` admits only what fits.
            no_answer: Span(args.no_answer.as_nanos() as u64),
            output: args.output,
            record: args.record,
            pcap: args.pcap,
            max_tier: args.tier,
            explain_rule: args.explain_rule,
            verbose: args.verbose,
            kubeconfig: args.kubeconfig,
            namespace: args.namespace,
        })
    }
}

impl TraceArgs {
    fn subject(&self) -> Result<Subject, Error> {
        let input = |fault: &str| Err(Error::Input(fault.to_owned()));
        let given = [
            self.netns.is_some(),
            self.pid.is_some(),
            self.interface.is_some(),
            self.pod.is_some(),
            self.selector.is_some(),
        ];
        match given.iter().filter(|given| **given).count() {
            0 => {
                return input(
                    "nothing to follow: give pod/NAME, -l, --netns, --pid or --interface",
                );
            }
            1 => {}
            _ => {
                return input(
                    "more than one thing to follow: give one of pod/NAME, -l, --netns, --pid or --interface",
                );
            }
        }
        if let Some(netns) = &self.netns {
            let text = netns.to_str();
            return match text {
                Some("") => input("--netns '': wanted is a name below /run/netns or a path"),
                Some(name) if !name.contains('/') => Ok(Subject::NetnsName(name.to_owned())),
                _ => Ok(Subject::NetnsPath(netns.into())),
            };
        }
        if let Some(pid) = self.pid {
            return Ok(Subject::Pid(pid));
        }
        if let Some(interface) = &self.interface {
            return Ok(Subject::Interface(interface.clone()));
        }
        self.pods()
    }

    fn pods(&self) -> Result<Subject, Error> {
        let wanted = match (&self.pod, &self.selector) {
            (Some(text), _) => Wanted::parse(text),
            (None, Some(text)) => Wanted::labels(text).map_err(|fault| format!("-l: {fault}")),
            (None, None) => Err("nothing to follow".to_owned()),
        };
        let query = Query {
            wanted: wanted.map_err(Error::Input)?,
            namespace: self.namespace.clone(),
        };
        let sources = Sources {
            kubeconfig: self.kubeconfig.clone(),
            runtime: self.runtime_endpoint.clone(),
        };
        Ok(Subject::Pods(query, sources))
    }

    fn until(&self) -> Result<Until, Error> {
        const DEFAULT: Duration = Duration::from_secs(30);
        let input = |fault: &str| Err(Error::Input(fault.to_owned()));
        match (self.follow, self.duration, self.command.is_empty()) {
            (true, Some(_), _) => {
                input("-f goes on until Ctrl-C, --duration ends the trace: give one of them")
            }
            (true, None, false) => {
                input("-f goes on until Ctrl-C, COMMAND ends the trace: give one of them")
            }
            (true, None, true) => Ok(Until::Interrupted),
            (false, limit, false) => Ok(Until::CommandEnded {
                command: self.command.clone(),
                limit,
            }),
            (false, duration, true) => Ok(Until::Elapsed(duration.unwrap_or(DEFAULT))),
        }
    }
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Off => Self::OFF,
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}

impl From<Color> for ColorChoice {
    fn from(color: Color) -> Self {
        match color {
            Color::Auto => Self::Auto,
            Color::Always => Self::Always,
            Color::Never => Self::Never,
        }
    }
}
