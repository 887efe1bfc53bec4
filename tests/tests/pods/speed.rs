//! From a pod's name to the last program attached, on a node with many pods. `cargo xtask bench` runs this with the
//! release build, and with as many pods as a kubelet admits by default, for the figures.

use std::time::{Duration, Instant};

use netdiag_tests::process::Running;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

use crate::node;
use crate::node::Node;
use crate::ready;

/// Enough that the one asked for is not found by luck; `NETDIAG_PODS` says otherwise.
const PODS: usize = 16;

const RUNS: usize = 3;

#[derive(Debug)]
struct Cost {
    wall: Duration,
    /// What a machine with nothing else to do would need at least.
    cpu: Duration,
    /// Pods it said it follows.
    attached: usize,
}

#[test]
fn on_a_full_node_exactly_the_pods_asked_for_are_attached_to() {
    let Some(mut node) = node() else { return };
    let pods = std::env::var("NETDIAG_PODS").map_or(PODS, |text| text.parse().unwrap());
    let namespace = |node: &mut Node, number: usize| {
        let name = format!("web-{number}");
        let pod = node.run_pod("shop", &name, &[("app", "web")]).unwrap();
        node.netns_name(&pod).unwrap()
    };
    let mut netns = namespace(&mut node, 0);
    let few = best(&node, &["pod/web-0", "-n", "shop"]);
    let began = Instant::now();
    for number in 1..pods {
        netns = namespace(&mut node, number);
    }
    eprintln!("{pods} pods run after {:?}", began.elapsed());
    let by_netns = best(&node, &["--netns", &netns]);
    let by_name = best(&node, &[&format!("pod/web-{}", pods / 2), "-n", "shop"]);
    let all = best(&node, &["-l", "app=web", "-n", "shop"]);
    eprintln!("best of {RUNS}, from the start of netdiag to ready:");
    for (what, cost) in [
        ("the only pod, by name", &few),
        ("one of them, by its namespace", &by_netns),
        ("one of them, by name", &by_name),
        ("all of them, by label", &all),
    ] {
        eprintln!("  {what}: {:?}, CPU {:?}", cost.wall, cost.cpu);
    }
    assert_eq!(by_name.attached, 1);
    assert_eq!(all.attached, pods);
}

fn best(node: &Node, arguments: &[&str]) -> Cost {
    let mut costs: Vec<_> = (0..RUNS).map(|_| once(node, arguments)).collect();
    costs.sort_by_key(|cost| cost.cpu);
    let wall = costs.iter().map(|cost| cost.wall).min();
    Cost {
        wall: wall.unwrap_or_default(),
        ..costs.swap_remove(0)
    }
}

fn once(node: &Node, arguments: &[&str]) -> Cost {
    let (began, before) = (Instant::now(), spent());
    let command = node.trace(&[arguments, &["--duration", "1ms"]].concat());
    let running = Running::ready(command).unwrap();
    let wall = began.elapsed();
    let ended = running.end().unwrap();
    // With its end: what it takes to detach counts too, which errs on the safe side.
    Cost {
        wall,
        cpu: spent().saturating_sub(before),
        attached: ready(&ended).matches("veth").count(),
    }
}

/// CPU time of all children that have ended.
fn spent() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("ask for our children's usage");
    let time = |value: TimeVal| {
        Duration::from_secs(value.tv_sec() as u64) + Duration::from_micros(value.tv_usec() as u64)
    };
    time(usage.user_time()) + time(usage.system_time())
}
