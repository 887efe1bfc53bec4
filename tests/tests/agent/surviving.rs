//! What it survives: its own death, and more traffic than its budget is for.

use std::fs;
use std::io::Write;

use netdiag_tests::faults::broken;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::lab::{is_drop, lab, metric, terminate, until, with_outcome};

#[test]
fn the_store_survives_the_agent() {
    let Some(lab) = lab() else { return };
    lab.configure("failing", &lab.trace(""));
    let before = lab.snapshot();
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
    assert_eq!(before.differences(&lab.snapshot()), [""; 0]);
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
    are_inferred_deaths(&stored[before.len()..]);
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

/// While deaths only are followed, nothing is said of what lives, and nothing is certain.
fn are_inferred_deaths(verdicts: &[Value]) {
    for verdict in verdicts {
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
}
