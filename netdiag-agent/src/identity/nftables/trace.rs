//! What the kernel tells of the packets our table marked: the rule or policy that ended each.

use std::collections::HashMap;
use std::io;

use super::channel::Channel;
use super::encode::{Append, Message, SUBSYSTEM};
use super::read;
use crate::event::{Packet, Ruled};
use crate::ruleset::Family;
use crate::ruleset::nft::wire::attr::Attributes;

/// `NFNLGRP_NFTRACE`
const GROUP: u32 = 9;
/// `NFT_MSG_TRACE`, `NFT_MSG_GETRULE`
const TRACE: u16 = 17;
const GET_RULE: u8 = 7;

/// `enum nft_trace_attributes`
mod kind {
    pub const TABLE: u16 = 1;
    pub const CHAIN: u16 = 2;
    pub const RULE: u16 = 3;
    pub const TYPE: u16 = 4;
    pub const VERDICT: u16 = 5;
    pub const ID: u16 = 6;
    pub const NETWORK: u16 = 8;
    pub const TRANSPORT: u16 = 9;
    pub const MARK: u16 = 13;
    pub const POLICY: u16 = 16;
}

/// `enum nft_trace_types`
const POLICY: u32 = 1;
const RULE: u32 = 3;

/// Packets whose headers are remembered: the kernel sends them once for each chain it begins.
const MAX_PACKETS: usize = 1024;

/// Listens in the namespace it was made in.
pub struct Listener {
    news: Channel,
    /// For questions.
    asking: Channel,
    headers: HashMap<u32, Packet>,
}

impl Listener {
    pub fn open() -> io::Result<Self> {
        let mut news = Channel::open()?;
        news.join(GROUP)?;
        Ok(Self {
            news,
            asking: Channel::open()?,
            headers: HashMap::new(),
        })
    }

    /// Every packet that was dropped since the last call, with what dropped it.
    pub fn dropped(&mut self) -> io::Result<Vec<(Packet, Ruled)>> {
        let mut found = Vec::new();
        loop {
            let headers = &mut self.headers;
            let read = self.news.news(|answer| {
                if answer.kind == u16::from(SUBSYSTEM) << 8 | TRACE {
                    let family = read::family(answer.family);
                    found
                        .extend(family.and_then(|family| step(headers, family, answer.attributes)));
                }
            });
            match read {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        for (_, ruled) in &mut found {
            ruled.number = self.number(ruled).ok().flatten();
        }
        Ok(found)
    }

    /// Which rule of its chain that is, counted from 1: iptables knows its rules by that.
    fn number(&mut self, ruled: &Ruled) -> io::Result<Option<u32>> {
        let (Some(handle), Some(family)) = (ruled.handle, Family::from_name(&ruled.family)) else {
            return Ok(None);
        };
        let ask = |message: Message| message.text(1, &ruled.table).text(2, &ruled.chain);
        let handles = self
            .asking
            .dump(GET_RULE, read::number(family), ask, |answer| {
                let rule = Attributes(answer.attributes);
                let own = rule.text(1) == Some(&ruled.table) && rule.text(2) == Some(&ruled.chain);
                rule.number(3).filter(|_| own)
            })?;
        let at = handles.iter().position(|known| *known == handle);
        Ok(at.map(|at| at as u32 + 1))
    }
}

fn step(
    headers: &mut HashMap<u32, Packet>,
    family: Family,
    attributes: &[u8],
) -> Option<(Packet, Ruled)> {
    let trace = Attributes(attributes);
    let id = trace.u32(kind::ID)?;
    if let Some(network) = trace.get(kind::NETWORK) {
        let transport = trace.get(kind::TRANSPORT).unwrap_or_default();
        if headers.len() >= MAX_PACKETS {
            headers.clear();
        }
        if let Some(packet) = super::header::packet(network, transport) {
            let mark = trace.u32(kind::MARK).unwrap_or_default();
            headers.insert(id, Packet { mark, ..packet });
        }
    }
    let handle = match trace.u32(kind::TYPE)? {
        // NF_DROP is 0 in both.
        POLICY if trace.u32(kind::POLICY) == Some(0) => None,
        RULE if trace.nested(kind::VERDICT)?.u32(1)? == 0 => Some(trace.number(kind::RULE)?),
        _ => return None,
    };
    let ruled = Ruled {
        family: family.name().into(),
        table: trace.text(kind::TABLE)?.into(),
        chain: trace.text(kind::CHAIN)?.into(),
        handle,
        number: None,
    };
    Some((headers.get(&id)?.clone(), ruled))
}
