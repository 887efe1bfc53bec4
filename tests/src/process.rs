//! A process that is watched while it runs, and never outlives its time.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::sys;

/// Longer than anything the lab runs takes, on a busy machine.
const PATIENCE: Duration = Duration::from_mins(2);

#[derive(Debug)]
pub struct Running {
    child: Child,
    lines: Receiver<String>,
    stdout: JoinHandle<String>,
    /// What was read of standard error before it was ready.
    said: Vec<String>,
}

/// What a process left.
#[derive(Clone, Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    /// From when its end was waited for.
    pub took: Duration,
}

impl Running {
    pub fn start(mut command: Command) -> Result<Self> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        sys::die_with_parent(&mut command, Signal::SIGTERM);
        let mut child = command
            .spawn()
            .with_context(|| format!("start {command:?}"))?;
        let stderr = child.stderr.take().context("standard error is piped")?;
        let stdout = child.stdout.take().context("standard output is piped")?;
        Ok(Self {
            child,
            lines: lines(stderr),
            stdout: gather(stdout),
            said: Vec::new(),
        })
    }

    /// Starts it and waits until it says that it is ready.
    pub fn ready(command: Command) -> Result<Self> {
        let mut running = Self::start(command)?;
        running.says("ready")?;
        Ok(running)
    }

    /// Waits until it says this on standard error, and returns that line.
    pub fn says(&mut self, text: &str) -> Result<String> {
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.said.push(line.clone());
            if line.contains(text) {
                return Ok(line);
            }
        }
        bail!("it never said {text:?}: {:?}", self.said);
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.pid(), signal).with_context(|| format!("send {signal} to {}", self.pid()))
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// Waits for its end.
    pub fn end(mut self) -> Result<Ended> {
        let since = Instant::now();
        let status = wait(&mut self.child)?;
        let took = since.elapsed();
        let mut said = std::mem::take(&mut self.said);
        said.extend(self.lines.iter());
        Ok(Ended {
            code: status.code(),
            signal: status.signal(),
            stdout: self.stdout.join().unwrap_or_default(),
            stderr: said.join("\n"),
            took,
        })
    }
}

fn lines(stderr: ChildStderr) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);
        lines.try_for_each(|line| sender.send(line))
    });
    receiver
}

fn gather(mut stdout: ChildStdout) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is still worth showing.
        let _ = stdout.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Waits for a process with patience; then it is told to end, and made to.
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
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A process that lives in a namespace, as any real pod has one; gone when dropped.
#[derive(Debug)]
pub struct Resident(Child);

impl Resident {
    pub fn start(netns: &crate::netns::Netns) -> Result<Self> {
        let mut command = netns.command("sleep");
        command.arg("600");
        sys::die_with_parent(&mut command, Signal::SIGKILL);
        command
            .spawn()
            .map(Self)
            .context("start a process in the pod")
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Resident {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
