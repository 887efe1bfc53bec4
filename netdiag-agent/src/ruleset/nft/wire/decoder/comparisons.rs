//! Comparisons of a register with constants, as matches.

use serde_json::{Value, json};

use super::super::attr::Attributes;
use super::super::datatype::{DSCP, Order, number, prefix, prefix_length};
use super::super::field::Part;
use super::loaded::{Bits, Loaded, Tells};
use super::{Decoder, constant, slot};

/// `enum nft_cmp_ops`
const OPERATORS: [&str; 6] = ["==", "!=", "<", "<=", ">", ">="];
const AT_MOST: u32 = 3;
const AT_LEAST: u32 = 5;

impl Decoder<'_> {
    pub(super) fn compare(&mut self, body: Attributes<'_>) -> Option<()> {
        let at = slot(body.u32(1)?)?;
        let data = constant(body, 3)?;
        // It is put back: the next comparison may be of the same register.
        let loaded = self.registers.get_mut(at)?.take()?;
        let done = self.compare_with(&loaded, at, body.u32(2)?, data);
        self.registers[at] = Some(loaded);
        done
    }

    fn compare_with(&mut self, loaded: &Loaded, at: usize, op: u32, data: &[u8]) -> Option<()> {
        if let (Some((before, AT_LEAST, low)), AT_MOST) = (self.compared.take(), op)
            && before == at
        {
            self.statements.pop();
            return self.between(loaded, "==", &low, data);
        }
        self.compared = Some((at, op, data.to_vec()));
        let word = *OPERATORS.get(op as usize)?;
        if let Some(bits) = &loaded.bits {
            return self.compare_masked(loaded, bits, word, data);
        }
        match loaded.parts.as_slice() {
            [only] => {
                let right = loaded.spell(only, data, self.context);
                self.matches(word, only.left.clone(), right);
                if word == "==" {
                    self.learn(loaded.tells, only, data);
                }
            }
            _ if word != "==" => {
                let raw = loaded.nameless()?;
                let right = raw.of.spell(data, Order::Network, self.context.interfaces);
                self.matches(word, raw.left, right);
            }
            parts => {
                let mut rest = data;
                for part in parts {
                    let (bytes, behind) = rest.split_at_checked(part.size)?;
                    let right = loaded.spell(part, bytes, self.context);
                    self.matches(word, part.left.clone(), right);
                    rest = behind;
                }
            }
        }
        Some(())
    }

    /// What the match just made says of the packet's headers.
    fn learn(&mut self, tells: Option<Tells>, part: &Part, data: &[u8]) {
        let at = self.statements.len() - 1;
        match tells {
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
            None => {
                let field = part.left["payload"]["field"].as_str();
                if let Some("protocol" | "nexthdr") = field {
                    self.known.transport = data.first().copied();
                }
            }
        }
    }

    fn compare_masked(
        &mut self,
        loaded: &Loaded,
        bits: &Bits,
        word: &str,
        data: &[u8],
    ) -> Option<()> {
        let part = loaded.parts.first()?;
        let mask = bits.mask()?;
        let nothing = data.iter().all(|byte| *byte == 0);
        let equality = matches!(word, "==" | "!=");
        let (word, left, right) = if *part.of == DSCP {
            (word, part.left.clone(), dscp(mask, data)?)
        } else if part.of.is_flags() && nothing && equality {
            let word = if word == "!=" { "in" } else { "!" };
            let flags = part.of.spell(mask, bits.order, self.context.interfaces);
            (word, part.left.clone(), flags)
        } else if part.of.is_address()
            && equality
            && let Some(length) = prefix_length(mask)
        {
            (word, part.left.clone(), prefix(data, length)?)
        } else {
            let right = if nothing {
                json!(0)
            } else {
                loaded.spell(part, data, self.context)
            };
            (word, loaded.masked(self.context)?, right)
        };
        self.matches(word, left, right);
        Some(())
    }

    pub(super) fn range(&mut self, body: Attributes<'_>) -> Option<()> {
        let loaded = self.register(body.u32(1)?)?.clone();
        let word = if body.u32(2)? == 0 { "==" } else { "!=" };
        self.between(&loaded, word, constant(body, 3)?, constant(body, 4)?)
    }

    fn between(&mut self, loaded: &Loaded, word: &str, low: &[u8], high: &[u8]) -> Option<()> {
        let left = loaded.masked(self.context)?;
        let part = loaded.parts.first()?;
        let spell = |bytes| loaded.spell(part, bytes, self.context);
        let right = json!({"range": [spell(low), spell(high)]});
        self.matches(word, left, right);
        Some(())
    }
}

/// Six bits of its byte, or of the two bytes behind the version.
fn dscp(mask: &[u8], data: &[u8]) -> Option<Value> {
    let shift = match mask {
        [0xfc] => 2,
        [0x0f, 0xc0] => 6,
        _ => return None,
    };
    let value = number(data, Order::Network)? >> shift;
    Some(json!(value as u64))
}
