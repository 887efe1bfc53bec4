//! Expressions that ask a set, or change it.

use serde_json::{Value, json};

use super::super::attr::Attributes;
use super::super::field::Part;
use super::super::object;
use super::super::set::{Data, SetInfo};
use super::{Decoder, slot};

impl Decoder<'_> {
    pub(super) fn lookup(&mut self, body: Attributes<'_>) -> Option<()> {
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

    /// `enum nft_dynset_attributes`; with expressions of its own it may say no, and nft is asked for its text.
    pub(super) fn dynset(&mut self, body: Attributes<'_>) -> Option<()> {
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

    /// The key a set is asked for: as many registers as it has bytes.
    fn key(&self, register: u32, set: &SetInfo) -> Option<Value> {
        if set.types.len() == 1 {
            return self.register(register)?.masked(self.context);
        }
        let parts = self.fields(register, set.key_size)?;
        Some(json!({ "concat": parts }))
    }

    /// What stands in so many bytes of registers.
    pub(super) fn fields(&self, register: u32, bytes: usize) -> Option<Vec<Value>> {
        let (mut at, mut taken) = (slot(register)?, 0);
        let mut parts = Vec::new();
        while taken < bytes {
            let loaded = self.registers.get(at)?.as_ref()?;
            match loaded.parts.as_slice() {
                // A constant, which does not say how many bytes of it are meant.
                [] => return None,
                [_] => parts.push(loaded.masked(self.context)?),
                several => parts.extend(several.iter().map(|part| part.left.clone())),
            }
            let sizes = loaded.parts.iter().map(|part| part.size);
            let size: usize = sizes.map(|size| size.next_multiple_of(4)).sum();
            at += size / 4;
            taken += size;
        }
        Some(parts)
    }
}
