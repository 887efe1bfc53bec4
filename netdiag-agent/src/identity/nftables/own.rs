//! A table of our own that marks the packets of a flow for the kernel's rule trace.
//!
//! The kernel removes a table that has an owner when the owner's socket closes, whatever ended the process (Linux 5.12).
//! Older kernels keep it; there it carries the process in its name, and the next start removes what has lost its process.

use std::fs;
use std::io;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST};

use super::channel::Channel;
use super::encode::{Append, Message, Nest};
use super::expression as expr;
use super::read;
use crate::ruleset::Family;
use crate::ruleset::nft::wire::attr::Attributes;

/// Begins the name of each of our tables.
pub const NAME_PREFIX: &str = "netdiag_trace_";

/// `NFT_MSG_*`
mod message {
    pub const NEW_TABLE: u8 = 0;
    pub const GET_TABLE: u8 = 1;
    pub const DELETE_TABLE: u8 = 2;
    pub const NEW_CHAIN: u8 = 3;
    pub const NEW_RULE: u8 = 6;
}

/// `NFNL_MSG_BATCH_BEGIN`, `NFNL_MSG_BATCH_END`
const BATCH: (u16, u16) = (0x10, 0x11);
/// `NFT_TABLE_F_OWNER`
const OWNER: u32 = 2;
/// `NFTA_TABLE_FLAGS`, and the attribute all objects have: their table's name.
const FLAGS: u16 = 2;
const TABLE: u16 = 1;

/// `NF_INET_PRE_ROUTING`, `NF_INET_LOCAL_OUT`, and the same of a bridge.
const HOOKS: [(&str, u32); 2] = [("prerouting", 0), ("output", 3)];
/// Behind defragmentation (-400), in front of the raw tables (-300).
const EARLY: i32 = -399;
/// Behind conntrack (-200), in front of mangle (-150).
const TRACKED: i32 = -199;

/// Rules in one chain; a scope that would need more is no flow's.
const MAX_RULES: usize = 64;

/// Whose packets are marked.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Of the traced pod; empty: the node is traced.
    pub addresses: Vec<IpAddr>,
    /// Empty: all.
    pub targets: Vec<(Option<IpAddr>, Option<u16>)>,
    /// Connections are tracked here already, so that asking for them changes nothing.
    pub tracked: bool,
    /// Bridges have rules of their own here.
    pub bridge: bool,
}

/// What a rule asks of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    pub source: Option<IpAddr>,
    pub destination: Option<IpAddr>,
    pub source_port: Option<u16>,
    pub destination_port: Option<u16>,
}

impl Scope {
    /// In front of conntrack: packets as they are.
    pub fn packets(&self) -> Vec<Ends> {
        let pods: Vec<Option<IpAddr>> = self.addresses.iter().copied().map(Some).collect();
        let any = [None];
        let pods = if pods.is_empty() { &any[..] } else { &pods };
        if self.targets.is_empty() {
            let both = pods.iter().flat_map(|pod| {
                let from = Ends {
                    source: *pod,
                    ..Ends::default()
                };
                [from, from.reversed()]
            });
            return both.collect();
        }
        let mut found = Vec::new();
        for (address, port) in &self.targets {
            let to = Ends {
                destination: *address,
                destination_port: *port,
                ..Ends::default()
            };
            let is_pod = address.is_some_and(|address| self.addresses.contains(&address));
            for pod in pods.iter().filter(|_| !is_pod) {
                found.push(Ends { source: *pod, ..to });
            }
            if is_pod {
                found.push(to);
            }
            // Behind SNAT the answer is for the node.
            found.push(to.reversed());
        }
        found.retain(Ends::is_one_version);
        found.dedup();
        found
    }

    /// Behind conntrack: what connections were before any translation.
    pub fn connections(&self) -> Vec<Ends> {
        let all = self.packets();
        all.into_iter()
            .filter(|ends| ends.source_port.is_none() && ends.source.is_some())
            .collect()
    }
}

impl Ends {
    const fn reversed(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
        }
    }

    fn is_one_version(&self) -> bool {
        match (self.source, self.destination) {
            (Some(a), Some(b)) => a.is_ipv4() == b.is_ipv4(),
            _ => true,
        }
    }
}

/// The table, as long as this lives.
pub struct Own {
    channel: Channel,
    name: String,
    families: Vec<Family>,
}

impl Own {
    /// In the calling thread's namespace.
    pub fn create(scope: &Scope) -> io::Result<Self> {
        let (packets, connections) = (scope.packets(), scope.connections());
        if packets.len() > MAX_RULES {
            let why = "too many addresses and destinations to trace rules for; narrow them by --to";
            return Err(io::Error::other(why));
        }
        let bare = packets.contains(&Ends::default());
        if bare {
            let why = "every packet would be traced; name a pod, or a destination by --to";
            return Err(io::Error::other(why));
        }
        let mut own = Self {
            channel: Channel::open()?,
            name: format!("{NAME_PREFIX}{}", Maker::this()?),
            families: Vec::new(),
        };
        let bridge = scope.bridge.then_some(Family::Bridge);
        for family in [Some(Family::Inet), bridge].into_iter().flatten() {
            let tracked = scope.tracked && family == Family::Inet;
            let connections = if tracked { connections.as_slice() } else { &[] };
            own.add(family, &packets, connections)?;
            own.families.push(family);
        }
        Ok(own)
    }

    fn add(&mut self, family: Family, packets: &[Ends], connections: &[Ends]) -> io::Result<()> {
        match self.try_add(family, OWNER, packets, connections) {
            // A flag the kernel does not know.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => {
                self.try_add(family, 0, packets, connections)
            }
            done => done,
        }
    }

    fn try_add(
        &mut self,
        family: Family,
        flags: u32,
        packets: &[Ends],
        connections: &[Ends],
    ) -> io::Result<()> {
        let new = |kind| Message::new(kind, NLM_F_REQUEST | NLM_F_CREATE, read::number(family));
        let mut batch = vec![
            Message::of(BATCH.0, NLM_F_REQUEST, 0, 10),
            new(message::NEW_TABLE)
                .text(TABLE, &self.name)
                .u32(FLAGS, flags),
        ];
        for (hook, number) in HOOKS {
            for (stage, priority, ends) in [
                ("packets", EARLY, packets),
                ("connections", TRACKED, connections),
            ] {
                if ends.is_empty() {
                    continue;
                }
                let chain = format!("{hook}_{stage}");
                batch.push(
                    new(message::NEW_CHAIN)
                        .text(TABLE, &self.name)
                        .text(3, &chain)
                        .nested(4, &Nest::default().u32(1, number).u32(2, priority as u32))
                        .text(7, "filter"),
                );
                let of_connection = priority == TRACKED;
                batch.extend(ends.iter().map(|ends| {
                    let list = expr::marking(family, *ends, of_connection);
                    new(message::NEW_RULE)
                        .text(TABLE, &self.name)
                        .text(2, &chain)
                        .nested(4, &list)
                }));
            }
        }
        self.transact(batch)
    }

    /// Sends a batch, closed by one message that is acknowledged.
    fn transact(&mut self, mut batch: Vec<Message>) -> io::Result<()> {
        if let Some(last) = batch.pop() {
            batch.push(last.flag(NLM_F_ACK));
        }
        batch.push(Message::of(BATCH.1, NLM_F_REQUEST, 0, 10));
        self.channel.send(batch)?;
        self.channel.acknowledged()
    }

    fn delete(&mut self, family: Family, name: &str) -> io::Result<()> {
        let delete = Message::new(message::DELETE_TABLE, NLM_F_REQUEST, read::number(family));
        self.transact(vec![
            Message::of(BATCH.0, NLM_F_REQUEST, 0, 10),
            delete.text(TABLE, name),
        ])
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        for family in std::mem::take(&mut self.families) {
            let name = self.name.clone();
            match self.delete(family, &name) {
                // Somebody has flushed the whole ruleset.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => tracing::warn!("remove nft table {name}: {error}"),
                Ok(()) => {}
            }
        }
    }
}

/// Removes tables of ours that have lost their process, in the calling thread's namespace. Returns how many.
pub fn sweep() -> io::Result<usize> {
    let mut channel = Channel::open()?;
    let tables = channel.dump(
        message::GET_TABLE,
        0,
        |ask| ask,
        |answer| {
            let table = Attributes(answer.attributes);
            let name = table.text(TABLE)?.to_owned();
            let owned = table.u32(FLAGS).unwrap_or_default() & OWNER != 0;
            let maker = Maker::read(name.strip_prefix(NAME_PREFIX)?)?;
            // The kernel looks after what has an owner.
            (!owned && !maker.lives()).then_some((read::family(answer.family)?, name))
        },
    )?;
    let mut own = Own {
        channel,
        name: String::new(),
        families: Vec::new(),
    };
    for (family, name) in &tables {
        own.delete(*family, name)?;
    }
    Ok(tables.len())
}

/// A process that cannot be taken for a later one of the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Maker {
    pid: u32,
    /// In ticks since boot.
    started: u64,
}

impl Maker {
    fn this() -> io::Result<Self> {
        let pid = std::process::id();
        let started = started(pid).ok_or_else(|| io::Error::other("read /proc/self/stat"))?;
        Ok(Self { pid, started })
    }

    fn read(text: &str) -> Option<Self> {
        let (pid, started) = text.split_once('_')?;
        Some(Self {
            pid: pid.parse().ok()?,
            started: started.parse().ok()?,
        })
    }

    fn lives(self) -> bool {
        started(self.pid) == Some(self.started)
    }
}

impl std::fmt::Display for Maker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}_{}", self.pid, self.started)
    }
}

/// Field 22 of /proc/PID/stat; the name in field 2 may hold anything, brackets included. A dead process that nobody has
/// waited for has ended all the same.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    let started = fields.nth(18)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(started)
}

#[cfg(test)]
#[path = "own_tests.rs"]
mod tests;
