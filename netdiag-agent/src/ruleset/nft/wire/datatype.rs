//! Types of values: how nft numbers, sizes and spells them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::{Value, json};

use super::super::super::iptables::protocol_name;
use super::super::value::{CT_STATUS, ICMP_TYPES, ICMP6_TYPES, TCP_FLAGS};

/// Names of a namespace's interfaces: rules hold numbers where they say `iif`.
pub type Interfaces = BTreeMap<u32, String>;

/// In which order the bytes of a number stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Network,
    Host,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Type {
    /// nft's own number of it, which sets carry; part of its format, so never changed.
    id: u32,
    pub name: &'static str,
    /// Bytes; 0: as many as the set says.
    pub size: usize,
    pub order: Order,
    words: Words,
}

/// How a value is spelt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Words {
    Number,
    Address,
    Name,
    Index,
    Protocol,
    Boolean,
    Named(&'static [(&'static str, u8)]),
    EtherType,
    Bits(&'static [&'static str]),
    CtState,
    Other,
}

const fn of(id: u32, name: &'static str, size: usize, order: Order, words: Words) -> Type {
    Type {
        id,
        name,
        size,
        order,
        words,
    }
}

use Order::{Host, Network};

pub static INTEGER: Type = of(4, "integer", 0, Network, Words::Number);
pub static HOST_INTEGER: Type = of(4, "integer", 0, Host, Words::Number);
pub static IPV4: Type = of(7, "ipv4_addr", 4, Network, Words::Address);
pub static IPV6: Type = of(8, "ipv6_addr", 16, Network, Words::Address);
pub static ETHER_TYPE: Type = of(10, "ether_type", 2, Network, Words::EtherType);
pub static PROTOCOL: Type = of(12, "inet_proto", 1, Network, Words::Protocol);
pub static PORT: Type = of(13, "inet_service", 2, Network, Words::Number);
pub static ICMP: Type = of(14, "icmp_type", 1, Network, Words::Named(ICMP_TYPES));
pub static TCP_FLAG: Type = of(15, "tcp_flag", 1, Network, Words::Bits(TCP_FLAGS));
pub static MARK: Type = of(19, "mark", 4, Host, Words::Number);
pub static IFINDEX: Type = of(20, "iface_index", 4, Host, Words::Index);
pub static CT_STATE: Type = of(26, "ct_state", 4, Host, Words::CtState);
pub static CT_DIR: Type = of(
    27,
    "ct_dir",
    1,
    Host,
    Words::Named(&[("original", 0), ("reply", 1)]),
);
pub static CT_STATUS_BITS: Type = of(28, "ct_status", 4, Host, Words::Bits(CT_STATUS));
pub static ICMP6: Type = of(29, "icmpv6_type", 1, Network, Words::Named(ICMP6_TYPES));
pub static DSCP: Type = of(36, "dscp", 0, Network, Words::Number);
pub static FIB_TYPE: Type = of(38, "fib_addrtype", 4, Host, Words::Named(ADDRESS_TYPES));
pub static IFNAME: Type = of(41, "ifname", 16, Host, Words::Name);
pub static NF_PROTO: Type = of(
    2,
    "nf_proto",
    1,
    Host,
    Words::Named(&[("ipv4", 2), ("ipv6", 10)]),
);
pub static BOOLEAN: Type = of(39, "boolean", 1, Host, Words::Boolean);
pub static PACKET_TYPE: Type = of(
    31,
    "pkt_type",
    1,
    Host,
    Words::Named(&[
        ("host", 0),
        ("broadcast", 1),
        ("multicast", 2),
        ("other", 3),
    ]),
);
static UNKNOWN: Type = of(0, "unknown", 0, Network, Words::Other);

static ALL: &[&Type] = &[
    &INTEGER,
    &IPV4,
    &IPV6,
    &ETHER_TYPE,
    &PROTOCOL,
    &PORT,
    &ICMP,
    &TCP_FLAG,
    &MARK,
    &IFINDEX,
    &CT_STATE,
    &CT_DIR,
    &CT_STATUS_BITS,
    &ICMP6,
    &DSCP,
    &FIB_TYPE,
    &IFNAME,
    &NF_PROTO,
    &BOOLEAN,
    &PACKET_TYPE,
];

/// `RTN_*` by the names nft prints.
const ADDRESS_TYPES: &[(&str, u8)] = &[
    ("unspec", 0),
    ("unicast", 1),
    ("local", 2),
    ("broadcast", 3),
    ("anycast", 4),
    ("multicast", 5),
    ("blackhole", 6),
    ("unreachable", 7),
    ("prohibit", 8),
];

/// Numbered by bit as nft does; see `ruleset::model::ct`.
const CT_STATES: &[&str] = &[
    "invalid",
    "established",
    "related",
    "new",
    "",
    "",
    "untracked",
];

/// The types of a set's key: a concatenation has six bits for each part, the last one lowest.
pub fn types(id: u32) -> Vec<&'static Type> {
    let one = |id| {
        ALL.iter()
            .find(|known| known.id == id)
            .copied()
            .unwrap_or(&UNKNOWN)
    };
    let parts = (0..5).rev().map(|part| id >> (6 * part) & 0x3f);
    let found: Vec<_> = parts.skip_while(|id| *id == 0).map(one).collect();
    if found.is_empty() {
        vec![&UNKNOWN]
    } else {
        found
    }
}

/// As [`types`], with integers in the order the set says its keys are in.
pub fn ordered(id: u32, host: bool) -> Vec<&'static Type> {
    let mut found = types(id);
    for of in &mut found {
        if host && **of == INTEGER {
            *of = &HOST_INTEGER;
        }
    }
    found
}

/// Bytes as a number.
pub fn number(bytes: &[u8], order: Order) -> Option<u128> {
    if bytes.len() > 16 {
        return None;
    }
    let add = |number, byte: &u8| number << 8 | u128::from(*byte);
    Some(match order {
        Host if cfg!(target_endian = "little") => bytes.iter().rev().fold(0, add),
        _ => bytes.iter().fold(0, add),
    })
}

impl Type {
    /// Its values are sets of bits.
    pub fn is_flags(&self) -> bool {
        matches!(self.words, Words::Bits(_) | Words::CtState)
    }

    pub fn is_address(&self) -> bool {
        self.words == Words::Address
    }

    pub fn is_name(&self) -> bool {
        self.words == Words::Name
    }

    /// One value as nft's JSON has it; null, which no reader understands, where the form is not known.
    pub fn spell(&self, bytes: &[u8], order: Order, interfaces: &Interfaces) -> Value {
        match self.words {
            Words::Name => return name(bytes),
            Words::Address => return address(bytes).map_or(Value::Null, |a| json!(a.to_string())),
            Words::Other => return Value::Null,
            _ => {}
        }
        number(bytes, order).map_or(Value::Null, |number| self.spell_number(number, interfaces))
    }

    fn spell_number(&self, number: u128, interfaces: &Interfaces) -> Value {
        let plain = || u64::try_from(number).map_or(Value::Null, |number| json!(number));
        let word = match self.words {
            Words::Index => interfaces.get(&(number as u32)).map(String::as_str),
            Words::Protocol => protocol_name(number as u8),
            Words::Boolean => return json!(number != 0),
            Words::Named(names) => names
                .iter()
                .find(|(_, known)| u128::from(*known) == number)
                .map(|(name, _)| *name),
            Words::EtherType => match number {
                0x0800 => Some("ip"),
                0x86dd => Some("ip6"),
                0x0806 => Some("arp"),
                _ => None,
            },
            Words::Bits(names) => return flags(number, names).unwrap_or_else(plain),
            Words::CtState => return flags(number, CT_STATES).unwrap_or_else(plain),
            _ => None,
        };
        word.map_or_else(plain, |word| json!(word))
    }
}

/// One flag by name, several as a list; `None` when a bit has no name.
fn flags(bits: u128, names: &[&str]) -> Option<Value> {
    let known: Vec<_> = names
        .iter()
        .enumerate()
        .filter(|(bit, name)| bits & (1 << bit) != 0 && !name.is_empty())
        .collect();
    if bits == 0 || known.iter().map(|(bit, _)| 1 << bit).sum::<u128>() != bits {
        return None;
    }
    let mut words: Vec<Value> = known.into_iter().map(|(_, name)| json!(name)).collect();
    Some(if words.len() == 1 {
        words.remove(0)
    } else {
        words.into()
    })
}

/// `eth0`; without the closing NUL it is the beginning of one, `eth*`.
fn name(bytes: &[u8]) -> Value {
    let end = bytes.iter().position(|byte| *byte == 0);
    let Ok(text) = std::str::from_utf8(&bytes[..end.unwrap_or(bytes.len())]) else {
        return Value::Null;
    };
    match end {
        Some(_) => json!(text),
        None if bytes.len() >= 16 => Value::Null,
        None => json!(format!("{text}*")),
    }
}

pub fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(Ipv4Addr::from(v4).into());
    }
    let v6 = <[u8; 16]>::try_from(bytes).ok()?;
    Some(Ipv6Addr::from(v6).into())
}

/// The beginning of an address, as `{"prefix": …}`.
pub fn prefix(bytes: &[u8], length: u32) -> Option<Value> {
    address(bytes).map(|address| json!({"prefix": {"addr": address.to_string(), "len": length}}))
}

/// How many leading bits a mask has, when it has only those.
pub fn prefix_length(mask: &[u8]) -> Option<u32> {
    let ones = number(mask, Network)?;
    let bits = 8 * mask.len() as u32;
    // An empty mask has no bits to move up.
    let length = ones.checked_shl(128 - bits).unwrap_or(0).leading_ones();
    (ones.count_ones() == length).then_some(length)
}

#[cfg(test)]
mod tests {
    use super::prefix_length;

    #[test]
    fn masks_of_any_length_have_a_prefix_or_none() {
        assert_eq!(prefix_length(&[]), Some(0));
        assert_eq!(prefix_length(&[0; 4]), Some(0));
        assert_eq!(prefix_length(&[0xff, 0xf0, 0, 0]), Some(12));
        assert_eq!(prefix_length(&[0xff; 16]), Some(128));
        assert_eq!(prefix_length(&[0xff, 0x0f]), None);
        assert_eq!(prefix_length(&[0xff; 17]), None);
    }
}
