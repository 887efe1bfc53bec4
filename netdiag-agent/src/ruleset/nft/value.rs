//! Right-hand sides: the values a field is compared with.

use std::net::IpAddr;

use serde_json::Value;

use super::super::facts::AddressType;
use super::super::iptables::protocol;
use super::super::matching::number as address_number;
use super::super::model::{Element, Pattern, ct};

/// How the words of a value are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Address,
    Protocol,
    Number,
    Interface,
    CtState,
    CtStatus,
    CtDirection,
    TcpFlags,
    IcmpType,
    Icmp6Type,
    AddressType,
    /// `nfproto`, `protocol`: 4 or 6.
    Version,
    Other,
}

/// Of the `type` of a set: one word, a list of them, or an expression (`typeof`).
pub fn kinds(of: &Value) -> Vec<Kind> {
    match of {
        Value::String(name) => vec![kind(name)],
        Value::Array(names) => names
            .iter()
            .map(|name| name.as_str().map_or(Kind::Other, kind))
            .collect(),
        other => {
            let of = other.get("typeof").unwrap_or(other);
            super::expr::key(of)
                .into_iter()
                .map(|part| part.kind)
                .collect()
        }
    }
}

fn kind(name: &str) -> Kind {
    match name {
        "ipv4_addr" | "ipv6_addr" => Kind::Address,
        "inet_proto" => Kind::Protocol,
        "inet_service" | "mark" | "integer" => Kind::Number,
        "ifname" | "iface_index" => Kind::Interface,
        "ct_state" => Kind::CtState,
        "ct_status" => Kind::CtStatus,
        "ct_dir" => Kind::CtDirection,
        "tcp_flag" => Kind::TcpFlags,
        "icmp_type" => Kind::IcmpType,
        "icmpv6_type" => Kind::Icmp6Type,
        "fib_addrtype" => Kind::AddressType,
        "nf_proto" => Kind::Version,
        _ => Kind::Other,
    }
}

/// One member of a set or key of a map.
pub fn element(kinds: &[Kind], member: &Value) -> Element {
    let member = member
        .get("elem")
        .and_then(|elem| elem.get("val"))
        .unwrap_or(member);
    if member.as_str() == Some("*") && kinds.first() != Some(&Kind::Interface) {
        return Element(vec![Pattern::Any; kinds.len().max(1)]);
    }
    match member.get("concat").and_then(Value::as_array) {
        Some(parts) => {
            let kinds = kinds.iter().copied().chain(std::iter::repeat(Kind::Other));
            Element(
                parts
                    .iter()
                    .zip(kinds)
                    .map(|(part, kind)| pattern(kind, part))
                    .collect(),
            )
        }
        None => Element::one(pattern(
            kinds.first().copied().unwrap_or(Kind::Other),
            member,
        )),
    }
}

pub fn pattern(kind: Kind, value: &Value) -> Pattern {
    if let Some(val) = value.get("elem").and_then(|elem| elem.get("val")) {
        return pattern(kind, val);
    }
    if let Some(prefix) = value.get("prefix") {
        return network(prefix).unwrap_or(Pattern::Unknown);
    }
    if let Some([low, high]) = value
        .get("range")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
    {
        return match (number(kind, low), number(kind, high)) {
            // nft 1.0.6 joins `<` of one field and `>` of the next to a range that is none.
            (Some(low), Some(high)) if low <= high => Pattern::Range(low, high),
            _ => Pattern::Unknown,
        };
    }
    if kind == Kind::Interface {
        return match value.as_str() {
            Some(name) => name.strip_suffix('*').map_or_else(
                || Pattern::Name(name.to_owned()),
                |prefix| Pattern::NamePrefix(prefix.to_owned()),
            ),
            None => Pattern::Unknown,
        };
    }
    number(kind, value).map_or(Pattern::Unknown, |number| Pattern::Range(number, number))
}

fn network(prefix: &Value) -> Option<Pattern> {
    let address: IpAddr = prefix.get("addr")?.as_str()?.parse().ok()?;
    let length = prefix.get("len")?.as_u64()? as u32;
    let width = if address.is_ipv4() { 32 } else { 128 };
    let hosts = match width - length.min(width) {
        0 => 0,
        bits => u128::MAX >> (128 - bits),
    };
    let low = address_number(address) & !hosts;
    Some(Pattern::Range(low, low | hosts))
}

/// One number, or several flags in one.
pub fn number(kind: Kind, value: &Value) -> Option<u128> {
    match value {
        Value::Number(number) => number.as_u64().map(u128::from),
        Value::String(word) => named(kind, word),
        Value::Array(flags) => flags
            .iter()
            .try_fold(0, |all, flag| Some(all | number(kind, flag)?)),
        Value::Object(_) => value.get("|").and_then(|flags| number(kind, flags)),
        _ => None,
    }
}

fn named(kind: Kind, word: &str) -> Option<u128> {
    match kind {
        Kind::Address => word.parse().ok().map(address_number),
        Kind::Protocol => protocol(word).map(u128::from),
        Kind::CtState => Some(match word {
            "invalid" => ct::INVALID,
            "established" => ct::ESTABLISHED,
            "related" => ct::RELATED,
            "new" => ct::NEW,
            "untracked" => ct::UNTRACKED,
            _ => return None,
        }),
        Kind::CtStatus => bit_of(word, CT_STATUS),
        Kind::CtDirection => match word {
            "original" => Some(0),
            "reply" => Some(1),
            _ => None,
        },
        Kind::TcpFlags => bit_of(word, TCP_FLAGS),
        Kind::IcmpType => index_of(word, ICMP_TYPES),
        Kind::Icmp6Type => index_of(word, ICMP6_TYPES),
        Kind::AddressType => AddressType::from_name(word).map(|kind| kind as u128),
        Kind::Version => match word {
            "ipv4" | "ip" => Some(4),
            "ipv6" | "ip6" => Some(6),
            _ => None,
        },
        Kind::Number => word.parse().ok(),
        Kind::Interface | Kind::Other => None,
    }
}

fn bit_of(word: &str, names: &[&str]) -> Option<u128> {
    names
        .iter()
        .position(|name| *name == word)
        .map(|at| 1 << at)
}

fn index_of(word: &str, names: &[(&str, u8)]) -> Option<u128> {
    names
        .iter()
        .find(|(name, _)| *name == word)
        .map(|(_, number)| u128::from(*number))
}

/// Names of bits, from the lowest, as nft prints them.
pub const TCP_FLAGS: &[&str] = &["fin", "syn", "rst", "psh", "ack", "urg", "ecn", "cwr"];

/// `enum ip_conntrack_status`, as [`TCP_FLAGS`].
pub const CT_STATUS: &[&str] = &[
    "expected",
    "seen-reply",
    "assured",
    "confirmed",
    "snat",
    "dnat",
    "seq-adjust",
    "snat-done",
    "dnat-done",
    "dying",
];

/// Spelt as nft prints them.
pub const ICMP_TYPES: &[(&str, u8)] = &[
    ("echo-reply", 0),
    ("destination-unreachable", 3),
    ("source-quench", 4),
    ("redirect", 5),
    ("echo-request", 8),
    ("router-advertisement", 9),
    ("router-solicitation", 10),
    ("time-exceeded", 11),
    ("parameter-problem", 12),
    ("timestamp-request", 13),
    ("timestamp-reply", 14),
    ("info-request", 15),
    ("info-reply", 16),
    ("address-mask-request", 17),
    ("address-mask-reply", 18),
];

pub const ICMP6_TYPES: &[(&str, u8)] = &[
    ("destination-unreachable", 1),
    ("packet-too-big", 2),
    ("time-exceeded", 3),
    ("parameter-problem", 4),
    ("echo-request", 128),
    ("echo-reply", 129),
    ("mld-listener-query", 130),
    ("mld-listener-report", 131),
    ("mld-listener-done", 132),
    ("mld-listener-reduction", 132),
    ("nd-router-solicit", 133),
    ("nd-router-advert", 134),
    ("nd-neighbor-solicit", 135),
    ("nd-neighbor-advert", 136),
    ("nd-redirect", 137),
    ("router-renumbering", 138),
    ("ind-neighbor-solicit", 141),
    ("ind-neighbor-advert", 142),
    ("mld2-listener-report", 143),
];
