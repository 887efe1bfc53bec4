//! Connection tracking: its table, its ports, its opinion of a packet.

use std::net::{IpAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};
use netlink_sys::protocols::NETLINK_NETFILTER;

use super::{Case, at, broken};
use crate::netlink::{self, flag};
use crate::plan::Family;
use crate::topology::nft_tool;

/// The node may masquerade the pods on two ports only, and the second pod holds both.
pub fn two_snat_ports(case: &Case) -> Result<()> {
    two_snat_ports_to(case, broken::TCP)
}

/// The same for what goes to this port.
pub fn two_snat_ports_to(case: &Case, port: u16) -> Result<()> {
    case.node.run(&format!(
        "{} -w -t nat -I POSTROUTING -s {} -o {} -p tcp --dport {} -j MASQUERADE --to-ports 40000-40001",
        nft_tool(case.family),
        case.addresses().pods,
        case.node.uplink(),
        port,
    ))?;
    let to = at(case.healthy(), port);
    let held = case.node.pods[1].within(|| {
        let connect = || TcpStream::connect_timeout(&to, Duration::from_secs(2));
        Ok([connect(), connect()].map(|stream| stream.with_context(|| format!("connect to {to}"))))
    })?;
    for stream in held {
        case.node.keep(stream?);
    }
    Ok(())
}

/// A rule drops what conntrack calls INVALID, as kube-proxy's and Calico's do.
pub fn drop_invalid(case: &Case) -> Result<()> {
    let tool = nft_tool(case.family);
    case.node
        .run(&format!(
            "{tool} -w -I FORWARD -m conntrack --ctstate INVALID -j DROP"
        ))
        .map(drop)
}

/// The same, on a node that does not take over connections it did not see begin.
pub fn drop_midstream(case: &Case) -> Result<()> {
    case.node
        .netns
        .sysctl(&[("netfilter/nf_conntrack_tcp_loose", "0")])?;
    drop_invalid(case)
}

/// The conntrack table of the node holds as many connections as it may, none of which can be evicted.
///
/// The limit belongs to the whole machine, so it is the table that is filled, not the limit that is lowered.
pub fn full_table(case: &Case) -> Result<()> {
    let limit: u32 = case
        .node
        .run("cat /proc/sys/net/netfilter/nf_conntrack_max")?
        .trim()
        .parse()
        .context("read nf_conntrack_max")?;
    case.node.netns.within(|| fill(case, limit))
}

/// `NFNL_SUBSYS_CTNETLINK` and `IPCTNL_MSG_CT_NEW`, `IPCTNL_MSG_CT_DELETE`.
const NEW_CONNECTION: u16 = 1 << 8;
const DELETE_CONNECTIONS: u16 = 1 << 8 | 2;
/// Bytes per request; the kernel takes as many messages as fit.
const BATCH: usize = 100_000;

/// Makes the namespace of this thread forget all connections. What `conntrack -F` asks of the kernel, without a program
/// that a busy machine starts seconds late.
pub fn forget() -> Result<()> {
    let socket = netlink::open(NETLINK_NETFILTER)?;
    // A deletion that names no tuple, of any family.
    let body = [libc::AF_UNSPEC as u8, 0, 0, 0];
    let flags = flag::REQUEST | flag::ACKNOWLEDGE;
    netlink::send(&socket, &netlink::message(DELETE_CONNECTIONS, flags, &body))?;
    netlink::acknowledged(&socket).context("forget all connections")
}

/// Adds assured connections between two strangers until no more fit.
fn fill(case: &Case, limit: u32) -> Result<()> {
    let socket = netlink::open(NETLINK_NETFILTER)?;
    let (from, to) = (case.addresses().stranger, case.addresses().nobody);
    let family = if case.family == Family::V4 {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    let mut batch = Vec::with_capacity(BATCH + 512);
    for index in 0..=limit {
        let ports = ((1 + index % 60_000) as u16, (1 + index / 60_000) as u16);
        let body = [
            vec![family as u8, 0, 0, 0],
            tuple(attribute::ORIGINAL, (from, ports.0), (to, ports.1)),
            tuple(attribute::REPLY, (to, ports.1), (from, ports.0)),
            netlink::attribute(attribute::STATUS, &STATUS.to_be_bytes()),
            netlink::attribute(attribute::TIMEOUT, &600_u32.to_be_bytes()),
        ]
        .concat();
        let flags = flag::REQUEST | flag::CREATE;
        batch.extend(netlink::message(NEW_CONNECTION, flags, &body));
        if batch.len() > BATCH || index == limit {
            netlink::send(&socket, &batch)?;
            batch.clear();
        }
    }
    Ok(())
}

/// `CTA_*` of nfnetlink_conntrack.h.
mod attribute {
    pub const ORIGINAL: u16 = 1;
    pub const REPLY: u16 = 2;
    pub const STATUS: u16 = 3;
    pub const TIMEOUT: u16 = 7;
    pub const TUPLE_IP: u16 = 1;
    pub const TUPLE_PROTOCOL: u16 = 2;
    pub const IPV4: [u16; 2] = [1, 2];
    pub const IPV6: [u16; 2] = [3, 4];
    pub const PROTOCOL: u16 = 1;
    pub const SOURCE_PORT: u16 = 2;
    pub const DESTINATION_PORT: u16 = 3;
}

/// `IPS_SEEN_REPLY | IPS_ASSURED | IPS_CONFIRMED`
const STATUS: u32 = 2 | 4 | 8;
const UDP: u8 = 17;

fn tuple(kind: u16, from: (IpAddr, u16), to: (IpAddr, u16)) -> Vec<u8> {
    let address = |end: usize, address: IpAddr| match address {
        IpAddr::V4(ip) => netlink::attribute(attribute::IPV4[end], &ip.octets()),
        IpAddr::V6(ip) => netlink::attribute(attribute::IPV6[end], &ip.octets()),
    };
    let addresses = [address(0, from.0), address(1, to.0)];
    let protocol = [
        netlink::attribute(attribute::PROTOCOL, &[UDP]),
        netlink::attribute(attribute::SOURCE_PORT, &from.1.to_be_bytes()),
        netlink::attribute(attribute::DESTINATION_PORT, &to.1.to_be_bytes()),
    ];
    netlink::nested(
        kind,
        &[
            netlink::nested(attribute::TUPLE_IP, &addresses),
            netlink::nested(attribute::TUPLE_PROTOCOL, &protocol),
        ],
    )
}
