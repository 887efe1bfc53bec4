//! A node between a pod and the outside, each a namespace, and raw packets through it.

use std::io::{IoSlice, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{Command, Stdio};

use netdiag::identity::{NetnsHandle, run_in};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, recv,
    sendmsg, setsockopt, socket, sockopt,
};

use crate::packet::Packet;

/// Keeps conntrack at work in the node whatever rules a case has.
pub const KEEP: &str = "table inet keep { chain pre { type filter hook prerouting priority 300; ct state new\n}\n\
                        chain out { type filter hook output priority 300; ct state new\n}\n}\n";

pub struct Lab {
    names: [String; 3],
    pub node: NetnsHandle,
    senders: [Sockets; 2],
    receivers: Vec<OwnedFd>,
    /// Each with its protocol: what they hand over has no IP header.
    receivers_v6: Vec<(u8, OwnedFd)>,
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
        for name in &names {
            quiet(&NetnsHandle::by_name(name).unwrap());
        }
        for (far, near, net) in [(pod, "vpod", 1), (out, "vout", 2)] {
            let [here, there] = [1, 2].map(|end| format!("02:77:00:00:0{net}:0{end}"));
            ip(&format!(
                "link add {near} address {here} netns {node} type veth peer name eth0 address {there} netns {far}"
            ));
            for (netns, link) in [(node, near), (far, "eth0")] {
                ip(&format!("-n {netns} link set {link} addrgenmode none"));
            }
            ip(&format!(
                "-n {node} addr add fd77::10.77.{net}.1/120 dev {near} nodad"
            ));
            ip(&format!("-n {node} addr add 10.77.{net}.1/24 dev {near}"));
            ip(&format!("-n {node} link set {near} up"));
            for host in 2..6 {
                ip(&format!("-n {far} addr add 10.77.{net}.{host}/24 dev eth0"));
                ip(&format!(
                    "-n {far} addr add fd77::10.77.{net}.{host}/120 dev eth0 nodad"
                ));
            }
            ip(&format!("-n {far} link set eth0 up"));
            ip(&format!("-n {far} route add default via 10.77.{net}.1"));
            ip(&format!(
                "-n {far} route add default via fd77::10.77.{net}.1 dev eth0"
            ));
            // Neighbour discovery would meet the rules of a case.
            for host in 2..6 {
                ip(&format!(
                    "-n {node} neigh add fd77::10.77.{net}.{host} lladdr {there} dev {near} nud permanent"
                ));
            }
            ip(&format!(
                "-n {far} neigh add fd77::10.77.{net}.1 lladdr {here} dev eth0 nud permanent"
            ));
        }
        let handles = names
            .clone()
            .map(|name| NetnsHandle::by_name(&name).unwrap());
        sysctls(&handles[1]);
        let lab = Self {
            senders: [AddressFamily::Inet, AddressFamily::Inet6].map(|family| Sockets {
                pod: raw(&handles[0], family, SockProtocol::Raw),
                node: raw(&handles[1], family, SockProtocol::Raw),
                out: raw(&handles[2], family, SockProtocol::Raw),
            }),
            receivers: [&handles[1], &handles[2]]
                .into_iter()
                .flat_map(|handle| {
                    [SockProtocol::Udp, SockProtocol::Tcp, SockProtocol::Icmp]
                        .map(|p| raw(handle, AddressFamily::Inet, p))
                })
                .collect(),
            receivers_v6: [&handles[1], &handles[2]]
                .into_iter()
                .flat_map(|handle| {
                    [
                        (17, SockProtocol::Udp),
                        (6, SockProtocol::Tcp),
                        (58, SockProtocol::IcmpV6),
                    ]
                    .map(|(number, p)| (number, raw(handle, AddressFamily::Inet6, p)))
                })
                .collect(),
            node: handles[1].clone(),
            names,
        };
        std::mem::forget(guard);
        lab.feed("nft", &["-f", "-"], KEEP);
        lab.establish(false);
        lab.establish(true);
        // What the outside answers would meet the rules too.
        let quiet = "table inet quiet { chain out { type filter hook output priority 0; policy drop;\n}\n}\n";
        feed_in(&handles[2], "nft", &["-f", "-"], quiet);
        Some(lab)
    }

    /// A connection in both directions, so that later packets of it are ESTABLISHED.
    fn establish(&self, v6: bool) {
        let request = Packet::established(v6);
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
        let senders = &self.senders[usize::from(packet.v6)];
        let fd = match from {
            From::Pod => &senders.pod,
            From::Node => &senders.node,
            From::Out => &senders.out,
        };
        setsockopt(fd, sockopt::Mark, &mark).unwrap();
        let bytes = packet.bytes();
        let (fd, bytes) = (fd.as_raw_fd(), [IoSlice::new(&bytes)]);
        // A drop at OUTPUT is EPERM here; that it did not arrive says so too.
        let _ = match packet.destination() {
            IpAddr::V4(to) => {
                let to = SockaddrIn::from(SocketAddrV4::new(to, 0));
                sendmsg(fd, &bytes, &[], MsgFlags::empty(), Some(&to))
            }
            IpAddr::V6(to) => {
                let to = SockaddrIn6::from(SocketAddrV6::new(to, 0, 0, 0));
                sendmsg(fd, &bytes, &[], MsgFlags::empty(), Some(&to))
            }
        };
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
        for (proto, receiver) in &self.receivers_v6 {
            while let Ok(length) = recv(receiver.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                ids.extend(Packet::id_of(*proto, &buffer[..length]));
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

/// IPv6 that says nothing by itself.
fn quiet(netns: &NetnsHandle) {
    set(
        netns,
        &[
            ("net/ipv6/conf/all/disable_ipv6", "0"),
            ("net/ipv6/conf/default/disable_ipv6", "0"),
            ("net/ipv6/conf/default/accept_dad", "0"),
            ("net/ipv6/conf/default/accept_ra", "0"),
            ("net/ipv6/conf/default/router_solicitations", "0"),
        ],
    );
}

fn sysctls(node: &NetnsHandle) {
    set(
        node,
        &[
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv4/conf/all/rp_filter", "0"),
            ("net/ipv4/conf/vpod/rp_filter", "0"),
            ("net/ipv4/conf/vout/rp_filter", "0"),
            // The packets carry no checksums.
            ("net/netfilter/nf_conntrack_checksum", "0"),
            ("net/netfilter/nf_conntrack_udp_timeout", "3600"),
            ("net/netfilter/nf_conntrack_udp_timeout_stream", "3600"),
            ("net/ipv4/icmp_echo_ignore_all", "1"),
            ("net/ipv6/conf/all/forwarding", "1"),
            ("net/ipv6/icmp/echo_ignore_all", "1"),
        ],
    );
}

fn set(netns: &NetnsHandle, settings: &[(&str, &str)]) {
    run_in(netns, || {
        for (name, value) in settings {
            std::fs::write(format!("/proc/sys/{name}"), value)
                .unwrap_or_else(|e| panic!("set {name}: {e}"));
        }
    })
    .unwrap();
}

/// A socket stays in the namespace it was made in.
fn raw(netns: &NetnsHandle, family: AddressFamily, protocol: SockProtocol) -> OwnedFd {
    run_in(netns, || {
        let fd = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).unwrap();
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
