//! The counters of a namespace that tell of packets lost without a drop event, or that confirm one.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use netlink_packet_core::DefaultNla;
use netlink_packet_core::Nla as _;
use netlink_packet_netfilter::conntrack::ConntrackMessage;
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};
use netlink_sys::protocols::NETLINK_NETFILTER;

use super::error::IdentityError;
use super::netlink::Channel;
use super::netns::{NetnsHandle, run_in};
use super::scene::now;
use crate::inventory::Delta;

/// What is kept of the several hundred counters: what rules cite, and what a human asks for next.
const KEPT: &[&str] = &[
    "TcpExt.ListenOverflows",
    "TcpExt.ListenDrops",
    "TcpExt.IPReversePathFilter",
    "TcpExt.TCPRcvQDrop",
    "TcpExt.TCPBacklogDrop",
    "TcpExt.TCPReqQFullDrop",
    "TcpExt.TCPReqQFullDoCookies",
    "TcpExt.TCPTimeWaitOverflow",
    "TcpExt.TCPZeroWindowDrop",
    "TcpExt.TCPOFODrop",
    "TcpExt.TCPAbortOnMemory",
    "TcpExt.TCPAbortOnTimeout",
    "TcpExt.TCPMinTTLDrop",
    "TcpExt.PFMemallocDrop",
    "TcpExt.TCPTimeouts",
    "TcpExt.TCPSynRetrans",
    "TcpExt.SyncookiesSent",
    "TcpExt.SyncookiesFailed",
    "IpExt.InNoRoutes",
    "IpExt.InTruncatedPkts",
    "IpExt.InCsumErrors",
    "Ip.InHdrErrors",
    "Ip.InAddrErrors",
    "Ip.InUnknownProtos",
    "Ip.InDiscards",
    "Ip.OutDiscards",
    "Ip.OutNoRoutes",
    "Ip.ReasmFails",
    "Ip.ReasmTimeout",
    "Ip.FragFails",
    "Icmp.InErrors",
    "Icmp.InCsumErrors",
    "Icmp.OutErrors",
    "Icmp.OutDestUnreachs",
    "Icmp.OutTimeExcds",
    "Icmp.OutRateLimitGlobal",
    "Icmp.OutRateLimitHost",
    "Tcp.AttemptFails",
    "Tcp.InErrs",
    "Tcp.OutRsts",
    "Tcp.RetransSegs",
    "Tcp.InCsumErrors",
    "Udp.NoPorts",
    "Udp.InErrors",
    "Udp.RcvbufErrors",
    "Udp.SndbufErrors",
    "Udp.InCsumErrors",
    "Udp.MemErrors",
    "Ip6.InHdrErrors",
    "Ip6.InTooBigErrors",
    "Ip6.InNoRoutes",
    "Ip6.InAddrErrors",
    "Ip6.InUnknownProtos",
    "Ip6.InTruncatedPkts",
    "Ip6.InDiscards",
    "Ip6.OutDiscards",
    "Ip6.OutNoRoutes",
    "Ip6.ReasmFails",
    "Ip6.ReasmTimeout",
    "Ip6.FragFails",
    "Icmp6.InErrors",
    "Icmp6.InCsumErrors",
    "Icmp6.OutErrors",
    "Icmp6.OutDestUnreachs",
    "Icmp6.OutPktTooBigs",
    "Icmp6.OutTimeExcds",
    "Icmp6.OutRateLimitHost",
    "Udp6.NoPorts",
    "Udp6.InErrors",
    "Udp6.RcvbufErrors",
    "Udp6.SndbufErrors",
    "Udp6.InCsumErrors",
    "Udp6.MemErrors",
];

const FAMILIES6: [&str; 4] = ["Ip6", "Icmp6", "UdpLite6", "Udp6"];

/// `ctnl_msg_types` of `linux/netfilter/nfnetlink_conntrack.h`.
const IPCTNL_MSG_CT_GET_STATS_CPU: u8 = 4;
const IPCTNL_MSG_CT_GET_STATS: u8 = 5;

/// `ctattr_stats_cpu`, by position from 1.
const STATS_CPU: [&str; 15] = [
    "searched",
    "found",
    "new",
    "invalid",
    "ignore",
    "delete",
    "delete_list",
    "insert",
    "insert_failed",
    "drop",
    "early_drop",
    "error",
    "search_restart",
    "clash_resolve",
    "chaintoolong",
];

/// `ctattr_stats_global`, by position from 1.
const STATS_GLOBAL: [&str; 2] = ["entries", "limit"];

/// Reads all counters of a namespace: `TcpExt.ListenOverflows`, `Ip.InHdrErrors`, `Ip6.InNoRoutes`,
/// `conntrack.insert_failed` … The conntrack ones are absent where conntrack is.
pub fn counters(namespace: &NetnsHandle) -> Result<Delta, IdentityError> {
    let failed = |path: &'static str| {
        let namespace = namespace.label();
        move |cause| IdentityError::Read {
            path,
            namespace,
            cause,
        }
    };
    let (values, at) = run_in(namespace, || {
        let mut values = BTreeMap::new();
        for path in [
            "/proc/thread-self/net/netstat",
            "/proc/thread-self/net/snmp",
        ] {
            parse_pairs(
                &fs::read_to_string(path).map_err(failed(path))?,
                &mut values,
            );
        }
        // Absent where IPv6 is off.
        if let Ok(text) = fs::read_to_string("/proc/thread-self/net/snmp6") {
            parse_lines(&text, &mut values);
        }
        values.retain(|name, _| KEPT.contains(&name.as_str()));
        conntrack(&mut values).map_err(|cause| IdentityError::Netlink {
            act: "read the conntrack statistics",
            namespace: namespace.label(),
            cause,
        })?;
        Ok((values, now()))
    })??;
    Ok(Delta::Counters {
        netns: namespace.netns(),
        at,
        values,
    })
}

/// `Tcp: InSegs OutSegs` over `Tcp: 5 7`.
fn parse_pairs(text: &str, values: &mut BTreeMap<String, u64>) {
    let mut lines = text.lines();
    while let (Some(names), Some(numbers)) = (lines.next(), lines.next()) {
        let Some((family, names)) = names.split_once(": ") else {
            continue;
        };
        let numbers = numbers.split_whitespace().skip(1);
        for (name, number) in names.split_whitespace().zip(numbers) {
            // Some are gauges that may be negative (Tcp.MaxConn is -1); none of those is of use here.
            if let Ok(number) = number.parse() {
                values.insert(format!("{family}.{name}"), number);
            }
        }
    }
}

/// `Ip6InNoRoutes    3`.
fn parse_lines(text: &str, values: &mut BTreeMap<String, u64>) {
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (Some(name), Some(Ok(number))) = (words.next(), words.next().map(str::parse)) else {
            continue;
        };
        let family = FAMILIES6.iter().find(|family| name.starts_with(*family));
        if let Some((family, rest)) =
            family.and_then(|family| Some((family, name.strip_prefix(*family)?)))
        {
            values.insert(format!("{family}.{rest}"), number);
        }
    }
}

fn conntrack(values: &mut BTreeMap<String, u64>) -> io::Result<()> {
    // Asking would make the kernel load the module: a node without conntrack is to stay without.
    if !Path::new("/proc/sys/net/netfilter/nf_conntrack_count").exists() {
        return Ok(());
    }
    let mut channel = Channel::open(NETLINK_NETFILTER)?;
    channel.dump_each(&request(IPCTNL_MSG_CT_GET_STATS_CPU), |answer| {
        add(&answer, &STATS_CPU, values);
    })?;
    add(
        &channel.get(&request(IPCTNL_MSG_CT_GET_STATS))?,
        &STATS_GLOBAL,
        values,
    );
    Ok(())
}

fn request(message_type: u8) -> NetfilterMessage {
    NetfilterMessage::new(
        NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, 0),
        ConntrackMessage::Other {
            message_type,
            attributes: Vec::new(),
        },
    )
}

/// Sums: there is one answer per CPU.
fn add(answer: &NetfilterMessage, names: &[&str], values: &mut BTreeMap<String, u64>) {
    let NetfilterMessageInner::Conntrack(ConntrackMessage::Other { attributes, .. }) =
        &answer.inner
    else {
        return;
    };
    for attribute in attributes {
        let name = usize::from(attribute.kind())
            .checked_sub(1)
            .and_then(|position| names.get(position));
        if let (Some(name), Some(number)) = (name, number(attribute)) {
            *values.entry(format!("conntrack.{name}")).or_default() += number;
        }
    }
}

fn number(attribute: &DefaultNla) -> Option<u64> {
    let mut bytes = [0; 4];
    if attribute.value_len() != bytes.len() {
        return None;
    }
    attribute.emit_value(&mut bytes);
    Some(u64::from(u32::from_be_bytes(bytes)))
}

#[cfg(test)]
#[path = "counters_tests.rs"]
mod tests;
