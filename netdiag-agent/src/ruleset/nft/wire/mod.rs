//! nf_tables' own messages, put into the words of `nft -j list ruleset`.
//!
//! The nft program takes a second for 20,000 rules, nearly all of it to make text of what the kernel handed it in an
//! instant. Here the kernel's messages become the same JSON, so that one reader serves both, and a recording holds what
//! nft would have printed. A rule with an expression that is not known here is reported by its chain: for that one the
//! program is asked. Attribute numbers are those of `linux/netfilter/nf_tables.h`.

pub mod attr;
pub mod datatype;
mod decoder;
mod field;
mod set;
mod statement;

use std::collections::{BTreeSet, HashMap};

use serde_json::{Value, json};

use super::super::model::Family;
use attr::Attributes;
pub use datatype::Interfaces;
use set::SetInfo;

/// One table's objects as the kernel sent them: each the attributes of one message.
#[derive(Clone, Debug, Default)]
pub struct Messages {
    pub table: Vec<u8>,
    pub chains: Vec<Vec<u8>>,
    /// A set, and the messages with its elements.
    pub sets: Vec<(Vec<u8>, Vec<Vec<u8>>)>,
    pub rules: Vec<Vec<u8>>,
}

/// `NFTA_*_TABLE`, `NFTA_*_NAME` …
mod number {
    pub const TABLE_NAME: u16 = 1;
    pub const TABLE_FLAGS: u16 = 2;
    pub const CHAIN_NAME: u16 = 3;
    pub const CHAIN_HOOK: u16 = 4;
    pub const CHAIN_POLICY: u16 = 5;
    pub const CHAIN_TYPE: u16 = 7;
    pub const HOOK_NUMBER: u16 = 1;
    pub const HOOK_PRIORITY: u16 = 2;
    pub const HOOK_DEVICE: u16 = 3;
    pub const HOOK_DEVICES: u16 = 4;
    pub const RULE_CHAIN: u16 = 2;
    pub const RULE_HANDLE: u16 = 3;
    pub const RULE_EXPRESSIONS: u16 = 4;
    pub const RULE_USERDATA: u16 = 7;
}

/// What all objects of a table share.
struct Context<'a> {
    family: Family,
    table: &'a str,
    sets: HashMap<&'a str, SetInfo>,
    interfaces: &'a Interfaces,
}

/// Puts a table into nft's words, object by object. Returns the chains with rules that are not understood here, none of
/// whose rules was handed over; `None`, when the table itself is not understood.
pub fn decode(
    family: Family,
    messages: &Messages,
    interfaces: &Interfaces,
    take: &mut dyn FnMut(Value),
) -> Option<BTreeSet<String>> {
    let table = Attributes(&messages.table);
    let name = table.text(number::TABLE_NAME)?;
    let mut context = Context {
        family,
        table: name,
        sets: HashMap::new(),
        interfaces,
    };
    let flags = table.u32(number::TABLE_FLAGS).unwrap_or_default();
    let mut objects = vec![table_object(family, name, flags)];
    for chain in &messages.chains {
        objects.push(context.chain(Attributes(chain))?);
    }
    for (set, elements) in &messages.sets {
        let (name, info) = set::read(Attributes(set), elements, interfaces)?;
        objects.extend(info.object(family, context.table, name));
        context.sets.insert(name, info);
    }
    objects.into_iter().for_each(&mut *take);
    let mut unknown = BTreeSet::new();
    // The kernel sends a chain's rules one after the other.
    for rules in messages.rules.chunk_by(|a, b| chain_of(a) == chain_of(b)) {
        let chain = chain_of(rules.first()?)?;
        let read: Option<Vec<Value>> = rules
            .iter()
            .map(|rule| context.rule(Attributes(rule), chain))
            .collect();
        match read {
            Some(read) => read.into_iter().for_each(&mut *take),
            None => drop(unknown.insert(chain.to_owned())),
        }
    }
    Some(unknown)
}

fn chain_of(rule: &[u8]) -> Option<&str> {
    Attributes(rule).text(number::RULE_CHAIN)
}

/// An object that takes its values as they are: `json!` would copy each.
fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    let members = members.into_iter();
    Value::Object(
        members
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    )
}

fn table_object(family: Family, name: &str, flags: u32) -> Value {
    let words: Vec<_> = [(1, "dormant"), (2, "owner"), (4, "persist")]
        .into_iter()
        .filter(|(bit, _)| flags & bit != 0)
        .map(|(_, word)| word)
        .collect();
    let mut body = json!({"family": family.name(), "name": name});
    if !words.is_empty() {
        body["flags"] = json!(words);
    }
    json!({ "table": body })
}

impl Context<'_> {
    fn chain(&self, chain: Attributes<'_>) -> Option<Value> {
        let name = chain.text(number::CHAIN_NAME)?;
        let mut body = json!({"family": self.family.name(), "table": self.table, "name": name});
        if let Some(hook) = chain.nested(number::CHAIN_HOOK) {
            body["type"] = json!(chain.text(number::CHAIN_TYPE)?);
            body["hook"] = json!(self.hook(hook.u32(number::HOOK_NUMBER)?)?);
            body["prio"] = json!(hook.u32(number::HOOK_PRIORITY)? as i32);
            // NF_DROP is 0.
            let drops = chain.u32(number::CHAIN_POLICY) == Some(0);
            body["policy"] = json!(if drops { "drop" } else { "accept" });
            let several = hook.nested(number::HOOK_DEVICES).into_iter().flatten();
            let mut devices: Vec<_> = several.filter_map(|(_, name)| attr::text(name)).collect();
            devices.extend(hook.text(number::HOOK_DEVICE));
            devices.dedup();
            if !devices.is_empty() {
                body["dev"] = json!(devices);
            }
        }
        Some(json!({ "chain": body }))
    }

    /// `enum nf_inet_hooks`, `enum nf_dev_hooks`
    fn hook(&self, number: u32) -> Option<&'static str> {
        let hooks: &[_] = match self.family {
            Family::Netdev => &["ingress", "egress"],
            Family::Arp => &["input", "output", "forward"],
            _ => &[
                "prerouting",
                "input",
                "forward",
                "output",
                "postrouting",
                "ingress",
            ],
        };
        hooks.get(number as usize).copied()
    }

    fn rule(&self, rule: Attributes<'_>, chain: &str) -> Option<Value> {
        let expressions = rule.nested(number::RULE_EXPRESSIONS).unwrap_or_default();
        let mut body = object([
            ("family", self.family.name().into()),
            ("table", self.table.into()),
            ("chain", chain.into()),
            ("handle", rule.number(number::RULE_HANDLE)?.into()),
            ("expr", decoder::statements(self, expressions)?.into()),
        ]);
        if let Some(comment) = rule.get(number::RULE_USERDATA).and_then(comment) {
            body["comment"] = json!(comment);
        }
        Some(object([("rule", body)]))
    }
}

/// nft keeps comments in an area the kernel does not look at: type, length, value; type 0 is a comment.
fn comment(mut userdata: &[u8]) -> Option<&str> {
    while let [kind, length, rest @ ..] = userdata {
        let value = rest.get(..usize::from(*length))?;
        if *kind == 0 {
            return attr::text(value);
        }
        userdata = &rest[usize::from(*length)..];
    }
    None
}
