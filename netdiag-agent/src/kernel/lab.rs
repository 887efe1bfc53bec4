//! A pod, a node and a host beyond it, for this module's own tests. Removed when dropped, also on panic.

use std::fs::File;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::{Session, Watch, WatchInterface, netns};
use crate::engine::Input;
use crate::event::{Event, HookId, IfIndex, Netns};

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
            for to in 192.0.2.10 2001:db8::10; do
                ip netns exec $P-pod ping -qc 1 -i 0.2 -w 3 $to >/dev/null
            done
        ");
        Some(lab)
    }

    /// Runs shell lines; `$P` is the prefix of the namespaces.
    pub fn sh(&self, script: &str) {
        self.output(script);
    }

    pub fn output(&self, script: &str) -> String {
        let output = Command::new("sh")
            .args(["-ec", script])
            .env("P", &self.prefix)
            .output()
            .expect("sh runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
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

    /// Follows everything of the pod, watched at both its interfaces on the node.
    pub fn watch(&self) -> Watch {
        Watch {
            node: Some(self.path("node")),
            interfaces: vec![self.interface("vetha"), self.interface("eth0")],
            pods: vec![self.netns("pod")],
            addresses: Self::pod_addresses(),
            ..Watch::default()
        }
    }

    /// Tries a TCP connection from the pod.
    pub fn connect(&self, to: &str) -> bool {
        let to: SocketAddr = to.parse().expect("address");
        self.within("pod", || {
            TcpStream::connect_timeout(&to, Duration::from_millis(200)).is_ok()
        })
    }

    pub fn listen(&self, name: &str, on: &str) -> TcpListener {
        self.within(name, || TcpListener::bind(on).expect("bind"))
    }

    pub fn udp(&self, name: &str, on: &str) -> UdpSocket {
        self.within(name, || UdpSocket::bind(on).expect("bind"))
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

/// A session and the events it gave so far.
pub struct Observed {
    pub session: Session,
    pub events: Vec<Event>,
}

impl Observed {
    pub fn start(watch: &Watch) -> Self {
        let session = Session::start(watch)
            .unwrap_or_else(|error| panic!("{}", super::attach::explain(&error)));
        assert_eq!(session.blind(), [], "this kernel has everything");
        Self::with(session)
    }

    pub fn with(session: Session) -> Self {
        Self {
            session,
            events: Vec::new(),
        }
    }

    /// Waits until an event of `hook` satisfies `wanted` and returns it.
    pub async fn expect(
        &mut self,
        hook: HookId,
        what: &str,
        wanted: impl Fn(&Event) -> bool,
    ) -> Event {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(3);
        let mut from = 0;
        loop {
            let found = self.events[from..]
                .iter()
                .find(|event| event.hook == Some(hook) && wanted(event));
            if let Some(event) = found {
                return event.clone();
            }
            from = self.events.len();
            assert!(
                tokio::time::Instant::now() < deadline,
                "no {} of {what} in:\n{}",
                hook.name(),
                self.text()
            );
            self.take().await;
        }
    }

    async fn take(&mut self) {
        for input in self.session.next().await {
            match input {
                Input::Event(event) => self.events.push(event),
                other => panic!("nothing else is expected: {other:?}"),
            }
        }
    }

    /// Everything still in the ring, added to the events.
    pub fn drain(&mut self) -> &[Event] {
        let rest = self.session.drain();
        self.events
            .extend(rest.into_iter().filter_map(|input| match input {
                Input::Event(event) => Some(event),
                _ => None,
            }));
        &self.events
    }

    /// One line per event, for failures.
    pub fn text(&self) -> String {
        self.events.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

fn line(event: &Event) -> String {
    let tuple = event
        .packet
        .as_ref()
        .map(|packet| packet.tuple.to_string())
        .unwrap_or_default();
    let place = event.place.ifname.as_deref().unwrap_or("-");
    format!(
        "{:30} {place:8} {tuple} {:?}",
        event.hook.map_or("?", HookId::name),
        event.detail
    )
}

/// The packet goes from `source` to `destination`, and is at this interface.
pub fn is(event: &Event, interface: &str, source: &str, destination: &str) -> bool {
    event.place.ifname.as_deref() == Some(interface) && goes(event, source, destination)
}

/// The packet goes from `source` to `destination`.
pub fn goes(event: &Event, source: &str, destination: &str) -> bool {
    let Some(packet) = &event.packet else {
        return false;
    };
    let end = |address: SocketAddr, text: &str| {
        address.to_string() == text || address.ip().to_string() == text
    };
    end(packet.tuple.src, source) && end(packet.tuple.dst, destination)
}
