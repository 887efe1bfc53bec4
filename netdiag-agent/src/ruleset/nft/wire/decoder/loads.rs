//! Expressions that fill a register, or change what it holds.

use serde_json::{Value, json};

use super::super::attr::Attributes;
use super::super::datatype::{HOST_INTEGER, Order};
use super::super::field::{self, Part};
use super::super::statement;
use super::loaded::{Bits, Loaded, Tells};
use super::{Decoder, VALUE, constant};

/// `NFTA_DATA_VERDICT`
const VERDICT: u16 = 2;

impl Decoder<'_> {
    pub(super) fn meta(&mut self, body: Attributes<'_>) -> Option<()> {
        let key = body.u32(2)?;
        let part = field::meta(key)?;
        if let Some(source) = body.u32(3) {
            return self.mangle(source, &part);
        }
        let mut loaded = Loaded::field(part);
        loaded.tells = match key {
            field::META_NFPROTO | field::META_PROTOCOL => Some(Tells::Network),
            field::META_L4PROTO => Some(Tells::Transport),
            _ => None,
        };
        self.store(body.u32(1)?, loaded)
    }

    pub(super) fn ct(&mut self, body: Attributes<'_>) -> Option<()> {
        let v6 = self.known.network == Some(10);
        let part = field::ct(body.u32(2)?, body.number(3), v6)?;
        match body.u32(4) {
            Some(source) => self.mangle(source, &part),
            None => self.load(body.u32(1)?, part),
        }
    }

    pub(super) fn payload(&mut self, body: Attributes<'_>) -> Option<()> {
        // With a source register it writes to the packet.
        let register = body.u32(1)?;
        let (base, offset, length) = (body.u32(2)?, body.u32(3)?, body.u32(4)?);
        let parts = field::payload(self.known, base, offset, length);
        if parts.is_some() {
            self.forget_implied(base);
        }
        let parts = parts.unwrap_or_else(|| vec![field::raw(base, offset, length)]);
        let mut loaded = Loaded::of(parts, Order::Network);
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

    pub(super) fn fib(&mut self, body: Attributes<'_>) -> Option<()> {
        let part = field::fib(body.u32(2)?, body.u32(3)?)?;
        self.load(body.u32(1)?, part)
    }

    pub(super) fn numgen(&mut self, body: Attributes<'_>) -> Option<()> {
        let mode = if body.u32(3)? == 1 { "random" } else { "inc" };
        let left = json!({"numgen": {"mode": mode, "mod": body.u32(2)?, "offset": body.u32(4).unwrap_or(0)}});
        let part = Part {
            left,
            of: &HOST_INTEGER,
            size: 4,
        };
        self.load(body.u32(1)?, part)
    }

    /// `enum nft_hash_attributes`: of the packet's flow, or of the fields in so many bytes of registers.
    pub(super) fn hash(&mut self, body: Attributes<'_>) -> Option<()> {
        const SYMMETRIC: u32 = 1;
        let mut hash = json!({"mod": body.u32(4)?});
        if let Some(offset) = body.u32(6).filter(|offset| *offset != 0) {
            hash["offset"] = json!(offset);
        }
        let name = if body.u32(7) == Some(SYMMETRIC) {
            "symhash"
        } else {
            if let Some(seed) = body.u32(5) {
                hash["seed"] = json!(seed);
            }
            let mut fields = self.fields(body.u32(1)?, body.u32(3)? as usize)?;
            hash["expr"] = match fields.len() {
                1 => fields.remove(0),
                _ => json!({ "concat": fields }),
            };
            "jhash"
        };
        let part = Part {
            left: json!({ name: hash }),
            of: &HOST_INTEGER,
            size: 4,
        };
        self.load(body.u32(2)?, part)
    }

    pub(super) fn immediate(&mut self, body: Attributes<'_>) -> Option<()> {
        let data = body.nested(2)?;
        if let Some(verdict) = data.nested(VERDICT) {
            self.does(statement::verdict(verdict)?);
            return Some(());
        }
        let mut loaded = Loaded::of(Vec::new(), Order::Host);
        loaded.constant = Some(data.get(VALUE)?.to_vec());
        self.store(body.u32(1)?, loaded)
    }

    pub(super) fn bitwise(&mut self, body: Attributes<'_>) -> Option<()> {
        // NFT_BITWISE_BOOL, the only one with a mask.
        if body.u32(6).unwrap_or(0) != 0 {
            return None;
        }
        let mut loaded = self.register(body.u32(1)?)?.clone();
        if loaded.bits.is_some() || loaded.parts.len() != 1 {
            return None;
        }
        loaded.bits = Some(Bits {
            and: constant(body, 4)?.to_vec(),
            xor: constant(body, 5)?.to_vec(),
            order: loaded.order,
        });
        loaded.tells = None;
        self.store(body.u32(2)?, loaded)
    }

    pub(super) fn byteorder(&mut self, body: Attributes<'_>) -> Option<()> {
        let mut loaded = self.register(body.u32(1)?)?.clone();
        loaded.order = match loaded.order {
            Order::Host => Order::Network,
            Order::Network => Order::Host,
        };
        self.store(body.u32(2)?, loaded)
    }
}
