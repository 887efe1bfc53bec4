//! Where the fields of headers stand, and what `meta` and `ct` call theirs.

use serde_json::{Value, json};

use super::datatype::{
    BOOLEAN, CT_DIR, CT_STATE, CT_STATUS_BITS, DSCP, ETHER_TYPE, FIB_TYPE, HOST_INTEGER, ICMP,
    ICMP6, IFINDEX, IFNAME, INTEGER, IPV4, IPV6, MARK, NF_PROTO, PACKET_TYPE, PORT, PROTOCOL,
    TCP_FLAG, Type,
};

/// `enum nft_payload_bases`
pub const NETWORK: u32 = 1;
pub const TRANSPORT: u32 = 2;

/// `NFPROTO_IPV6`
pub const VERSION_6: u8 = 10;

/// A field of a header: name, first byte, bytes, type.
type Field = (&'static str, u32, u32, &'static Type);

static IP: &[Field] = &[
    ("dscp", 1, 1, &DSCP),
    ("length", 2, 2, &INTEGER),
    ("id", 4, 2, &INTEGER),
    ("frag-off", 6, 2, &INTEGER),
    ("ttl", 8, 1, &INTEGER),
    ("protocol", 9, 1, &PROTOCOL),
    ("checksum", 10, 2, &INTEGER),
    ("saddr", 12, 4, &IPV4),
    ("daddr", 16, 4, &IPV4),
];
static IP6: &[Field] = &[
    ("dscp", 0, 2, &DSCP),
    ("length", 4, 2, &INTEGER),
    ("nexthdr", 6, 1, &PROTOCOL),
    ("hoplimit", 7, 1, &INTEGER),
    ("saddr", 8, 16, &IPV6),
    ("daddr", 24, 16, &IPV6),
];
static PORTS: &[Field] = &[("sport", 0, 2, &PORT), ("dport", 2, 2, &PORT)];
static TCP: &[Field] = &[
    ("sport", 0, 2, &PORT),
    ("dport", 2, 2, &PORT),
    ("sequence", 4, 4, &INTEGER),
    ("ackseq", 8, 4, &INTEGER),
    ("flags", 13, 1, &TCP_FLAG),
    ("window", 14, 2, &INTEGER),
];
static ICMP4: &[Field] = &[
    ("type", 0, 1, &ICMP),
    ("code", 1, 1, &INTEGER),
    ("id", 4, 2, &INTEGER),
];
static ICMPV6: &[Field] = &[
    ("type", 0, 1, &ICMP6),
    ("code", 1, 1, &INTEGER),
    ("id", 4, 2, &INTEGER),
];

/// Options of TCP by number, with what nft can read of each.
static OPTIONS: &[(u8, &str, &[Field])] = &[
    (2, "maxseg", &[("size", 2, 2, &INTEGER)]),
    (3, "window", &[("count", 2, 1, &INTEGER)]),
    (4, "sack-perm", &[]),
    (5, "sack", &[]),
    (
        8,
        "timestamp",
        &[("tsval", 2, 4, &INTEGER), ("tsecr", 6, 4, &INTEGER)],
    ),
];

/// What the matches in front have said of the packet.
#[derive(Clone, Copy, Debug, Default)]
pub struct Protocols {
    /// `NFPROTO_IPV4` or `NFPROTO_IPV6`.
    pub network: Option<u8>,
    /// IP protocol number.
    pub transport: Option<u8>,
}

impl Protocols {
    fn header(self, base: u32) -> Option<(&'static str, &'static [Field])> {
        match (base, self.network, self.transport) {
            (NETWORK, Some(2), _) => Some(("ip", IP)),
            (NETWORK, Some(10), _) => Some(("ip6", IP6)),
            (TRANSPORT, _, Some(6)) => Some(("tcp", TCP)),
            (TRANSPORT, _, Some(17)) => Some(("udp", PORTS)),
            (TRANSPORT, _, Some(33)) => Some(("dccp", PORTS)),
            (TRANSPORT, _, Some(132)) => Some(("sctp", PORTS)),
            (TRANSPORT, _, Some(136)) => Some(("udplite", PORTS)),
            (TRANSPORT, _, Some(1)) => Some(("icmp", ICMP4)),
            (TRANSPORT, _, Some(58)) => Some(("icmpv6", ICMPV6)),
            (TRANSPORT, _, None) => Some(("th", PORTS)),
            _ => None,
        }
    }
}

/// A field, or its beginning, as a packet's bytes hold it.
#[derive(Clone, Debug)]
pub struct Part {
    pub left: Value,
    pub of: &'static Type,
    pub size: usize,
}

/// The fields that these bytes of a header are, one after the other; `None` when they are not fields of known names.
pub fn payload(known: Protocols, base: u32, offset: u32, length: u32) -> Option<Vec<Part>> {
    let (protocol, fields) = known.header(base)?;
    let mut parts = Vec::new();
    let mut at = offset;
    while at < offset + length {
        let (name, _, size, of) = *fields.iter().find(|(_, first, ..)| *first == at)?;
        // Only addresses are read in part: a prefix of whole bytes.
        let rest = offset + length - at;
        if rest < size && !of.is_address() {
            return None;
        }
        parts.push(Part {
            left: json!({"payload": {"protocol": protocol, "field": name}}),
            of,
            size: rest.min(size) as usize,
        });
        at += size;
    }
    Some(parts)
}

/// The field of a TCP option.
pub fn tcp_option(kind: u8, offset: u32, length: u32) -> Option<Part> {
    let (_, option, fields) = OPTIONS.iter().find(|(known, ..)| *known == kind)?;
    let mut fields = fields.iter();
    let (field, _, size, of) =
        *fields.find(|(_, first, size, _)| (*first, *size) == (offset, length))?;
    Some(Part {
        left: json!({"tcp option": {"name": option, "field": field}}),
        of,
        size: size as usize,
    })
}

/// Whether a packet has a TCP option.
pub fn has_tcp_option(kind: u8) -> Option<Part> {
    let (_, option, _) = OPTIONS.iter().find(|(known, ..)| *known == kind)?;
    Some(Part {
        left: json!({"tcp option": {"name": option}}),
        of: &BOOLEAN,
        size: 1,
    })
}

/// Bytes without a name.
pub fn raw(base: u32, offset: u32, length: u32) -> Part {
    let base = match base {
        0 => "ll",
        NETWORK => "nh",
        TRANSPORT => "th",
        _ => "ih",
    };
    Part {
        left: json!({"payload": {"base": base, "offset": 8 * offset, "len": 8 * length}}),
        of: &INTEGER,
        size: length as usize,
    }
}

/// `enum nft_meta_keys`
pub const META_PROTOCOL: u32 = 1;
pub const META_NFPROTO: u32 = 15;
pub const META_L4PROTO: u32 = 16;

pub fn meta(key: u32) -> Option<Part> {
    let (name, of, size): (_, &'static Type, _) = match key {
        0 => ("length", &HOST_INTEGER, 4),
        META_PROTOCOL => ("protocol", &ETHER_TYPE, 2),
        2 => ("priority", &HOST_INTEGER, 4),
        3 => ("mark", &MARK, 4),
        4 => ("iif", &IFINDEX, 4),
        5 => ("oif", &IFINDEX, 4),
        6 => ("iifname", &IFNAME, 16),
        7 => ("oifname", &IFNAME, 16),
        8 => ("iiftype", &HOST_INTEGER, 2),
        9 => ("oiftype", &HOST_INTEGER, 2),
        10 => ("skuid", &HOST_INTEGER, 4),
        11 => ("skgid", &HOST_INTEGER, 4),
        12 => ("nftrace", &HOST_INTEGER, 1),
        META_NFPROTO => ("nfproto", &NF_PROTO, 1),
        META_L4PROTO => ("l4proto", &PROTOCOL, 1),
        17 => ("ibrname", &IFNAME, 16),
        18 => ("obrname", &IFNAME, 16),
        19 => ("pkttype", &PACKET_TYPE, 1),
        20 => ("cpu", &HOST_INTEGER, 4),
        21 => ("iifgroup", &HOST_INTEGER, 4),
        22 => ("oifgroup", &HOST_INTEGER, 4),
        23 => ("cgroup", &HOST_INTEGER, 4),
        _ => return None,
    };
    Some(Part {
        left: json!({"meta": {"key": name}}),
        of,
        size,
    })
}

/// `enum nft_ct_keys`; a direction makes it the field of that direction's tuple.
pub fn ct(key: u32, direction: Option<u64>, v6: bool) -> Option<Part> {
    let (name, of, size): (_, &'static Type, _) = match key {
        0 => ("state", &CT_STATE, 4),
        1 => ("direction", &CT_DIR, 1),
        2 => ("status", &CT_STATUS_BITS, 4),
        3 => ("mark", &MARK, 4),
        7 => ("l3proto", &NF_PROTO, 1),
        8 if v6 => ("saddr", &IPV6, 16),
        8 => ("saddr", &IPV4, 4),
        9 if v6 => ("daddr", &IPV6, 16),
        9 => ("daddr", &IPV4, 4),
        10 => ("protocol", &PROTOCOL, 1),
        11 => ("proto-src", &PORT, 2),
        12 => ("proto-dst", &PORT, 2),
        14 => ("packets", &HOST_INTEGER, 8),
        15 => ("bytes", &HOST_INTEGER, 8),
        17 => ("zone", &HOST_INTEGER, 2),
        19 => ("ip saddr", &IPV4, 4),
        20 => ("ip daddr", &IPV4, 4),
        21 => ("ip6 saddr", &IPV6, 16),
        22 => ("ip6 daddr", &IPV6, 16),
        _ => return None,
    };
    let mut body = json!({"key": name});
    if let Some(direction) = direction {
        body["dir"] = json!(if direction == 0 { "original" } else { "reply" });
    }
    Some(Part {
        left: json!({ "ct": body }),
        of,
        size,
    })
}

/// `enum nft_fib_result` and its flags.
pub fn fib(result: u32, flags: u32) -> Option<Part> {
    const PRESENT: u32 = 32;
    let (name, of, size): (_, &'static Type, _) = match result {
        _ if flags & PRESENT != 0 => ("oif", &BOOLEAN, 1),
        1 => ("oif", &IFINDEX, 4),
        2 => ("oifname", &IFNAME, 16),
        3 => ("type", &FIB_TYPE, 4),
        _ => return None,
    };
    let words = ["saddr", "daddr", "mark", "iif", "oif"];
    let set: Vec<_> = words
        .iter()
        .enumerate()
        .filter(|(bit, _)| flags & (1 << bit) != 0)
        .map(|(_, word)| *word)
        .collect();
    Some(Part {
        left: json!({"fib": {"result": name, "flags": set}}),
        of,
        size,
    })
}
