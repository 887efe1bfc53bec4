//! Left-hand sides: the fields a packet is asked for.

use serde_json::Value;

use super::super::model::{Field, IpVersion, Selector, Transport};
use super::value::{Kind, number};

/// One part of a key, and how the values it meets are to be read.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    pub selector: Selector,
    pub kind: Kind,
    /// The header it reads belongs to packets of this version only.
    pub version: Option<IpVersion>,
}

impl Part {
    fn of(field: Field, kind: Kind) -> Self {
        Self {
            selector: Selector::whole(field),
            kind,
            version: None,
        }
    }

    fn within(field: Field, kind: Kind, version: IpVersion) -> Self {
        Self {
            version: Some(version),
            ..Self::of(field, kind)
        }
    }

    fn unknown() -> Self {
        Self::of(Field::Other, Kind::Other)
    }
}

/// The parts of a key: one, or several of a concatenation.
pub fn key(expr: &Value) -> Vec<Part> {
    match expr.get("concat").and_then(Value::as_array) {
        Some(parts) => parts.iter().map(part).collect(),
        None => vec![part(expr)],
    }
}

fn part(expr: &Value) -> Part {
    let Some((kind, body)) = expr.as_object().and_then(|object| object.iter().next()) else {
        return Part::unknown();
    };
    match kind.as_str() {
        "payload" => payload(body),
        "meta" => meta(body),
        "ct" => ct(body),
        "fib" => fib(body),
        "&" => masked(body),
        _ => None,
    }
    .unwrap_or_else(Part::unknown)
}

/// `meta mark & 0xff`
fn masked(body: &Value) -> Option<Part> {
    let [left, right] = body.as_array()?.as_slice() else {
        return None;
    };
    let mut part = part(left);
    part.selector.mask &= number(part.kind, right)?;
    Some(part)
}

fn payload(body: &Value) -> Option<Part> {
    let (protocol, field) = (
        body.get("protocol")?.as_str()?,
        body.get("field")?.as_str()?,
    );
    let (v4, v6) = (IpVersion::V4, IpVersion::V6);
    Some(match (protocol, field) {
        ("ip", "saddr") => Part::of(Field::Source(v4), Kind::Address),
        ("ip", "daddr") => Part::of(Field::Destination(v4), Kind::Address),
        ("ip", "protocol") => Part::of(Field::HeaderProtocol(v4), Kind::Protocol),
        ("ip", "ttl") => Part::within(Field::Ttl, Kind::Number, v4),
        ("ip", "length") => Part::within(Field::Length, Kind::Number, v4),
        ("ip6", "saddr") => Part::of(Field::Source(v6), Kind::Address),
        ("ip6", "daddr") => Part::of(Field::Destination(v6), Kind::Address),
        ("ip6", "nexthdr") => Part::of(Field::HeaderProtocol(v6), Kind::Protocol),
        ("ip6", "hoplimit") => Part::within(Field::Ttl, Kind::Number, v6),
        ("tcp", "flags") => Part::of(Field::TcpFlags, Kind::TcpFlags),
        ("icmp", "type") => Part::of(Field::IcmpType(v4), Kind::IcmpType),
        ("icmp", "code") => Part::of(Field::IcmpCode(v4), Kind::Number),
        ("icmpv6", "type") => Part::of(Field::IcmpType(v6), Kind::Icmp6Type),
        ("icmpv6", "code") => Part::of(Field::IcmpCode(v6), Kind::Number),
        (transport, "sport") => Part::of(Field::SourcePort(ports_of(transport)?), Kind::Number),
        (transport, "dport") => {
            Part::of(Field::DestinationPort(ports_of(transport)?), Kind::Number)
        }
        _ => return None,
    })
}

fn ports_of(protocol: &str) -> Option<Transport> {
    Some(match protocol {
        "tcp" => Transport::Of(6),
        "udp" => Transport::Of(17),
        "dccp" => Transport::Of(33),
        "sctp" => Transport::Of(132),
        "udplite" => Transport::Of(136),
        "th" => Transport::Any,
        _ => return None,
    })
}

fn meta(body: &Value) -> Option<Part> {
    Some(match body.get("key")?.as_str()? {
        "iif" | "iifname" => Part::of(Field::InInterface, Kind::Interface),
        "oif" | "oifname" => Part::of(Field::OutInterface, Kind::Interface),
        "mark" => Part::of(Field::Mark, Kind::Number),
        "l4proto" => Part::of(Field::Protocol, Kind::Protocol),
        "nfproto" | "protocol" => Part::of(Field::IpVersion, Kind::Version),
        "length" => Part::of(Field::Length, Kind::Number),
        _ => return None,
    })
}

fn ct(body: &Value) -> Option<Part> {
    let original = body.get("dir").and_then(Value::as_str) == Some("original");
    Some(match body.get("key")?.as_str()? {
        // Without iptables' virtual NAT states.
        "state" => Part {
            selector: Selector {
                field: Field::CtState,
                mask: 0xffff,
            },
            ..Part::of(Field::CtState, Kind::CtState)
        },
        "status" => Part::of(Field::CtStatus, Kind::CtStatus),
        "direction" => Part::of(Field::CtDirection, Kind::CtDirection),
        "mark" => Part::of(Field::CtMark, Kind::Number),
        "saddr" | "ip saddr" | "ip6 saddr" if original => {
            Part::of(Field::CtOriginalSource, Kind::Address)
        }
        "daddr" | "ip daddr" | "ip6 daddr" if original => {
            Part::of(Field::CtOriginalDestination, Kind::Address)
        }
        "proto-dst" if original => Part::of(Field::CtOriginalDestinationPort, Kind::Number),
        _ => return None,
    })
}

fn fib(body: &Value) -> Option<Part> {
    if body.get("result")?.as_str()? != "type" {
        return None;
    }
    let flag = match body.get("flags")? {
        Value::Array(flags) if flags.len() == 1 => flags[0].as_str()?,
        Value::String(flag) => flag,
        _ => return None,
    };
    match flag {
        "saddr" => Some(Part::of(Field::SourceType, Kind::AddressType)),
        "daddr" => Some(Part::of(Field::DestinationType, Kind::AddressType)),
        _ => None,
    }
}
