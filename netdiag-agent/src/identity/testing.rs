//! Small set-ups of namespaces for the tests of this module; all of it goes when it is dropped.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::netns::NetnsHandle;

static COUNT: AtomicU32 = AtomicU32::new(0);

pub(super) struct Lab {
    prefix: String,
    names: Vec<String>,
}

impl Lab {
    /// `None`, with the reason on stderr, where this process may not make namespaces.
    pub(super) fn new() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: network namespaces need root");
            return None;
        }
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Some(Self {
            prefix: format!("identity-{}-{count}", std::process::id()),
            names: Vec::new(),
        })
    }

    /// A new namespace; returns its full name.
    pub(super) fn netns(&mut self, name: &str) -> String {
        let full = format!("{}-{name}", self.prefix);
        self.names.push(full.clone());
        run(&format!("netns add {full}"));
        run(&format!("-n {full} link set lo up"));
        full
    }

    pub(super) fn handle(name: &str) -> NetnsHandle {
        NetnsHandle::by_name(name).unwrap()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
    }
}

/// Runs `ip` with these words.
pub(super) fn run(words: &str) {
    let output = Command::new("ip")
        .args(words.split_whitespace())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "ip {words}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A pair with one end in each namespace, both up: `(namespace, interface, addresses)`.
pub(super) fn pair(left: (&str, &str, &[&str]), right: (&str, &str, &[&str])) {
    run(&format!(
        "-n {} link add {} type veth peer name {} netns {}",
        left.0, left.1, right.1, right.0
    ));
    for (netns, interface, addresses) in [left, right] {
        for address in addresses {
            run(&format!("-n {netns} address add {address} dev {interface}"));
        }
        run(&format!("-n {netns} link set {interface} up"));
    }
}

/// A node with its way out: `up0` 192.0.2.1/24, the router behind it 192.0.2.254.
pub(super) fn node_and_outside(lab: &mut Lab) -> (String, String) {
    let (node, outside) = (lab.netns("node"), lab.netns("out"));
    pair(
        (&node, "up0", &["192.0.2.1/24"]),
        (&outside, "eth0", &["192.0.2.254/24"]),
    );
    run(&format!("-n {node} route add default via 192.0.2.254"));
    // As an answering server does: what it has for the world goes to the node.
    run(&format!("-n {outside} route add default via 192.0.2.1"));
    (node, outside)
}

/// A pod routed with /32 addresses.
pub(super) fn routed_pod(lab: &mut Lab, node: &str, name: &str, address: &str) -> String {
    let pod = lab.netns(name);
    let veth = format!("v{name}");
    pair(
        (node, &veth, &[]),
        (&pod, "eth0", &[&format!("{address}/32")]),
    );
    run(&format!(
        "-n {pod} route add 169.254.1.1 dev eth0 scope link"
    ));
    run(&format!(
        "-n {pod} route add default via 169.254.1.1 dev eth0"
    ));
    run(&format!(
        "-n {node} route add {address}/32 dev {veth} scope link"
    ));
    pod
}

/// A pod on the node's bridge `br0`, whose address is 10.244.0.1.
pub(super) fn bridged_pod(lab: &mut Lab, node: &str, name: &str, address: &str) -> String {
    let pod = lab.netns(name);
    let veth = format!("v{name}");
    pair(
        (node, &veth, &[]),
        (&pod, "eth0", &[&format!("{address}/24")]),
    );
    run(&format!("-n {node} link set {veth} master br0"));
    run(&format!("-n {pod} route add default via 10.244.0.1"));
    pod
}

pub(super) fn bridge(node: &str, address: &str) {
    run(&format!("-n {node} link add br0 type bridge"));
    run(&format!("-n {node} address add {address} dev br0"));
    run(&format!("-n {node} link set br0 up"));
}
