//! What kube-proxy has written for a Service port, in either of its two layouts.
//!
//! iptables: table nat, chain KUBE-SERVICES, one rule for each address and port, which leads to KUBE-SVC-… and from there
//! to chains that DNAT. nftables: table kube-proxy, map service-ips from address, protocol and port to such a chain.

use std::net::SocketAddr;

use super::model::{
    Chain, Compare, Element, Field, IpVersion, Match, Nat, Operand, Pattern, Rule, Ruleset, Step,
    Table, Target,
};
use super::{Backend, Family};
use crate::event::Proto;

/// How deep chains of kube-proxy lead on: KUBE-SERVICES, KUBE-EXT-…, KUBE-SVC-…, KUBE-SEP-…
const DEEPEST: u8 = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Iptables,
    Nftables,
}

impl Mode {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Iptables => "iptables",
            Self::Nftables => "nftables",
        }
    }
}

/// What the rules do with a Service port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Coverage {
    /// There is nothing of kube-proxy here.
    NoProxy,
    /// It is here, but knows no such address and port.
    Missing(Mode),
    /// It knows the address and port, but this chain translates nothing.
    Hollow(Mode, String),
    Translated(Mode),
}

/// What kube-proxy's rules do with packets to `service`.
pub fn coverage(ruleset: &Ruleset, proto: Proto, service: SocketAddr) -> Coverage {
    let family = if service.is_ipv4() {
        Family::Ip
    } else {
        Family::Ip6
    };
    let mut found = Coverage::NoProxy;
    let tables = ruleset.tables.iter();
    for table in tables.filter(|table| table.family == family) {
        let here = if table.backend == Backend::Nft && table.name == "kube-proxy" {
            nftables(table, proto, service)
        } else if table.backend.is_iptables() && table.name == "nat" {
            iptables(table, proto, service)
        } else {
            continue;
        };
        // Leftovers of another mode do not take away what works.
        if rank(&here) > rank(&found) {
            found = here;
        }
    }
    found
}

const fn rank(coverage: &Coverage) -> u8 {
    match coverage {
        Coverage::NoProxy => 0,
        Coverage::Missing(_) => 1,
        Coverage::Hollow(..) => 2,
        Coverage::Translated(_) => 3,
    }
}

fn iptables(table: &Table, proto: Proto, service: SocketAddr) -> Coverage {
    let Some(services) = table.chain("KUBE-SERVICES") else {
        return Coverage::NoProxy;
    };
    let rules = services.rules.iter();
    let leading = rules
        .filter(|rule| is_about(rule, proto, service))
        .filter_map(|rule| chain_of(&rule.target));
    led(table, leading, Mode::Iptables)
}

fn nftables(table: &Table, proto: Proto, service: SocketAddr) -> Coverage {
    let Some(map) = table.maps.get("service-ips") else {
        return Coverage::Missing(Mode::Nftables);
    };
    let key = [
        number(service),
        u128::from(proto.0),
        u128::from(service.port()),
    ];
    let entries = map.entries.iter();
    let leading = entries
        .filter(|entry| is_key(&entry.element, &key))
        .filter_map(|entry| chain_of(&entry.target));
    led(table, leading, Mode::Nftables)
}

fn led<'a>(table: &Table, chains: impl Iterator<Item = &'a str>, mode: Mode) -> Coverage {
    let mut found = Coverage::Missing(mode);
    for name in chains {
        // Marking for masquerade is a detour, not the way.
        if name == "KUBE-MARK-MASQ" {
            continue;
        }
        let chain = table.chain(name);
        if chain.is_some_and(|chain| translates(table, chain, DEEPEST)) {
            return Coverage::Translated(mode);
        }
        found = Coverage::Hollow(mode, name.to_owned());
    }
    found
}

fn translates(table: &Table, chain: &Chain, depth: u8) -> bool {
    chain.rules.iter().any(|rule| match &rule.target {
        Target::Nat(Nat::Destination | Nat::Redirect) => true,
        // Endpoints stand in a map of their own in some versions.
        Target::Vmap { .. } => true,
        target => chain_of(target)
            .filter(|_| depth > 0)
            .and_then(|name| table.chain(name))
            .is_some_and(|next| translates(table, next, depth - 1)),
    })
}

fn chain_of(target: &Target) -> Option<&str> {
    match target {
        Target::Jump(chain) | Target::Goto(chain) => Some(chain),
        _ => None,
    }
}

/// The rule asks for this address, protocol and port, whatever else it asks for.
fn is_about(rule: &Rule, proto: Proto, service: SocketAddr) -> bool {
    let mut address = false;
    for step in &rule.steps {
        let Step::Match(Match::Compare(compare)) = step else {
            continue;
        };
        let [only] = compare.key.as_slice() else {
            continue;
        };
        let holds = |value: u128| holds(compare, value & only.mask);
        match only.field {
            Field::Destination(version) => {
                let same = (version == IpVersion::V4) == service.is_ipv4();
                if !same || !holds(number(service)) {
                    return false;
                }
                address = true;
            }
            Field::Protocol | Field::HeaderProtocol(_) if !holds(u128::from(proto.0)) => {
                return false;
            }
            Field::DestinationPort(_) if !holds(u128::from(service.port())) => return false,
            _ => {}
        }
    }
    address
}

fn holds(compare: &Compare, value: u128) -> bool {
    let Operand::In(elements) = &compare.operand else {
        return false;
    };
    let among = elements.iter().any(|element| is_key(element, &[value]));
    among != compare.negate
}

fn is_key(element: &Element, key: &[u128]) -> bool {
    let parts = element.0.iter().zip(key);
    element.0.len() == key.len()
        && parts.into_iter().all(|(pattern, value)| match pattern {
            Pattern::Any => true,
            Pattern::Range(low, high) => (low..=high).contains(&value),
            _ => false,
        })
}

fn number(service: SocketAddr) -> u128 {
    match service {
        SocketAddr::V4(v4) => u128::from(v4.ip().to_bits()),
        SocketAddr::V6(v6) => v6.ip().to_bits(),
    }
}

#[cfg(test)]
mod tests;
