//! The node: mount, network, process and host name namespaces, held by a process that does nothing else.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::place::Place;
use crate::sh;

const INIT: &str = include_str!("node-init.sh");

/// A node whose first process lives.
pub struct Node {
    pub place: Place,
    /// The first process, as this machine numbers it.
    init: u32,
}

impl Node {
    /// Makes the namespaces and waits until the file systems are there.
    pub fn start(place: Place) -> Result<Self> {
        let ready = place.file("ready");
        let _ = fs::remove_file(&ready);
        let log =
            fs::File::create(place.file("log/init.log")).context("create the log of the node")?;
        let mut command = Command::new("unshare");
        command.args(["--mount", "--net", "--pid", "--uts", "--fork"]);
        command.args(["--propagation", "private", "--mount-proc"]);
        command.args(["sh", "-c", INIT]).arg(marker(&place));
        command.arg(place.root()).arg(place.name());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        // Ctrl-C in the terminal is for us, not for the node.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut unshare = command.spawn().context("start unshare")?;
        let deadline = Instant::now() + Duration::from_secs(10);
        while !ready.exists() {
            if let Some(status) = unshare.try_wait().context("wait for unshare")? {
                let said = fs::read_to_string(place.file("log/init.log")).unwrap_or_default();
                bail!(
                    "the node's first process ended with {status}: {}",
                    said.trim()
                );
            }
            if Instant::now() > deadline {
                bail!("the node's first process was not ready after 10 s");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Self::find(place)?.context("the node's first process is gone")
    }

    /// The node that lives at this place, whoever started it.
    pub fn find(place: Place) -> Result<Option<Self>> {
        let inits = processes(&place)?.into_iter().find(|process| process.first);
        Ok(inits.map(|process| Self {
            place,
            init: process.pid,
        }))
    }

    /// A command that will run on the node.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init.to_string()]);
        command.args(["--mount", "--net", "--pid", "--uts", "--"]);
        command.arg(program).stdin(Stdio::null());
        command.env("KUBECONFIG", self.place.file("admin.conf"));
        // kubectl keeps what it learns of the server below the home folder.
        command.env("HOME", "/var/lib/kubelet");
        command
    }

    /// Runs a shell script on the node; the error carries what it said last.
    pub fn script(&self, script: &str) -> Result<String> {
        sh::output(self.command("sh").args(["-euc", script]))
    }

    pub fn how_to_reach(&self) {
        let init = self.init;
        println!("KUBECONFIG={}", self.place.text("admin.conf"));
        println!(
            "CRI socket   /proc/{init}/root/run/containerd/containerd.sock (on the node: unix:///run/containerd/containerd.sock)"
        );
        println!("netns        /proc/{init}/ns/net");
        println!("logs         {}", self.place.text("log"));
        println!(
            "on the node  nsenter --target {init} --mount --net --pid --uts -- kubectl --kubeconfig {} get pods -A",
            self.place.text("admin.conf")
        );
    }
}

/// A process that belongs to the node at this place, seen from outside.
pub struct Process {
    pub pid: u32,
    /// Number 1 of its own process namespace.
    pub first: bool,
}

/// The first process and the `unshare` that waits for it.
pub fn processes(place: &Place) -> Result<Vec<Process>> {
    let marker = marker(place);
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("list /proc")?.flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let Ok(line) = fs::read(entry.path().join("cmdline")) else {
            continue;
        };
        if line
            .split(|byte| *byte == 0)
            .any(|word| word == marker.as_bytes())
        {
            let first = is_first(&entry.path());
            found.push(Process { pid, first });
        }
    }
    Ok(found)
}

/// A word on the command line that nothing else has.
fn marker(place: &Place) -> String {
    format!("{}-node", place.name())
}

/// `NSpid` lists its number in each namespace it is in, ours first; a process of ours has one only.
fn is_first(process: &Path) -> bool {
    let status = fs::read_to_string(process.join("status")).unwrap_or_default();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    let numbers: Vec<_> = numbers.unwrap_or_default().split_whitespace().collect();
    numbers.len() > 1 && numbers.last() == Some(&"1")
}
