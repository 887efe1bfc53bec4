//! Parser of what `iptables-save -c` prints: legacy, nft, IPv4 and IPv6.

mod matches;
mod target;
mod values;
mod words;

pub use target::named as target_named;
pub use values::{protocol, protocol_name};

use super::model::{Backend, Base, Chain, Counter, Family, Hook, Rule, RuleRef, Table};
use words::{Words, split_rule};

/// What one run of a save program gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parsed {
    pub tables: Vec<Table>,
    /// Tables the program could not express (`Table X is incompatible`): nft has to be asked for them.
    pub foreign: Vec<String>,
    /// Lines that are not of the format.
    pub strange: Vec<String>,
}

/// Reads the output of one save program.
pub fn parse(text: &str, backend: Backend, family: Family) -> Parsed {
    let mut parsed = Parsed::default();
    for line in text.lines() {
        let line = line.trim_end();
        let understood = match line.as_bytes().first() {
            None => true,
            Some(b'#') => {
                parsed.foreign.extend(incompatible(line));
                true
            }
            Some(b'*') => {
                parsed.tables.push(Table::new(backend, family, &line[1..]));
                true
            }
            Some(b':') => parsed
                .tables
                .last_mut()
                .is_some_and(|table| declare(table, &line[1..])),
            _ if line == "COMMIT" => true,
            _ => parsed
                .tables
                .last_mut()
                .is_some_and(|table| append(table, line)),
        };
        if !understood {
            parsed.strange.push(line.to_owned());
        }
    }
    parsed
        .tables
        .retain(|table| !parsed.foreign.contains(&table.name));
    parsed
}

fn incompatible(line: &str) -> Option<String> {
    let rest = line.strip_prefix("# Table `")?;
    let (name, rest) = rest.split_once('\'')?;
    rest.contains("incompatible").then(|| name.to_owned())
}

/// `INPUT DROP [5:145]`, `KUBE-SERVICES - [0:0]`
fn declare(table: &mut Table, line: &str) -> bool {
    let mut words = line.split_ascii_whitespace();
    let (Some(name), Some(policy)) = (words.next(), words.next()) else {
        return false;
    };
    let counter = words.next().and_then(counter);
    let base = (policy != "-")
        .then(|| place(&table.name, name))
        .flatten()
        .map(|(hook, priority)| Base {
            hook,
            priority,
            nat: table.name == "nat",
            drops: policy == "DROP",
            devices: Vec::new(),
            counter,
        });
    table.push(Chain {
        name: name.to_owned(),
        base,
        rules: Vec::new(),
    });
    true
}

/// Where the kernel hangs a built-in chain (`NF_IP_PRI_*`).
fn place(table: &str, chain: &str) -> Option<(Hook, i32)> {
    let hook = Hook::from_name(&chain.to_ascii_lowercase())?;
    let priority = match (table, hook) {
        ("raw", _) => -300,
        ("mangle", _) => -150,
        ("nat", Hook::Prerouting | Hook::Output) => -100,
        ("nat", _) => 100,
        ("security", _) => 50,
        _ => 0,
    };
    Some((hook, priority))
}

/// `[packets:bytes]`
fn counter(word: &str) -> Option<Counter> {
    let (packets, bytes) = word.strip_prefix('[')?.strip_suffix(']')?.split_once(':')?;
    Some(Counter {
        packets: packets.parse().ok()?,
        bytes: bytes.parse().ok()?,
    })
}

/// `[0:0] -A INPUT -i lo -j ACCEPT`
fn append(table: &mut Table, line: &str) -> bool {
    let (counted, text) = match line.split_once(' ') {
        Some((first, rest)) if first.starts_with('[') => (counter(first), rest),
        _ => (None, line),
    };
    let mut words = Words::of(text);
    if words.next().as_deref() != Some("-A") {
        return false;
    }
    let Some(name) = words.next() else {
        return false;
    };
    let parts = split_rule(words);
    let family = table.family;
    let mut steps = matches::steps(&parts, family);
    let (effects, target) = target::read(&parts, |chain| table.position(chain).is_some());
    steps.extend(effects);
    let comment = parts.comment();
    let Some(chain) = table.chain_mut(&name) else {
        return false;
    };
    let at = RuleRef::Number(chain.rules.len() as u32 + 1);
    chain.rules.push(Rule {
        at,
        steps,
        target,
        counter: counted,
        text: text.to_owned(),
        comment,
    });
    true
}

#[cfg(test)]
mod tests;
