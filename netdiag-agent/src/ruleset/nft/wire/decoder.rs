//! A rule's expressions as statements: a register machine, read backwards.
//!
//! An expression loads a field into a register, others mask it, and a comparison or lookup in the end makes a match of
//! it. Matches nft adds by itself (`meta nfproto ipv4` in front of `ip saddr`) are taken out again as nft does, unless
//! something between the two has an effect of its own.

use serde_json::{Value, json};

use super::attr::Attributes;
use super::datatype::{DSCP, Order, Type, number, prefix, prefix_length};
use super::field::{self, Part, Protocols};
use super::set::{Data, SetInfo};
use super::statement;
use super::{Context, object};

/// Registers of four bytes; the four old ones have sixteen each.
const SLOTS: usize = 20;

/// `NFTA_DATA_VALUE`, `NFTA_DATA_VERDICT`
const VALUE: u16 = 1;
const VERDICT: u16 = 2;

/// What a register holds.
#[derive(Clone, Debug)]
struct Loaded {
    /// One field, or several that stand side by side.
    parts: Vec<Part>,
    order: Order,
    bits: Option<Bits>,
    /// It is a constant, not a field.
    constant: Option<Vec<u8>>,
    /// Base, offset and length of the bytes, for when they are compared other than field by field.
    raw: Option<(u32, u32, u32)>,
    /// The statement that says the same of the packet as these bytes do, when compared for equality.
    tells: Option<Tells>,
}

/// And and xor of a bitwise operation, in the order the register had then.
#[derive(Clone, Debug)]
struct Bits {
    and: Vec<u8>,
    xor: Vec<u8>,
    order: Order,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tells {
    Network,
    Transport,
}

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
    use super::super::super::model::Family;
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

impl Decoder<'_> {
    fn expression(&mut self, name: &str, body: Attributes<'_>) -> Option<()> {
        match name {
            "meta" => self.meta(body),
            "payload" => self.payload(body),
            "ct" => self.ct(body),
            "fib" => {
                let part = field::fib(body.u32(2)?, body.u32(3)?)?;
                self.load(body.u32(1)?, part)
            }
            "numgen" => self.numgen(body),
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
                self.does(statement::plain(name, body)?);
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
        let order = part.of.order;
        self.store(register, Loaded::of(vec![part], order))
    }

    fn store(&mut self, register: u32, loaded: Loaded) -> Option<()> {
        self.compared = None;
        self.registers[slot(register)?] = Some(loaded);
        Some(())
    }

    fn meta(&mut self, body: Attributes<'_>) -> Option<()> {
        let key = body.u32(2)?;
        let part = field::meta(key)?;
        if let Some(source) = body.u32(3) {
            let value = self.value(source, part.of)?;
            self.does(json!({"mangle": {"key": part.left, "value": value}}));
            return Some(());
        }
        let order = part.of.order;
        let mut loaded = Loaded::of(vec![part], order);
        loaded.tells = match key {
            field::META_NFPROTO | field::META_PROTOCOL => Some(Tells::Network),
            field::META_L4PROTO => Some(Tells::Transport),
            _ => None,
        };
        self.store(body.u32(1)?, loaded)
    }

    fn ct(&mut self, body: Attributes<'_>) -> Option<()> {
        let v6 = self.known.network == Some(10);
        let part = field::ct(body.u32(2)?, body.number(3), v6)?;
        match body.u32(4) {
            Some(source) => {
                let value = self.value(source, part.of)?;
                self.does(json!({"mangle": {"key": part.left, "value": value}}));
                Some(())
            }
            None => self.load(body.u32(1)?, part),
        }
    }

    fn payload(&mut self, body: Attributes<'_>) -> Option<()> {
        // With a source register it writes to the packet.
        let register = body.u32(1)?;
        let (base, offset, length) = (body.u32(2)?, body.u32(3)?, body.u32(4)?);
        let parts = field::payload(self.known, base, offset, length);
        if parts.is_some() {
            self.forget_implied(base);
        }
        let mut loaded = Loaded::of(
            parts.unwrap_or_else(|| vec![field::raw(base, offset, length)]),
            Order::Network,
        );
        loaded.raw = Some((base, offset, length));
        self.store(register, loaded)
    }

    /// The field's name says what this match said.
    fn forget_implied(&mut self, base: u32) {
        let icmp = matches!(self.known.transport, Some(1 | 58));
        let network = base == field::NETWORK || (base == field::TRANSPORT && icmp);
        let transport = base == field::TRANSPORT && self.known.transport.is_some();
        for (implied, told) in [
            (&mut self.implied.network, network),
            (&mut self.implied.transport, transport),
        ] {
            if let Some(at) = implied.take_if(|at| told && *at >= self.effects) {
                self.statements[at] = Value::Null;
            }
        }
    }

    fn numgen(&mut self, body: Attributes<'_>) -> Option<()> {
        let mode = if body.u32(3)? == 1 { "random" } else { "inc" };
        let left = json!({"numgen": {"mode": mode, "mod": body.u32(2)?, "offset": body.u32(4).unwrap_or(0)}});
        let part = Part {
            left,
            of: &super::datatype::HOST_INTEGER,
            size: 4,
        };
        self.load(body.u32(1)?, part)
    }

    fn bitwise(&mut self, body: Attributes<'_>) -> Option<()> {
        // NFT_BITWISE_BOOL, the only one with a mask.
        if body.u32(6).unwrap_or(0) != 0 {
            return None;
        }
        let bytes = |kind| Some(body.nested(kind)?.get(VALUE)?.to_vec());
        let mut loaded = self.register(body.u32(1)?)?.clone();
        if loaded.bits.is_some() || loaded.parts.len() != 1 {
            return None;
        }
        loaded.bits = Some(Bits {
            and: bytes(4)?,
            xor: bytes(5)?,
            order: loaded.order,
        });
        loaded.tells = None;
        self.store(body.u32(2)?, loaded)
    }

    fn byteorder(&mut self, body: Attributes<'_>) -> Option<()> {
        let mut loaded = self.register(body.u32(1)?)?.clone();
        loaded.order = match loaded.order {
            Order::Host => Order::Network,
            Order::Network => Order::Host,
        };
        self.store(body.u32(2)?, loaded)
    }

    /// A comparison of a register with a constant.
    fn compare(&mut self, body: Attributes<'_>) -> Option<()> {
        let at = slot(body.u32(1)?)?;
        let data = body.nested(3)?.get(VALUE)?;
        // It is put back: the next comparison may be of the same register.
        let loaded = self.registers.get_mut(at)?.take()?;
        let done = self.compare_with(&loaded, at, body.u32(2)?, data);
        self.registers[at] = Some(loaded);
        done
    }

    fn compare_with(&mut self, loaded: &Loaded, at: usize, op: u32, data: &[u8]) -> Option<()> {
        if let (Some((before, 5, low)), 3) = (self.compared.take(), op)
            && before == at
        {
            self.statements.pop();
            return self.between(loaded, "==", &low, data);
        }
        self.compared = Some((at, op, data.to_vec()));
        let word = *["==", "!=", "<", "<=", ">", ">="].get(op as usize)?;
        if loaded.bits.is_some() {
            return self.compare_masked(loaded, word, data);
        }
        match loaded.parts.as_slice() {
            [only] => {
                let right = loaded.spell(only, data, self.context);
                self.matches(word, only.left.clone(), right);
                self.learn(loaded, word, data);
            }
            _ if word != "==" => {
                let (base, offset, length) = loaded.raw?;
                let raw = field::raw(base, offset, length);
                let right = raw.of.spell(data, Order::Network, self.context.interfaces);
                self.matches(word, raw.left, right);
            }
            parts => {
                let mut at = 0;
                for part in parts {
                    let right = loaded.spell(part, data.get(at..at + part.size)?, self.context);
                    self.matches(word, part.left.clone(), right);
                    at += part.size;
                }
            }
        }
        Some(())
    }

    /// What the match just made says of the packet's headers.
    fn learn(&mut self, loaded: &Loaded, word: &str, data: &[u8]) {
        if word != "==" {
            return;
        }
        let at = self.statements.len() - 1;
        let by_field = |name: &str| {
            let field = loaded.parts[0]
                .left
                .get("payload")
                .and_then(|p| p.get("field"));
            field.and_then(Value::as_str) == Some(name)
        };
        match loaded.tells {
            Some(Tells::Network) => {
                self.known.network = match data {
                    [2] | [0x08, 0x00] => Some(2),
                    [10] | [0x86, 0xdd] => Some(10),
                    _ => return,
                };
                self.implied.network = Some(at);
            }
            Some(Tells::Transport) => {
                self.known.transport = data.first().copied();
                self.implied.transport = Some(at);
            }
            None if by_field("protocol") || by_field("nexthdr") => {
                self.known.transport = data.first().copied();
            }
            None => {}
        }
    }

    fn compare_masked(&mut self, loaded: &Loaded, word: &str, data: &[u8]) -> Option<()> {
        let part = loaded.parts.first()?;
        let Bits {
            and: mask,
            xor,
            order,
        } = loaded.bits.as_ref()?;
        if xor.iter().any(|byte| *byte != 0) {
            return None;
        }
        if *part.of == DSCP {
            // Six bits of its byte, or of the two bytes behind the version.
            let shift = match mask.as_slice() {
                [0xfc] => 2,
                [0x0f, 0xc0] => 6,
                _ => return None,
            };
            let value = number(data, Order::Network)? >> shift;
            self.matches(word, part.left.clone(), json!(value as u64));
            return Some(());
        }
        let nothing = data.iter().all(|byte| *byte == 0);
        if part.of.is_flags() && nothing && matches!(word, "!=" | "==") {
            let word = if word == "!=" { "in" } else { "!" };
            let right = part.of.spell(mask, *order, self.context.interfaces);
            self.matches(word, part.left.clone(), right);
            return Some(());
        }
        if part.of.is_address()
            && let Some(length) = prefix_length(mask)
            && matches!(word, "==" | "!=")
        {
            self.matches(word, part.left.clone(), prefix(data, length)?);
            return Some(());
        }
        let left = loaded.masked(self.context)?;
        let right = if nothing {
            json!(0)
        } else {
            loaded.spell(part, data, self.context)
        };
        self.matches(word, left, right);
        Some(())
    }

    fn between(&mut self, loaded: &Loaded, word: &str, low: &[u8], high: &[u8]) -> Option<()> {
        let left = loaded.masked(self.context)?;
        let part = loaded.parts.first()?;
        let spell = |bytes| loaded.spell(part, bytes, self.context);
        let right = json!({"range": [spell(low), spell(high)]});
        self.matches(word, left, right);
        Some(())
    }

    fn range(&mut self, body: Attributes<'_>) -> Option<()> {
        let loaded = self.register(body.u32(1)?)?.clone();
        let word = if body.u32(2)? == 0 { "==" } else { "!=" };
        let data = |kind| body.nested(kind)?.get(VALUE);
        self.between(&loaded, word, data(3)?, data(4)?)
    }

    /// The key a set is asked for: as many registers as it has bytes.
    fn key(&self, register: u32, set: &SetInfo) -> Option<Value> {
        if set.types.len() == 1 {
            return self.register(register)?.masked(self.context);
        }
        let (mut at, mut taken) = (slot(register)?, 0);
        let mut parts = Vec::new();
        while taken < set.key_size {
            let loaded = self.registers.get(at)?.as_ref()?;
            if loaded.parts.len() == 1 {
                parts.push(loaded.masked(self.context)?);
            } else {
                parts.extend(loaded.parts.iter().map(|part| part.left.clone()));
            }
            let size: usize = loaded
                .parts
                .iter()
                .map(|part| part.size.next_multiple_of(4))
                .sum();
            at += size / 4;
            taken += size;
        }
        Some(json!({ "concat": parts }))
    }

    fn lookup(&mut self, body: Attributes<'_>) -> Option<()> {
        let name = body.text(1)?;
        let set = self.context.sets.get(name)?;
        let left = self.key(body.u32(2)?, set)?;
        let right = if set.anonymous {
            object([("set", set.elements.clone().into())])
        } else {
            json!(format!("@{name}"))
        };
        match (body.u32(3), set.data) {
            (Some(0), Data::Verdict) => {
                let body = object([("key", left), ("data", right)]);
                self.does(object([("vmap", body)]));
            }
            (Some(register), Data::Value(of)) => {
                let part = Part {
                    left: json!({"map": {"key": left, "data": right}}),
                    of,
                    size: of.size.max(4),
                };
                self.load(register, part)?;
            }
            (None, Data::None) => {
                let inverted = body.u32(5).unwrap_or(0) & 1 != 0;
                self.matches(if inverted { "!=" } else { "==" }, left, right);
            }
            _ => return None,
        }
        Some(())
    }

    fn immediate(&mut self, body: Attributes<'_>) -> Option<()> {
        let data = body.nested(2)?;
        if let Some(verdict) = data.nested(VERDICT) {
            self.does(statement::verdict(verdict)?);
            return Some(());
        }
        let mut loaded = Loaded::of(Vec::new(), Order::Host);
        loaded.constant = Some(data.get(VALUE)?.to_vec());
        self.store(body.u32(1)?, loaded)
    }

    /// What a statement takes from a register, as a value of this type.
    fn value(&self, register: u32, of: &Type) -> Option<Value> {
        let loaded = self.register(register)?;
        if let Some(bytes) = &loaded.constant {
            return Some(of.spell(bytes, of.order, self.context.interfaces));
        }
        let left = loaded.parts.first()?.left.clone();
        let Some(Bits { and, xor, order }) = &loaded.bits else {
            return Some(left);
        };
        let all = u128::MAX >> (128 - 8 * and.len().clamp(1, 16));
        let (and, xor) = (number(and, *order)?, number(xor, *order)?);
        let plain = |number: u128| json!(number as u64);
        Some(match (and, xor) {
            (and, 0) => json!({"&": [left, plain(and)]}),
            (and, xor) if and == all => json!({"^": [left, plain(xor)]}),
            (and, xor) if and == !xor & all => json!({"|": [left, plain(xor)]}),
            (and, xor) => json!({"^": [{"&": [left, plain(and)]}, plain(xor)]}),
        })
    }

    /// `enum nft_nat_attributes`
    fn nat(&mut self, body: Attributes<'_>) -> Option<()> {
        use super::datatype::{IPV4, IPV6, PORT};
        let name = if body.u32(1)? == 0 { "snat" } else { "dnat" };
        let v6 = body.u32(2)? == 10;
        let mut statement = json!({});
        if let Some(address) = self.span(body, (3, 4), if v6 { &IPV6 } else { &IPV4 })? {
            statement["family"] = json!(if v6 { "ip6" } else { "ip" });
            statement["addr"] = address;
        }
        if let Some(port) = self.span(body, (5, 6), &PORT)? {
            statement["port"] = port;
        }
        self.does(json!({ name: statement }));
        Some(())
    }

    /// The registers of a lowest and a highest value; they may be the same.
    #[expect(
        clippy::option_option,
        reason = "not there is not the same as not known"
    )]
    fn span(
        &self,
        body: Attributes<'_>,
        (low, high): (u16, u16),
        of: &Type,
    ) -> Option<Option<Value>> {
        let Some(register) = body.u32(low) else {
            return Some(None);
        };
        let first = self.value(register, of)?;
        let last = body.u32(high).map(|register| self.value(register, of));
        Some(Some(match last {
            Some(Some(last)) if last != first => json!({"range": [first, last]}),
            Some(None) => return None,
            _ => first,
        }))
    }

    /// `masquerade`, `redirect`: `port` is the attribute of the lowest port, the highest follows it.
    fn translate(&mut self, name: &str, body: Attributes<'_>, port: u16) -> Option<()> {
        let ports = self.span(body, (port, port + 1), &super::datatype::PORT)?;
        let statement = ports.map_or(Value::Null, |port| json!({ "port": port }));
        self.does(json!({ name: statement }));
        Some(())
    }

    /// `enum nft_dynset_attributes`; with expressions of its own it may say no, and nft is asked for its text.
    fn dynset(&mut self, body: Attributes<'_>) -> Option<()> {
        const DATA: u16 = 5;
        const TIMEOUT: u16 = 6;
        const EXPR: u16 = 7;
        const EXPRESSIONS: u16 = 10;
        let name = body.text(1)?;
        let set = self.context.sets.get(name)?;
        let own = [DATA, EXPR, EXPRESSIONS];
        // Milliseconds; 0 is the set's own.
        let timeout = body.get(TIMEOUT).unwrap_or_default();
        if own.iter().any(|own| body.get(*own).is_some()) || timeout.iter().any(|byte| *byte != 0) {
            return None;
        }
        let op = ["add", "update", "delete"].get(body.u32(3)? as usize)?;
        let elem = self.key(body.u32(4)?, set)?;
        self.does(json!({"set": {"op": op, "elem": elem, "set": format!("@{name}")}}));
        Some(())
    }
}

impl Loaded {
    fn of(parts: Vec<Part>, order: Order) -> Self {
        Self {
            parts,
            order,
            bits: None,
            constant: None,
            raw: None,
            tells: None,
        }
    }

    /// A value it is compared with; shorter than the field, it is the beginning of one.
    fn spell(&self, part: &Part, bytes: &[u8], context: &Context<'_>) -> Value {
        if part.of.is_address() && part.size < part.of.size {
            let mut whole = bytes.to_vec();
            whole.resize(part.of.size, 0);
            return prefix(&whole, 8 * part.size as u32).unwrap_or(Value::Null);
        }
        part.of.spell(bytes, self.order, context.interfaces)
    }

    /// The field, with its mask.
    fn masked(&self, context: &Context<'_>) -> Option<Value> {
        let [part] = self.parts.as_slice() else {
            let (base, offset, length) = self.raw?;
            return Some(field::raw(base, offset, length).left);
        };
        let Some(Bits {
            and: mask,
            xor,
            order,
        }) = &self.bits
        else {
            return Some(part.left.clone());
        };
        if xor.iter().any(|byte| *byte != 0) {
            return None;
        }
        let mask = if part.of.is_address() {
            prefix(mask, 8 * mask.len() as u32)?
                .get("prefix")?
                .get("addr")?
                .clone()
        } else {
            part.of.spell(mask, *order, context.interfaces)
        };
        Some(object([("&", vec![part.left.clone(), mask].into())]))
    }
}
