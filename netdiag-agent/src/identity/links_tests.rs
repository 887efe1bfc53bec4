use super::*;
use crate::identity::resolve;
use crate::identity::testing::{Lab, node_and_outside, routed_pod, run};

/// Waits until a change is seen that `wanted` accepts; returns all changes up to then.
async fn until(watch: &mut Watch, wanted: impl Fn(&Change) -> bool) -> Vec<Change> {
    let mut all = Vec::new();
    let collect = async {
        while !all.iter().any(&wanted) {
            all.extend(watch.next().await.unwrap());
        }
    };
    if tokio::time::timeout(Duration::from_secs(20), collect)
        .await
        .is_err()
    {
        panic!("not seen; only {all:#?}");
    }
    all
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

fn watched(lab: &mut Lab) -> (String, String, Selector) {
    let (node, _outside) = node_and_outside(lab);
    let a = routed_pod(lab, &node, "a", "10.244.0.2");
    let selector = Selector {
        netns: Some(a.clone()),
        ..Selector::default()
    };
    (node, a, selector)
}

#[test]
fn a_new_pod_and_its_end_are_seen() {
    let Some(mut lab) = Lab::new() else { return };
    let (node, _, selector) = watched(&mut lab);
    let target = resolve(&selector).unwrap();
    runtime().block_on(async {
        let mut watch = Watch::open(&target, &selector).unwrap();
        let b = routed_pod(&mut lab, &node, "b", "10.244.0.3");
        let changes = until(&mut watch, |change| {
            matches!(change, Change::Appeared { link, role: Role::PodVeth, pod: Some(_) } if &*link.name == "vb")
        })
        .await;
        let pod = changes.iter().find_map(|change| match change {
            Change::Appeared { pod: Some(pod), .. } => Some(pod.name().unwrap().to_owned()),
            _ => None,
        });
        assert_eq!(pod, Some(b.clone()));
        let netns = Lab::handle(&b).netns();
        let named = |change: &Change| matches!(change, Change::Delta(Delta::Namespace(ns)) if ns.netns == netns);
        assert!(changes.iter().any(named), "{changes:#?}");

        run(&format!("-n {node} link del vb"));
        let gone = |change: &Change| {
            matches!(change, Change::Gone { link, role: Role::PodVeth } if &*link.name == "vb")
        };
        until(&mut watch, gone).await;
    });
}

#[test]
fn the_end_of_the_traced_pod_is_seen() {
    let Some(mut lab) = Lab::new() else { return };
    let (_node, a, selector) = watched(&mut lab);
    let target = resolve(&selector).unwrap();
    runtime().block_on(async {
        let mut watch = Watch::open(&target, &selector).unwrap();
        // Nothing of ours keeps the namespace: its veth goes with its name.
        run(&format!("netns del {a}"));
        let changes = until(&mut watch, |change| matches!(change, Change::Gone { .. })).await;
        let veth =
            |change: &Change| matches!(change, Change::Gone { link, .. } if &*link.name == "va");
        assert!(changes.iter().any(veth), "{changes:#?}");
    });
}

#[test]
fn carrier_and_addresses_are_followed_and_a_lost_route_does_not_move_the_edge() {
    let Some(mut lab) = Lab::new() else { return };
    let (node, a, selector) = watched(&mut lab);
    let target = resolve(&selector).unwrap();
    runtime().block_on(async {
        let mut watch = Watch::open(&target, &selector).unwrap();
        run(&format!("-n {node} route del default"));
        run(&format!("-n {a} link set eth0 down"));
        let down = |change: &Change| {
            matches!(change, Change::Delta(Delta::Link(link)) if &*link.name == "va" && !link.up)
        };
        let mut changes = until(&mut watch, down).await;
        run(&format!("-n {node} address add 192.0.2.77/24 dev up0"));
        let added = |change: &Change| {
            matches!(change, Change::Delta(Delta::Link(link))
                if &*link.name == "up0" && link.addresses.contains(&"192.0.2.77".parse().unwrap()))
        };
        changes.extend(until(&mut watch, added).await);
        let moved = changes.iter().find(|change| matches!(change, Change::Appeared { .. } | Change::Gone { .. }));
        assert_eq!(moved, None);
    });
}
