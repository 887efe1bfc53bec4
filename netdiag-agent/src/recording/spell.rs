//! How a recording spells what the kernel numbers: words where there are words, and exactly reversible.

use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::event::{CT_TCP_STATES, CtStatus, HookId, NudState, Pass, Proto, TcpFlags, Tuple};
use crate::inventory::cluster::{Kind, Network, Operator, Origin};
use crate::inventory::{NamespaceKind, Role};
use crate::ruleset::{Backend, Family, Source};

/// A value with one spelling.
pub(super) trait Spell: Sized {
    /// In the message about a text that is none.
    const WHAT: &'static str;

    fn spell(&self) -> String;
    fn read(text: &str) -> Option<Self>;
}

/// A value written as its spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Text<T>(pub T);

impl<T: Spell> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.spell())
    }
}

impl<'de, T: Spell> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reading<T>(PhantomData<T>);

        impl<T: Spell> Visitor<'_> for Reading<T> {
            type Value = Text<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(T::WHAT)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                T::read(text)
                    .map(Text)
                    .ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(Reading(PhantomData))
    }
}

/// `iptables-nft ip`, `iptables-legacy ip6`, `nft`, `ipset`.
impl Spell for Source {
    const WHAT: &'static str = "the source of a listing";

    fn spell(&self) -> String {
        match self {
            Self::Iptables(backend, family) => {
                format!("iptables-{} {}", backend.name(), family.name())
            }
            Self::Nft => "nft".to_owned(),
            Self::Ipset => "ipset".to_owned(),
        }
    }

    fn read(text: &str) -> Option<Self> {
        match text {
            "nft" => return Some(Self::Nft),
            "ipset" => return Some(Self::Ipset),
            _ => {}
        }
        let (backend, family) = text.strip_prefix("iptables-")?.split_once(' ')?;
        let backend = match backend {
            "nft" => Backend::IptablesNft,
            "legacy" => Backend::Legacy,
            _ => return None,
        };
        Some(Self::Iptables(backend, Family::from_name(family)?))
    }
}

/// `A|B|0x40`: names of the set bits, then what has no name.
fn spell_bits(bits: u32, names: &[(u32, &str)]) -> String {
    let mut parts: Vec<String> = names
        .iter()
        .filter(|(bit, _)| bits & bit != 0)
        .map(|(_, name)| (*name).to_owned())
        .collect();
    let rest = names.iter().fold(bits, |rest, (bit, _)| rest & !bit);
    if rest != 0 || parts.is_empty() {
        parts.push(format!("{rest:#x}"));
    }
    parts.join("|")
}

fn read_bits(text: &str, names: &[(u32, &str)]) -> Option<u32> {
    text.split('|').try_fold(0, |bits, part| {
        let bit = match part.strip_prefix("0x") {
            Some(digits) => read_hex(digits)?.try_into().ok()?,
            None => names.iter().find(|(_, name)| *name == part)?.0,
        };
        Some(bits | bit)
    })
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Digits only: the standard library would take a sign.
fn read_hex(digits: &str) -> Option<u64> {
    digits
        .bytes()
        .all(|digit| digit.is_ascii_hexdigit())
        .then(|| u64::from_str_radix(digits, 16).ok())?
}

/// The name at this position, or the number.
fn spell_number(number: u8, names: &[&str]) -> String {
    names
        .get(usize::from(number))
        .map_or_else(|| number.to_string(), |name| (*name).to_owned())
}

fn read_number(text: &str, names: &[&str]) -> Option<u8> {
    names
        .iter()
        .position(|name| *name == text)
        .map_or_else(|| text.parse().ok(), |at| u8::try_from(at).ok())
}

const TCP_FLAGS: &[(u32, &str)] = &[
    (0x01, "FIN"),
    (0x02, "SYN"),
    (0x04, "RST"),
    (0x08, "PSH"),
    (0x10, "ACK"),
    (0x20, "URG"),
    (0x40, "ECE"),
    (0x80, "CWR"),
];

/// `IPS_*` of `linux/netfilter/nf_conntrack_common.h`.
const CT_STATUS: &[(u32, &str)] = &[
    (1 << 0, "EXPECTED"),
    (1 << 1, "SEEN_REPLY"),
    (1 << 2, "ASSURED"),
    (1 << 3, "CONFIRMED"),
    (1 << 4, "SRC_NAT"),
    (1 << 5, "DST_NAT"),
    (1 << 6, "SEQ_ADJUST"),
    (1 << 7, "SRC_NAT_DONE"),
    (1 << 8, "DST_NAT_DONE"),
    (1 << 9, "DYING"),
    (1 << 10, "FIXED_TIMEOUT"),
    (1 << 11, "TEMPLATE"),
    (1 << 12, "NAT_CLASH"),
    (1 << 13, "HELPER"),
    (1 << 14, "OFFLOAD"),
    (1 << 15, "HW_OFFLOAD"),
];

/// `NUD_*` of `linux/neighbour.h`.
const NUD: &[(u32, &str)] = &[
    (0x01, "INCOMPLETE"),
    (0x02, "REACHABLE"),
    (0x04, "STALE"),
    (0x08, "DELAY"),
    (0x10, "PROBE"),
    (0x20, "FAILED"),
    (0x40, "NOARP"),
    (0x80, "PERMANENT"),
];

/// The kernel's `enum` of `net/tcp_states.h`; 0 is none of them.
const TCP_STATES: &[&str] = &[
    "NONE",
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
    "NEW_SYN_RECV",
    "BOUND_INACTIVE",
];

macro_rules! spell_as {
    ($type:ty, $what:literal, $spell:expr, $read:expr) => {
        impl Spell for $type {
            const WHAT: &'static str = $what;

            fn spell(&self) -> String {
                let spell: fn(&Self) -> String = $spell;
                spell(self)
            }

            fn read(text: &str) -> Option<Self> {
                let read: fn(&str) -> Option<Self> = $read;
                read(text)
            }
        }
    };
}

/// Number of a `net/tcp_states.h` state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TcpState(pub u8);

/// Number of an `enum tcp_conntrack` state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CtTcpState(pub u8);

/// A kernel address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address(pub u64);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bytes(pub Vec<u8>);

spell_as!(
    TcpState,
    "a TCP state",
    |state| spell_number(state.0, TCP_STATES),
    |text| { read_number(text, TCP_STATES).map(Self) }
);
spell_as!(
    CtTcpState,
    "a conntrack TCP state",
    |state| spell_number(state.0, CT_TCP_STATES),
    |text| { read_number(text, CT_TCP_STATES).map(Self) }
);
spell_as!(
    TcpFlags,
    "TCP flags",
    |flags| spell_bits(flags.0.into(), TCP_FLAGS),
    |text| { read_bits(text, TCP_FLAGS)?.try_into().ok().map(Self) }
);
spell_as!(
    CtStatus,
    "conntrack status bits",
    |status| spell_bits(status.0, CT_STATUS),
    |text| { read_bits(text, CT_STATUS).map(Self) }
);
spell_as!(
    NudState,
    "neighbour state bits",
    |state| spell_bits(state.0.into(), NUD),
    |text| { read_bits(text, NUD)?.try_into().ok().map(Self) }
);
spell_as!(
    Address,
    "a kernel address such as 0xffff8880",
    |address| format!("{:#x}", address.0),
    |text| { read_hex(text.strip_prefix("0x")?).map(Self) }
);
spell_as!(
    HookId,
    "a hook of this netdiag",
    |hook| hook.name().to_owned(),
    |text| { Self::ALL.iter().copied().find(|hook| hook.name() == text) }
);
spell_as!(Proto, "a protocol", |proto| spell_proto(*proto), read_proto);
spell_as!(
    Tuple,
    "a tuple such as 'tcp 192.0.2.1:5 > 192.0.2.2:80'",
    |tuple| format!("{} {} > {}", spell_proto(tuple.proto), tuple.src, tuple.dst),
    |text| {
        let (proto, ends) = text.split_once(' ')?;
        let (src, dst) = ends.split_once(" > ")?;
        let end = |text: &str| text.parse::<SocketAddr>().ok();
        Some(Self {
            proto: read_proto(proto)?,
            src: end(src)?,
            dst: end(dst)?,
        })
    }
);
spell_as!(
    Bytes,
    "bytes in hexadecimal",
    |bytes| {
        let digits =
            |byte: &u8| [byte >> 4, byte & 0xf].map(|digit| char::from(HEX[usize::from(digit)]));
        bytes.0.iter().flat_map(digits).collect()
    },
    |text| {
        let pairs = text.as_bytes().chunks(2).map(|pair| match pair {
            [_, _] => read_hex(str::from_utf8(pair).ok()?)?.try_into().ok(),
            _ => None,
        });
        pairs.collect::<Option<Vec<u8>>>().map(Self)
    }
);

fn spell_proto(proto: Proto) -> String {
    match proto {
        Proto::ICMP | Proto::TCP | Proto::UDP | Proto::ICMPV6 => proto.to_string(),
        Proto(number) => number.to_string(),
    }
}

fn read_proto(text: &str) -> Option<Proto> {
    let named = [Proto::ICMP, Proto::TCP, Proto::UDP, Proto::ICMPV6].into_iter();
    named
        .into_iter()
        .find(|proto| proto.to_string() == text)
        .or_else(|| text.parse().ok().map(Proto))
}

/// A closed set of words.
macro_rules! spell_words {
    ($type:ty, $what:literal, $($value:ident = $word:literal),*) => {
        impl Spell for $type {
            const WHAT: &'static str = $what;

            fn spell(&self) -> String {
                match self { $(Self::$value => $word,)* }.to_owned()
            }

            fn read(text: &str) -> Option<Self> {
                match text { $($word => Some(Self::$value),)* _ => None }
            }
        }
    };
}

spell_words!(
    Pass,
    "received or sent",
    Received = "received",
    Sent = "sent"
);
spell_words!(NamespaceKind, "node or pod", Node = "node", Pod = "pod");
spell_words!(
    Role,
    "a role of an interface",
    PodVeth = "pod_veth",
    Uplink = "uplink",
    Bridge = "bridge",
    Tunnel = "tunnel",
    Loopback = "loopback",
    PodInterface = "pod_interface",
    Other = "other"
);
spell_words!(Origin, "api or runtime", Api = "api", Runtime = "runtime");
spell_words!(
    Operator,
    "an operator of a label selector",
    In = "In",
    NotIn = "NotIn",
    Exists = "Exists",
    DoesNotExist = "DoesNotExist"
);
spell_words!(
    Kind,
    "a kind of object",
    OwnPods = "own_pods",
    Pods = "pods",
    Services = "services",
    Slices = "slices",
    Policies = "policies",
    Namespaces = "namespaces",
    Machines = "machines",
    MasqueradeConfig = "masquerade_config"
);
spell_as!(
    Network,
    "a network such as 10.0.0.0/8",
    |network| network.to_string(),
    |text| text.parse().ok()
);
