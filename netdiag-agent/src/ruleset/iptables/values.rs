//! The arguments of matches and targets: addresses, ranges, marks, flags, protocols.

use std::net::IpAddr;

use super::super::matching::number;
use super::super::model::{Compare, Field, Operand, Pattern, Selector};

pub fn masked(field: Field, value: u128, mask: u128) -> Compare {
    Compare {
        key: vec![Selector { field, mask }],
        negate: false,
        operand: Operand::number(value),
    }
}

/// `10.0.0.0/8`, `10.0.0.1`, `10.0.0.1/255.0.255.0`
pub fn network(field: Field, text: &str) -> Option<Compare> {
    let (address, length) = text.split_once('/').unwrap_or((text, ""));
    let address: IpAddr = address.parse().ok()?;
    let width = if address.is_ipv4() { 32 } else { 128 };
    let all = u128::MAX >> (128 - width);
    let mask = match length.parse::<u32>() {
        _ if length.is_empty() => all,
        Ok(length) => all & !all.checked_shr(length).unwrap_or(0),
        Err(_) => number(length.parse().ok()?),
    };
    Some(masked(field, number(address) & mask, mask))
}

pub fn interface(text: &str) -> Pattern {
    match text.strip_suffix('+') {
        Some(prefix) => Pattern::NamePrefix(prefix.to_owned()),
        None => Pattern::Name(text.to_owned()),
    }
}

/// `80`, `80:90`, `:90`, `80:`
pub fn range(text: &str, separator: char) -> Option<Pattern> {
    let (low, high) = text.split_once(separator).unwrap_or((text, text));
    let end = |text: &str, open: u128| {
        if text.is_empty() {
            Some(open)
        } else {
            text.parse().ok()
        }
    };
    Some(Pattern::Range(end(low, 0)?, end(high, 65535)?))
}

/// `0x4000/0x4000` as value and mask.
pub fn mark(text: &str) -> Option<(u32, u32)> {
    let (value, mask) = text.split_once('/').unwrap_or((text, "0xffffffff"));
    let parse = |text: &str| match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    };
    Some((parse(value)?, parse(mask)?))
}

/// `FIN,SYN`, `ALL`, `NONE`
pub fn tcp_flags(list: &str) -> Option<u128> {
    bits(list, |flag| {
        Some(match flag {
            "FIN" => 0x01,
            "SYN" => 0x02,
            "RST" => 0x04,
            "PSH" => 0x08,
            "ACK" => 0x10,
            "URG" => 0x20,
            "ALL" => 0x3f,
            "NONE" => 0,
            _ => return None,
        })
    })
}

/// Names as the tools print them, each number's first; numbers of the IANA registry.
const PROTOCOLS: &[(&str, u8)] = &[
    ("icmp", 1),
    ("igmp", 2),
    ("ipencap", 4),
    ("tcp", 6),
    ("udp", 17),
    ("dccp", 33),
    ("ipv6", 41),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("ipv6-icmp", 58),
    ("icmpv6", 58),
    ("icmp6", 58),
    ("ospf", 89),
    ("pim", 103),
    ("comp", 108),
    ("ipcomp", 108),
    ("vrrp", 112),
    ("sctp", 132),
    ("mh", 135),
    ("mobility-header", 135),
    ("udplite", 136),
];

/// The number of a protocol, given by name or as a number.
pub fn protocol(name: &str) -> Option<u8> {
    let named = PROTOCOLS.iter().find(|(known, _)| *known == name);
    named.map_or_else(|| name.parse().ok(), |(_, number)| Some(*number))
}

/// The name of a protocol, where it has one here.
pub fn protocol_name(number: u8) -> Option<&'static str> {
    let named = PROTOCOLS.iter().find(|(_, known)| *known == number);
    named.map(|(name, _)| *name)
}

pub fn bits(list: &str, bit: impl Fn(&str) -> Option<u128>) -> Option<u128> {
    list.split(',')
        .map(bit)
        .try_fold(0, |all, bit| Some(all | bit?))
}
