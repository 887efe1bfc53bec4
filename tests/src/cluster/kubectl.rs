//! Asking the API server, by kubectl: what it says is not what netdiag says.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The API server as the administrator sees it.
pub struct Kubectl {
    kubeconfig: PathBuf,
}

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

impl Kubectl {
    pub const fn new(kubeconfig: PathBuf) -> Self {
        Self { kubeconfig }
    }

    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// Runs it and returns what it printed; failure carries its complaint.
    pub fn run(&self, line: &str) -> Result<String> {
        let output = self.command(line).output().context("run kubectl")?;
        succeed(&output).with_context(|| format!("kubectl {line}"))
    }

    /// Makes what a manifest describes.
    pub fn apply(&self, manifest: &str) -> Result<()> {
        self.apply_with("", manifest).map(drop)
    }

    /// The same with more options; what kubectl says to it.
    pub fn apply_with(&self, options: &str, manifest: &str) -> Result<String> {
        let mut command = self.command(&format!("apply {options} -f -"));
        command.stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("run kubectl")?;
        let mut stdin = child.stdin.take().context("standard input is piped")?;
        let written = stdin.write_all(manifest.as_bytes());
        drop(stdin);
        let output = child.wait_with_output().context("wait for kubectl")?;
        let said = succeed(&output).with_context(|| format!("kubectl apply:\n{manifest}"))?;
        written.context("hand kubectl a manifest")?;
        Ok(said)
    }

    /// The object, or the list, as JSON.
    pub fn get(&self, what: &str) -> Result<Value> {
        let text = self.run(&format!("get {what} -o json"))?;
        serde_json::from_str(&text).with_context(|| format!("kubectl get {what}: no JSON"))
    }

    /// Waits for a condition of an object that is there.
    pub fn wait(&self, what: &str) -> Result<()> {
        self.run(&format!("wait --timeout={}s {what}", PATIENCE.as_secs()))
            .map(drop)
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(&self.kubeconfig);
        command.arg("--request-timeout=90s");
        command.args(line.split_whitespace()).stdin(Stdio::null());
        command
    }
}

/// Tries again until it is so; nothing on the node tells when.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        if Instant::now() > deadline {
            bail!("not so after {} s: {what}", PATIENCE.as_secs());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn succeed(output: &Output) -> Result<String> {
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{}: {}", output.status, said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
