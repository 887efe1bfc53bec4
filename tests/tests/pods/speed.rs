//! How long it takes from a pod's name to the last program attached.

use std::time::{Duration, Instant};

use netdiag_tests::process::Running;

use crate::node;

/// As many as a kubelet admits by default.
const PODS: usize = 110;

const RUNS: usize = 5;

/// What an operator notices.
const PROMISED: Duration = Duration::from_millis(500);

#[test]
fn a_full_node_makes_no_difference() {
    let Some(mut node) = node() else { return };
    let began = Instant::now();
    for number in 0..PODS {
        let name = format!("web-{number}");
        node.run_pod("shop", &name, &[("app", "web")]).unwrap();
    }
    eprintln!("{PODS} pods run after {:?}", began.elapsed());
    let mut best = |arguments: &[&str]| {
        let times = (0..RUNS).map(|_| {
            let began = Instant::now();
            let running = Running::ready(node.trace(arguments)).unwrap();
            let took = began.elapsed();
            running.end().unwrap();
            took
        });
        times.min().unwrap()
    };
    let by_name = best(&["pod/web-55", "-n", "shop", "--duration", "1ms"]);
    let all = best(&["-l", "app=web", "-n", "shop", "--duration", "1ms"]);
    eprintln!(
        "from the start of netdiag to ready, best of {RUNS}: one pod {by_name:?}, all {PODS} {all:?}"
    );
    assert!(by_name < PROMISED, "{by_name:?}");
}
