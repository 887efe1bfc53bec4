//! Several pods in one trace, and pods that come, restart and go while it runs.

use std::time::Instant;

use netdiag_tests::process::Running;

use crate::node::{Node, Pod};
use crate::{SHORT, node, ready, sources};

/// A connection from the pod to the host beyond the router.
fn speak(node: &Node, pod: &Pod) {
    let netns = node.netns_name(pod).unwrap();
    node.script(&format!(
        "ip netns exec {netns} nc.openbsd -w2 -z 198.51.100.10 8080"
    ))
    .unwrap();
}

#[test]
fn all_replicas_are_followed_at_once() {
    let Some(mut node) = node() else { return };
    let pods =
        ["web-0", "web-1"].map(|name| node.run_pod("shop", name, &[("app", "web")]).unwrap());
    let other = node.run_pod("shop", "db-0", &[("app", "db")]).unwrap();
    let running = Running::ready(node.trace(&["-l", "app=web", "-n", "shop", "-f"])).unwrap();
    for pod in pods.iter().chain([&other]) {
        speak(&node, pod);
    }
    node.interrupt().unwrap();
    let ended = running.end().unwrap();
    let told = ready(&ended);
    assert!(
        pods.iter()
            .all(|pod| told.contains(&node.veth(pod).unwrap())),
        "{told}"
    );
    assert!(
        told.contains("shop/web-0") && told.contains("shop/web-1"),
        "{told}"
    );
    assert_eq!(sources(&ended), ["shop/web-0", "shop/web-1"], "{ended:#?}");
    assert_eq!(ended.code, Some(0), "{ended:#?}");
}

#[test]
fn replicas_are_attached_and_detached_as_they_come_and_go() {
    let Some(mut node) = node() else { return };
    let first = node.run_pod("shop", "web-0", &[("app", "web")]).unwrap();
    let mut running = Running::ready(node.trace(&["-l", "app=web", "-n", "shop", "-f"])).unwrap();

    let began = Instant::now();
    let second = node.run_pod("shop", "web-1", &[("app", "web")]).unwrap();
    let up = began.elapsed();
    running.says("shop/web-1 is followed too").unwrap();
    eprintln!(
        "a new replica: up after {up:?}, followed {:?} later",
        began.elapsed().saturating_sub(up)
    );
    speak(&node, &second);

    node.stop(&first).unwrap();
    running.says("shop/web-0 has gone").unwrap();
    // The same pod comes back: a new sandbox, namespace and veth.
    let again = node.restart(&first).unwrap();
    running.says("shop/web-0 is followed too").unwrap();
    speak(&node, &again);

    // The last ones go, and the trace goes on.
    for pod in [&second, &again] {
        node.stop(pod).unwrap();
    }
    running.says("has gone").unwrap();
    running.says("has gone").unwrap();
    let third = node.run_pod("shop", "web-2", &[("app", "web")]).unwrap();
    running.says("shop/web-2 is followed too").unwrap();
    speak(&node, &third);
    node.interrupt().unwrap();
    let ended = running.end().unwrap();
    let expected = ["shop/web-0", "shop/web-1", "shop/web-2"];
    assert_eq!(sources(&ended), expected, "{ended:#?}");
    assert_eq!(ended.code, Some(0), "{ended:#?}");
}

#[test]
fn a_runtime_that_restarts_costs_no_pod() {
    let Some(mut node) = node() else { return };
    let pod = node.run_pod("shop", "web-0", &[("app", "web")]).unwrap();
    let mut running = Running::ready(node.trace(&["-l", "app=web", "-n", "shop", "-f"])).unwrap();
    node.kill_containerd().unwrap();
    // Long enough to be looked for without it.
    std::thread::sleep(std::time::Duration::from_millis(2500));
    speak(&node, &pod);
    node.start_containerd().unwrap();
    node.run_pod("shop", "web-1", &[("app", "web")]).unwrap();
    running.says("shop/web-1 is followed too").unwrap();
    node.interrupt().unwrap();
    let ended = running.end().unwrap();
    assert!(!ended.stderr.contains("has gone"), "{ended:#?}");
    assert_eq!(sources(&ended), ["shop/web-0"], "{ended:#?}");
}

/// Without -f the trace ends with its pod, as that of a namespace does.
#[test]
fn a_trace_of_one_look_ends_with_its_pod() {
    let Some(mut node) = node() else { return };
    let pod = node.run_pod("shop", "web-0", &[]).unwrap();
    let running =
        Running::ready(node.trace(&["pod/web-0", "-n", "shop", "--duration", "30s"])).unwrap();
    node.stop(&pod).unwrap();
    let ended = running.end().unwrap();
    assert_eq!(ended.code, Some(3), "{ended:#?}");
    assert!(
        ended.stderr.contains("its pod was deleted or restarted"),
        "{ended:#?}"
    );
    let ended = node
        .traced(&[&["pod/web-0", "-n", "shop"][..], &SHORT].concat())
        .unwrap();
    assert_eq!(ended.code, Some(2), "{ended:#?}");
}
