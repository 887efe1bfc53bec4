//! Runs one scenario for real: build, break, trace, judge.

use std::fmt::Write as _;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::faults::Case;
use crate::netns::Netns;
use crate::node::Node;
use crate::plan::{Family, Topology};
use crate::scenario::{Attempt, Scenario, Select, Sender};
use crate::snapshot::Snapshot;
use crate::{check, conntrack, programs, replay, send, sys};

/// Longer than any trace of the table takes, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);

/// How to run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where to leave a scenario folder for the replay ring.
    pub record_dir: Option<PathBuf>,
    /// Only send the traffic and see whether the fault does what it says.
    pub without_trace: bool,
}

/// What a passed run has to tell.
#[derive(Clone, Debug)]
pub struct Passed {
    pub verdicts: Vec<Value>,
    pub took: Duration,
}

/// The name of one variant: `no_route_ptp_v6`.
pub fn variant(scenario: &Scenario, topology: Topology, family: Family) -> String {
    format!("{}_{topology}_{family}", scenario.name)
}

/// Runs one variant; the error tells everything a human needs to see what was wrong.
pub fn run(
    scenario: &Scenario,
    topology: Topology,
    family: Family,
    options: &Options,
) -> Result<Passed> {
    let start = Instant::now();
    let node = Node::with(topology).context("build the node")?;
    let case = Case::new(&node, family);
    (scenario.build)(&case).with_context(|| format!("break the node: {}", scenario.about))?;
    let attempts = (scenario.attempts)(&case.place);
    let scratch = tempfile::tempdir().context("make a temporary folder")?;
    let report = scratch.path().join("report");
    let sender = sender(scenario, &node, &attempts, &report)?;
    if options.without_trace {
        let mut alone = node.pod().command(sender.get_program());
        let status = alone
            .args(sender.get_args())
            .status()
            .context("run the sender")?;
        let complaints = if status.success() {
            answers(&attempts, &report)?
        } else {
            vec![status.to_string()]
        };
        return judge(
            scenario,
            topology,
            family,
            &format!("{sender:?}"),
            "",
            &[],
            complaints,
            start,
        );
    }
    let recording = scratch.path().join("recording.ndjson");
    let before = Snapshot::take(&node)?;
    let traced = trace(scenario, &node, &sender, &recording)?;
    let mut complaints = before.differences(&Snapshot::take(&node)?);
    complaints.extend(answers(&attempts, &report)?);
    let lines = lines(&traced.stdout, &mut complaints)?;
    let verdicts = check::last_revisions(lines);
    complaints.extend(check::verdicts(
        &attempts,
        &verdicts,
        &conntrack::list(&node, family)?,
    ));
    let due = i32::from(attempts.iter().any(|attempt| attempt.expect.is_failing()));
    if traced.status.code() != Some(due) {
        complaints.push(format!(
            "netdiag ended with {}, exit code {due} was due",
            traced.status
        ));
    }
    let passed = judge(
        scenario,
        topology,
        family,
        &traced.command,
        &traced.stderr,
        &verdicts,
        complaints,
        start,
    )?;
    if let Some(dir) = &options.record_dir {
        replay::save(
            &dir.join(variant(scenario, topology, family)),
            &recording,
            &passed.verdicts,
        )?;
    }
    Ok(passed)
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

/// What the traced run left.
struct Traced {
    command: String,
    stdout: String,
    stderr: String,
    status: ExitStatus,
}

fn trace(scenario: &Scenario, node: &Node, sender: &Command, recording: &Path) -> Result<Traced> {
    let pod = match scenario.sender {
        Sender::Pod => 0,
        Sender::External => 1,
    };
    let resident = Resident::start(&node.pods[pod])?;
    let mut command = node.netns.command(programs::netdiag()?);
    command.arg("trace");
    match scenario.select {
        Select::Netns => command.args(["--netns", node.pods[pod].name()]),
        Select::Pid => command.args(["--pid", &resident.0.id().to_string()]),
        Select::Uplink => command.args(["--interface", node.uplink()]),
        Select::Interface => command.args(["--interface", &node.plan.names.veths[pod]]),
    };
    command
        .args(["--uplink", node.uplink(), "-o", "jsonl", "--record"])
        .arg(recording);
    command
        .arg("--")
        .arg(sender.get_program())
        .args(sender.get_args());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    sys::die_with_parent(&mut command, Signal::SIGTERM);
    let shown = shown(&command);
    let mut child = command.spawn().with_context(|| format!("start {shown}"))?;
    let (stdout, stderr) = (gather(child.stdout.take()), gather(child.stderr.take()));
    let status = wait(&mut child).with_context(|| format!("wait for {shown}"))?;
    let text = |thread: std::thread::JoinHandle<String>| thread.join().unwrap_or_default();
    Ok(Traced {
        command: shown,
        stdout: text(stdout),
        stderr: text(stderr),
        status,
    })
}

/// A process that lives in the pod, as any real pod has one.
struct Resident(Child);

impl Resident {
    fn start(netns: &Netns) -> Result<Self> {
        let mut command = netns.command("sleep");
        command.arg("60");
        sys::die_with_parent(&mut command, Signal::SIGKILL);
        command
            .spawn()
            .map(Self)
            .context("start a process in the pod")
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn gather(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is still worth showing.
        let _ = pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Waits for a process for as long as [`PATIENCE`]; then it is told to end, and made to.
pub fn wait(child: &mut Child) -> Result<ExitStatus> {
    let deadline = Instant::now() + PATIENCE;
    let pid = Pid::from_raw(child.id() as i32);
    let mut asked = false;
    loop {
        if let Some(status) = child.try_wait()? {
            if asked {
                bail!("it had to be stopped after {PATIENCE:?}");
            }
            return Ok(status);
        }
        let late = Instant::now().saturating_duration_since(deadline);
        if !late.is_zero() && !asked {
            asked = true;
            kill(pid, Signal::SIGTERM)?;
        }
        if late > Duration::from_secs(3) {
            child.kill()?;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What the sender saw against what the fault must make it see.
fn answers(attempts: &[Attempt], report: &Path) -> Result<Vec<String>> {
    let text = match std::fs::read_to_string(report) {
        Ok(text) => text,
        Err(error) => return Ok(vec![format!("the sender left no report: {error}")]),
    };
    let seen = send::read_report(&text)?;
    if seen.len() != attempts.len() {
        return Ok(vec![format!(
            "the sender made {} of {} attempts",
            seen.len(),
            attempts.len()
        )]);
    }
    let pairs = attempts.iter().zip(seen);
    Ok(pairs
        .filter(|(attempt, seen)| !attempt.answers.contains(seen))
        .map(|(attempt, seen)| {
            format!(
                "{}: the sender saw {seen}, expected {:?}",
                attempt.step, attempt.answers
            )
        })
        .collect())
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
                complaints.push(format!("standard output is no JSON line ({error}): {line}"))
            }
        }
    }
    Ok(values)
}

#[expect(clippy::too_many_arguments, reason = "all of it goes into one message")]
fn judge(
    scenario: &Scenario,
    topology: Topology,
    family: Family,
    command: &str,
    stderr: &str,
    verdicts: &[Value],
    complaints: Vec<String>,
    start: Instant,
) -> Result<Passed> {
    if complaints.is_empty() {
        return Ok(Passed {
            verdicts: verdicts.to_vec(),
            took: start.elapsed(),
        });
    }
    let mut message = format!(
        "{}: {}\n",
        variant(scenario, topology, family),
        scenario.about
    );
    for complaint in complaints {
        let _ = writeln!(message, "  ✘ {complaint}");
    }
    let _ = writeln!(message, "command: {command}\nstderr:\n{stderr}\nverdicts:");
    for verdict in verdicts {
        let _ = writeln!(message, "{verdict}");
    }
    bail!(message)
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}
