//! The conntrack table of a namespace: connections that began before the trace, and the kernel's word on NAT.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use netlink_packet_core::{DefaultNla, Nla as _};
use netlink_packet_netfilter::conntrack::{
    ConntrackAttribute, ConntrackMessage, IPTuple, ProtoInfo, ProtoInfoTCP, ProtoTuple,
    Tuple as TuplePart,
};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};
use netlink_sys::protocols::NETLINK_NETFILTER;

use super::error::IdentityError;
use super::netlink::Channel;
use super::netns::{NetnsHandle, run_in};
use crate::event::{Conntrack, CtStatus, Proto, Tuple};
use crate::inventory::Delta;

/// Connections handed on from one reading.
const LIMIT: usize = 16_384;

const COUNT: &str = "/proc/sys/net/netfilter/nf_conntrack_count";

/// `ctattr_type` and `ctattr_l4proto` of `linux/netfilter/nfnetlink_conntrack.h`, as far as the library leaves them raw.
const CTA_ZONE: u16 = 18;
const CTA_PROTO_ICMP_ID: u16 = 4;
const CTA_PROTO_ICMPV6_ID: u16 = 7;

/// One connection, as `conntrack -L` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConntrackEntry {
    pub orig: Tuple,
    /// As the answer is expected to arrive, so with both translations in it.
    pub answer: Tuple,
    pub status: CtStatus,
    /// `enum tcp_conntrack`; `None` for what is not TCP.
    pub tcp_state: Option<u8>,
    pub zone: u16,
    /// Seconds until the entry ends without further packets.
    pub timeout: u32,
}

impl ConntrackEntry {
    fn concerns(&self, address: IpAddr) -> bool {
        let ends = [
            self.orig.src,
            self.orig.dst,
            self.answer.src,
            self.answer.dst,
        ];
        ends.iter().any(|end| end.ip() == address)
    }
}

impl From<ConntrackEntry> for Conntrack {
    fn from(entry: ConntrackEntry) -> Self {
        Self {
            status: entry.status,
            reply: false,
            related: false,
            orig: entry.orig,
            answer: entry.answer,
            tcp_state: entry.tcp_state.unwrap_or_default(),
            zone: entry.zone,
        }
    }
}

/// Connections that have one of the addresses at an end; all when there is none.
pub fn connections(namespace: &NetnsHandle, addresses: &[IpAddr]) -> Result<Delta, IdentityError> {
    let concerned = |entry: &ConntrackEntry| {
        addresses.is_empty() || addresses.iter().any(|address| entry.concerns(*address))
    };
    delta(namespace, concerned)
}

/// Connections whose answers go from `from` to any port of `to`: who holds the source ports of a translation.
pub fn holders(
    namespace: &NetnsHandle,
    proto: Proto,
    from: SocketAddr,
    to: IpAddr,
) -> Result<Delta, IdentityError> {
    delta(namespace, |entry| {
        let answer = &entry.answer;
        answer.proto == proto && answer.src == from && answer.dst.ip() == to
    })
}

fn delta(
    namespace: &NetnsHandle,
    keep: impl Fn(&ConntrackEntry) -> bool + Send,
) -> Result<Delta, IdentityError> {
    let entries = dump(namespace, LIMIT, keep)?;
    if entries.len() >= LIMIT {
        tracing::warn!(
            "{}: more than {LIMIT} connections of interest; the rest is not known",
            namespace.label()
        );
    }
    Ok(Delta::Connections {
        netns: namespace.netns(),
        entries: entries.into_iter().map(Conntrack::from).collect(),
    })
}

/// Entries in the table, read or not; `None` where there is no connection tracking.
pub fn count(namespace: &NetnsHandle) -> Option<u64> {
    let text = run_in(namespace, || std::fs::read_to_string(COUNT)).ok()?;
    text.ok()?.trim().parse().ok()
}

/// The entries `keep` wants, at most `limit`: a node's table may hold millions.
pub fn dump(
    namespace: &NetnsHandle,
    limit: usize,
    keep: impl Fn(&ConntrackEntry) -> bool + Send,
) -> Result<Vec<ConntrackEntry>, IdentityError> {
    run_in(namespace, || read(limit, keep))?.map_err(|cause| IdentityError::Netlink {
        act: "read the conntrack table",
        namespace: namespace.label(),
        cause,
    })
}

fn read(limit: usize, keep: impl Fn(&ConntrackEntry) -> bool) -> io::Result<Vec<ConntrackEntry>> {
    let mut entries = Vec::new();
    // Asking would make the kernel load the module: a node without conntrack is to stay without.
    if !Path::new(COUNT).exists() {
        return Ok(entries);
    }
    // Unspecified family: both.
    let header = NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, 0);
    let request = NetfilterMessage::new(header, ConntrackMessage::Get(Vec::new()));
    Channel::open(NETLINK_NETFILTER)?.dump_each(&request, |answer: NetfilterMessage| {
        if let NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)) = &answer.inner
            && entries.len() < limit
        {
            entries.extend(entry(attributes).filter(&keep));
        }
    })?;
    Ok(entries)
}

fn entry(attributes: &[ConntrackAttribute]) -> Option<ConntrackEntry> {
    let (mut orig, mut answer, mut tcp_state) = (None, None, None);
    let (mut status, mut zone, mut timeout) = (CtStatus::default(), 0, 0);
    for attribute in attributes {
        match attribute {
            ConntrackAttribute::CtaTupleOrig(parts) => orig = tuple(parts),
            ConntrackAttribute::CtaTupleReply(parts) => answer = tuple(parts),
            ConntrackAttribute::CtaStatus(bits) => status = CtStatus(bits.bits()),
            ConntrackAttribute::CtaTimeout(seconds) => timeout = *seconds,
            ConntrackAttribute::CtaProtoInfo(infos) => tcp_state = infos.iter().find_map(state),
            ConntrackAttribute::Other(raw) if raw.kind() == CTA_ZONE => {
                zone = number(raw).unwrap_or_default();
            }
            _ => {}
        }
    }
    Some(ConntrackEntry {
        orig: orig?,
        answer: answer?,
        status,
        tcp_state,
        zone,
        timeout,
    })
}

fn state(info: &ProtoInfo) -> Option<u8> {
    let ProtoInfo::TCP(parts) = info else {
        return None;
    };
    parts.iter().find_map(|part| match part {
        ProtoInfoTCP::State(state) => Some(*state),
        _ => None,
    })
}

fn tuple(parts: &[TuplePart]) -> Option<Tuple> {
    let (mut addresses, mut layer4) = ((None, None), None);
    for part in parts {
        match part {
            TuplePart::Ip(found) => {
                for address in found {
                    match address {
                        IPTuple::SourceAddress(ip) => addresses.0 = Some(*ip),
                        IPTuple::DestinationAddress(ip) => addresses.1 = Some(*ip),
                        _ => {}
                    }
                }
            }
            TuplePart::Proto(fields) => layer4 = protocol(fields),
            _ => {}
        }
    }
    let (proto, from, to) = layer4?;
    Some(Tuple {
        proto,
        src: SocketAddr::new(addresses.0?, from),
        dst: SocketAddr::new(addresses.1?, to),
    })
}

/// Protocol and both ports; ICMP has its echo identifier in place of each.
fn protocol(fields: &[ProtoTuple]) -> Option<(Proto, u16, u16)> {
    let (mut proto, mut from, mut to) = (None, 0, 0);
    for field in fields {
        match field {
            ProtoTuple::Protocol(number) => proto = Some(Proto((*number).into())),
            ProtoTuple::SourcePort(port) => from = *port,
            ProtoTuple::DestinationPort(port) => to = *port,
            ProtoTuple::Other(raw)
                if matches!(raw.kind(), CTA_PROTO_ICMP_ID | CTA_PROTO_ICMPV6_ID) =>
            {
                from = number(raw)?;
                to = from;
            }
            _ => {}
        }
    }
    Some((proto?, from, to))
}

fn number(raw: &DefaultNla) -> Option<u16> {
    let mut bytes = [0; 2];
    if raw.value_len() != bytes.len() {
        return None;
    }
    raw.emit_value(&mut bytes);
    Some(u16::from_be_bytes(bytes))
}

#[cfg(test)]
#[path = "conntrack_tests.rs"]
mod tests;
