//! What it tells: stored verdicts, readiness, metrics, and traces on demand.

use std::io::Write;
use std::process::{Command, Stdio};

use netdiag_tests::faults::broken;
use netdiag_tests::process::Running;
use netdiag_tests::programs;
use serde_json::Value;

use crate::lab::{is_drop, lab, metric, terminate, until, verdicts};

#[test]
fn what_fails_is_stored_counted_and_served_and_nothing_stays_attached() {
    let Some(lab) = lab() else { return };
    lab.configure("failing", &lab.trace(""));
    let before = lab.snapshot();
    let agent = lab.start();
    assert_ne!(before, lab.snapshot(), "it is attached somewhere");
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
    assert_eq!(before.differences(&lab.snapshot()), [""; 0]);
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
