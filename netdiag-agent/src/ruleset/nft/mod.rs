//! Parser of `nft -j list …`. The only place in the ruleset's code that knows JSON.

mod expr;
mod statement;
mod text;
mod value;
pub mod wire;

use serde_json::Value;

use super::model::{
    Backend, Base, Chain, Element, Entry, Family, Hook, Map, Pattern, Rule, RuleRef, Set, Table,
    Target, Tri,
};
use value::Kind;

/// What one run of nft gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parsed {
    pub tables: Vec<Table>,
    /// Objects that are not of the format.
    pub strange: Vec<String>,
}

/// Reads the output of `nft -j list ruleset` or `list table`.
///
/// # Errors
/// It is not JSON.
pub fn parse(json: &str) -> Result<Parsed, serde_json::Error> {
    let document: Value = serde_json::from_str(json)?;
    let mut parsed = Parsed::default();
    for object in objects(&document) {
        parsed.add(object);
    }
    Ok(parsed)
}

impl Parsed {
    /// One object of a listing, in its order.
    pub fn add(&mut self, object: &Value) {
        let Some((kind, body)) = object.as_object().and_then(|object| object.iter().next()) else {
            return;
        };
        let tables = &mut self.tables;
        let understood = match kind.as_str() {
            "table" => add_table(tables, body),
            "chain" => with_table(tables, body, add_chain),
            "set" => with_table(tables, body, add_set),
            "map" => with_table(tables, body, add_map),
            "rule" => with_table(tables, body, add_rule),
            // Limits, counters, helpers, flowtables: nothing a packet is asked.
            _ => Some(()),
        };
        if understood.is_none() {
            self.strange.push(object.to_string());
        }
    }
}

/// The objects of a listing in nft's JSON.
pub fn objects(document: &Value) -> &[Value] {
    document
        .get("nftables")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

fn str_of<'v>(body: &'v Value, key: &str) -> Option<&'v str> {
    body.get(key)?.as_str()
}

fn add_table(tables: &mut Vec<Table>, body: &Value) -> Option<()> {
    let mut table = Table::new(
        Backend::Nft,
        Family::from_name(str_of(body, "family")?)?,
        str_of(body, "name")?,
    );
    table.dormant = dormant(body.get("flags"));
    tables.push(table);
    Some(())
}

/// nft 1.0.6 prints freed memory instead of the flag's name, so an unknown word may well mean dormant.
fn dormant(flags: Option<&Value>) -> Tri {
    let word = |flag: &Value| match flag.as_str() {
        Some("owner" | "persist") => Tri::No,
        Some("dormant") => Tri::Yes,
        _ => Tri::Maybe,
    };
    match flags {
        None => Tri::No,
        Some(Value::Array(flags)) => flags.iter().map(word).fold(Tri::No, Tri::or),
        Some(flag) => word(flag),
    }
}

fn with_table(
    tables: &mut [Table],
    body: &Value,
    add: impl FnOnce(&mut Table, &Value) -> Option<()>,
) -> Option<()> {
    let family = Family::from_name(str_of(body, "family")?)?;
    let name = str_of(body, "table")?;
    // A listing prints a table's objects behind it.
    let table = tables
        .iter_mut()
        .rev()
        .find(|table| table.family == family && table.name == name)?;
    add(table, body)
}

fn add_chain(table: &mut Table, body: &Value) -> Option<()> {
    let base = match str_of(body, "hook") {
        None => None,
        Some(hook) => Some(Base {
            hook: Hook::from_name(hook)?,
            priority: body.get("prio")?.as_i64()? as i32,
            nat: str_of(body, "type") == Some("nat"),
            drops: str_of(body, "policy") == Some("drop"),
            devices: devices(body.get("dev")),
            counter: None,
        }),
    };
    table.push(Chain {
        name: str_of(body, "name")?.to_owned(),
        base,
        rules: Vec::new(),
    });
    Some(())
}

fn devices(dev: Option<&Value>) -> Vec<String> {
    match dev {
        Some(Value::String(name)) => vec![name.clone()],
        Some(Value::Array(names)) => names
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        _ => Vec::new(),
    }
}

fn add_set(table: &mut Table, body: &Value) -> Option<()> {
    let kinds = value::kinds(body.get("type")?);
    let elements = members(body)
        .iter()
        .map(|member| value::element(&kinds, member))
        .collect();
    table
        .sets
        .insert(str_of(body, "name")?.to_owned(), Set { elements });
    Some(())
}

fn members(body: &Value) -> &[Value] {
    body.get("elem")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

fn add_map(table: &mut Table, body: &Value) -> Option<()> {
    let kinds = value::kinds(body.get("type")?);
    let verdicts = str_of(body, "map") == Some("verdict");
    if verdicts {
        table
            .maps
            .insert(str_of(body, "name")?.to_owned(), map(&kinds, members(body)));
    }
    Some(())
}

/// A verdict map; the catch-all element, which matches last, stands last.
fn map(kinds: &[Kind], members: &[Value]) -> Map {
    let mut entries: Vec<_> = members
        .iter()
        .filter_map(|pair| match pair.as_array()?.as_slice() {
            [key, data] => Some(Entry {
                element: value::element(kinds, key),
                target: statement::verdict(data).unwrap_or(Target::Continue),
                text: text::expr(key),
                comment: key
                    .get("elem")
                    .and_then(|elem| str_of(elem, "comment"))
                    .map(str::to_owned),
            }),
            _ => None,
        })
        .collect();
    entries.sort_by_key(|entry| entry.element == Element::one(Pattern::Any));
    Map { entries }
}

fn add_rule(table: &mut Table, body: &Value) -> Option<()> {
    let statements = body.get("expr")?.as_array()?;
    let read = statement::read(statements);
    let comment = str_of(body, "comment").map(str::to_owned);
    let rule = Rule {
        at: RuleRef::Handle(body.get("handle")?.as_u64()?),
        text: text::rule(statements, comment.as_deref()),
        steps: read.steps,
        target: read.target,
        counter: read.counter,
        comment,
    };
    table.chain_mut(str_of(body, "chain")?)?.rules.push(rule);
    Some(())
}

#[cfg(test)]
mod tests;
