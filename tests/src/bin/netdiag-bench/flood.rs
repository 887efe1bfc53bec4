//! As many small packets as one sender can make, out of the pod to a host outside the node.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use netdiag_tests::netns::Netns;
use netdiag_tests::node::Node;

/// An Ethernet frame of 64 bytes, without its checksum.
const PAYLOAD: [u8; 22] = [0; 22];
/// Nothing else in the lab uses it.
const SINK_PORT: u16 = 7777;

/// A server outside the node that takes all and answers nothing.
pub struct Sink {
    address: SocketAddr,
}

impl Sink {
    pub fn start(node: &Node) -> Result<Self> {
        let address = SocketAddr::new(node.plan.v4.external[0], SINK_PORT);
        let socket = node
            .external
            .within(|| UdpSocket::bind(address).context("bind the sink"))?;
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while socket.recv(&mut buffer).is_ok() {}
        });
        Ok(Self { address })
    }

    /// Packets per second that arrive outside.
    pub fn flood(&self, node: &Node, duration: Duration) -> Result<f64> {
        let to = self.address;
        let socket = node.pod().within(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").context("bind the flood's socket")?;
            socket.connect(to).context("connect the flood's socket")?;
            Ok(socket)
        })?;
        let before = arrived(&node.external)?;
        let started = Instant::now();
        while started.elapsed() < duration {
            send_many(&socket);
        }
        let took = started.elapsed();
        Ok((arrived(&node.external)? - before) as f64 / took.as_secs_f64())
    }
}

/// Sixty-four packets by one system call; what a full queue refuses does not arrive, and arrivals are counted.
fn send_many(socket: &UdpSocket) {
    let mut part = libc::iovec {
        iov_base: PAYLOAD.as_ptr().cast_mut().cast(),
        iov_len: PAYLOAD.len(),
    };
    // SAFETY: all zero is a valid message header: no name, no parts, no control data.
    let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
    message.msg_hdr.msg_iov = &raw mut part;
    message.msg_hdr.msg_iovlen = 1;
    let mut messages = [message; 64];
    // SAFETY: the headers and the one part they share live over the call, which only reads the payload.
    unsafe {
        libc::sendmmsg(
            socket.as_raw_fd(),
            messages.as_mut_ptr(),
            messages.len() as u32,
            0,
        )
    };
}

/// Packets that came in by the external host's link.
fn arrived(netns: &Netns) -> Result<u64> {
    let table = netns
        .within(|| std::fs::read_to_string("/proc/thread-self/net/dev").context("read net/dev"))?;
    let link = table
        .lines()
        .find_map(|line| line.trim_start().strip_prefix("lan0:"));
    let packets = link.and_then(|counters| counters.split_whitespace().nth(1)?.parse().ok());
    packets.context("no counters of lan0")
}
