//! A node to watch, an agent's folder, and what one asks them.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use netdiag_tests::faults::{self, Case};
use netdiag_tests::node::Node;
use netdiag_tests::plan::{Family, Topology};
use netdiag_tests::process::{Ended, Running};
use netdiag_tests::programs;
use netdiag_tests::snapshot::Snapshot;
use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use serde_json::Value;
use tempfile::TempDir;

/// For anything that should be there in a second, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A node whose firewall drops one port, and a folder for an agent.
pub struct Lab {
    pub node: Node,
    folder: TempDir,
}

pub fn lab() -> Option<Lab> {
    if !geteuid().is_root() {
        eprintln!("skipped: network namespaces need root");
        return None;
    }
    let node = Node::with(Topology::Bridge).expect("build a node");
    faults::firewall::forward_rule(&Case::new(&node, Family::V4)).expect("break the node");
    let folder = tempfile::tempdir().expect("make a folder");
    Some(Lab { node, folder })
}

impl Lab {
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes the configuration: the store and the socket in our folder, and `more`.
    pub fn configure(&self, keep: &str, more: &str) {
        let text = format!(
            "store: {{dir: {}, max_mib: 1, keep: {keep}}}\nlisten: [{{unix: {}}}]\n{more}\n",
            self.path("store").display(),
            self.path("socket").display()
        );
        fs::write(self.path("agent.yaml"), text).expect("write the configuration");
    }

    pub fn trace(&self, more: &str) -> String {
        format!(
            "trace: {{uplinks: [{}], no_answer: 1s{more}}}",
            self.node.uplink()
        )
    }

    pub fn agent(&self) -> Command {
        let netdiag = programs::netdiag().expect("netdiag is built");
        let mut command = self.node.netns.command(netdiag);
        command
            .arg("agent")
            .arg("--config")
            .arg(self.path("agent.yaml"));
        command
    }

    pub fn start(&self) -> Running {
        Running::ready(self.agent()).expect("the agent gets ready")
    }

    /// One TCP exchange of the pod with an outside host; the broken port gets no answer.
    pub fn connect(&self, port: u16) {
        let case = Case::new(&self.node, Family::V4);
        let sender = programs::sender().expect("netdiag-lab is built");
        let report = self.path("report");
        let step = format!("tcp:{}:{port}", case.healthy());
        let arguments = ["send", "--report", report.to_str().expect("UTF-8"), &step];
        let sent = self
            .node
            .pod()
            .run(sender.to_str().expect("UTF-8"), &arguments);
        sent.expect("the sender runs");
    }

    pub fn stored(&self) -> Vec<Value> {
        let store = self.path("store");
        verdicts(&["--store", store.to_str().expect("UTF-8")]).1
    }

    /// Waits until the store holds such verdicts.
    pub fn wait_for(&self, what: &str, enough: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        until(what, || {
            let stored = self.stored();
            enough(&stored).then_some(stored)
        })
    }

    /// Status and body of one request by the socket.
    pub fn ask(&self, request: &str, body: &str) -> (u16, String) {
        let mut stream = UnixStream::connect(self.path("socket")).expect("reach the agent");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("set a time limit");
        let length = body.len();
        let text = format!(
            "{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(text.as_bytes()).expect("ask the agent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer
            .split_once("\r\n\r\n")
            .expect("an answer with a head");
        let status = head.split(' ').nth(1).expect("a status");
        (status.parse().expect("a number"), body.to_owned())
    }

    pub fn snapshot(&self) -> Snapshot {
        Snapshot::take(&self.node).expect("look at the node")
    }

    pub fn level(&self) -> String {
        let (_, body) = self.ask("GET /readyz", "");
        let ready: Value = serde_json::from_str(&body).expect("JSON");
        ready["level"].as_str().expect("a level").to_owned()
    }
}

pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

pub fn with_outcome<'a>(verdicts: &'a [Value], outcome: &str) -> Vec<&'a Value> {
    let having = |verdict: &&Value| verdict["outcome"] == outcome;
    verdicts.iter().filter(having).collect()
}

pub fn is_drop(verdict: &Value) -> bool {
    verdict["outcome"] == "DROPPED_HERE" && verdict["cause"] == "HOST_FIREWALL_DROP"
}

pub fn terminate(agent: Running) -> Ended {
    agent.signal(Signal::SIGTERM).expect("it still runs");
    agent.end().expect("it ends")
}

/// What `netdiag verdicts` says, and its exit code.
pub fn verdicts(arguments: &[&str]) -> (Option<i32>, Vec<Value>) {
    let output = Command::new(programs::netdiag().expect("netdiag is built"))
        .args(["verdicts", "-o", "jsonl"])
        .args(arguments)
        .output()
        .expect("run netdiag verdicts");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let lines = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"));
    (output.status.code(), lines.collect())
}

/// A metric's samples whose labels contain this text, added up.
pub fn metric(text: &str, name: &str, labels: &str) -> f64 {
    let samples = text
        .lines()
        .filter(|line| line.starts_with(name) && line.contains(labels));
    let values = samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    values.sum()
}
