//! Both ways between the mirrored event and the core's.

use std::sync::Arc;

use super::super::spell::{Address, Bytes, CtTcpState, Spell, TcpState, Text};
use super::{Conntrack, Detail, Drop, Event, Icmp, Packet, Refusal, Refuser, Route, TcpHeader};
use crate::event::{self, HookId, IfIndex, Ktime, Netns};

fn text(symbol: Option<&Arc<str>>) -> Option<String> {
    symbol.map(|symbol| symbol.as_ref().to_owned())
}

fn symbol(text: Option<String>) -> Option<Arc<str>> {
    text.map(Arc::from)
}

impl From<&event::Event> for Event {
    fn from(event: &event::Event) -> Self {
        Self {
            at: event.at.0,
            cpu: event.cpu,
            hook: event.hook.map(|hook| hook.name().to_owned()),
            netns: event.place.netns.map(|netns| netns.0),
            ifindex: event.place.ifindex.map(|index| index.0),
            ifname: text(event.place.ifname.as_ref()),
            iif: event.place.iif.map(|index| index.0),
            detail: (&event.detail).into(),
            packet: event.packet.as_ref().map(Into::into),
            conntrack: event.conntrack.as_ref().map(Into::into),
        }
    }
}

impl From<Event> for event::Event {
    fn from(event: Event) -> Self {
        Self {
            at: Ktime(event.at),
            cpu: event.cpu,
            hook: event.hook.as_deref().and_then(HookId::read),
            place: event::Place {
                netns: event.netns.map(Netns),
                ifindex: event.ifindex.map(IfIndex),
                ifname: symbol(event.ifname),
                iif: event.iif.map(IfIndex),
            },
            packet: event.packet.map(Into::into),
            conntrack: event.conntrack.map(Into::into),
            detail: event.detail.into(),
        }
    }
}

impl From<&event::Packet> for Packet {
    fn from(packet: &event::Packet) -> Self {
        Self {
            tuple: Text(packet.tuple),
            inner: packet.inner.map(Text),
            outer: packet.outer.map(Text),
            tcp: packet.tcp.map(|tcp| TcpHeader {
                flags: Text(tcp.flags),
                seq: tcp.seq,
                ack: tcp.ack,
            }),
            icmp: packet.icmp.map(Into::into),
            ttl: packet.ttl,
            ip_id: packet.ip_id,
            len: packet.len,
            dont_fragment: packet.dont_fragment,
            fragment: packet.fragment,
            mark: packet.mark,
            skb: packet.skb.map(|skb| Text(Address(skb))),
            snap: packet.snap.as_ref().map(|snap| Text(Bytes(snap.to_vec()))),
        }
    }
}

impl From<Packet> for event::Packet {
    fn from(packet: Packet) -> Self {
        Self {
            tuple: packet.tuple.0,
            inner: packet.inner.map(|tuple| tuple.0),
            outer: packet.outer.map(|tuple| tuple.0),
            tcp: packet.tcp.map(|tcp| event::TcpHeader {
                flags: tcp.flags.0,
                seq: tcp.seq,
                ack: tcp.ack,
            }),
            icmp: packet.icmp.map(Into::into),
            ttl: packet.ttl,
            ip_id: packet.ip_id,
            len: packet.len,
            dont_fragment: packet.dont_fragment,
            fragment: packet.fragment,
            mark: packet.mark,
            skb: packet.skb.map(|skb| skb.0.0),
            snap: packet.snap.map(|snap| snap.0.0.into()),
        }
    }
}

impl From<event::IcmpKind> for Icmp {
    fn from(event::IcmpKind { kind, code }: event::IcmpKind) -> Self {
        Self { kind, code }
    }
}

impl From<Icmp> for event::IcmpKind {
    fn from(Icmp { kind, code }: Icmp) -> Self {
        Self { kind, code }
    }
}

impl From<&event::Conntrack> for Conntrack {
    fn from(conntrack: &event::Conntrack) -> Self {
        Self {
            status: Text(conntrack.status),
            reply: conntrack.reply,
            related: conntrack.related,
            orig: Text(conntrack.orig),
            answer: Text(conntrack.answer),
            tcp_state: Text(CtTcpState(conntrack.tcp_state)),
            zone: conntrack.zone,
        }
    }
}

impl From<Conntrack> for event::Conntrack {
    fn from(conntrack: Conntrack) -> Self {
        Self {
            status: conntrack.status.0,
            reply: conntrack.reply,
            related: conntrack.related,
            orig: conntrack.orig.0,
            answer: conntrack.answer.0,
            tcp_state: conntrack.tcp_state.0.0,
            zone: conntrack.zone,
        }
    }
}

impl From<&event::Detail> for Detail {
    fn from(detail: &event::Detail) -> Self {
        use event::Detail as Core;
        match detail {
            Core::Seen(pass) => Self::Seen(Text(*pass)),
            Core::Dropped(drop) => Self::Dropped(drop.into()),
            Core::Refused(refusal) => Self::Refused(refusal.into()),
            Core::IcmpSent(icmp) => Self::IcmpSent((*icmp).into()),
            Core::ResetSent => Self::ResetSent,
            Core::ResetReceived => Self::ResetReceived,
            Core::Retransmitted => Self::Retransmitted,
            Core::TcpState { old, new } => Self::TcpState {
                old: Text(TcpState(*old)),
                new: Text(TcpState(*new)),
            },
            Core::SocketError(errno) => Self::SocketError(*errno),
            Core::BadChecksum => Self::BadChecksum,
            Core::Neighbour { address, state } => Self::Neighbour {
                address: *address,
                state: Text(*state),
            },
            Core::FibError(errno) => Self::FibError(*errno),
            Core::UdpQueueFull(errno) => Self::UdpQueueFull(*errno),
            Core::Dns { pass, message } => Self::Dns {
                pass: Text(*pass),
                message: Text(Bytes(message.clone())),
            },
            Core::Ruled(rule) => Self::Ruled {
                family: rule.family.as_ref().to_owned(),
                table: rule.table.as_ref().to_owned(),
                chain: rule.chain.as_ref().to_owned(),
                handle: rule.handle,
                number: rule.number,
            },
            Core::Unknown => Self::Unknown,
        }
    }
}

impl From<Detail> for event::Detail {
    fn from(detail: Detail) -> Self {
        match detail {
            Detail::Seen(pass) => Self::Seen(pass.0),
            Detail::Dropped(drop) => Self::Dropped(drop.into()),
            Detail::Refused(refusal) => Self::Refused(refusal.into()),
            Detail::IcmpSent(icmp) => Self::IcmpSent(icmp.into()),
            Detail::ResetSent => Self::ResetSent,
            Detail::ResetReceived => Self::ResetReceived,
            Detail::Retransmitted => Self::Retransmitted,
            Detail::TcpState { old, new } => Self::TcpState {
                old: old.0.0,
                new: new.0.0,
            },
            Detail::SocketError(errno) => Self::SocketError(errno),
            Detail::BadChecksum => Self::BadChecksum,
            Detail::Neighbour { address, state } => Self::Neighbour {
                address,
                state: state.0,
            },
            Detail::FibError(errno) => Self::FibError(errno),
            Detail::UdpQueueFull(errno) => Self::UdpQueueFull(errno),
            Detail::Dns { pass, message } => Self::Dns {
                pass: pass.0,
                message: message.0.0,
            },
            Detail::Ruled {
                family,
                table,
                chain,
                handle,
                number,
            } => Self::Ruled(event::Ruled {
                family: family.into(),
                table: table.into(),
                chain: chain.into(),
                handle,
                number,
            }),
            Detail::Unknown => Self::Unknown,
        }
    }
}

impl From<&event::Drop> for Drop {
    fn from(drop: &event::Drop) -> Self {
        Self {
            reason: text(drop.reason.as_ref()),
            location: text(drop.location.as_ref()),
            stack: drop
                .stack
                .iter()
                .map(|symbol| symbol.as_ref().to_owned())
                .collect(),
            route: drop.route.as_ref().map(|route| Route {
                input: text(route.input.as_ref()),
                output: text(route.output.as_ref()),
                error: route.error,
                oif: route.oif.map(|index| index.0),
            }),
        }
    }
}

impl From<Drop> for event::Drop {
    fn from(drop: Drop) -> Self {
        Self {
            reason: symbol(drop.reason),
            location: symbol(drop.location),
            stack: drop.stack.into_iter().map(Arc::from).collect(),
            route: drop.route.map(|route| event::Route {
                input: symbol(route.input),
                output: symbol(route.output),
                error: route.error,
                oif: route.oif.map(IfIndex),
            }),
            refusal: None,
        }
    }
}

impl From<&event::Refusal> for Refusal {
    fn from(refusal: &event::Refusal) -> Self {
        use event::Refuser as Core;
        Self {
            hook: refusal.hook.0,
            family: refusal.family.0,
            by: match refusal.by {
                Core::Unknown => Refuser::Unknown,
                Core::Nft => Refuser::Nft,
                Core::Legacy => Refuser::Legacy,
                Core::Conntrack => Refuser::Conntrack,
                Core::Confirm => Refuser::Confirm,
                Core::Nat => Refuser::Nat,
            },
            table_family: refusal.table_family.map(|family| family.0),
            table: text(refusal.table.as_ref()),
            chain: text(refusal.chain.as_ref()),
        }
    }
}

impl From<Refusal> for event::Refusal {
    fn from(refusal: Refusal) -> Self {
        Self {
            hook: event::NfHook(refusal.hook),
            family: event::NfFamily(refusal.family),
            by: match refusal.by {
                Refuser::Unknown => event::Refuser::Unknown,
                Refuser::Nft => event::Refuser::Nft,
                Refuser::Legacy => event::Refuser::Legacy,
                Refuser::Conntrack => event::Refuser::Conntrack,
                Refuser::Confirm => event::Refuser::Confirm,
                Refuser::Nat => event::Refuser::Nat,
            },
            table_family: refusal.table_family.map(event::NfFamily),
            table: symbol(refusal.table),
            chain: symbol(refusal.chain),
        }
    }
}
