//! Does this packet meet this match? Yes, no, or not to be told.

use std::net::IpAddr;

use super::facts::{AddressType, CtState, Interface, PacketFacts};
use super::model::{
    Compare, Element, Field, Hook, IpVersion, Match, Operand, Pattern, Ruleset, Selector, Table,
    Transport, Tri, ct,
};
use super::state::{Bits, CtView, State};
use crate::event::{Proto, Tuple};

/// Who asks, of what, and where.
#[derive(Clone, Copy)]
pub struct View<'a> {
    pub ruleset: &'a Ruleset,
    pub table: &'a Table,
    pub facts: &'a PacketFacts,
    pub hook: Hook,
    /// In front of this hook's NAT.
    pub before_nat: bool,
    /// The interfaces are the ports of the bridge (tables of family bridge).
    pub at_bridge: bool,
}

/// The value of a field.
enum Fact<'a> {
    Bits(Bits),
    Name(&'a str),
    Absent,
    Unknown,
}

impl Fact<'_> {
    fn number(value: impl Into<u128>) -> Self {
        Fact::Bits(Bits::known(value.into()))
    }
}

impl View<'_> {
    pub fn meets(&self, test: &Match, state: &State) -> Tri {
        match test {
            Match::Compare(compare) => self.compare(compare, state),
            Match::Ipset { name, key, negate } => match self.ruleset.ipsets.get(name) {
                Some(set) => self.among(key, *negate, &set.elements, state),
                None => Tri::Maybe,
            },
            Match::Unknown(_) => Tri::Maybe,
        }
    }

    fn compare(&self, compare: &Compare, state: &State) -> Tri {
        match &compare.operand {
            Operand::In(elements) => self.among(&compare.key, compare.negate, elements, state),
            Operand::Set(name) => match self.table.sets.get(name) {
                Some(set) => self.among(&compare.key, compare.negate, &set.elements, state),
                None => Tri::Maybe,
            },
            Operand::AnyBit => self.any_bit(&compare.key, compare.negate, state),
        }
    }

    fn among(&self, key: &[Selector], negate: bool, elements: &[Element], state: &State) -> Tri {
        let facts: Vec<_> = key
            .iter()
            .map(|selector| (self.fact(selector.field, state), selector.mask))
            .collect();
        if facts.iter().any(|(fact, _)| matches!(fact, Fact::Absent)) {
            return Tri::No;
        }
        let mut found = Tri::No;
        for element in elements {
            found = found.or(holds(element, &facts));
            if found == Tri::Yes {
                break;
            }
        }
        if negate { found.not() } else { found }
    }

    fn any_bit(&self, key: &[Selector], negate: bool, state: &State) -> Tri {
        let mut found = Tri::No;
        for selector in key {
            found = found.or(match self.fact(selector.field, state) {
                Fact::Absent => return Tri::No,
                Fact::Bits(bits) => bits.any(selector.mask),
                Fact::Name(_) | Fact::Unknown => Tri::Maybe,
            });
        }
        if negate { found.not() } else { found }
    }

    /// How each entry of a verdict map answers to the key; `None` when the packet lacks a field of the key.
    pub fn lookup<'m>(
        &self,
        key: &[Selector],
        elements: impl Iterator<Item = &'m Element>,
        state: &State,
    ) -> Option<Vec<Tri>> {
        let facts: Vec<_> = key
            .iter()
            .map(|selector| (self.fact(selector.field, state), selector.mask))
            .collect();
        if facts.iter().any(|(fact, _)| matches!(fact, Fact::Absent)) {
            return None;
        }
        Some(elements.map(|element| holds(element, &facts)).collect())
    }

    fn fact(&self, field: Field, state: &State) -> Fact<'_> {
        match field {
            Field::IpVersion => Fact::number(if self.facts.is_ipv6() { 6_u8 } else { 4 }),
            Field::Source(version) => {
                address(self.ends(state).map(|ends| ends.src), self.facts, version)
            }
            Field::Destination(version) => {
                address(self.ends(state).map(|ends| ends.dst), self.facts, version)
            }
            Field::Protocol => Fact::number(self.facts.proto.0),
            Field::HeaderProtocol(version) if version == self.version() => {
                Fact::number(self.facts.proto.0)
            }
            Field::HeaderProtocol(_) => Fact::Absent,
            Field::SourcePort(of) => self.port(of, self.ends(state).map(|ends| ends.sport)),
            Field::DestinationPort(of) => self.port(of, self.ends(state).map(|ends| ends.dport)),
            Field::TcpFlags => {
                self.of_header(Proto::TCP, self.facts.tcp_flags.map(|flags| flags.0))
            }
            Field::IcmpType(version) => {
                self.of_header(icmp(version), self.facts.icmp.map(|icmp| icmp.kind))
            }
            Field::IcmpCode(version) => {
                self.of_header(icmp(version), self.facts.icmp.map(|icmp| icmp.code))
            }
            Field::InInterface => name(if self.at_bridge {
                &self.facts.bridge_in
            } else {
                &self.facts.iif
            }),
            Field::OutInterface => name(if self.at_bridge {
                &self.facts.bridge_out
            } else {
                &self.facts.oif
            }),
            Field::BridgeIn => name(self.bridge_port(&self.facts.bridge_in)),
            Field::BridgeOut => name(self.bridge_port(&self.facts.bridge_out)),
            Field::Mark => Fact::Bits(state.mark),
            Field::SourceType => kind(self.source_type()),
            Field::DestinationType => kind(self.destination_type(state)),
            Field::Length => self.facts.length.map_or(Fact::Unknown, Fact::number),
            Field::Ttl => self.facts.ttl.map_or(Fact::Unknown, Fact::number),
            Field::LaterFragment => self
                .facts
                .fragment
                .map_or(Fact::Unknown, |later| Fact::number(u8::from(later))),
            Field::CtState => Fact::Bits(self.ct_state(state)),
            Field::CtMark
            | Field::CtStatus
            | Field::CtDirection
            | Field::CtOriginalSource
            | Field::CtOriginalDestination
            | Field::CtOriginalDestinationPort => self.ct_field(field, state),
            Field::Other => Fact::Unknown,
        }
    }

    const fn version(&self) -> IpVersion {
        if self.facts.is_ipv6() {
            IpVersion::V6
        } else {
            IpVersion::V4
        }
    }

    /// The addresses and ports as this chain sees them; `None` when NAT has changed them to something unknown.
    fn ends(&self, state: &State) -> Option<Ends> {
        match self.facts.before_nat {
            Some(tuple) if self.before_nat => Some(Ends::from(tuple)),
            None if state.translated => None,
            _ => Some(Ends {
                src: self.facts.src,
                dst: self.facts.dst,
                sport: self.facts.sport,
                dport: self.facts.dport,
            }),
        }
    }

    #[expect(
        clippy::option_option,
        reason = "unknown ends are not the same as no port"
    )]
    fn port(&self, of: Transport, port: Option<Option<u16>>) -> Fact<'_> {
        let proto = self.facts.proto.0;
        if self.facts.fragment == Some(true) || matches!(of, Transport::Of(only) if only != proto) {
            return Fact::Absent;
        }
        match port {
            Some(Some(port)) => Fact::number(port),
            // `th dport` of ICMP reads bytes of its header that no event carries.
            Some(None) | None => Fact::Unknown,
        }
    }

    fn of_header(&self, proto: Proto, value: Option<u8>) -> Fact<'_> {
        if self.facts.proto != proto || self.facts.fragment == Some(true) {
            return Fact::Absent;
        }
        value.map_or(Fact::Unknown, Fact::number)
    }

    fn bridge_port<'f>(&'f self, port: &'f Interface) -> &'f Interface {
        if self.facts.bridged {
            port
        } else {
            &Interface::None
        }
    }

    fn ct_state(&self, state: &State) -> Bits {
        match state.ct {
            CtView::None => Bits::known(ct::INVALID),
            CtView::Untracked => Bits::known(ct::UNTRACKED),
            CtView::Unknown => Bits::UNKNOWN,
            CtView::AsFacts => {
                let Some(state) = self.facts.ct.state else {
                    return Bits::UNKNOWN;
                };
                let nat = ct::SNAT | ct::DNAT;
                match (state, self.facts.ct.status) {
                    (CtState::NoEntry, _) => Bits::known(0).forget(state.bit()),
                    (CtState::Invalid | CtState::Untracked, _) => Bits::known(state.bit()),
                    (_, None) => Bits {
                        value: state.bit(),
                        known: !nat,
                    },
                    (_, Some(status)) => {
                        // IPS_SRC_NAT is bit 4, IPS_DST_NAT bit 5.
                        let snat = if status & (1 << 4) == 0 { 0 } else { ct::SNAT };
                        let dnat = if status & (1 << 5) == 0 { 0 } else { ct::DNAT };
                        Bits::known(state.bit() | snat | dnat)
                    }
                }
            }
        }
    }

    fn ct_field(&self, field: Field, state: &State) -> Fact<'_> {
        let known = &self.facts.ct;
        match (state.ct, known.state) {
            (CtView::None | CtView::Untracked, _) => return Fact::Absent,
            (CtView::AsFacts, Some(known)) if !known.has_entry() => return Fact::Absent,
            (CtView::Unknown, _) => return Fact::Unknown,
            (CtView::AsFacts, _) => {}
        }
        let original = known.original;
        match field {
            Field::CtMark => Fact::Bits(state.ct_mark),
            Field::CtStatus => known.status.map_or(Fact::Unknown, Fact::number),
            Field::CtDirection => known
                .reply
                .map_or(Fact::Unknown, |reply| Fact::number(u8::from(reply))),
            Field::CtOriginalSource => {
                original.map_or(Fact::Unknown, |t| Fact::number(number(t.src.ip())))
            }
            Field::CtOriginalDestination => {
                original.map_or(Fact::Unknown, |t| Fact::number(number(t.dst.ip())))
            }
            Field::CtOriginalDestinationPort => {
                original.map_or(Fact::Unknown, |t| Fact::number(t.dst.port()))
            }
            _ => Fact::Unknown,
        }
    }

    fn source_type(&self) -> Option<AddressType> {
        self.facts.src_type.or_else(|| {
            (self.facts.src.is_loopback() || self.hook == Hook::Output)
                .then_some(AddressType::Local)
        })
    }

    /// Given, or what the hook alone proves: only TCP cannot be a broadcast.
    fn destination_type(&self, state: &State) -> Option<AddressType> {
        let ends = self.ends(state)?;
        if ends.dst == self.facts.dst && self.facts.dst_type.is_some() {
            return self.facts.dst_type;
        }
        if ends.dst.is_multicast() {
            return Some(AddressType::Multicast);
        }
        if ends.dst.is_loopback() {
            return Some(AddressType::Local);
        }
        match (self.facts.proto, self.hook) {
            (Proto::TCP, Hook::Input) => Some(AddressType::Local),
            (Proto::TCP, Hook::Forward) => Some(AddressType::Unicast),
            _ => None,
        }
    }
}

struct Ends {
    src: IpAddr,
    dst: IpAddr,
    sport: Option<u16>,
    dport: Option<u16>,
}

impl From<Tuple> for Ends {
    fn from(tuple: Tuple) -> Self {
        let facts = PacketFacts::of(&tuple);
        Self {
            src: facts.src,
            dst: facts.dst,
            sport: facts.sport,
            dport: facts.dport,
        }
    }
}

/// An address as the number the patterns hold.
pub fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn address<'a>(address: Option<IpAddr>, facts: &PacketFacts, version: IpVersion) -> Fact<'a> {
    if facts.is_ipv6() != (version == IpVersion::V6) {
        return Fact::Absent;
    }
    address.map_or(Fact::Unknown, |address| Fact::number(number(address)))
}

const fn icmp(version: IpVersion) -> Proto {
    match version {
        IpVersion::V4 => Proto::ICMP,
        IpVersion::V6 => Proto::ICMPV6,
    }
}

fn name(interface: &Interface) -> Fact<'_> {
    match interface {
        Interface::Unknown => Fact::Unknown,
        // The kernel compares with the empty name.
        Interface::None => Fact::Name(""),
        Interface::Named(name) => Fact::Name(name),
    }
}

fn kind<'a>(kind: Option<AddressType>) -> Fact<'a> {
    kind.map_or(Fact::Unknown, |kind| Fact::number(kind as u8))
}

fn holds(element: &Element, facts: &[(Fact<'_>, u128)]) -> Tri {
    if element.0.len() != facts.len() {
        return Tri::Maybe;
    }
    element
        .0
        .iter()
        .zip(facts)
        .fold(Tri::Yes, |all, (pattern, (fact, mask))| {
            all.and(fits(pattern, fact, *mask))
        })
}

fn fits(pattern: &Pattern, fact: &Fact<'_>, mask: u128) -> Tri {
    match (pattern, fact) {
        (Pattern::Any, _) => Tri::Yes,
        (Pattern::Range(low, high), Fact::Bits(bits)) => bits.within(mask, *low, *high),
        (Pattern::Name(wanted), Fact::Name(name)) => Tri::from(wanted == name),
        (Pattern::NamePrefix(prefix), Fact::Name(name)) => {
            Tri::from(name.starts_with(prefix.as_str()))
        }
        _ => Tri::Maybe,
    }
}
