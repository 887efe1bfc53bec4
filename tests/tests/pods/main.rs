//! Pods of a real containerd, found by every name they have, followed, and lost.
//!
//! Needs root and containerd: `cargo test -p netdiag-tests --features lab --test pods`. Without, each test says so and
//! passes.

mod api;
mod follow;
mod image;
mod lookup;
mod node;
mod speed;

use netdiag_tests::process::Ended;
use serde_json::Value;

use node::{Node, lacking};

/// Nothing is waited for.
const SHORT: [&str; 2] = ["--duration", "50ms"];

fn node() -> Option<Node> {
    if let Some(why) = lacking() {
        eprintln!("skipped: {why}");
        return None;
    }
    Some(Node::start().expect("start a node with containerd"))
}

/// What it says it follows.
fn ready(ended: &Ended) -> &str {
    let mut lines = ended.stderr.lines();
    lines
        .find_map(|line| line.strip_prefix("netdiag: ready: "))
        .unwrap_or_else(|| panic!("never ready: {ended:#?}"))
}

/// What cannot be seen, one line each.
fn blind(ended: &Ended) -> Vec<&str> {
    let lines = ended.stderr.lines();
    lines
        .filter_map(|line| line.strip_prefix("netdiag: blind: "))
        .collect()
}

/// The one line of a trace that never began.
fn refusal(ended: &Ended) -> &str {
    assert_eq!(ended.code, Some(2), "{ended:#?}");
    let lines: Vec<_> = ended.stderr.lines().collect();
    assert_eq!(lines.len(), 1, "one clear line is due: {ended:#?}");
    let line = lines[0].strip_prefix("error: ");
    line.unwrap_or_else(|| panic!("{ended:#?}"))
}

fn verdicts(ended: &Ended) -> Vec<Value> {
    let lines = ended.stdout.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// The pods flows came from, each as `namespace/name`.
fn sources(ended: &Ended) -> Vec<String> {
    let mut names: Vec<String> = verdicts(ended)
        .iter()
        .map(|verdict| {
            let source = &verdict["source"];
            let text = |key: &str| source[key].as_str().unwrap_or("?").to_owned();
            format!("{}/{}", text("namespace"), text("pod_name"))
        })
        .collect();
    names.sort();
    names.dedup();
    names
}
