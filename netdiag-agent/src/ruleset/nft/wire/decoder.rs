//! A rule's expressions as statements: a register machine, read backwards.
//!
//! An expression loads a field into a register, others mask it, and a comparison or lookup in the end makes a match of
//! it. Matches nft adds by itself (`meta nfproto ipv4` in front of `ip saddr`) are taken out again as nft does, unless
//! something between the two has an effect of its own.

mod comparisons;
mod effects;
mod loaded;
mod loads;
mod options;
mod sets;

use serde_json::Value;

use super::attr::Attributes;
use super::field::{Part, Protocols};
use super::statement;
use super::{Context, Family, object};
use loaded::Loaded;

/// Registers of four bytes; the four old ones have sixteen each.
const SLOTS: usize = 20;

/// `NFTA_DATA_VALUE`
const VALUE: u16 = 1;

/// A match that is taken out once a field of that header is named.
#[derive(Clone, Copy, Debug, Default)]
struct Implied {
    network: Option<usize>,
    transport: Option<usize>,
}

struct Decoder<'a> {
    context: &'a Context<'a>,
    /// Null where one was taken out.
    statements: Vec<Value>,
    /// Behind the last statement that has an effect.
    effects: usize,
    registers: [Option<Loaded>; SLOTS],
    known: Protocols,
    implied: Implied,
    /// The last comparison: register, operator, data. `>=` and `<=` of one register are a range.
    compared: Option<(usize, u32, Vec<u8>)>,
}

/// The statements of a rule; `None` when one of its expressions is not known here.
pub fn statements(context: &Context<'_>, expressions: Attributes<'_>) -> Option<Vec<Value>> {
    let network = match context.family {
        Family::Ip => Some(2),
        Family::Ip6 => Some(10),
        _ => None,
    };
    let mut decoder = Decoder {
        context,
        statements: Vec::new(),
        effects: 0,
        registers: [const { None }; SLOTS],
        known: Protocols {
            network,
            transport: None,
        },
        implied: Implied::default(),
        compared: None,
    };
    for (_, element) in expressions {
        let element = Attributes(element);
        decoder.expression(element.text(1)?, element.nested(2).unwrap_or_default())?;
    }
    decoder.statements.retain(|statement| !statement.is_null());
    Some(decoder.statements)
}

/// `enum nft_registers`
fn slot(register: u32) -> Option<usize> {
    match register {
        1..=4 => Some(4 * (register as usize - 1)),
        8..=23 => Some(register as usize - 8),
        _ => None,
    }
}

/// The constant in this attribute.
fn constant(body: Attributes<'_>, kind: u16) -> Option<&[u8]> {
    body.nested(kind)?.get(VALUE)
}

impl Decoder<'_> {
    fn expression(&mut self, name: &str, body: Attributes<'_>) -> Option<()> {
        match name {
            "meta" => self.meta(body),
            "payload" => self.payload(body),
            "ct" => self.ct(body),
            "fib" => self.fib(body),
            "numgen" => self.numgen(body),
            "hash" => self.hash(body),
            "exthdr" => self.option(body),
            "rt" => self.route(body),
            "bitwise" => self.bitwise(body),
            "byteorder" => self.byteorder(body),
            "cmp" => self.compare(body),
            "range" => self.range(body),
            "lookup" => self.lookup(body),
            "immediate" => self.immediate(body),
            "nat" => self.nat(body),
            "masq" => self.translate("masquerade", body, 2),
            "redir" => self.translate("redirect", body, 1),
            "dynset" => self.dynset(body),
            _ => {
                self.does(statement::plain(name, body, self.known)?);
                Some(())
            }
        }
    }

    fn matches(&mut self, op: &str, left: Value, right: Value) {
        let body = object([("op", op.into()), ("left", left), ("right", right)]);
        self.statements.push(object([("match", body)]));
    }

    fn does(&mut self, statement: Value) {
        self.statements.push(statement);
        self.effects = self.statements.len();
    }

    fn register(&self, number: u32) -> Option<&Loaded> {
        self.registers[slot(number)?].as_ref()
    }

    fn load(&mut self, register: u32, part: Part) -> Option<()> {
        self.store(register, Loaded::field(part))
    }

    fn store(&mut self, register: u32, loaded: Loaded) -> Option<()> {
        self.compared = None;
        self.registers[slot(register)?] = Some(loaded);
        Some(())
    }
}
