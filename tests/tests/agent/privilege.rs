//! With how little privilege it works.

use std::fs;
use std::process::Command;

use netdiag_tests::faults::{Case, broken};
use netdiag_tests::node::Node;
use netdiag_tests::plan::Family;
use netdiag_tests::process::Running;
use netdiag_tests::programs;
use serde_json::Value;

use crate::lab::{is_drop, lab, terminate, with_outcome};

/// Enough for everything but rules that iptables alone can read.
const ENOUGH: &str = "+bpf,+perfmon,+net_admin,+sys_ptrace,+syslog,+sys_admin";

const WITHOUT_SYS_ADMIN: &str = "+bpf,+perfmon,+net_admin,+sys_ptrace,+syslog";

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
