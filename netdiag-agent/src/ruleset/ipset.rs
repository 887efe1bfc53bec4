//! Parser of what `ipset save` prints, for the sets whose members are addresses.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::matching::number;
use super::model::{Element, Pattern, Set};

/// The sets a rule can be evaluated against; of all others the rules stay undecidable.
pub fn parse(text: &str) -> BTreeMap<String, Set> {
    let mut sets: BTreeMap<String, Option<Set>> = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some("create"), Some(name), Some(kind)) => {
                let known = matches!(kind, "hash:ip" | "hash:net" | "bitmap:ip");
                sets.insert(name.to_owned(), known.then(Set::default));
            }
            (Some("add"), Some(name), Some(member)) => {
                let Some(slot) = sets.get_mut(name) else {
                    continue;
                };
                // `nomatch` takes members out of a larger one.
                let pattern = if words.any(|word| word == "nomatch") {
                    None
                } else {
                    pattern(member)
                };
                match (slot.as_mut(), pattern) {
                    (Some(set), Some(pattern)) => set.elements.push(Element::one(pattern)),
                    _ => *slot = None,
                }
            }
            _ => {}
        }
    }
    sets.into_iter()
        .filter_map(|(name, set)| Some((name, set?)))
        .collect()
}

/// `10.0.0.1`, `10.0.0.0/8`, `10.0.0.1-10.0.0.9`
fn pattern(member: &str) -> Option<Pattern> {
    if let Some((low, high)) = member.split_once('-') {
        return Some(Pattern::Range(
            number(low.parse().ok()?),
            number(high.parse().ok()?),
        ));
    }
    let (address, length) = member.split_once('/').unwrap_or((member, ""));
    let address: IpAddr = address.parse().ok()?;
    let width = if address.is_ipv4() { 32 } else { 128 };
    let length: u32 = if length.is_empty() {
        width
    } else {
        length.parse().ok()?
    };
    let hosts = match width.checked_sub(length)? {
        0 => 0,
        bits => u128::MAX >> (128 - bits),
    };
    let low = number(address) & !hosts;
    Some(Pattern::Range(low, low | hosts))
}
