//! The node's own processes: each has a file with its number and a script that starts it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::kubectl::until;

/// One process of the node; it is started again when this is dropped.
pub struct Killed {
    name: &'static str,
    script: PathBuf,
    running: bool,
}

/// Kills it without a chance to say goodbye.
pub fn kill_hard(name: &'static str, script: PathBuf) -> Result<Killed> {
    let file = format!("/run/{name}.pid");
    let text = fs::read_to_string(&file).with_context(|| format!("read {file}"))?;
    let number = text
        .trim()
        .parse()
        .with_context(|| format!("read {file}"))?;
    let pid = Pid::from_raw(number);
    kill(pid, Signal::SIGKILL).with_context(|| format!("kill {name}"))?;
    let killed = Killed {
        name,
        script,
        running: false,
    };
    until(&format!("{name} is dead"), || {
        kill(pid, None) == Err(Errno::ESRCH)
    })?;
    Ok(killed)
}

impl Killed {
    /// Starts it again and waits until it serves.
    pub fn start(mut self, serves: impl FnMut() -> bool) -> Result<()> {
        self.again()?;
        until(&format!("{} serves", self.name), serves)
    }

    fn again(&mut self) -> Result<()> {
        self.running = true;
        let status = Command::new("sh").arg(&self.script).status();
        let status = status.with_context(|| format!("start {}", self.name))?;
        ensure!(status.success(), "start {}: {status}", self.name);
        Ok(())
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        if !self.running
            && let Err(error) = self.again()
        {
            eprintln!("{error:#}");
        }
    }
}
