//! The statements of a rule: matches, changes and the verdict.

use serde_json::Value;

use super::super::iptables;
use super::super::model::{
    Compare, Counter, Effect, Field, IpVersion, MapRef, Match, Nat, Operand, Pattern, Selector,
    Step, Target,
};
use super::expr::{Part, key};
use super::text;
use super::value::{Kind, element, number, pattern};

/// A rule's statements in the model's words.
pub struct Read {
    pub steps: Vec<Step>,
    pub target: Target,
    /// Only of a counter behind all matches: in front of one it counts more than the rule took.
    pub counter: Option<Counter>,
}

pub fn read(statements: &[Value]) -> Read {
    let mut read = Read {
        steps: Vec::new(),
        target: Target::Continue,
        counter: None,
    };
    for statement in statements {
        let Some((name, body)) = statement
            .as_object()
            .and_then(|object| object.iter().next())
        else {
            continue;
        };
        if name == "counter" {
            read.counter = counter(body);
            continue;
        }
        if let Some(extension) = xt_target(name, body) {
            let (effects, target) = iptables::target_named(extension);
            read.steps.extend(effects.into_iter().map(Step::Effect));
            read.target = target;
            continue;
        }
        if let Some(target) = target(name, body).or_else(|| verdict(statement)) {
            read.target = target;
            continue;
        }
        let before = read.steps.len();
        match name.as_str() {
            "match" => read
                .steps
                .extend(compare(body).into_iter().map(Step::Match)),
            "mangle" => read.steps.extend(mangle(body).map(Step::Effect)),
            "notrack" => read.steps.push(Step::Effect(Effect::NoTrack)),
            "log" | "flow" | "map" | "dup" | "secmark" | "ct helper" | "ct timeout"
            | "ct expectation" | "last" => {}
            "xt" if body.get("name").and_then(Value::as_str) == Some("comment") => {}
            // Adding to a set says no only when the set is full.
            "set" if body.get("stmt").is_none() => {}
            _ => read
                .steps
                .push(Step::Match(Match::Unknown(text::statement(name, body)))),
        }
        if read.steps[before..]
            .iter()
            .any(|step| matches!(step, Step::Match(_)))
        {
            read.counter = None;
        }
    }
    read
}

fn counter(body: &Value) -> Option<Counter> {
    Some(Counter {
        packets: body.get("packets")?.as_u64()?,
        bytes: body.get("bytes")?.as_u64()?,
    })
}

/// `{"drop": null}`, `{"jump": {"target": "blk"}}`: what a rule or an element of a map says.
pub fn verdict(data: &Value) -> Option<Target> {
    let (name, body) = data.as_object()?.iter().next()?;
    let chain = || body.get("target").and_then(Value::as_str).map(Into::into);
    Some(match name.as_str() {
        "accept" => Target::Accept,
        "drop" => Target::Drop,
        "return" => Target::Return,
        "continue" => Target::Continue,
        "jump" => Target::Jump(chain()?),
        "goto" => Target::Goto(chain()?),
        _ => return None,
    })
}

fn target(name: &str, body: &Value) -> Option<Target> {
    Some(match name {
        "reject" => Target::Reject(reject(body)),
        "queue" => Target::Queue,
        "snat" => Target::Nat(Nat::Source),
        "dnat" => Target::Nat(Nat::Destination),
        "masquerade" => Target::Nat(Nat::Masquerade),
        "redirect" => Target::Nat(Nat::Redirect),
        "vmap" => vmap(body)?,
        "fwd" | "tproxy" | "synproxy" => Target::Unknown(name.to_owned()),
        _ => return None,
    })
}

/// The name of an iptables target, whose options only iptables itself can read.
fn xt_target<'v>(name: &str, body: &'v Value) -> Option<&'v str> {
    let word = |key| body.get(key).and_then(Value::as_str);
    (name == "xt" && word("type") == Some("target"))
        .then(|| word("name"))
        .flatten()
}

fn reject(body: &Value) -> String {
    let word = |key| body.get(key).and_then(Value::as_str).unwrap_or_default();
    format!("{} {}", word("type"), word("expr"))
        .trim()
        .to_owned()
}

fn vmap(body: &Value) -> Option<Target> {
    let parts = key(body.get("key")?);
    let data = body.get("data")?;
    let map = if let Some(name) = data.as_str() {
        MapRef::Named(name.strip_prefix('@')?.to_owned())
    } else {
        let kinds: Vec<_> = parts.iter().map(|part| part.kind).collect();
        MapRef::Inline(super::map(&kinds, data.get("set")?.as_array()?))
    };
    Some(Target::Vmap {
        key: parts.into_iter().map(|part| part.selector).collect(),
        map,
    })
}

/// The test of a match statement, behind the tests it implies (`ip ttl` asks IPv4 packets only).
fn compare(body: &Value) -> Vec<Match> {
    let unknown = || vec![Match::Unknown(text::statement("match", body))];
    let (Some(left), Some(right)) = (body.get("left"), body.get("right")) else {
        return unknown();
    };
    let op = body.get("op").and_then(Value::as_str).unwrap_or("==");
    let parts = key(left);
    let mut tests: Vec<_> = parts
        .iter()
        .filter_map(|part| part.version)
        .map(version_is)
        .collect();
    if let Some(later) = later_fragment(left, op, right) {
        tests.push(version_is(IpVersion::V4));
        tests.push(later);
        return tests;
    }
    match test(parts, op, right) {
        Some(test) => tests.push(Match::Compare(test)),
        None => return unknown(),
    }
    tests
}

fn version_is(version: IpVersion) -> Match {
    let number = if version == IpVersion::V4 { 4 } else { 6 };
    Match::Compare(Compare::new(Field::IpVersion, Operand::number(number)))
}

/// `ip frag-off & 0x1fff != 0`: what the field holds else, no event tells.
fn later_fragment(left: &Value, op: &str, right: &Value) -> Option<Match> {
    let [field, mask] = left.get("&")?.as_array()?.as_slice() else {
        return None;
    };
    let is_offset =
        field.get("payload")?.get("field")?.as_str()? == "frag-off" && mask.as_u64()? == 0x1fff;
    if !is_offset || right.as_u64()? != 0 || !matches!(op, "==" | "!=") {
        return None;
    }
    let later = Operand::number(u128::from(op == "!="));
    Some(Match::Compare(Compare::new(Field::LaterFragment, later)))
}

fn test(parts: Vec<Part>, op: &str, right: &Value) -> Option<Compare> {
    let kinds: Vec<_> = parts.iter().map(|part| part.kind).collect();
    let mut key: Vec<Selector> = parts.into_iter().map(|part| part.selector).collect();
    let first = kinds.first().copied().unwrap_or(Kind::Other);
    let operand = match op {
        "in" | "!" if right.get("set").is_none() && !is_set_name(right) => {
            let bits = number(first, right)?;
            key.first_mut()?.mask &= bits;
            Operand::AnyBit
        }
        "<" => Operand::one(Pattern::Range(0, number(first, right)?.checked_sub(1)?)),
        "<=" => Operand::one(Pattern::Range(0, number(first, right)?)),
        ">" => Operand::one(Pattern::Range(number(first, right)? + 1, u128::MAX)),
        ">=" => Operand::one(Pattern::Range(number(first, right)?, u128::MAX)),
        "==" | "!=" | "in" => members(&kinds, right),
        _ => return None,
    };
    Some(Compare {
        key,
        negate: matches!(op, "!=" | "!"),
        operand,
    })
}

fn is_set_name(right: &Value) -> bool {
    right.as_str().is_some_and(|name| name.starts_with('@'))
}

fn members(kinds: &[Kind], right: &Value) -> Operand {
    if let Some(name) = right.as_str().and_then(|name| name.strip_prefix('@')) {
        return Operand::Set(name.to_owned());
    }
    match right.get("set") {
        Some(Value::Array(members)) => Operand::In(
            members
                .iter()
                .map(|member| element(kinds, member))
                .collect(),
        ),
        Some(only) => Operand::In(vec![element(kinds, only)]),
        None if kinds.len() == 1 => Operand::one(pattern(kinds[0], right)),
        None => Operand::In(vec![element(kinds, right)]),
    }
}

/// `meta mark set …`, `ct mark set …`; other fields nothing here depends on.
fn mangle(body: &Value) -> Option<Effect> {
    let key = body.get("key")?;
    let of = |kind: &str| {
        key.get(kind)
            .and_then(|part| part.get("key"))
            .and_then(Value::as_str)
            == Some("mark")
    };
    let (packet, connection) = (of("meta"), of("ct"));
    if !packet && !connection {
        return None;
    }
    Some(
        match (
            body.get("value").and_then(|value| bitwise(value, key)),
            packet,
        ) {
            (Some((and, xor)), true) => Effect::Mark { and, xor },
            (Some((and, xor)), false) => Effect::CtMark { and, xor },
            (None, true) => Effect::MarkUnknown { mask: u32::MAX },
            (None, false) => Effect::CtMarkUnknown { mask: u32::MAX },
        },
    )
}

/// An expression of the mark itself as `(mark & and) ^ xor`.
fn bitwise(value: &Value, mark: &Value) -> Option<(u32, u32)> {
    if value == mark {
        return Some((u32::MAX, 0));
    }
    if let Some(number) = value.as_u64() {
        return Some((0, number as u32));
    }
    let (op, operands) = value.as_object()?.iter().next()?;
    let (first, rest) = operands.as_array()?.split_first()?;
    rest.iter()
        .try_fold(bitwise(first, mark)?, |(and, xor), operand| {
            let bits = operand.as_u64()? as u32;
            Some(match op.as_str() {
                "&" => (and & bits, xor & bits),
                "|" => (and & !bits, (xor & !bits) | bits),
                "^" => (and, xor ^ bits),
                _ => return None,
            })
        })
}
