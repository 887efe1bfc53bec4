//! Runs one scenario for real: build, break, trace, judge.

use std::fmt;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use netdiag_apiserver::ApiServer;
use serde_json::Value;

use crate::faults::Case;
use crate::node::Node;
use crate::outcome::{self, Outcome};
use crate::plan::{Family, Topology};
use crate::process::{Ended, Resident, Running};
use crate::scenario::{Attempt, Scenario, Select, Sender};
use crate::snapshot::Snapshot;
use crate::step::Answer;
use crate::{check, conntrack, kernel, objects, programs, replay, send};

/// How to run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where to leave a scenario folder for the replay ring.
    pub record_dir: Option<PathBuf>,
    /// Only send the traffic and see whether the fault does what it says.
    pub without_trace: bool,
    /// Let the trace use no more than this tier.
    pub tier: Option<u8>,
}

/// What a passed run has to tell.
#[derive(Clone, Debug)]
pub struct Passed {
    pub verdicts: Vec<Value>,
    pub outcomes: Vec<Outcome>,
    pub took: Duration,
}

/// The name of one variant: `no_route_ptp_v6`.
pub fn variant(scenario: &Scenario, topology: Topology, family: Family) -> String {
    format!("{}_{topology}_{family}", scenario.name)
}

/// Runs one variant; the error tells everything a human needs to see what was wrong.
///
/// When nothing was broken after all (a busy machine forgot a connection too late, say), nothing has been learnt of the
/// verdict: it is tried once more, and that is said. Neither a healthy conversation that fails nor a wrong verdict is.
pub fn run(
    scenario: &Scenario,
    topology: Topology,
    family: Family,
    options: &Options,
) -> Result<Passed> {
    let name = variant(scenario, topology, family);
    let mut seen = match once(scenario, topology, family, options)? {
        Ok(passed) => return Ok(passed),
        Err(seen) => seen,
    };
    if seen.only_unbroken() {
        println!("again {name}: {}", seen.unbroken.join("; "));
        seen = match once(scenario, topology, family, options)? {
            Ok(passed) => return Ok(passed),
            Err(seen) => seen,
        };
    }
    bail!("{name}: {}\n{seen}", scenario.about)
}

/// One try; an inner error is what was seen and should not have been.
fn once(
    scenario: &Scenario,
    topology: Topology,
    family: Family,
    options: &Options,
) -> Result<Result<Passed, Seen>> {
    let start = Instant::now();
    let node = Node::build(scenario.plan(topology)).context("build the node")?;
    let case = Case::new(&node, family);
    (scenario.build)(&case).with_context(|| format!("break the node: {}", scenario.about))?;
    let mut wanted = (scenario.attempts)(&case.place);
    let healthy = |attempt: &&mut Attempt| attempt.answers == [Answer::Ok];
    for attempt in wanted.iter_mut().filter(healthy) {
        attempt.step.timeout = attempt.step.timeout.max(PATIENCE);
    }
    let mut attempts = wanted.clone();
    if !options.without_trace {
        let kernel = kernel::this()?;
        for attempt in &mut attempts {
            attempt.expect = attempt.expect.clone().on(kernel, options.tier);
        }
    }
    let scratch = tempfile::tempdir().context("make a temporary folder")?;
    let files = Files {
        report: scratch.path().join("report"),
        recording: scratch.path().join(replay::RECORDING),
    };
    let seen = if options.without_trace {
        alone(scenario, &node, &attempts, &files)?
    } else {
        traced(scenario, &case, &attempts, &files, options)?
    };
    if seen.all().next().is_some() {
        return Ok(Err(seen));
    }
    let name = variant(scenario, topology, family);
    if let (Some(dir), false) = (&options.record_dir, options.without_trace) {
        replay::save(&dir.join(name), &files.recording, &seen.verdicts)?;
    }
    Ok(Ok(Passed {
        outcomes: outcome::outcomes(&wanted, &seen.verdicts),
        verdicts: seen.verdicts,
        took: start.elapsed(),
    }))
}

/// What will succeed may take its time on a busy or emulated machine; only what will fail is waited for in full.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the processes of a run leave for us.
struct Files {
    report: PathBuf,
    recording: PathBuf,
}

/// What a run showed, and what is wrong with it.
#[derive(Default)]
struct Seen {
    command: String,
    stderr: String,
    verdicts: Vec<Value>,
    /// Conversations that were to fail and did not.
    unbroken: Vec<String>,
    /// Conversations whose sender saw anything else that was not due.
    unlike: Vec<String>,
    complaints: Vec<String>,
}

impl Seen {
    fn unlike(what: String) -> Self {
        Self {
            unlike: vec![what],
            ..Self::default()
        }
    }

    /// The fault did not come about, and the network did nothing else it should not have.
    const fn only_unbroken(&self) -> bool {
        !self.unbroken.is_empty() && self.unlike.is_empty()
    }

    fn all(&self) -> impl Iterator<Item = &String> {
        self.unbroken
            .iter()
            .chain(&self.unlike)
            .chain(&self.complaints)
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for complaint in self.all() {
            writeln!(f, "  ✘ {complaint}")?;
        }
        writeln!(
            f,
            "command: {}\nstderr:\n{}\nverdicts:",
            self.command, self.stderr
        )?;
        self.verdicts
            .iter()
            .try_for_each(|verdict| writeln!(f, "{verdict}"))
    }
}

/// Only the traffic: does the fault do what it says?
fn alone(scenario: &Scenario, node: &Node, attempts: &[Attempt], files: &Files) -> Result<Seen> {
    let sender = sender(scenario, node, attempts, &files.report)?;
    let mut command = node.pod().command(sender.get_program());
    let status = command
        .args(sender.get_args())
        .status()
        .context("run the sender")?;
    let seen = if status.success() {
        answers(attempts, &files.report)?
    } else {
        Seen::unlike(status.to_string())
    };
    Ok(Seen {
        command: shown(&command),
        ..seen
    })
}

/// The traffic under trace, and everything that must hold then.
fn traced(
    scenario: &Scenario,
    case: &Case,
    attempts: &[Attempt],
    files: &Files,
    options: &Options,
) -> Result<Seen> {
    let node = case.node;
    let sender = sender(scenario, node, attempts, &files.report)?;
    let before = Snapshot::take(node)?;
    let cluster = Cluster::start(scenario, case)?;
    let Traced { command, ended } =
        trace(scenario, node, &sender, files, cluster.as_ref(), options)?;
    let mut complaints = before.differences(&Snapshot::take(node)?);
    let seen = answers(attempts, &files.report)?;
    let verdicts = check::last_revisions(lines(&ended.stdout, &mut complaints)?);
    let to: Vec<_> = attempts
        .iter()
        .map(|attempt| attempt.step.to.ip())
        .collect();
    let entries = conntrack::list(node, case.family, &to)?;
    complaints.extend(check::verdicts(attempts, &verdicts, &entries));
    let due = i32::from(attempts.iter().any(|attempt| attempt.expect.is_failing()));
    if ended.code != Some(due) {
        complaints.push(format!(
            "netdiag ended with {:?}, exit code {due} was due",
            ended.code.or(ended.signal)
        ));
    }
    Ok(Seen {
        command,
        stderr: ended.stderr,
        verdicts,
        complaints,
        ..seen
    })
}

/// The command that makes the traffic. A pod's sender needs no telling where to start: the trace starts it in the
/// pod it follows.
fn sender(
    scenario: &Scenario,
    node: &Node,
    attempts: &[Attempt],
    report: &Path,
) -> Result<Command> {
    let mut command = Command::new(programs::sender()?);
    command
        .arg("send")
        .args(["--node", node.netns.name(), "--report"])
        .arg(report);
    if scenario.sender == Sender::External {
        command.args(["--netns", node.external.name()]);
    } else if scenario.select == Select::Uplink {
        // No pod is traced that it could be started in.
        command.args(["--netns", node.pod().name()]);
    }
    command.args(attempts.iter().map(|attempt| attempt.step.to_string()));
    Ok(command)
}

/// The API server of a scenario's cluster, and how it is reached.
struct Cluster {
    _server: ApiServer,
    kubeconfig: tempfile::NamedTempFile,
}

impl Cluster {
    /// In the node's namespace; `None` where the scenario has no cluster.
    fn start(scenario: &Scenario, case: &Case) -> Result<Option<Self>> {
        let objects = (scenario.objects)(&case.place);
        if objects.is_empty() {
            return Ok(None);
        }
        let listener = case.node.netns.within(|| {
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("bind the API server's socket")
        })?;
        let server = ApiServer::on(listener).context("start the API server")?;
        for object in objects {
            server.put(object);
        }
        let mut kubeconfig = tempfile::NamedTempFile::new().context("make a kubeconfig")?;
        kubeconfig
            .write_all(server.kubeconfig().as_bytes())
            .context("write the kubeconfig")?;
        Ok(Some(Self {
            _server: server,
            kubeconfig,
        }))
    }
}

fn trace(
    scenario: &Scenario,
    node: &Node,
    sender: &Command,
    files: &Files,
    cluster: Option<&Cluster>,
    options: &Options,
) -> Result<Traced> {
    let pod = match scenario.sender {
        Sender::Pod => 0,
        Sender::External => 1,
    };
    let resident = Resident::start(&node.pods[pod])?;
    let mut command = node.netns.command(programs::netdiag()?);
    command.arg("trace");
    match scenario.select {
        Select::Netns => command.args(["--netns", node.pods[pod].name()]),
        Select::Pid => command.args(["--pid", &resident.pid().to_string()]),
        Select::Uplink => command.args(["--interface", node.uplink()]),
        Select::Interface => command.args(["--interface", &node.plan.names.veths[pod]]),
    };
    // Whatever cluster this machine belongs to has nothing to say here.
    command
        .env_remove("KUBECONFIG")
        .env_remove("KUBERNETES_SERVICE_HOST")
        .env("HOME", "/nonexistent")
        .env("NODE_NAME", objects::NODE);
    if let Some(cluster) = cluster {
        command.arg("--kubeconfig").arg(cluster.kubeconfig.path());
    }
    command
        .args(["--uplink", node.uplink(), "-o", "jsonl", "--record"])
        .arg(&files.recording);
    if let Some(tier) = options.tier {
        command.args(["--tier", &tier.to_string()]);
    }
    if scenario.explain {
        command.arg("--explain-rule");
    }
    command
        .arg("--")
        .arg(sender.get_program())
        .args(sender.get_args());
    let shown = shown(&command);
    let ended = Running::start(command)?
        .end()
        .with_context(|| format!("wait for {shown}"))?;
    Ok(Traced {
        command: shown,
        ended,
    })
}

/// A trace that is over.
struct Traced {
    command: String,
    ended: Ended,
}

/// What the sender saw against what the fault must make it see.
fn answers(attempts: &[Attempt], report: &Path) -> Result<Seen> {
    let text = match std::fs::read_to_string(report) {
        Ok(text) => text,
        Err(error) => return Ok(Seen::unlike(format!("the sender left no report: {error}"))),
    };
    let answers = send::read_report(&text)?;
    if answers.len() != attempts.len() {
        return Ok(Seen::unlike(format!(
            "the sender made {} of {} attempts",
            answers.len(),
            attempts.len()
        )));
    }
    let mut seen = Seen::default();
    for (attempt, answer) in attempts.iter().zip(answers) {
        if attempt.answers.contains(&answer) {
            continue;
        }
        let list = if answer == Answer::Ok {
            &mut seen.unbroken
        } else {
            &mut seen.unlike
        };
        list.push(format!(
            "{}: the sender saw {answer}, expected {:?}",
            attempt.step, attempt.answers
        ));
    }
    Ok(seen)
}

/// The JSON lines, each checked against the schema.
fn lines(stdout: &str, complaints: &mut Vec<String>) -> Result<Vec<Value>> {
    let schema = programs::schema()?;
    let mut values = Vec::new();
    for line in stdout.lines() {
        match serde_json::from_str::<Value>(line) {
            Ok(value) => {
                complaints.extend(
                    schema
                        .iter_errors(&value)
                        .map(|e| format!("schema: {e} at {} in {line}", e.instance_path())),
                );
                values.push(value);
            }
            Err(error) => {
                complaints.push(format!("standard output is no JSON line ({error}): {line}"));
            }
        }
    }
    Ok(values)
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}
