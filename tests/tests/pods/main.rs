//! Pods of a real containerd, found by every name they have, followed, and lost.
//!
//! Needs root and containerd: `cargo test -p netdiag-tests --features lab --test pods`. Without, each test says so and
//! passes.

mod image;
mod node;

use netdiag_tests::process::Ended;

use node::{Node, lacking};

fn node() -> Option<Node> {
    if let Some(why) = lacking() {
        eprintln!("skipped: {why}");
        return None;
    }
    Some(Node::start().expect("start a node with containerd"))
}

const SHORT: [&str; 2] = ["--duration", "50ms"];

fn ready(ended: &Ended) -> &str {
    let mut lines = ended.stderr.lines();
    lines
        .find_map(|line| line.strip_prefix("netdiag: ready: "))
        .unwrap_or_else(|| panic!("never ready: {ended:#?}"))
}

#[test]
fn every_name_leads_to_the_pod() {
    let Some(mut node) = node() else { return };
    let web = node
        .run_pod(
            "shop",
            "web-7f9c4d-x2x9k",
            &[("app", "web"), ("pod-template-hash", "7f9c4d")],
        )
        .unwrap();
    let container = node.run_container(&web, "server").unwrap();
    let veth = node.veth(&web).unwrap();
    let uid = format!("pod/{}", web.uid);
    let id = format!("container/{}", &container[..12]);
    let sandbox = format!("container/containerd://{}", web.sandbox);
    for query in [
        vec!["pod/web-7f9c4d-x2x9k", "-n", "shop"],
        vec![&uid],
        vec!["-l", "app=web,!canary", "-n", "shop"],
        vec!["deployment/web", "-n", "shop"],
        vec!["rs/web-7f9c4d", "-n", "shop"],
        vec![&id],
        vec![&sandbox],
    ] {
        let ended = node.traced(&[&query[..], &SHORT].concat()).unwrap();
        let expected = format!("shop/web-7f9c4d-x2x9k to anywhere, watching {veth} and uplink up0");
        assert_eq!(ready(&ended), expected, "{query:?}: {ended:#?}");
        assert_eq!(ended.code, Some(0), "{ended:#?}");
    }
}
