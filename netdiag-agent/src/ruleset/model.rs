//! One model for the three ways a packet filter is written: nft, iptables on nft, iptables on xtables.
//!
//! A rule is a list of [`Step`]s and a [`Target`]. Everything a packet can be asked reduces to one test, [`Compare`]:
//! fields, masked, joined to a key, looked up in a set of patterns. What does not reduce is [`Match::Unknown`], and
//! the evaluator takes it as such.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

pub use super::basics::{Backend, Family, Hook, Tri};

/// Everything read of one network namespace.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ruleset {
    pub tables: Vec<Table>,
    /// Members of the ipsets `-m set` names, where they were read.
    pub ipsets: BTreeMap<String, Set>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    pub backend: Backend,
    pub family: Family,
    pub name: String,
    /// Its chains are not registered with the kernel's hooks.
    pub dormant: Tri,
    pub sets: BTreeMap<String, Set>,
    pub maps: BTreeMap<String, Map>,
    chains: Vec<Chain>,
    index: HashMap<String, usize>,
}

impl Table {
    pub fn new(backend: Backend, family: Family, name: impl Into<String>) -> Self {
        Self {
            backend,
            family,
            name: name.into(),
            dormant: Tri::No,
            sets: BTreeMap::new(),
            maps: BTreeMap::new(),
            chains: Vec::new(),
            index: HashMap::new(),
        }
    }

    /// Adds a chain; one of the same name is replaced.
    pub fn push(&mut self, chain: Chain) {
        if let Some(&at) = self.index.get(&chain.name) {
            self.chains[at] = chain;
        } else {
            self.index.insert(chain.name.clone(), self.chains.len());
            self.chains.push(chain);
        }
    }

    pub fn chains(&self) -> &[Chain] {
        &self.chains
    }

    pub fn chain(&self, name: &str) -> Option<&Chain> {
        self.position(name).map(|at| &self.chains[at])
    }

    pub fn chain_mut(&mut self, name: &str) -> Option<&mut Chain> {
        self.position(name).map(|at| &mut self.chains[at])
    }

    pub fn position(&self, name: &str) -> Option<usize> {
        self.index.get(name).copied()
    }

    pub fn rules(&self) -> usize {
        self.chains.iter().map(|chain| chain.rules.len()).sum()
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chain {
    pub name: String,
    pub base: Option<Base>,
    pub rules: Vec<Rule>,
}

/// How a chain hangs on a hook.
#[derive(Clone, Debug, PartialEq)]
pub struct Base {
    pub hook: Hook,
    pub priority: i32,
    /// Only new connections pass it.
    pub nat: bool,
    pub drops: bool,
    /// netdev chains: empty when the tool does not print it.
    pub devices: Vec<String>,
    /// Of the policy.
    pub counter: Option<Counter>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    pub packets: u64,
    pub bytes: u64,
}

/// How a rule is addressed by the tool that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RuleRef {
    /// Position in the chain, from 1 (iptables).
    Number(u32),
    /// nftables handle.
    Handle(u64),
}

impl fmt::Display for RuleRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "rule {number}"),
            Self::Handle(handle) => write!(f, "handle {handle}"),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub at: RuleRef,
    /// In the order the kernel works through them.
    pub steps: Vec<Step>,
    pub target: Target,
    /// Of the packets that met all matches.
    pub counter: Option<Counter>,
    /// As the tool prints it, without counters.
    pub text: String,
    pub comment: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    Match(Match),
    Effect(Effect),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Match {
    Compare(Compare),
    /// `-m set`: the named ipset holds the packet's fields.
    Ipset {
        name: String,
        key: Vec<Selector>,
        negate: bool,
    },
    /// Undecidable here; the text says what it asks.
    Unknown(String),
}

/// Is the key among the patterns?
#[derive(Clone, Debug, PartialEq)]
pub struct Compare {
    pub key: Vec<Selector>,
    pub negate: bool,
    pub operand: Operand,
}

impl Compare {
    pub fn new(field: Field, operand: Operand) -> Self {
        Self {
            key: vec![Selector::whole(field)],
            negate: false,
            operand,
        }
    }

    #[must_use]
    pub fn negated(mut self, negate: bool) -> Self {
        self.negate ^= negate;
        self
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Selector {
    pub field: Field,
    pub mask: u128,
}

impl Selector {
    pub const fn whole(field: Field) -> Self {
        Self {
            field,
            mask: u128::MAX,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    In(Vec<Element>),
    /// A named set of the same table.
    Set(String),
    /// Any of the bits (after the selector's mask) is set.
    AnyBit,
}

impl Operand {
    pub fn one(pattern: Pattern) -> Self {
        Self::In(vec![Element::one(pattern)])
    }

    pub fn number(value: u128) -> Self {
        Self::one(Pattern::Range(value, value))
    }

    pub fn any_of(patterns: impl IntoIterator<Item = Pattern>) -> Self {
        Self::In(patterns.into_iter().map(Element::one).collect())
    }
}

/// One member of a set: a pattern per part of the key.
#[derive(Clone, Debug, PartialEq)]
pub struct Element(pub Vec<Pattern>);

impl Element {
    pub fn one(pattern: Pattern) -> Self {
        Self(vec![pattern])
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Pattern {
    Any,
    /// Both ends included.
    Range(u128, u128),
    Name(String),
    /// Of interface names: `eth*`, `eth+`.
    NamePrefix(String),
    /// The parser does not know its form.
    Unknown,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Set {
    pub elements: Vec<Element>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Map {
    pub entries: Vec<Entry>,
}

/// One element of a verdict map; `Target::Unknown` in a map to anything else.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    pub element: Element,
    pub target: Target,
    pub comment: Option<String>,
    /// The key as the tool prints it.
    pub text: String,
}

/// What a packet can be asked. A field the packet does not have (a TCP port of a UDP packet) meets no test, negated or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// 4 or 6.
    IpVersion,
    Source(IpVersion),
    Destination(IpVersion),
    Protocol,
    /// The protocol field of one header, of the other version's packets absent.
    HeaderProtocol(IpVersion),
    SourcePort(Transport),
    DestinationPort(Transport),
    TcpFlags,
    IcmpType(IpVersion),
    IcmpCode(IpVersion),
    InInterface,
    OutInterface,
    /// Ports of the bridge the packet crosses.
    BridgeIn,
    BridgeOut,
    Mark,
    CtMark,
    /// Bits of [`ct`].
    CtState,
    /// `IPS_*` bits.
    CtStatus,
    /// 0 original, 1 reply.
    CtDirection,
    CtOriginalSource,
    CtOriginalDestination,
    CtOriginalDestinationPort,
    /// `RTN_*` of the address.
    SourceType,
    DestinationType,
    /// Layer 3 length.
    Length,
    Ttl,
    /// 1 for all fragments but the first.
    LaterFragment,
    /// Something not modelled: its value is never known.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IpVersion {
    V4,
    V6,
}

/// Whose port: of one protocol, or of whichever the packet has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    Any,
    Of(u8),
}

/// Bits of [`Field::CtState`], numbered as nft does; the NAT bits are iptables' virtual states.
pub mod ct {
    pub const INVALID: u128 = 1;
    pub const ESTABLISHED: u128 = 2;
    pub const RELATED: u128 = 4;
    pub const NEW: u128 = 8;
    pub const UNTRACKED: u128 = 64;
    pub const SNAT: u128 = 1 << 16;
    pub const DNAT: u128 = 1 << 17;
}

/// What a rule changes of the packet on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// `mark = (mark & and) ^ xor`
    Mark {
        and: u32,
        xor: u32,
    },
    CtMark {
        and: u32,
        xor: u32,
    },
    /// The mark takes a value not known here, in these bits.
    MarkUnknown {
        mask: u32,
    },
    CtMarkUnknown {
        mask: u32,
    },
    NoTrack,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// On to the next rule.
    Continue,
    Accept,
    Drop,
    /// With what it answers.
    Reject(String),
    Return,
    Jump(Arc<str>),
    Goto(Arc<str>),
    /// User space decides.
    Queue,
    /// Translates and accepts.
    Nat(Nat),
    /// A verdict map, by key.
    Vmap {
        key: Vec<Selector>,
        map: MapRef,
    },
    /// Takes the packet away for good, or may (SYNPROXY, a bridge's redirect …).
    Unknown(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nat {
    Source,
    Destination,
    Masquerade,
    Redirect,
}

#[derive(Clone, Debug, PartialEq)]
pub enum MapRef {
    Named(String),
    Inline(Map),
}
