//! The base chains a packet meets at a hook, in the kernel's order.

use super::facts::{CtState, Interface, PacketFacts};
use super::model::{Base, Chain, Effect, Family, Hook, MapRef, Ruleset, Step, Table, Target, Tri};

/// A base chain in its place.
#[derive(Clone, Copy)]
pub struct Line<'a> {
    pub table: &'a Table,
    pub chain: &'a Chain,
    pub base: &'a Base,
    /// Does this packet pass it at all?
    pub passed: Tri,
}

/// Groups of equal priority, in order. Within a group the kernel's order is that of registration, which nothing prints.
pub fn base_chains<'a>(
    ruleset: &'a Ruleset,
    hook: Hook,
    facts: &PacketFacts,
) -> Vec<Vec<Line<'a>>> {
    let mut lines: Vec<_> = ruleset
        .tables
        .iter()
        .filter(|table| sees(table.family, hook, facts))
        .flat_map(|table| table.chains().iter().map(move |chain| (table, chain)))
        .filter_map(|(table, chain)| {
            let base = chain.base.as_ref().filter(|base| base.hook == hook)?;
            let passed = passes(table, base, facts);
            (passed != Tri::No).then_some(Line {
                table,
                chain,
                base,
                passed,
            })
        })
        .collect();
    lines.sort_by_key(rank);
    lines
        .chunk_by(|a, b| rank(a) == rank(b))
        .map(<[_]>::to_vec)
        .collect()
}

fn sees(family: Family, hook: Hook, facts: &PacketFacts) -> bool {
    let device_hook = matches!(hook, Hook::Ingress | Hook::Egress);
    match family {
        Family::Ip => !facts.is_ipv6() && !device_hook,
        Family::Ip6 => facts.is_ipv6() && !device_hook,
        Family::Inet => true,
        Family::Bridge => facts.bridged && !device_hook,
        Family::Netdev => device_hook,
        Family::Arp => false,
    }
}

fn passes(table: &Table, base: &Base, facts: &PacketFacts) -> Tri {
    let nat = if base.nat {
        passes_nat(facts)
    } else {
        Tri::Yes
    };
    let device = match base.hook {
        Hook::Ingress => on_device(base, &facts.iif),
        Hook::Egress => on_device(base, &facts.oif),
        _ => Tri::Yes,
    };
    table.dormant.not().and(nat).and(device)
}

/// Once a connection has its translation, its packets no longer pass the chains that decide on it.
fn passes_nat(facts: &PacketFacts) -> Tri {
    // IPS_CONFIRMED: a packet of this connection got through, so the translation is set.
    let confirmed = facts.ct.status.map(|status| status & (1 << 3) != 0);
    match (facts.ct.state, confirmed) {
        (Some(CtState::New | CtState::Related), Some(confirmed)) => Tri::from(!confirmed),
        (Some(CtState::New | CtState::Related) | None, _) => Tri::Maybe,
        (Some(_), _) => Tri::No,
    }
}

fn on_device(base: &Base, interface: &Interface) -> Tri {
    match interface {
        Interface::Named(name) if !base.devices.is_empty() => {
            Tri::from(base.devices.contains(name))
        }
        Interface::None => Tri::No,
        // nft before 1.0.8 does not print the device.
        Interface::Named(_) | Interface::Unknown => Tri::Maybe,
    }
}

fn rank(line: &Line<'_>) -> (u8, i32) {
    // Where br_netfilter calls the IP hooks from within the bridge's.
    let ip_hooks = match line.base.hook {
        Hook::Forward => -1,
        Hook::Prerouting => 0,
        _ => i32::MAX,
    };
    let place = match line.table.family {
        Family::Bridge if line.base.priority < ip_hooks => 0,
        Family::Bridge => 2,
        _ => 1,
    };
    (place, line.base.priority)
}

/// Bits of the mark that some rule on the way may change.
pub fn changed_mark_bits<'a>(lines: impl Iterator<Item = &'a Line<'a>>) -> u128 {
    let mut bits = 0;
    for line in lines {
        let mut seen = vec![false; line.table.chains().len()];
        let mut todo: Vec<usize> = line.table.position(&line.chain.name).into_iter().collect();
        while let Some(at) = todo.pop() {
            if std::mem::replace(&mut seen[at], true) {
                continue;
            }
            for rule in &line.table.chains()[at].rules {
                bits |= rule
                    .steps
                    .iter()
                    .map(changed_by)
                    .fold(0, |all, mask| all | u128::from(mask));
                follow(&rule.target, line.table, &mut todo);
            }
        }
    }
    bits
}

const fn changed_by(step: &Step) -> u32 {
    match step {
        Step::Effect(Effect::Mark { and, xor }) => !*and | *xor,
        Step::Effect(Effect::MarkUnknown { mask }) => *mask,
        _ => 0,
    }
}

fn follow(target: &Target, table: &Table, todo: &mut Vec<usize>) {
    match target {
        Target::Jump(chain) | Target::Goto(chain) => todo.extend(table.position(chain)),
        Target::Vmap { map, .. } => {
            let map = match map {
                MapRef::Named(name) => table.maps.get(name),
                MapRef::Inline(map) => Some(map),
            };
            for entry in map.iter().flat_map(|map| &map.entries) {
                follow(&entry.target, table, todo);
            }
        }
        _ => {}
    }
}
