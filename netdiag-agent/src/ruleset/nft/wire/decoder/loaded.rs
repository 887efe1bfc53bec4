//! What a register holds.

use serde_json::{Value, json};

use super::super::datatype::{Order, Type, number, prefix};
use super::super::field::{self, Part};
use super::super::{Context, object};

#[derive(Clone, Debug)]
pub struct Loaded {
    /// One field, or several that stand side by side.
    pub parts: Vec<Part>,
    pub order: Order,
    pub bits: Option<Bits>,
    /// It is a constant, not a field.
    pub constant: Option<Vec<u8>>,
    /// Base, offset and length of the bytes, for when they are compared other than field by field.
    pub raw: Option<(u32, u32, u32)>,
    /// The statement that says the same of the packet as these bytes do, when compared for equality.
    pub tells: Option<Tells>,
}

/// And and xor of a bitwise operation, in the order the register had then.
#[derive(Clone, Debug)]
pub struct Bits {
    pub and: Vec<u8>,
    pub xor: Vec<u8>,
    pub order: Order,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tells {
    Network,
    Transport,
}

impl Loaded {
    pub fn of(parts: Vec<Part>, order: Order) -> Self {
        Self {
            parts,
            order,
            bits: None,
            constant: None,
            raw: None,
            tells: None,
        }
    }

    pub fn field(part: Part) -> Self {
        let order = part.of.order;
        Self::of(vec![part], order)
    }

    /// A value it is compared with; shorter than the field, it is the beginning of one.
    pub fn spell(&self, part: &Part, bytes: &[u8], context: &Context<'_>) -> Value {
        if part.of.is_address() && part.size < part.of.size {
            let mut whole = bytes.to_vec();
            whole.resize(part.of.size, 0);
            return prefix(&whole, 8 * part.size as u32).unwrap_or(Value::Null);
        }
        part.of.spell(bytes, self.order, context.interfaces)
    }

    /// The field, with its mask.
    pub fn masked(&self, context: &Context<'_>) -> Option<Value> {
        let [part] = self.parts.as_slice() else {
            return Some(self.nameless()?.left);
        };
        let Some(bits) = &self.bits else {
            return Some(part.left.clone());
        };
        let mask = bits.mask()?;
        let mask = if part.of.is_address() {
            prefix(mask, 8 * mask.len() as u32)?
                .get("prefix")?
                .get("addr")?
                .clone()
        } else {
            part.of.spell(mask, bits.order, context.interfaces)
        };
        Some(object([("&", vec![part.left.clone(), mask].into())]))
    }

    /// Its bytes, whatever fields they are.
    pub fn nameless(&self) -> Option<Part> {
        let (base, offset, length) = self.raw?;
        Some(field::raw(base, offset, length))
    }

    /// What a statement takes from it, as a value of this type.
    pub fn value(&self, of: &Type, context: &Context<'_>) -> Option<Value> {
        if let Some(bytes) = &self.constant {
            return Some(of.spell(bytes, of.order, context.interfaces));
        }
        let left = &self.parts.first()?.left;
        match &self.bits {
            Some(bits) => bits.applied_to(left),
            None => Some(left.clone()),
        }
    }
}

impl Bits {
    /// The mask, when that is all there is.
    pub fn mask(&self) -> Option<&[u8]> {
        let plain = self.xor.iter().all(|byte| *byte == 0);
        plain.then_some(&self.and)
    }

    fn applied_to(&self, left: &Value) -> Option<Value> {
        let all = u128::MAX >> (128 - 8 * self.and.len().clamp(1, 16));
        let number = |bytes: &[u8]| number(bytes, self.order);
        let plain = |number: u128| json!(number as u64);
        Some(match (number(&self.and)?, number(&self.xor)?) {
            (and, 0) => json!({"&": [left, plain(and)]}),
            (and, xor) if and == all => json!({"^": [left, plain(xor)]}),
            (and, xor) if and == !xor & all => json!({"|": [left, plain(xor)]}),
            (and, xor) => json!({"^": [{"&": [left, plain(and)]}, plain(xor)]}),
        })
    }
}
