//! The node mode on a fake node: what it stores, tells and survives, and with how little privilege.
//!
//! Needs root: `cargo test -p netdiag-tests --features lab`. Without it each test says so and passes.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use netdiag_tests::faults::{self, Case, broken};
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

/// Enough for everything but rules that iptables alone can read.
const ENOUGH: &str = "+bpf,+perfmon,+net_admin,+sys_ptrace,+syslog,+sys_admin";
const WITHOUT_SYS_ADMIN: &str = "+bpf,+perfmon,+net_admin,+sys_ptrace,+syslog";

/// A node whose firewall drops one port, and a folder for an agent.
struct Lab {
    node: Node,
    folder: TempDir,
}

fn lab() -> Option<Lab> {
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
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes the configuration: the store and the socket in our folder, and `more`.
    fn configure(&self, keep: &str, more: &str) {
        let text = format!(
            "store: {{dir: {}, max_mib: 1, keep: {keep}}}\nlisten: [{{unix: {}}}]\n{more}\n",
            self.path("store").display(),
            self.path("socket").display()
        );
        fs::write(self.path("agent.yaml"), text).expect("write the configuration");
    }

    fn trace(&self, more: &str) -> String {
        format!(
            "trace: {{uplinks: [{}], no_answer: 1s{more}}}",
            self.node.uplink()
        )
    }

    fn agent(&self) -> Command {
        let netdiag = programs::netdiag().expect("netdiag is built");
        let mut command = self.node.netns.command(netdiag);
        command
            .arg("agent")
            .arg("--config")
            .arg(self.path("agent.yaml"));
        command
    }

    fn start(&self) -> Running {
        Running::ready(self.agent()).expect("the agent gets ready")
    }

    /// One TCP exchange of the pod with an outside host; the broken port gets no answer.
    fn connect(&self, port: u16) {
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

    fn stored(&self) -> Vec<Value> {
        let store = self.path("store");
        verdicts(&["--store", store.to_str().expect("UTF-8")]).1
    }

    /// Waits until the store holds such verdicts.
    fn wait_for(&self, what: &str, enough: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        until(what, || {
            let stored = self.stored();
            enough(&stored).then_some(stored)
        })
    }

    /// Status and body of one request by the socket.
    fn ask(&self, request: &str, body: &str) -> (u16, String) {
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

    fn level(&self) -> String {
        let (_, body) = self.ask("GET /readyz", "");
        let ready: Value = serde_json::from_str(&body).expect("JSON");
        ready["level"].as_str().expect("a level").to_owned()
    }
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn with_outcome<'a>(verdicts: &'a [Value], outcome: &str) -> Vec<&'a Value> {
    let having = |verdict: &&Value| verdict["outcome"] == outcome;
    verdicts.iter().filter(having).collect()
}

fn is_drop(verdict: &Value) -> bool {
    verdict["outcome"] == "DROPPED_HERE" && verdict["cause"] == "HOST_FIREWALL_DROP"
}

fn terminate(agent: Running) -> Ended {
    agent.signal(Signal::SIGTERM).expect("it still runs");
    agent.end().expect("it ends")
}

/// What `netdiag verdicts` says, and its exit code.
fn verdicts(arguments: &[&str]) -> (Option<i32>, Vec<Value>) {
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
fn metric(text: &str, name: &str, labels: &str) -> f64 {
    let samples = text
        .lines()
        .filter(|line| line.starts_with(name) && line.contains(labels));
    let values = samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    values.sum()
}

#[test]
fn what_fails_is_stored_counted_and_served_and_nothing_stays_attached() {
    let Some(lab) = lab() else { return };
    lab.configure("failing", &lab.trace(""));
    let before = Snapshot::take(&lab.node).expect("look at the node");
    let agent = lab.start();
    assert_ne!(
        before,
        Snapshot::take(&lab.node).expect("look"),
        "it is attached somewhere"
    );
    lab.connect(8080);
    lab.connect(broken::TCP);
    let stored = lab.wait_for("a verdict on the drop", |stored| stored.iter().any(is_drop));
    assert_eq!(
        stored.len(),
        1,
        "what is healthy is not stored: {stored:#?}"
    );
    let schema = programs::schema().expect("netdiag prints its schema");
    assert!(schema.is_valid(&stored[0]), "{:#}", stored[0]);
    assert!(
        stored[0]["remediation"]["commands"][0].is_string(),
        "{:#}",
        stored[0]
    );
    let socket = format!("unix:{}", lab.path("socket").display());
    let asked = verdicts(&["--api", &socket, "--since", "1m", "--outcome", "failing"]);
    assert_eq!(asked, (Some(1), stored));
    let none = verdicts(&["--api", &socket, "--outcome", "refused"]);
    assert_eq!(none, (Some(0), vec![]));
    let (status, ready) = lab.ask("GET /readyz", "");
    assert_eq!(
        (status, ready.as_str()),
        (200, r#"{"ready":true,"level":"full"}"#)
    );
    let (_, metrics) = lab.ask("GET /metrics", "");
    for (name, labels) in [
        ("netdiag_flows_total{", "outcome=\"DELIVERED\""),
        ("netdiag_flows_total{", "cause=\"HOST_FIREWALL_DROP\""),
        ("netdiag_drops_total{", "hop=\"NF_FORWARD\""),
        ("netdiag_program_attached{", "kfree_skb"),
        ("netdiag_handshake_duration_seconds_count", ""),
        ("netdiag_conntrack_entries_limit", ""),
    ] {
        assert!(
            metric(&metrics, name, labels) >= 1.0,
            "{name} {labels}\n{metrics}"
        );
    }
    promtool(&metrics);
    let ended = terminate(agent);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(
        !lab.path("socket").exists(),
        "the socket goes with the agent"
    );
    assert_eq!(
        before.differences(&Snapshot::take(&lab.node).expect("look again")),
        [""; 0]
    );
}

fn promtool(metrics: &str) {
    let Some(promtool) = programs::promtool() else {
        eprintln!("skipped: no promtool to check the metrics with (cargo xtask setup fetches it)");
        return;
    };
    let mut child = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("run promtool");
    let mut stdin = child.stdin.take().expect("standard input is piped");
    stdin.write_all(metrics.as_bytes()).expect("feed promtool");
    drop(stdin);
    let output = child.wait_with_output().expect("promtool ends");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(
        output.status.success() && said.is_empty(),
        "{said}\n{metrics}"
    );
}

#[test]
fn the_store_survives_the_agent() {
    let Some(lab) = lab() else { return };
    lab.configure("failing", &lab.trace(""));
    let before = Snapshot::take(&lab.node).expect("look at the node");
    let agent = lab.start();
    lab.connect(broken::TCP);
    let first = lab.wait_for("a verdict", |stored| stored.iter().any(is_drop));
    agent.signal(Signal::SIGKILL).expect("it still runs");
    let ended = agent.end().expect("it ends");
    assert_eq!(ended.signal, Some(Signal::SIGKILL as i32), "{ended:#?}");
    let segment = lab.path("store").join("verdicts-0000000001.ndjson");
    let mut file = fs::OpenOptions::new()
        .append(true)
        .open(segment)
        .expect("open the store");
    file.write_all(b"{\"schema\":\"netdiag.flow_")
        .expect("tear a line");
    assert_eq!(lab.stored(), first);
    // The dead one's socket and lock are no hindrance.
    let agent = lab.start();
    let (_, metrics) = lab.ask("GET /metrics", "");
    assert!(
        metric(&metrics, "netdiag_store_torn_lines_total", "") >= 1.0,
        "{metrics}"
    );
    lab.connect(broken::TCP);
    let second = lab.wait_for("a second verdict", |stored| stored.len() > first.len());
    assert_eq!(second[..first.len()], first);
    let ended = terminate(agent);
    assert!(ended.stderr.contains("torn"), "{ended:#?}");
    assert_eq!(
        before.differences(&Snapshot::take(&lab.node).expect("look again")),
        [""; 0]
    );
}

#[test]
fn a_bad_configuration_changes_nothing_and_a_good_one_takes_effect() {
    let Some(lab) = lab() else { return };
    lab.configure("failing", &lab.trace(""));
    let agent = lab.start();
    fs::write(lab.path("agent.yaml"), "store: {keep: nonsense}\n").expect("write nonsense");
    agent.signal(Signal::SIGHUP).expect("it runs");
    lab.connect(8080);
    lab.connect(broken::TCP);
    let stored = lab.wait_for("a verdict", |stored| !stored.is_empty());
    assert!(stored.iter().all(is_drop), "{stored:#?}");
    lab.configure("all", &lab.trace(""));
    agent.signal(Signal::SIGHUP).expect("it runs on");
    until("a healthy flow is stored", || {
        lab.connect(8080);
        let stored = lab.stored();
        (!with_outcome(&stored, "DELIVERED").is_empty()).then_some(())
    });
    let ended = terminate(agent);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    let complaints = ended
        .stderr
        .lines()
        .filter(|line| line.contains("keeping the configuration"));
    let complaints: Vec<_> = complaints.collect();
    assert!(
        complaints.len() == 1 && complaints[0].contains("keep"),
        "{ended:#?}"
    );
}

#[test]
fn over_its_budget_it_follows_less_says_so_and_recovers() {
    let Some(lab) = lab() else { return };
    let budget = "budget: {cpu: 8, events_per_second: 30, patience: 1s, recover_after: 10s}";
    lab.configure("all", &format!("{}\n{budget}", lab.trace("")));
    let agent = lab.start();
    let mut reached = String::new();
    until("a lower level", || {
        for _ in 0..30 {
            lab.connect(8080);
        }
        reached = lab.level();
        (reached != "full").then_some(())
    });
    assert_eq!(reached, "drops_only");
    until("deaths only are followed", || {
        let (status, body) = lab.ask("GET /readyz", "");
        (status == 200 && body.contains("events per second")).then_some(())
    });
    let before = lab.stored();
    lab.connect(8080);
    lab.connect(broken::TCP);
    let stored = lab.wait_for("a death while deaths only are followed", |stored| {
        stored[before.len()..]
            .iter()
            .any(|verdict| verdict["outcome"] == "DROPPED_HERE")
    });
    for verdict in &stored[before.len()..] {
        assert_eq!(
            verdict["outcome"], "DROPPED_HERE",
            "nothing is said of flows not seen: {verdict:#}"
        );
        assert_eq!(verdict["confidence"], "INFERRED", "{verdict:#}");
        assert!(
            verdict["caveats"]
                .to_string()
                .contains("only deaths are followed"),
            "{verdict:#}"
        );
    }
    let (_, metrics) = lab.ask("GET /metrics", "");
    assert!(
        metric(&metrics, "netdiag_agent_level{", "drops_only") >= 1.0,
        "{metrics}"
    );
    assert!(
        metric(&metrics, "netdiag_agent_level_changes_total{", "events") >= 1.0,
        "{metrics}"
    );
    until("the full level again", || {
        (lab.level() == "full").then_some(())
    });
    until("it observes again", || {
        (lab.ask("GET /readyz", "").0 == 200).then_some(())
    });
    until("a healthy flow is followed again", || {
        lab.connect(8080);
        let stored = lab.stored();
        (with_outcome(&stored, "DELIVERED").len() > with_outcome(&before, "DELIVERED").len())
            .then_some(())
    });
    let ended = terminate(agent);
    assert!(
        ended.stderr.contains("from level full to drops_only"),
        "{ended:#?}"
    );
    assert!(
        ended.stderr.contains("from level drops_only to full"),
        "{ended:#?}"
    );
}

#[test]
fn a_trace_is_asked_for_by_the_socket() {
    let Some(lab) = lab() else { return };
    lab.configure("failing", &lab.trace(", enabled: false"));
    // Without a standing trace there is nothing to get ready.
    let agent = Running::start(lab.agent()).expect("start the agent");
    until("the agent serves", || {
        lab.path("socket").exists().then_some(())
    });
    let body = format!(
        r#"{{"netns":"{}","uplinks":["{}"],"duration":"20s","no_answer":"1s"}}"#,
        lab.node.pod().name(),
        lab.node.uplink()
    );
    let (status, answer) = lab.ask("POST /v1/traces", &body);
    assert_eq!(status, 201, "{answer}");
    let id: Value = serde_json::from_str(&answer).expect("JSON");
    let path = format!("/v1/traces/{}", id["id"].as_str().expect("an id"));
    until("a verdict of the trace", || {
        lab.connect(broken::TCP);
        let (_, list) = lab.ask("GET /v1/traces", "");
        let list: Value = serde_json::from_str(&list).expect("JSON");
        assert_eq!(list[0]["state"], "running", "{list:#}");
        list[0]["verdicts"].as_u64().filter(|count| *count > 0)
    });
    let (status, _) = lab.ask(&format!("DELETE {path}"), "");
    assert_eq!(status, 204);
    let (status, lines) = lab.ask(&format!("GET {path}"), "");
    assert_eq!(status, 200);
    assert!(lines.contains("HOST_FIREWALL_DROP"), "{lines}");
    let (status, why) = lab.ask("POST /v1/traces", r#"{"netns":"a","pid":1}"#);
    assert_eq!(
        (status, why.trim()),
        (400, "give one of pod, labels, netns, pid and interface")
    );
    let ended = terminate(agent);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert_eq!(
        lab.stored(),
        [] as [Value; 0],
        "such a trace is its caller's"
    );
}

/// `setpriv` with nothing but these capabilities.
fn confined(node: &Node, capabilities: &str, arguments: &[&str]) -> Command {
    let mut command = node.netns.command("setpriv");
    command
        .arg(format!("--bounding-set=-all,{capabilities}"))
        .arg("--inh-caps=-all")
        .arg(programs::netdiag().expect("netdiag is built"))
        .args(arguments);
    command
}

#[test]
fn a_trace_works_with_the_capabilities_it_needs() {
    let Some(lab) = lab() else { return };
    let case = Case::new(&lab.node, Family::V4);
    let sender = programs::sender().expect("netdiag-lab is built");
    let report = lab.path("report");
    let steps = [8080, broken::TCP].map(|port| format!("tcp:{}:{port}", case.healthy()));
    let arguments = [
        "trace",
        "--netns",
        lab.node.pod().name(),
        "--uplink",
        lab.node.uplink(),
        "-o",
        "jsonl",
        "--",
        sender.to_str().expect("UTF-8"),
        "send",
        "--report",
        report.to_str().expect("UTF-8"),
        &steps[0],
        &steps[1],
    ];
    let running = Running::start(confined(&lab.node, ENOUGH, &arguments)).expect("start netdiag");
    let ended = running.end().expect("it ends");
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    let verdicts: Vec<Value> = ended
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(with_outcome(&verdicts, "DELIVERED").len(), 1, "{ended:#?}");
    assert!(
        verdicts.iter().any(is_drop),
        "the rule is named: {ended:#?}"
    );
    let without =
        Running::start(confined(&lab.node, WITHOUT_SYS_ADMIN, &arguments)).expect("start netdiag");
    let ended = without.end().expect("it ends");
    let lines: Vec<_> = ended.stderr.lines().collect();
    assert_eq!((ended.code, lines.len()), (Some(3), 1), "{ended:#?}");
    assert!(
        lines[0].contains("CAP_SYS_ADMIN") && lines[0].contains(lab.node.pod().name()),
        "{ended:#?}"
    );
}

#[test]
fn the_agent_holds_no_other_capability_and_serves_the_node_without_sys_admin() {
    let Some(lab) = lab() else { return };
    lab.configure("failing", &lab.trace(""));
    let config = lab.path("agent.yaml");
    let arguments = ["agent", "--config", config.to_str().expect("UTF-8")];
    for (given, mask) in [
        ("+all", 0x00c4_0028_3000_u64),
        (ENOUGH, 0x00c4_0028_1000),
        (WITHOUT_SYS_ADMIN, 0x00c4_0008_1000),
    ] {
        let command = confined(&lab.node, given, &arguments);
        let agent = Running::ready(command).expect("the agent gets ready");
        for (key, held) in capabilities(agent.id()) {
            assert!(held & !mask == 0, "{given}: {key} is {held:x}");
        }
        let before = lab.stored().len();
        lab.connect(8080);
        lab.connect(broken::TCP);
        let stored = lab.wait_for("a verdict on the drop", |stored| stored.len() > before);
        assert!(
            stored[before..].iter().all(is_drop),
            "{given}: {:#?}",
            &stored[before..]
        );
        let ended = terminate(agent);
        assert_eq!(ended.code, Some(0), "{ended:#?}");
        let blind = ended.stderr.contains("CAP_SYS_ADMIN is not held");
        assert_eq!(blind, given == WITHOUT_SYS_ADMIN, "{ended:#?}");
    }
}

/// The capability sets of every thread.
fn capabilities(pid: u32) -> Vec<(String, u64)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("list its threads");
    let mut found = Vec::new();
    for task in tasks.flatten() {
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        for line in status.lines().filter(|line| line.starts_with("Cap")) {
            let (key, mask) = line.split_once(':').expect("a key and a value");
            let mask = u64::from_str_radix(mask.trim(), 16).expect("a mask");
            found.push((key.to_owned(), mask));
        }
    }
    assert!(found.len() >= 5, "{found:?}");
    found
}

#[test]
fn what_must_not_be_served_is_refused_at_the_start() {
    let Some(lab) = lab() else { return };
    let public = "listen: [{tcp: '0.0.0.0:9471'}]";
    let certificate = "listen: [{tcp: '0.0.0.0:9471', tls: {certificate: /no/cert, key: /no/key}, auth: kubernetes}]\nkubeconfig: /no/kubeconfig";
    for (text, about) in [
        (public, "needs tls"),
        (certificate, "/no/kubeconfig"),
        (
            "listen: [{unix: /proc/nowhere/socket}]",
            "/proc/nowhere/socket",
        ),
        ("store: {dir: /proc/nowhere}\nlisten: []", "/proc/nowhere"),
        ("colour: red", "colour"),
    ] {
        fs::write(lab.path("agent.yaml"), text).expect("write the configuration");
        let running = Running::start(lab.agent()).expect("start the agent");
        let ended = running.end().expect("it ends");
        let errors = ended
            .stderr
            .lines()
            .filter(|line| line.starts_with("error: "));
        let errors: Vec<_> = errors.collect();
        assert_eq!(
            (ended.code, errors.len()),
            (Some(2), 1),
            "{text}: {ended:#?}"
        );
        assert!(errors[0].contains(about), "{text}: {ended:#?}");
    }
    lab.configure("failing", &lab.trace(""));
    let agent = lab.start();
    let second = Running::start(lab.agent())
        .expect("start another")
        .end()
        .expect("it ends");
    assert_eq!(second.code, Some(2), "{second:#?}");
    assert!(second.stderr.contains("in use by another"), "{second:#?}");
    assert_eq!(terminate(agent).code, Some(0));
}
