//! `netdiag verdicts`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::grammar::span;
use super::{Error, ReportFormat};
use crate::export::listing;
use crate::export::record::Outcome;

/// Where an agent keeps its verdicts unless its configuration says otherwise.
pub const STORE: &str = "/var/lib/netdiag/verdicts";

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  netdiag verdicts --since 10m --outcome failing
  netdiag verdicts --outcome dropped_here,refused -o jsonl
  netdiag verdicts --api unix:/run/netdiag/agent.sock
  netdiag verdicts --api https://node-0:9471 --ca ca.pem --token-file token")]
pub(super) struct VerdictsArgs {
    /// Only those decided within this long: 500ms, 10m, 2h [default: all]
    #[arg(long, value_name = "SPAN", value_parser = span, allow_hyphen_values = true)]
    since: Option<Duration>,
    /// Only these outcomes, as spelled in the JSON, or `failing`; may be repeated
    #[arg(long, value_name = "OUTCOME", value_parser = outcomes, value_delimiter = ',')]
    outcome: Vec<Outcomes>,
    /// The store of an agent on this machine
    #[arg(long, value_name = "DIR", default_value = STORE, conflicts_with = "api")]
    store: PathBuf,
    /// Ask a running agent: unix:PATH, `http://ADDRESS:PORT` or `https://HOST:PORT`
    #[arg(long, value_name = "URL", value_parser = api)]
    api: Option<Api>,
    /// Certificate authority of an https agent (PEM)
    #[arg(long, value_name = "FILE", requires = "api")]
    ca: Option<PathBuf>,
    /// File with the Kubernetes bearer token for an https agent
    #[arg(long, value_name = "FILE", requires = "api")]
    token_file: Option<PathBuf>,
    #[arg(
        short,
        long,
        value_enum,
        default_value = "table",
        value_name = "FORMAT"
    )]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Table,
    Json,
    Jsonl,
}

/// One value of `--outcome`.
#[derive(Clone, Debug)]
struct Outcomes(Vec<Outcome>);

/// The verdicts of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdicts {
    pub since: Option<Duration>,
    /// Any when empty.
    pub outcomes: Vec<Outcome>,
    pub source: Source,
    pub output: Listing,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Store(PathBuf),
    Api {
        at: Api,
        /// Who may have signed the agent's certificate.
        ca: Option<PathBuf>,
        token: Option<PathBuf>,
    },
}

/// Where an agent answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Api {
    Unix(PathBuf),
    /// Host and port.
    Http(String, u16),
    Https(String, u16),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    Report(ReportFormat),
    Jsonl,
}

impl TryFrom<VerdictsArgs> for Verdicts {
    type Error = Error;

    fn try_from(args: VerdictsArgs) -> Result<Self, Error> {
        let secured = matches!(args.api, Some(Api::Https(..)));
        if !secured && (args.ca.is_some() || args.token_file.is_some()) {
            return Err(Error::Input(
                "--ca and --token-file are for https; a token is never sent in the clear"
                    .to_owned(),
            ));
        }
        Ok(Self {
            since: args.since,
            outcomes: args.outcome.into_iter().flat_map(|some| some.0).collect(),
            source: match args.api {
                None => Source::Store(args.store),
                Some(at) => Source::Api {
                    at,
                    ca: args.ca,
                    token: args.token_file,
                },
            },
            output: match args.output {
                Output::Table => Listing::Report(ReportFormat::Table),
                Output::Json => Listing::Report(ReportFormat::Json),
                Output::Jsonl => Listing::Jsonl,
            },
        })
    }
}

fn outcomes(text: &str) -> Result<Outcomes, String> {
    listing::outcomes(text).map(Outcomes)
}

fn api(text: &str) -> Result<Api, String> {
    const WANTED: &str = "wanted is unix:PATH, http://ADDRESS:PORT or https://HOST:PORT";
    if let Some(path) = text.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        return if path.is_empty() {
            Err(WANTED.to_owned())
        } else {
            Ok(Api::Unix(path.into()))
        };
    }
    let (make, rest): (fn(String, u16) -> Api, &str) =
        if let Some(rest) = text.strip_prefix("http://") {
            (Api::Http, rest)
        } else if let Some(rest) = text.strip_prefix("https://") {
            (Api::Https, rest)
        } else {
            return Err(WANTED.to_owned());
        };
    let (host, port) = rest
        .strip_suffix('/')
        .unwrap_or(rest)
        .rsplit_once(':')
        .ok_or(WANTED)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = port
        .parse()
        .map_err(|_| format!("'{port}' is not a port; {WANTED}"))?;
    if host.is_empty() || host.contains(['/', '@']) || port == 0 {
        return Err(WANTED.to_owned());
    }
    Ok(make(host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Command, Config, exit, parse};

    fn config(line: &str) -> Result<Config, Error> {
        let args = std::iter::once("netdiag").chain(line.split_whitespace());
        parse(args.map(std::ffi::OsString::from))
    }

    fn verdicts(line: &str) -> Verdicts {
        match config(line)
            .unwrap_or_else(|error| panic!("{line}: {error}"))
            .command
        {
            Command::Verdicts(verdicts) => verdicts,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn it_reads_the_local_store_unless_told_otherwise() {
        let asked = verdicts("verdicts");
        assert_eq!(asked.source, Source::Store(STORE.into()));
        assert_eq!((asked.since, asked.outcomes), (None, vec![]));
        let asked =
            verdicts("verdicts --since 10m --outcome dropped_here,REFUSED --store /tmp/x -o jsonl");
        assert_eq!(asked.since, Some(Duration::from_mins(10)));
        assert_eq!(asked.outcomes, [Outcome::DroppedHere, Outcome::Refused]);
        assert_eq!(asked.source, Source::Store("/tmp/x".into()));
        assert_eq!(asked.output, Listing::Jsonl);
    }

    #[test]
    fn failing_is_every_outcome_that_fails() {
        let asked = verdicts("verdicts --outcome failing");
        assert_eq!(asked.outcomes.len(), 5);
        assert!(!asked.outcomes.contains(&Outcome::Delivered));
        assert!(!asked.outcomes.contains(&Outcome::Undetermined));
    }

    #[test]
    fn an_agent_is_named_by_socket_or_url() {
        let at = |url: &str| match verdicts(&format!("verdicts --api {url}")).source {
            Source::Api { at, .. } => at,
            Source::Store(path) => panic!("{url}: {}", path.display()),
        };
        let socket = Api::Unix("/run/netdiag/agent.sock".into());
        assert_eq!(at("unix:/run/netdiag/agent.sock"), socket);
        assert_eq!(at("unix:///run/netdiag/agent.sock"), socket);
        assert_eq!(
            at("http://127.0.0.1:9470/"),
            Api::Http("127.0.0.1".to_owned(), 9470)
        );
        assert_eq!(
            at("https://[2001:db8::1]:9471"),
            Api::Https("2001:db8::1".to_owned(), 9471)
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "verdicts --outcome LOST",
            "verdicts --since yesterday",
            "verdicts --api ftp://x:1",
            "verdicts --api http://x",
            "verdicts --api http://x:http",
            "verdicts --api http://x:1 --store /tmp",
            "verdicts --api http://x:1 --token-file t",
            "verdicts --ca c",
        ] {
            let error = config(line).expect_err(line);
            assert_eq!(error.exit_code(), exit::INPUT, "{line}");
        }
    }
}
