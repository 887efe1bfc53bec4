//! Counting, the limit of label sets, and the format by Prometheus' own tool.

use std::io::Write;
use std::process::{Command, Stdio};

use super::*;
use crate::agent::config::Budget;
use crate::agent::watchdog::Watchdog;
use crate::export::fixtures;
use crate::verdict::Verdict;

fn metrics() -> Metrics {
    Metrics::new(100, "0.0.0-test", "6.18.0 \"quoted\"")
}

fn record(verdict: &Verdict) -> FlowVerdict {
    FlowVerdict::from((verdict, &fixtures::context()))
}

/// The sum of the samples whose line begins like this.
fn sample(text: &str, start: &str) -> f64 {
    text.lines()
        .filter(|line| line.starts_with(start))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

fn with_everything() -> Metrics {
    let mut metrics = metrics();
    for verdict in fixtures::all() {
        metrics.verdict(&record(&verdict));
    }
    let hook = HookHealth {
        name: "kfree_skb",
        attached: true,
        seen: 20,
        lost: 3,
    };
    metrics.hooks(&[], &[hook]);
    metrics.node(&NodeHealth {
        conntrack_entries: 10,
        conntrack_limit: 100,
        conntrack_insert_failed: 2,
    });
    let mut watchdog = Watchdog::new(Budget::default());
    let usage = Usage {
        cpu: 9.0,
        events_per_second: 0.0,
    };
    let change = watchdog
        .observe(usage, std::time::Duration::from_mins(1))
        .unwrap();
    metrics.level(&change);
    metrics.stored(4096);
    metrics.torn(1);
    metrics.not_stored();
    metrics.traces(2);
    metrics
}

#[test]
fn a_flow_counts_once_and_its_packets_as_they_come() {
    let mut metrics = metrics();
    let first = record(&fixtures::firewall_drop());
    let dropped =
        |metrics: &Metrics| sample(&metrics.text(Exposition::Plain), "netdiag_drops_total{");
    metrics.verdict(&first);
    let before = dropped(&metrics);
    assert!(before > 0.0, "{}", metrics.text(Exposition::Plain));
    let mut second = first.clone();
    second.revision += 1;
    let hop = second
        .hops
        .iter_mut()
        .rfind(|hop| hop.action == Action::Dropped)
        .unwrap();
    hop.count = Some(hop.count.unwrap_or(1) + 5);
    metrics.verdict(&second);
    metrics.verdict(&second);
    let text = metrics.text(Exposition::Plain);
    assert!((dropped(&metrics) - before - 5.0).abs() < 1e-9, "{text}");
    assert!(
        (sample(&text, "netdiag_flows_total{") - 1.0).abs() < 1e-9,
        "{text}"
    );
}

#[test]
fn label_sets_beyond_the_limit_count_as_other() {
    let mut metrics = Metrics::new(3, "v", "k");
    for n in 0..50 {
        let mut verdict = record(&fixtures::firewall_drop());
        verdict.uuid = format!("flow-{n}");
        verdict.cause = Some(format!("CAUSE_{n}"));
        metrics.verdict(&verdict);
    }
    let text = metrics.text(Exposition::Plain);
    let series = text
        .lines()
        .filter(|line| line.starts_with("netdiag_flows_total{"));
    assert_eq!(series.count(), 4, "{text}");
    assert!(
        (sample(&text, "netdiag_flows_total{") - 50.0).abs() < 1e-9,
        "{text}"
    );
    let other = "netdiag_flows_total{outcome=\"other\"";
    assert!((sample(&text, other) - 47.0).abs() < 1e-9, "{text}");
    let counted = "netdiag_series_overflow_total{metric=\"flows\"}";
    assert!((sample(&text, counted) - 47.0).abs() < 1e-9, "{text}");
}

#[test]
fn totals_of_a_hook_are_added_as_they_grow() {
    let metrics = metrics();
    let at = |seen, lost| {
        [HookHealth {
            name: "tc_ingress",
            attached: true,
            seen,
            lost,
        }]
    };
    metrics.hooks(&[], &at(10, 1));
    metrics.hooks(&at(10, 1), &at(25, 1));
    // A new trace counts from zero again.
    metrics.hooks(&[], &at(5, 2));
    let text = metrics.text(Exposition::Plain);
    let (events, lost) = ("netdiag_events_total{", "netdiag_lost_events_total{");
    assert!((sample(&text, events) - 30.0).abs() < 1e-9, "{text}");
    assert!((sample(&text, lost) - 3.0).abs() < 1e-9, "{text}");
}

#[test]
fn open_metrics_ends_with_its_mark_and_the_older_format_has_none() {
    let metrics = with_everything();
    assert!(metrics.text(Exposition::OpenMetrics).ends_with("# EOF\n"));
    let plain = metrics.text(Exposition::Plain);
    assert!(
        !plain.contains("# EOF") && !plain.contains("# UNIT"),
        "{plain}"
    );
    assert!(
        plain.contains("# TYPE netdiag_flows_total counter"),
        "{plain}"
    );
    assert_eq!(
        Exposition::asked_for(Some(
            "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"
        )),
        Exposition::OpenMetrics
    );
    assert_eq!(Exposition::asked_for(Some("*/*")), Exposition::Plain);
    assert_eq!(Exposition::asked_for(None), Exposition::Plain);
}

#[test]
fn promtool_finds_nothing_to_complain_about() {
    let text = with_everything().text(Exposition::Plain);
    // Where `cargo xtask setup` puts it, or on the path.
    let own = std::env::current_exe().unwrap();
    let fetched = own.ancestors().map(|folder| folder.join("tools/promtool"));
    let promtool = fetched.into_iter().find(|path| path.is_file());
    let started = Command::new(promtool.unwrap_or_else(|| "promtool".into()))
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("skipped: no promtool on this machine (cargo xtask setup fetches it)");
            return;
        }
        Err(error) => panic!("run promtool: {error}"),
    };
    child
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.trim().is_empty(),
        "{said}\n{text}"
    );
}
