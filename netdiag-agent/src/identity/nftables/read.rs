//! All tables of a namespace, as the kernel sends them.

use std::io;

use super::channel::Channel;
use super::encode::{Append, Message};
use crate::ruleset::Family;
use crate::ruleset::nft::wire::Messages;
use crate::ruleset::nft::wire::attr::Attributes;

/// `enum nf_tables_msg_types`
mod ask {
    pub const TABLES: u8 = 1;
    pub const CHAINS: u8 = 4;
    pub const RULES: u8 = 7;
    pub const SETS: u8 = 10;
    pub const ELEMENTS: u8 = 13;
}

/// `NFTA_*_TABLE` of all objects, `NFTA_TABLE_NAME`, and the name of a set in both of its messages.
const TABLE: u16 = 1;
const SET: u16 = 2;

const UNSPEC: u8 = 0;

/// `NFPROTO_*`
const FAMILIES: [(Family, u8); 6] = [
    (Family::Inet, 1),
    (Family::Ip, 2),
    (Family::Arp, 3),
    (Family::Netdev, 5),
    (Family::Bridge, 7),
    (Family::Ip6, 10),
];

pub fn family(number: u8) -> Option<Family> {
    let known = FAMILIES.iter().find(|(_, known)| *known == number);
    known.map(|(family, _)| *family)
}

pub fn number(family: Family) -> u8 {
    let known = FAMILIES.iter().find(|(known, _)| *known == family);
    known.map_or(UNSPEC, |(_, number)| *number)
}

/// An object, and the table it belongs to.
struct Object {
    family: u8,
    table: String,
    attributes: Vec<u8>,
}

/// A table by family and name.
pub type Named = (Family, String);

/// What there is, without rules and elements.
pub struct Contents {
    channel: Channel,
    tables: Vec<Object>,
    chains: Vec<Object>,
    sets: Vec<Object>,
}

impl Contents {
    /// Of the calling thread's namespace.
    pub fn read() -> io::Result<Self> {
        let mut channel = Channel::open()?;
        Ok(Self {
            tables: objects(&mut channel, ask::TABLES)?,
            chains: objects(&mut channel, ask::CHAINS)?,
            sets: objects(&mut channel, ask::SETS)?,
            channel,
        })
    }

    /// All but tables of our own, which decide nothing.
    pub fn tables(&self) -> Vec<Named> {
        let others = self
            .tables
            .iter()
            .filter(|table| !table.table.starts_with(super::NAME_PREFIX));
        let named = |table: &Object| Some((family(table.family)?, table.table.clone()));
        others.filter_map(named).collect()
    }

    /// The whole of one table.
    pub fn table(&mut self, (of, name): &Named) -> io::Result<Messages> {
        let is = |object: &&Object| object.family == number(*of) && object.table == *name;
        let all = |objects: &[Object]| -> Vec<Vec<u8>> {
            let own = objects.iter().filter(is);
            own.map(|object| object.attributes.clone()).collect()
        };
        let mut messages = Messages {
            table: all(&self.tables).pop().unwrap_or_default(),
            chains: all(&self.chains),
            ..Messages::default()
        };
        let ask = |message: Message| message.text(TABLE, name);
        messages.rules = self.channel.dump(ask::RULES, number(*of), ask, |answer| {
            // Kernels that do not filter answer with all tables.
            let own = Attributes(answer.attributes).text(TABLE) == Some(name);
            own.then(|| answer.attributes.to_vec())
        })?;
        for set in all(&self.sets) {
            let elements = match Attributes(&set).text(SET) {
                Some(set) => self.elements(*of, name, set)?,
                None => Vec::new(),
            };
            messages.sets.push((set, elements));
        }
        Ok(messages)
    }

    fn elements(&mut self, of: Family, table: &str, set: &str) -> io::Result<Vec<Vec<u8>>> {
        let ask = |message: Message| message.text(TABLE, table).text(SET, set);
        self.channel.dump(ask::ELEMENTS, number(of), ask, |answer| {
            Some(answer.attributes.to_vec())
        })
    }
}

fn objects(channel: &mut Channel, kind: u8) -> io::Result<Vec<Object>> {
    channel.dump(
        kind,
        UNSPEC,
        |message| message,
        |answer| {
            Some(Object {
                family: answer.family,
                table: Attributes(answer.attributes).text(TABLE)?.to_owned(),
                attributes: answer.attributes.to_vec(),
            })
        },
    )
}
