//! Sets, maps and their elements.

use serde_json::{Value, json};

use super::super::super::model::Family;
use super::attr::Attributes;
use super::comment;
use super::datatype::{Interfaces, Order, Type, address, number, ordered, types};
use super::statement::verdict;

/// What rules need to know of a set.
pub struct SetInfo {
    pub types: Vec<&'static Type>,
    pub key_size: usize,
    /// `None`: a set, or a map to something other than verdicts.
    pub data: Data,
    pub anonymous: bool,
    /// Keys, or pairs of key and data.
    pub elements: Vec<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    None,
    Verdict,
    Value(&'static Type),
}

/// `enum nft_set_attributes`, `enum nft_set_elem_attributes`
mod kind {
    pub const NAME: u16 = 2;
    pub const FLAGS: u16 = 3;
    pub const KEY_TYPE: u16 = 4;
    pub const KEY_SIZE: u16 = 5;
    pub const DATA_TYPE: u16 = 6;
    pub const SET_USERDATA: u16 = 13;
    pub const ELEMENTS: u16 = 3;
    pub const KEY: u16 = 1;
    pub const DATA: u16 = 2;
    pub const ELEMENT_FLAGS: u16 = 3;
    pub const USERDATA: u16 = 6;
    pub const KEY_END: u16 = 10;
    pub const VALUE: u16 = 1;
    pub const VERDICT: u16 = 2;
}

/// `enum nft_set_flags`
mod flag {
    pub const ANONYMOUS: u32 = 1;
    pub const INTERVAL: u32 = 4;
    pub const MAP: u32 = 8;
    pub const OBJECT: u32 = 0x40;
}

const VERDICT_TYPE: u32 = 0xffff_ff00;

/// A set and its name; `None` when it is of no form known here.
pub fn read<'a>(
    set: Attributes<'a>,
    messages: &[Vec<u8>],
    interfaces: &Interfaces,
) -> Option<(&'a str, SetInfo)> {
    let flags = set.u32(kind::FLAGS).unwrap_or_default();
    let data = match set.u32(kind::DATA_TYPE) {
        _ if flags & (flag::MAP | flag::OBJECT) == 0 => Data::None,
        Some(VERDICT_TYPE) => Data::Verdict,
        Some(id) => Data::Value(types(id).into_iter().next()?),
        None => Data::Value(types(0).into_iter().next()?),
    };
    let mut info = SetInfo {
        types: ordered(set.u32(kind::KEY_TYPE)?, host_keys(set)),
        key_size: set.u32(kind::KEY_SIZE)? as usize,
        data,
        anonymous: flags & flag::ANONYMOUS != 0,
        elements: Vec::new(),
    };
    let elements: Vec<_> = messages
        .iter()
        .filter_map(|message| Attributes(message).nested(kind::ELEMENTS))
        .flatten()
        .filter_map(|(_, element)| Element::read(Attributes(element)))
        .collect();
    let intervals = flags & flag::INTERVAL != 0 && info.types.len() == 1;
    info.elements = if intervals {
        info.intervals(elements, interfaces)
    } else {
        let order = |of: &Type| {
            if flags & flag::INTERVAL == 0 {
                of.order
            } else {
                Order::Network
            }
        };
        let mut elements = elements;
        elements.sort_by_cached_key(|element| info.rank(element, order));
        let pairs = elements.iter().map(|element| {
            let key = info.key(element, order, interfaces);
            info.member(key, element, interfaces)
        });
        pairs.collect()
    };
    Some((set.text(kind::NAME)?, info))
}

/// nft notes the byte order of the keys where the kernel does not look: type 0, four bytes, 1 is the host's.
fn host_keys(set: Attributes<'_>) -> bool {
    let userdata = set.get(kind::SET_USERDATA).unwrap_or_default();
    matches!(userdata, [0, 4, order @ ..] if order.starts_with(&1_u32.to_ne_bytes()))
}

struct Element<'a> {
    /// `None`: it matches what no other does.
    key: Option<&'a [u8]>,
    /// Of a concatenation with ranges.
    key_end: Option<&'a [u8]>,
    /// The first value behind an interval.
    is_end: bool,
    data: Option<Attributes<'a>>,
    comment: Option<&'a str>,
}

impl<'a> Element<'a> {
    fn read(element: Attributes<'a>) -> Option<Self> {
        let value = |kind| element.nested(kind)?.get(kind::VALUE);
        let flags = element.u32(kind::ELEMENT_FLAGS).unwrap_or_default();
        let key = value(kind::KEY);
        // NFT_SET_ELEM_CATCHALL is 2.
        (key.is_some() || flags & 2 != 0).then(|| Self {
            key,
            key_end: value(kind::KEY_END),
            is_end: flags & 1 != 0,
            data: element.nested(kind::DATA),
            comment: element.get(kind::USERDATA).and_then(comment),
        })
    }
}

impl SetInfo {
    /// As `nft -j` lists it; rules hold their anonymous sets themselves.
    pub fn object(&self, family: Family, table: &str, name: &str) -> Option<Value> {
        if self.anonymous {
            return None;
        }
        let names: Vec<_> = self.types.iter().map(|of| of.name).collect();
        let mut body = json!({"family": family.name(), "table": table, "name": name});
        body["type"] = if let [only] = names.as_slice() {
            json!(only)
        } else {
            json!(names)
        };
        if !self.elements.is_empty() {
            body["elem"] = self.elements.clone().into();
        }
        let data = match self.data {
            Data::None => return Some(json!({ "set": body })),
            Data::Verdict => "verdict",
            Data::Value(of) => of.name,
        };
        body["map"] = json!(data);
        Some(json!({ "map": body }))
    }

    fn member(&self, key: Value, element: &Element<'_>, interfaces: &Interfaces) -> Value {
        let key = match element.comment {
            Some(comment) => json!({"elem": {"val": key, "comment": comment}}),
            None => key,
        };
        let data = element.data;
        match self.data {
            Data::None => key,
            Data::Verdict => {
                let verdict = data.and_then(|data| verdict(data.nested(kind::VERDICT)?));
                json!([key, verdict.unwrap_or(Value::Null)])
            }
            Data::Value(of) => {
                let value = data.and_then(|data| data.get(kind::VALUE));
                let value =
                    value.map_or(Value::Null, |bytes| of.spell(bytes, of.order, interfaces));
                json!([key, value])
            }
        }
    }

    fn key(
        &self,
        element: &Element<'_>,
        order: impl Fn(&Type) -> Order,
        interfaces: &Interfaces,
    ) -> Value {
        let Some(key) = element.key else {
            return json!("*");
        };
        if let [only] = self.types.as_slice() {
            return only.spell(key, order(only), interfaces);
        }
        let low = self.parts(key);
        let high = element.key_end.map(|end| self.parts(end));
        let parts = low.iter().enumerate().map(|(at, (of, low))| {
            let spell = |part: &[u8]| of.spell(part, order(of), interfaces);
            match high.as_ref().and_then(|high| high.get(at)) {
                Some((_, high)) if high != low => json!({"range": [spell(low), spell(high)]}),
                _ => spell(low),
            }
        });
        json!({ "concat": parts.collect::<Vec<_>>() })
    }

    /// The parts of a key, each padded to four bytes.
    fn parts<'k>(&self, key: &'k [u8]) -> Vec<(&'static Type, &'k [u8])> {
        let mut rest = key;
        let parts = self.types.iter().map(|of| {
            // An integer's size is the set's secret, unless it stands last.
            let size = if of.size > 0 { of.size } else { rest.len() };
            let part = rest.get(..size).unwrap_or_default();
            rest = rest.get(size.next_multiple_of(4)..).unwrap_or_default();
            (*of, part)
        });
        parts.collect()
    }

    /// nft lists by value; the kernel's order means nothing.
    fn rank(
        &self,
        element: &Element<'_>,
        order: impl Fn(&Type) -> Order,
    ) -> (bool, Vec<Option<u128>>) {
        let key = element.key.unwrap_or_default();
        let parts = self.parts(key).into_iter();
        let numbers = parts.map(|(of, part)| number(part, order(of)));
        (element.key.is_none(), numbers.collect())
    }

    /// The kernel keeps the first value of each interval and the first behind it.
    fn intervals(&self, mut elements: Vec<Element<'_>>, interfaces: &Interfaces) -> Vec<Value> {
        let of = self.types[0];
        let value = |element: &Element<'_>| number(element.key?, Order::Network);
        // Where one interval ends and the next begins, the end comes first.
        elements.sort_by_key(|element| (element.key.is_none(), value(element), !element.is_end));
        let mut found = Vec::new();
        for (at, element) in elements.iter().enumerate() {
            if element.is_end {
                continue;
            }
            let key = match (element.key, value(element)) {
                (None, _) => json!("*"),
                (Some(key), Some(low)) if !of.is_name() => {
                    let next = elements[at + 1..].iter().find_map(value);
                    let last = u128::MAX >> (128 - 8 * key.len().clamp(1, 16));
                    let high = next.map_or(last, |next| next.saturating_sub(1).max(low));
                    span(of, (low, high), key.len(), interfaces)
                }
                _ => Value::Null,
            };
            found.push(self.member(key, element, interfaces));
        }
        found
    }
}

/// One value, a prefix where it is one, else a range.
fn span(of: &Type, (low, high): (u128, u128), size: usize, interfaces: &Interfaces) -> Value {
    let bytes = |number: u128| number.to_be_bytes()[16 - size.min(16)..].to_vec();
    let spell = |number| of.spell(&bytes(number), Order::Network, interfaces);
    if low == high {
        return spell(low);
    }
    let hosts = low ^ high;
    let is_prefix = hosts & hosts.wrapping_add(1) == 0 && low & hosts == 0;
    if is_prefix && of.is_address() {
        let length = 8 * size as u32 - hosts.count_ones();
        if let Some(address) = address(&bytes(low)) {
            return json!({"prefix": {"addr": address.to_string(), "len": length}});
        }
    }
    json!({"range": [spell(low), spell(high)]})
}
