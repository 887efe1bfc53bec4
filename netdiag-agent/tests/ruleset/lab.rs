//! A node between a pod and the outside, each a namespace, and raw packets through it.

use std::io::{IoSlice, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Command, Stdio};

use netdiag::identity::{NetnsHandle, run_in};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recv, sendmsg,
    setsockopt, socket, sockopt,
};

use crate::packet::Packet;

/// Keeps conntrack at work in the node whatever rules a case has.
pub const KEEP: &str = "table inet keep { chain pre { type filter hook prerouting priority 300; ct state new\n}\n\
                        chain out { type filter hook output priority 300; ct state new\n}\n}\n";

pub struct Lab {
    names: [String; 3],
    pub node: NetnsHandle,
    senders: Sockets,
    receivers: Vec<OwnedFd>,
}

struct Sockets {
    pod: OwnedFd,
    node: OwnedFd,
    out: OwnedFd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    Pod,
    Node,
    Out,
}

impl Lab {
    /// `None`, with the reason on stderr, where this process may not make namespaces.
    pub fn new() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: network namespaces need root");
            return None;
        }
        let prefix = format!("ruleset-{}", std::process::id());
        let names = ["pod", "node", "out"].map(|name| format!("{prefix}-{name}"));
        // From here on a panic takes the namespaces along.
        let guard = Names(names.clone());
        for name in &names {
            ip(&format!("netns add {name}"));
            ip(&format!("-n {name} link set lo up"));
        }
        let [pod, node, out] = &names;
        for (far, near, net) in [(pod, "vpod", 1), (out, "vout", 2)] {
            ip(&format!(
                "link add {near} netns {node} type veth peer name eth0 netns {far}"
            ));
            ip(&format!("-n {node} addr add 10.77.{net}.1/24 dev {near}"));
            ip(&format!("-n {node} link set {near} up"));
            for host in 2..6 {
                ip(&format!("-n {far} addr add 10.77.{net}.{host}/24 dev eth0"));
            }
            ip(&format!("-n {far} link set eth0 up"));
            ip(&format!("-n {far} route add default via 10.77.{net}.1"));
        }
        let handles = names
            .clone()
            .map(|name| NetnsHandle::by_name(&name).unwrap());
        sysctls(&handles[1]);
        let lab = Self {
            senders: Sockets {
                pod: raw(&handles[0], SockProtocol::Raw),
                node: raw(&handles[1], SockProtocol::Raw),
                out: raw(&handles[2], SockProtocol::Raw),
            },
            receivers: [&handles[1], &handles[2]]
                .into_iter()
                .flat_map(|handle| {
                    [SockProtocol::Udp, SockProtocol::Tcp, SockProtocol::Icmp]
                        .map(|p| raw(handle, p))
                })
                .collect(),
            node: handles[1].clone(),
            names,
        };
        std::mem::forget(guard);
        lab.feed("nft", &["-f", "-"], KEEP);
        lab.establish();
        // What the outside answers would meet the rules too.
        let quiet = "table inet quiet { chain out { type filter hook output priority 0; policy drop;\n}\n}\n";
        feed_in(&handles[2], "nft", &["-f", "-"], quiet);
        Some(lab)
    }

    /// A connection in both directions, so that later packets of it are ESTABLISHED.
    fn establish(&self) {
        let request = Packet::established();
        let mut answer = request.clone();
        (answer.src, answer.dst) = (request.dst, request.src);
        (answer.sport, answer.dport) = (request.dport, request.sport);
        self.send(From::Pod, &request, 0);
        self.wait_for_first();
        self.send(From::Out, &answer, 0);
    }

    fn wait_for_first(&self) {
        for _ in 0..200 {
            if !self.arrived().is_empty() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        panic!("the first packet through the node did not arrive");
    }

    pub fn send(&self, from: From, packet: &Packet, mark: u32) {
        let fd = match from {
            From::Pod => &self.senders.pod,
            From::Node => &self.senders.node,
            From::Out => &self.senders.out,
        };
        setsockopt(fd, sockopt::Mark, &mark).unwrap();
        let bytes = packet.bytes();
        let to = SockaddrIn::from(SocketAddrV4::new(packet.dst, 0));
        // A drop at OUTPUT is EPERM here; that it did not arrive says so too.
        let _ = sendmsg(
            fd.as_raw_fd(),
            &[IoSlice::new(&bytes)],
            &[],
            MsgFlags::empty(),
            Some(&to),
        );
    }

    /// IP ids of the packets that were delivered at the node or outside since the last call.
    pub fn arrived(&self) -> Vec<u16> {
        let mut ids = Vec::new();
        let mut buffer = [0_u8; 2048];
        for receiver in &self.receivers {
            while let Ok(length) = recv(receiver.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                let source = Ipv4Addr::new(buffer[12], buffer[13], buffer[14], buffer[15]);
                if length >= 20 && source.octets()[..2] == [10, 77] {
                    ids.push(u16::from_be_bytes([buffer[4], buffer[5]]));
                }
            }
        }
        ids
    }

    /// Runs a program in the node with this text on stdin.
    pub fn feed(&self, program: &str, arguments: &[&str], text: &str) {
        feed_in(&self.node, program, arguments, text);
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        drop(Names(self.names.clone()));
    }
}

struct Names([String; 3]);

impl Drop for Names {
    fn drop(&mut self) {
        for name in &self.0 {
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
    }
}

fn ip(words: &str) {
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

fn sysctls(node: &NetnsHandle) {
    let settings = [
        ("net/ipv4/ip_forward", "1"),
        ("net/ipv4/conf/all/rp_filter", "0"),
        ("net/ipv4/conf/vpod/rp_filter", "0"),
        ("net/ipv4/conf/vout/rp_filter", "0"),
        // The packets carry no checksums.
        ("net/netfilter/nf_conntrack_checksum", "0"),
        ("net/netfilter/nf_conntrack_udp_timeout", "3600"),
        ("net/netfilter/nf_conntrack_udp_timeout_stream", "3600"),
        ("net/ipv4/icmp_echo_ignore_all", "1"),
    ];
    run_in(node, || {
        for (name, value) in settings {
            std::fs::write(format!("/proc/sys/{name}"), value)
                .unwrap_or_else(|e| panic!("set {name}: {e}"));
        }
    })
    .unwrap();
}

/// A socket stays in the namespace it was made in.
fn raw(netns: &NetnsHandle, protocol: SockProtocol) -> OwnedFd {
    run_in(netns, || {
        let fd = socket(
            AddressFamily::Inet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            protocol,
        )
        .unwrap();
        setsockopt(&fd, sockopt::RcvBuf, &(1 << 20)).unwrap();
        fd
    })
    .unwrap()
}

fn feed_in(netns: &NetnsHandle, program: &str, arguments: &[&str], text: &str) {
    run_in(netns, || {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "{program}: {}\n{text}",
            String::from_utf8_lossy(&output.stderr)
        );
    })
    .unwrap();
}
