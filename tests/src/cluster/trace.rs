//! netdiag on the cluster, as an operator would type it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::judge::Try;
use super::stage::{CLIENT, NAMESPACE, Stage};
use crate::check::last_revisions;
use crate::process::{Ended, Running};
use crate::step::{Answer, Step};
use crate::{programs, send};

/// A trace to be.
pub struct Trace<'a> {
    stage: &'a Stage,
    /// `pod/client -n shop`
    subject: String,
    kubeconfig: Option<PathBuf>,
    options: Vec<String>,
}

/// What a trace left.
pub struct Done {
    pub command: String,
    pub ended: Ended,
    /// Standard output as JSON, last revisions only; a line that is none is a complaint.
    pub verdicts: Vec<Value>,
    pub complaints: Vec<String>,
    /// What the sender got to see, attempt by attempt.
    pub answers: Vec<Answer>,
}

impl<'a> Trace<'a> {
    /// Of the client, with the administrator's credentials.
    pub fn of_client(stage: &'a Stage) -> Self {
        Self::of(stage, &format!("pod/{CLIENT} -n {NAMESPACE}"))
    }

    pub fn of(stage: &'a Stage, subject: &str) -> Self {
        Self {
            stage,
            subject: subject.to_owned(),
            kubeconfig: Some(stage.kubeconfig().to_owned()),
            options: Vec::new(),
        }
    }

    pub fn option(mut self, option: &str) -> Self {
        self.options.push(option.to_owned());
        self
    }

    pub fn kubeconfig(mut self, file: &Path) -> Self {
        self.kubeconfig = Some(file.to_owned());
        self
    }

    /// As on a node where nobody has credentials.
    pub fn without_kubeconfig(mut self) -> Self {
        self.kubeconfig = None;
        self
    }

    fn command(&self) -> Result<Command> {
        let mut command = Command::new(programs::netdiag()?);
        command.arg("trace").args(self.subject.split(' '));
        if let Some(file) = &self.kubeconfig {
            command.arg("--kubeconfig").arg(file);
        }
        command.env_remove("KUBECONFIG");
        command.args(self.options.iter().flat_map(|option| option.split(' ')));
        command.args(["-o", "jsonl"]);
        Ok(command)
    }

    /// Traces the attempts, made from within the traced pod.
    pub fn run(&self, attempts: &[Try]) -> Result<Done> {
        let folder = tempfile::tempdir().context("make a temporary folder")?;
        let report = folder.path().join("report");
        let mut command = self.command()?;
        command.arg("--").args(sender(attempts, &report)?);
        let shown = shown(&command);
        let ended = Running::start(command)?
            .end()
            .with_context(|| format!("wait for {shown}"))?;
        let text = std::fs::read_to_string(&report);
        // Without a report the judge has fewer answers than attempts, and says so.
        let answers = text.map_or_else(|_| Ok(Vec::new()), |text| send::read_report(&text))?;
        done(shown, ended, answers)
    }

    /// Starts a trace that goes on until it is told to end.
    pub fn follow(&self) -> Result<Following<'a>> {
        let mut command = self.command()?;
        command.arg("-f");
        let shown = shown(&command);
        let running = Running::ready(command).with_context(|| shown.clone())?;
        Ok(Following {
            stage: self.stage,
            command: shown,
            running,
            answers: Vec::new(),
        })
    }
}

/// A trace that is running.
pub struct Following<'a> {
    stage: &'a Stage,
    command: String,
    running: Running,
    answers: Vec<Answer>,
}

impl Following<'_> {
    /// Makes attempts from within a pod.
    pub fn send(&mut self, pod: &str, attempts: &[Try]) -> Result<()> {
        self.send_from(self.stage.pid(NAMESPACE, pod)?, attempts)
    }

    /// Makes attempts from where a process is.
    pub fn send_from(&mut self, pid: u32, attempts: &[Try]) -> Result<()> {
        self.answers.extend(send_once(pid, attempts)?);
        Ok(())
    }

    /// Ends it as Ctrl-C does.
    pub fn stop(self) -> Result<Done> {
        // One that has ended by itself has its answer to that in its exit code.
        let _ = self.running.signal(Signal::SIGINT);
        let ended = self.running.end();
        let ended = ended.with_context(|| format!("wait for {}", self.command))?;
        done(self.command, ended, self.answers)
    }
}

/// Makes attempts from where a process is; the answers they got.
pub fn send_once(pid: u32, attempts: &[Try]) -> Result<Vec<Answer>> {
    let folder = tempfile::tempdir().context("make a temporary folder")?;
    let report = folder.path().join("report");
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/proc/{pid}/ns/net"));
    command.args(sender(attempts, &report)?);
    let shown = shown(&command);
    let ended = Running::start(command)?.end();
    let ended = ended.with_context(|| format!("wait for {shown}"))?;
    let text = std::fs::read_to_string(&report);
    let text = text.with_context(|| format!("{shown}: {}", ended.stderr))?;
    send::read_report(&text)
}

/// The sender's command line.
fn sender(attempts: &[Try], report: &Path) -> Result<Vec<String>> {
    let program = programs::sender()?;
    let mut words = vec![
        program.to_string_lossy().into_owned(),
        "send".to_owned(),
        "--report".to_owned(),
        report.to_string_lossy().into_owned(),
    ];
    let steps = attempts.iter().map(|one| &one.attempt.step);
    words.extend(steps.map(Step::to_string));
    Ok(words)
}

fn done(command: String, ended: Ended, answers: Vec<Answer>) -> Result<Done> {
    let schema = programs::schema()?;
    let (mut values, mut complaints) = (Vec::new(), Vec::new());
    for line in ended.stdout.lines() {
        match serde_json::from_str::<Value>(line) {
            Ok(value) => {
                let errors = schema.iter_errors(&value);
                complaints.extend(errors.map(|error| format!("schema: {error} in {line}")));
                values.push(value);
            }
            Err(error) => complaints.push(format!("no JSON ({error}): {line}")),
        }
    }
    Ok(Done {
        command,
        ended,
        verdicts: last_revisions(values),
        complaints,
        answers,
    })
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (command, stderr) = (&self.command, &self.ended.stderr);
        writeln!(f, "command: {command}\nstderr:\n{stderr}\nverdicts:")?;
        let mut verdicts = self.verdicts.iter();
        verdicts.try_for_each(|verdict| writeln!(f, "{verdict}"))
    }
}
