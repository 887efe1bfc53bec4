//! How a trace ends, and what it leaves: bad input, lost privilege, vanished interfaces, every kind of death.
//!
//! Needs root: `cargo test -p netdiag-tests --features lab`. Without it each test says so and passes.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use netdiag_tests::faults::Case;
use netdiag_tests::node::Node;
use netdiag_tests::plan::{Family, Topology};
use netdiag_tests::process::{Ended, Running, wait};
use netdiag_tests::programs;
use netdiag_tests::replay::{EXPECT, RECORDING, folders};
use netdiag_tests::snapshot::Snapshot;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

/// What DESIGN §7 promises is one second; a busy machine gets some more.
const DETACHED_WITHIN: Duration = Duration::from_secs(3);

fn node() -> Option<Node> {
    if !geteuid().is_root() {
        eprintln!("skipped: network namespaces need root");
        return None;
    }
    Some(Node::with(Topology::Bridge).expect("build a node"))
}

fn netdiag(node: &Node, arguments: &[&str]) -> Command {
    let mut command = node
        .netns
        .command(programs::netdiag().expect("netdiag is built"));
    command.args(arguments);
    command
}

fn trace(node: &Node, more: &[&str]) -> Command {
    let mut command = netdiag(node, &["trace", "--netns", node.pod().name()]);
    command
        .args(["--uplink", node.uplink(), "-o", "jsonl"])
        .args(more);
    command
}

fn run(command: Command) -> Ended {
    Running::start(command)
        .and_then(Running::end)
        .expect("it ends by itself")
}

fn ready(command: Command) -> Running {
    Running::ready(command).expect("it gets ready")
}

/// One line that begins with `error: `, nothing on standard output, this exit code.
fn complains(command: Command, code: i32, about: &str) {
    let shown = format!("{command:?}");
    let ended = run(command);
    let lines: Vec<_> = ended
        .stderr
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    assert_eq!(ended.code, Some(code), "{shown}: {ended:#?}");
    assert_eq!(lines.len(), 1, "{shown}: one clear line is due: {ended:#?}");
    assert!(
        lines[0].starts_with("error: ") && lines[0].contains(about),
        "{shown}: {ended:#?}"
    );
    assert_eq!(ended.stdout, "", "{shown}: no data is due");
}

#[test]
fn bad_input_ends_with_one_clear_line_and_nothing_attached() {
    let Some(node) = node() else { return };
    let before = Snapshot::take(&node).expect("look at the node");
    let pod = node.pod().name();
    let dead = dead_process();
    for (arguments, about) in [
        (vec!["trace", "--netns", "no-such-pod"], "no-such-pod"),
        (
            vec!["trace", "--netns", "/proc/self/status"],
            "/proc/self/status",
        ),
        (vec!["trace", "--pid", &dead], &dead),
        (vec!["trace", "--interface", "no-such-if"], "no-such-if"),
        (
            vec!["trace", "--netns", pod, "--uplink", "no-such-if"],
            "no-such-if",
        ),
        (
            vec!["trace", "--netns", pod, "--to", "10.0.0.1:http://"],
            "http://",
        ),
        (
            vec!["trace", "--netns", pod, "--to", "10.0.0.1:70000"],
            "70000",
        ),
        (vec!["trace", "--netns", pod, "--duration", "soon"], "soon"),
        (
            vec!["trace", "--netns", pod, "--record", "/no/such/folder/file"],
            "/no/such/folder/file",
        ),
        (
            vec!["trace", "--netns", pod, "--", "/no/such/program"],
            "/no/such/program",
        ),
        (vec!["trace"], "follow"),
        (vec!["explain", "NO_SUCH_CAUSE"], "NO_SUCH_CAUSE"),
        (vec!["replay", "/no/such/file"], "/no/such/file"),
    ] {
        let mut command = netdiag(&node, &arguments);
        if arguments[0] == "trace" {
            command.env("NO_COLOR", "1");
        }
        complains_quietly(command, about);
    }
    assert_eq!(
        before.differences(&Snapshot::take(&node).expect("look again")),
        [""; 0]
    );
}

/// A trace that got as far as attaching may have said so before the complaint.
fn complains_quietly(command: Command, about: &str) {
    let shown = format!("{command:?}");
    let ended = run(command);
    let errors: Vec<_> = ended
        .stderr
        .lines()
        .filter(|line| line.starts_with("error: "))
        .collect();
    assert_eq!(ended.code, Some(2), "{shown}: {ended:#?}");
    assert_eq!(
        errors.len(),
        1,
        "{shown}: one clear line is due: {ended:#?}"
    );
    assert!(errors[0].contains(about), "{shown}: {ended:#?}");
    assert!(!ended.stderr.contains("panicked"), "{shown}: {ended:#?}");
}

/// The id of a process that was, and is no more.
fn dead_process() -> String {
    let mut child = Command::new("true").spawn().expect("start true");
    let pid = child.id().to_string();
    child.wait().expect("true ends");
    pid
}

#[test]
fn without_privilege_it_says_that_it_cannot_observe() {
    let Some(node) = node() else { return };
    // The build's folder may be closed to others.
    let folder = tempfile::tempdir().expect("make a folder");
    let copy = folder.path().join("netdiag");
    std::fs::copy(programs::netdiag().expect("netdiag is built"), &copy).expect("copy netdiag");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).expect("open the folder");
    let mut command = node.netns.command("setpriv");
    command.args([
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--bounding-set=-all",
    ]);
    command.arg("--inh-caps=-all").arg(&copy);
    command.args(["trace", "--netns", node.pod().name()]);
    complains(command, 3, "");
}

#[test]
fn recordings_that_are_none_or_broken_off_are_told_apart() {
    let folder = tempfile::tempdir().expect("make a folder");
    let replay = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("write a file");
        let mut command = Command::new(programs::netdiag().expect("netdiag is built"));
        command.args(["replay", "-o", "jsonl"]).arg(&path);
        (command, name.to_owned())
    };
    for (name, bytes) in [
        ("empty", &b""[..]),
        ("foreign", b"{\"some\":\"other json\"}\n"),
        ("binary", b"\x7fELF\x00\x01\x02\xff\xfe\n\n\x00"),
    ] {
        let (command, name) = replay(name, bytes);
        complains(command, 2, &name);
    }
    let recorded = folders().expect("read the scenario folders");
    let Some(recorded) = recorded.iter().find(|path| path.join(EXPECT).is_file()) else {
        panic!("there is no recorded scenario to cut");
    };
    let whole = std::fs::read(recorded.join(RECORDING)).expect("read a recording");
    let cut = whole.len() - whole.len() / 10;
    let middle = (cut..whole.len()).find(|at| whole[*at] != b'\n' && whole[at - 1] != b'\n');
    let (command, _) = replay(
        "cut",
        &whole[..middle.expect("lines are longer than one byte")],
    );
    complains_quietly(command, "cut");
}

#[test]
fn a_vanished_interface_ends_the_trace() {
    let Some(node) = node() else { return };
    let running = ready(trace(&node, &["--duration", "20s"]));
    node.run(&format!("ip link del {}", node.veth()))
        .expect("remove the pod's veth");
    let ended = running.end().expect("it ends");
    assert_eq!(ended.code, Some(3), "{ended:#?}");
    assert!(ended.took < Duration::from_secs(5), "{ended:#?}");
    let errors: Vec<_> = ended
        .stderr
        .lines()
        .filter(|line| line.starts_with("error: "))
        .collect();
    assert!(
        errors.len() == 1 && errors[0].contains(node.veth()),
        "{ended:#?}"
    );
}

/// With `--explain-rule` or without it.
fn attached(node: &Node, explain: bool) -> Running {
    let before = Snapshot::take(node).expect("look at the node");
    let options: &[&str] = if explain {
        &["-f", "--explain-rule"]
    } else {
        &["-f"]
    };
    let running = ready(trace(node, options));
    let during = Snapshot::take(node).expect("look at the traced node");
    assert_ne!(before, during, "the trace is attached somewhere");
    let marks = during.to_string().contains("netdiag_trace_");
    assert_eq!(marks, explain, "a table of ours among the rules:\n{during}");
    running
}

fn asked_to_end(signal: Signal, explain: bool) {
    let Some(node) = node() else { return };
    let before = Snapshot::take(&node).expect("look at the node");
    let running = attached(&node, explain);
    running.signal(signal).expect("it still runs");
    let ended = running.end().expect("it ends");
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(ended.took < DETACHED_WITHIN, "{ended:#?}");
    assert_eq!(
        before.differences(&Snapshot::take(&node).expect("look again")),
        [""; 0]
    );
}

#[test]
fn sigint_ends_in_order() {
    asked_to_end(Signal::SIGINT, false);
}

#[test]
fn sigterm_ends_in_order() {
    asked_to_end(Signal::SIGTERM, false);
}

#[test]
fn sigint_takes_the_trace_table_along() {
    asked_to_end(Signal::SIGINT, true);
}

#[test]
fn sigterm_takes_the_trace_table_along() {
    asked_to_end(Signal::SIGTERM, true);
}

/// Killed by something it cannot catch: what the kernel does not take back by itself, the next start must.
fn killed(signal: Signal, explain: bool) {
    let Some(node) = node() else { return };
    let before = Snapshot::take(&node).expect("look at the node");
    let running = attached(&node, explain);
    running.signal(signal).expect("it still runs");
    let ended = running.end().expect("it ends");
    assert_eq!(ended.signal, Some(signal as i32), "{ended:#?}");
    let deadline = Instant::now() + DETACHED_WITHIN;
    let gone = || before == Snapshot::take(&node).expect("look");
    while !gone() && Instant::now() < deadline {
        // Links of a dead process go when the kernel has closed its files; nothing tells when.
        std::thread::sleep(Duration::from_millis(20));
    }
    if !gone() {
        let next = run(trace(&node, &["--", "true"]));
        assert_eq!(next.code, Some(0), "{next:#?}");
    }
    assert_eq!(
        before.differences(&Snapshot::take(&node).expect("look again")),
        [""; 0]
    );
}

#[test]
fn sigkill_leaves_nothing() {
    killed(Signal::SIGKILL, false);
}

#[test]
fn sigabrt_leaves_nothing() {
    killed(Signal::SIGABRT, false);
}

#[test]
fn sigkill_leaves_no_trace_table() {
    killed(Signal::SIGKILL, true);
}

#[test]
fn sigabrt_leaves_no_trace_table() {
    killed(Signal::SIGABRT, true);
}

/// As a killed trace leaves it on a kernel without owners of tables, and a table of a process that lives.
#[test]
fn the_next_start_removes_what_an_old_kernel_keeps() {
    let Some(node) = node() else { return };
    let living = std::fs::read_to_string("/proc/self/stat").expect("read /proc/self/stat");
    let started = living.rsplit_once(')').expect("a stat line").1;
    let started = started.split_whitespace().nth(19).expect("a start time");
    let own = format!("netdiag_trace_{}_{started}", std::process::id());
    let dead = format!("netdiag_trace_{}_1", std::process::id());
    for netns in [&node.netns, node.pod()] {
        netns
            .sh(&format!("nft add table inet {dead}"))
            .expect("add a table");
    }
    node.run(&format!("nft add table inet {own}"))
        .expect("add a table");
    let next = run(trace(&node, &["--", "true"]));
    assert_eq!(next.code, Some(0), "{next:#?}");
    let left = Snapshot::take(&node).expect("look").to_string();
    assert!(!left.contains(&dead), "{left}");
    assert!(left.contains(&own), "{left}");
}

#[test]
fn two_traces_of_one_pod_do_not_disturb_each_other() {
    let Some(node) = node() else { return };
    let before = Snapshot::take(&node).expect("look at the node");
    let case = Case::new(&node, Family::V4);
    let long = ready(trace(&node, &["-f"]));
    let sender = programs::sender().expect("netdiag-lab is built");
    let folder = tempfile::tempdir().expect("make a folder");
    let report = folder.path().join("report");
    let step = format!("tcp:{}:8080", case.healthy());
    let command = [
        sender.to_str().expect("a path in UTF-8"),
        "send",
        "--report",
    ];
    let rest = [report.to_str().expect("a path in UTF-8"), &step];
    let first = run(trace(&node, &[&["--"], &command[..], &rest].concat()));
    assert_eq!(
        (first.code, first.stdout.lines().count()),
        (Some(0), 1),
        "{first:#?}"
    );
    let again = node.pod().run(command[0], &[&command[1..], &rest].concat());
    again.expect("the pod still reaches the outside");
    // The answer to the second connection is in the ring before the signal is.
    long.signal(Signal::SIGINT).expect("it still runs");
    let long = long.end().expect("it ends");
    let uuids: std::collections::BTreeSet<_> = long.stdout.lines().map(uuid).collect();
    assert_eq!((long.code, uuids.len()), (Some(0), 2), "{long:#?}");
    assert_eq!(
        before.differences(&Snapshot::take(&node).expect("look again")),
        [""; 0]
    );
}

fn uuid(line: &str) -> String {
    let verdict: serde_json::Value = serde_json::from_str(line).expect("a JSON line");
    verdict["uuid"]
        .as_str()
        .expect("every verdict has one")
        .to_owned()
}

#[test]
fn a_reader_that_went_away_is_no_panic() {
    let Some(node) = node() else { return };
    let before = Snapshot::take(&node).expect("look at the node");
    let (reader, writer) = std::io::pipe().expect("make a pipe");
    drop(reader);
    let mut command = trace(&node, &["--", "true"]);
    let output = command
        .stdout(writer)
        .stderr(Stdio::piped())
        .output()
        .expect("run netdiag");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code().is_some() && !stderr.contains("panicked"),
        "{stderr}"
    );
    assert_eq!(
        before.differences(&Snapshot::take(&node).expect("look again")),
        [""; 0]
    );
}

#[test]
fn the_lab_itself_leaves_nothing_when_interrupted() {
    if !geteuid().is_root() {
        eprintln!("skipped: network namespaces need root");
        return;
    }
    let sender = programs::sender().expect("netdiag-lab is built");
    let mut command = Command::new(sender);
    command
        .args(["run", "--no-trace", "neigh_failed_bridge_v4"])
        .stdout(Stdio::piped());
    let mut child = command.spawn().expect("start netdiag-lab");
    let own = format!("nd{}-", child.id());
    let left = || {
        let entries =
            std::fs::read_dir(netdiag_tests::cleanup::NETNS_DIR).expect("read /run/netns");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        names
            .filter(|name| name.to_string_lossy().starts_with(&own))
            .count()
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    while left() < 4 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).expect("it still runs");
    let status = wait(&mut child).expect("it ends");
    assert!(!status.success(), "{status}");
    assert_eq!(left(), 0, "namespaces left behind");
}
