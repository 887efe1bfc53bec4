//! A pod, a node and a host beyond it, for this module's own tests. Removed when dropped, also on panic.

use std::fs::File;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{WatchInterface, netns};
use crate::event::{IfIndex, Netns};

static COUNT: AtomicU32 = AtomicU32::new(0);

/// `pod` (10.244.0.2, fd00:1::2) behind `vetha` of `node`, which masquerades to `ext` (192.0.2.10, 2001:db8::10).
pub struct Lab {
    prefix: String,
}

impl Lab {
    /// `None`, with the reason printed, where it cannot be built.
    pub fn new() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: needs root");
            return None;
        }
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let lab = Self {
            prefix: format!("kernel-{}-{number}", std::process::id()),
        };
        lab.sh("
            for n in node pod ext; do
                ip netns add $P-$n; ip -n $P-$n link set lo up
                ip netns exec $P-$n sysctl -qw net.ipv6.conf.default.accept_dad=0
            done
            ip -n $P-node link add vetha type veth peer name eth0 netns $P-pod
            ip -n $P-node link add eth0 type veth peer name eth0 netns $P-ext
            ip -n $P-pod addr add 10.244.0.2/24 dev eth0; ip -n $P-pod addr add fd00:1::2/64 dev eth0 nodad
            ip -n $P-node addr add 10.244.0.1/24 dev vetha; ip -n $P-node addr add fd00:1::1/64 dev vetha nodad
            ip -n $P-node addr add 192.0.2.1/24 dev eth0; ip -n $P-node addr add 2001:db8::1/64 dev eth0 nodad
            ip -n $P-ext addr add 192.0.2.10/24 dev eth0; ip -n $P-ext addr add 2001:db8::10/64 dev eth0 nodad
            for l in pod:eth0 node:vetha node:eth0 ext:eth0; do ip -n $P-${l%:*} link set ${l#*:} up; done
            ip -n $P-pod route add default via 10.244.0.1; ip -n $P-pod -6 route add default via fd00:1::1
            ip netns exec $P-node sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
            ip netns exec $P-node iptables -t nat -A POSTROUTING -o eth0 -j MASQUERADE
            ip netns exec $P-node ip6tables -t nat -A POSTROUTING -o eth0 -j MASQUERADE
        ");
        Some(lab)
    }

    /// Runs shell lines; `$P` is the prefix of the namespaces.
    pub fn sh(&self, script: &str) {
        let output = Command::new("sh")
            .args(["-ec", script])
            .env("P", &self.prefix)
            .output()
            .expect("sh runs");
        assert!(
            output.status.success(),
            "{script}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    pub fn path(&self, name: &str) -> PathBuf {
        format!("/run/netns/{}-{name}", self.prefix).into()
    }

    pub fn open(&self, name: &str) -> File {
        File::open(self.path(name)).expect("namespace exists")
    }

    pub fn netns(&self, name: &str) -> Netns {
        netns::inode(&self.open(name)).expect("inode")
    }

    pub fn within<T: Send>(&self, name: &str, work: impl FnOnce() -> T + Send) -> T {
        netns::within(&self.open(name), work).expect("enter the namespace")
    }

    pub fn interface(&self, name: &str) -> WatchInterface {
        let index = self.within("node", || {
            nix::net::if_::if_nametoindex(name).expect("interface exists")
        });
        WatchInterface {
            netns: Some(self.path("node")),
            ifindex: IfIndex(index),
            name: name.into(),
        }
    }

    pub fn pod_addresses() -> Vec<IpAddr> {
        ["10.244.0.2", "fd00:1::2"]
            .map(|text| text.parse().expect("address"))
            .into()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in ["node", "pod", "ext"] {
            let _ = Command::new("ip")
                .args(["netns", "del", &format!("{}-{name}", self.prefix)])
                .status();
        }
    }
}
