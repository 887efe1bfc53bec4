//! The matches of a rule as tests of the model.

use super::super::facts::AddressType;
use super::super::matching::number;
use super::super::model::{
    Compare, Element, Family, Field, IpVersion, Match, Operand, Pattern, Selector, Step, Transport,
    ct,
};
use super::values::{bits, interface, mark, masked, network, protocol, range, tcp_flags};
use super::words::{Block, Opt, Parts};

/// All matches, in the order of the line.
pub fn steps(parts: &Parts<'_>, family: Family) -> Vec<Step> {
    let version = if family == Family::Ip6 {
        IpVersion::V6
    } else {
        IpVersion::V4
    };
    let mut steps = Vec::new();
    for block in &parts.matches {
        if matches!(&*block.name, "comment" | "nfacct") {
            // nfacct counts; it says no only beyond a quota.
            continue;
        }
        let tests: Option<Vec<Match>> = block
            .options
            .iter()
            .map(|option| translate(block, option, version))
            .collect();
        match tests {
            // A match without options asks something of its own (`-m socket`); the protocols' do not.
            Some(tests) if !tests.is_empty() || is_plain(&block.name) => {
                steps.extend(tests.into_iter().map(Step::Match));
            }
            _ => steps.push(Step::Match(Match::Unknown(text(block)))),
        }
    }
    steps
}

fn is_plain(block: &str) -> bool {
    matches!(
        block,
        "" | "tcp" | "udp" | "sctp" | "dccp" | "udplite" | "icmp" | "icmp6"
    )
}

fn text(block: &Block<'_>) -> String {
    let options: Vec<_> = block.options.iter().map(Opt::text).collect();
    if block.name.is_empty() {
        options.join(" ")
    } else {
        format!("-m {} {}", block.name, options.join(" "))
    }
}

/// `None`: undecidable, as is then the whole match.
fn translate(block: &Block<'_>, option: &Opt<'_>, version: IpVersion) -> Option<Match> {
    if block.name == "set" {
        return ipset(block, option, version);
    }
    let compare = match &*block.name {
        "" => own(option, version),
        "tcp" | "udp" | "sctp" | "dccp" | "udplite" => transport(&block.name, option),
        "multiport" => multiport(option),
        "icmp" => icmp(option, "--icmp-type", IpVersion::V4),
        "icmp6" => icmp(option, "--icmpv6-type", IpVersion::V6),
        "conntrack" | "state" => conntrack(option),
        "mark" | "connmark" if option.name == "--mark" => {
            let (value, mask) = mark(option.arg())?;
            let field = if block.name == "mark" {
                Field::Mark
            } else {
                Field::CtMark
            };
            Some(masked(field, value.into(), mask.into()))
        }
        "addrtype" => addrtype(option, version),
        "iprange" => iprange(option, version),
        "physdev" => physdev(option),
        "length" if option.name == "--length" => Some(Compare::new(
            Field::Length,
            Operand::one(range(option.arg(), ':')?),
        )),
        "ttl" | "hl" => ttl(option),
        _ => None,
    };
    compare.map(|compare| Match::Compare(compare.negated(option.negate)))
}

fn own(option: &Opt<'_>, version: IpVersion) -> Option<Compare> {
    Some(match &*option.name {
        "-s" => network(Field::Source(version), option.arg())?,
        "-d" => network(Field::Destination(version), option.arg())?,
        "-i" => Compare::new(Field::InInterface, Operand::one(interface(option.arg()))),
        "-o" => Compare::new(Field::OutInterface, Operand::one(interface(option.arg()))),
        "-p" => Compare::new(
            Field::Protocol,
            Operand::number(protocol(option.arg())?.into()),
        ),
        "-f" => Compare::new(Field::LaterFragment, Operand::number(1)),
        _ => return None,
    })
}

fn transport(name: &str, option: &Opt<'_>) -> Option<Compare> {
    let of = Transport::Of(protocol(name)?);
    Some(match &*option.name {
        "--sport" => Compare::new(
            Field::SourcePort(of),
            Operand::one(range(option.arg(), ':')?),
        ),
        "--dport" => Compare::new(
            Field::DestinationPort(of),
            Operand::one(range(option.arg(), ':')?),
        ),
        "--tcp-flags" => {
            let mask = tcp_flags(option.arg())?;
            masked(Field::TcpFlags, tcp_flags(option.args.get(1)?)?, mask)
        }
        "--syn" => masked(Field::TcpFlags, 0x02, 0x17),
        _ => return None,
    })
}

fn multiport(option: &Opt<'_>) -> Option<Compare> {
    let ports: Option<Vec<_>> = option
        .arg()
        .split(',')
        .map(|port| range(port, ':'))
        .collect();
    let ports = ports?;
    let (source, destination) = (
        Field::SourcePort(Transport::Any),
        Field::DestinationPort(Transport::Any),
    );
    Some(match &*option.name {
        "--sports" => Compare::new(source, Operand::any_of(ports)),
        "--dports" => Compare::new(destination, Operand::any_of(ports)),
        "--ports" => Compare {
            key: vec![Selector::whole(source), Selector::whole(destination)],
            negate: false,
            operand: Operand::In(
                ports
                    .into_iter()
                    .flat_map(|port| {
                        [
                            Element(vec![port.clone(), Pattern::Any]),
                            Element(vec![Pattern::Any, port]),
                        ]
                    })
                    .collect(),
            ),
        },
        _ => return None,
    })
}

/// `8`, `3/1`, `any`
fn icmp(option: &Opt<'_>, name: &str, version: IpVersion) -> Option<Compare> {
    if option.name != name {
        return None;
    }
    let (kind, code) = option.arg().split_once('/').unwrap_or((option.arg(), ""));
    let kind = match kind {
        "any" | "255" if version == IpVersion::V4 => Pattern::Any,
        kind => range(kind, ':')?,
    };
    let code = if code.is_empty() {
        Pattern::Any
    } else {
        range(code, ':')?
    };
    Some(Compare {
        key: vec![
            Selector::whole(Field::IcmpType(version)),
            Selector::whole(Field::IcmpCode(version)),
        ],
        negate: false,
        operand: Operand::In(vec![Element(vec![kind, code])]),
    })
}

fn conntrack(option: &Opt<'_>) -> Option<Compare> {
    let any = |field, mask| Compare {
        key: vec![Selector { field, mask }],
        negate: false,
        operand: Operand::AnyBit,
    };
    Some(match &*option.name {
        "--ctstate" | "--state" => any(Field::CtState, bits(option.arg(), state_bit)?),
        "--ctstatus" => any(Field::CtStatus, bits(option.arg(), status_bit)?),
        "--ctproto" => Compare::new(
            Field::Protocol,
            Operand::number(protocol(option.arg())?.into()),
        ),
        "--ctdir" => Compare::new(
            Field::CtDirection,
            Operand::number(u128::from(option.arg() == "REPLY")),
        ),
        "--ctorigsrc" => network(Field::CtOriginalSource, option.arg())?,
        "--ctorigdst" => network(Field::CtOriginalDestination, option.arg())?,
        "--ctorigdstport" => Compare::new(
            Field::CtOriginalDestinationPort,
            Operand::one(range(option.arg(), ':')?),
        ),
        _ => return None,
    })
}

fn state_bit(name: &str) -> Option<u128> {
    Some(match name {
        "INVALID" => ct::INVALID,
        "NEW" => ct::NEW,
        "ESTABLISHED" => ct::ESTABLISHED,
        "RELATED" => ct::RELATED,
        "UNTRACKED" => ct::UNTRACKED,
        "SNAT" => ct::SNAT,
        "DNAT" => ct::DNAT,
        _ => return None,
    })
}

fn status_bit(name: &str) -> Option<u128> {
    // enum ip_conntrack_status
    Some(match name {
        "EXPECTED" => 1,
        "SEEN_REPLY" => 2,
        "ASSURED" => 4,
        "CONFIRMED" => 8,
        _ => return None,
    })
}

/// IPv6 asks the routing only for `LOCAL`, `ANYCAST` and `UNREACHABLE`; its `UNICAST` and `MULTICAST` are read off the
/// address, so a node's own address is unicast too (`match_type6` of net/netfilter/xt_addrtype.c).
fn addrtype(option: &Opt<'_>, version: IpVersion) -> Option<Compare> {
    let (field, address) = match &*option.name {
        "--src-type" => (Field::SourceType, Field::Source(version)),
        "--dst-type" => (Field::DestinationType, Field::Destination(version)),
        _ => return None,
    };
    let kinds: Option<Vec<_>> = option
        .arg()
        .split(',')
        .map(AddressType::from_name)
        .collect();
    let kinds = kinds?;
    if version == IpVersion::V6 {
        let multicast = u128::from(0xff_u8) << 120;
        let of_address = match kinds[..] {
            [AddressType::Unicast] => Some(Pattern::Range(1, multicast - 1)),
            [AddressType::Multicast] => Some(Pattern::Range(multicast, u128::MAX)),
            _ => None,
        };
        if let Some(pattern) = of_address {
            return Some(Compare::new(address, Operand::one(pattern)));
        }
        // It wants both halves to hold, which one comparison cannot say.
        if kinds.contains(&AddressType::Unicast) || kinds.contains(&AddressType::Multicast) {
            return None;
        }
    }
    let patterns = kinds
        .into_iter()
        .map(|kind| Pattern::Range(kind as u128, kind as u128));
    Some(Compare::new(field, Operand::any_of(patterns)))
}

fn iprange(option: &Opt<'_>, version: IpVersion) -> Option<Compare> {
    let field = match &*option.name {
        "--src-range" => Field::Source(version),
        "--dst-range" => Field::Destination(version),
        _ => return None,
    };
    let (low, high) = option
        .arg()
        .split_once('-')
        .unwrap_or((option.arg(), option.arg()));
    let ends = (number(low.parse().ok()?), number(high.parse().ok()?));
    Some(Compare::new(
        field,
        Operand::one(Pattern::Range(ends.0, ends.1)),
    ))
}

fn physdev(option: &Opt<'_>) -> Option<Compare> {
    let field = match &*option.name {
        "--physdev-in" => Field::BridgeIn,
        "--physdev-out" => Field::BridgeOut,
        _ => return None,
    };
    Some(Compare::new(field, Operand::one(interface(option.arg()))))
}

fn ttl(option: &Opt<'_>) -> Option<Compare> {
    let value: u128 = option.arg().parse().ok()?;
    let pattern = match &*option.name {
        "--ttl-eq" | "--hl-eq" => Pattern::Range(value, value),
        "--ttl-lt" | "--hl-lt" => Pattern::Range(0, value.checked_sub(1)?),
        "--ttl-gt" | "--hl-gt" => Pattern::Range(value + 1, 255),
        _ => return None,
    };
    Some(Compare::new(Field::Ttl, Operand::one(pattern)))
}

/// `--match-set NAME src,dst`
fn ipset(block: &Block<'_>, option: &Opt<'_>, version: IpVersion) -> Option<Match> {
    let [name, directions] = option.args.as_slice() else {
        return None;
    };
    if option.name != "--match-set" || block.options.len() > 1 {
        return None;
    }
    // What the second direction means depends on the set's type (port, net, interface); only addresses are told here.
    let key: Option<Vec<_>> = directions
        .split(',')
        .map(|direction| match direction {
            "src" => Some(Selector::whole(Field::Source(version))),
            "dst" => Some(Selector::whole(Field::Destination(version))),
            _ => None,
        })
        .collect();
    key.map(|key| Match::Ipset {
        name: name.as_ref().to_owned(),
        key,
        negate: option.negate,
    })
}
