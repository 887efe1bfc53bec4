//! Translations of a flow, read off its conntrack entry.
//!
//! An entry holds the tuple as the initiator sent it and the tuple in which the answer is expected. Where the two are not
//! each other's reverse, the kernel has translated: the answer's source is the real destination (DNAT), its destination the
//! address the outside world sees (SNAT).

use crate::event::{CT_TCP_STATES, Conntrack, CtStatus, Tuple};
use crate::verdict::types::{ConntrackState, HopName, Nat, NatKind};

/// DNAT before SNAT, as the packet meets them. `local`: the initiator is the node itself.
pub fn translations(entry: &Conntrack, local: bool) -> Vec<Nat> {
    between(&entry.orig, &entry.answer.reversed(), local, "conntrack")
}

/// What happened to a packet that was `before` and now is `after`.
pub fn between(before: &Tuple, after: &Tuple, local: bool, source: &'static str) -> Vec<Nat> {
    let mut found = Vec::new();
    if before.dst.ip() != after.dst.ip() || (before.dst != after.dst && !before.proto.is_icmp()) {
        found.push(Nat {
            kind: NatKind::Dnat,
            hop: if local {
                HopName::NfOutput
            } else {
                HopName::NfPrerouting
            },
            before: before.dst,
            after: after.dst,
            source,
        });
    }
    if before.src != after.src {
        found.push(Nat {
            kind: NatKind::Snat,
            hop: HopName::NfPostrouting,
            before: before.src,
            after: after.src,
            source,
        });
    }
    found
}

/// The entry's state in words. An entry is in the table only from its confirmation on; before that there is none.
pub fn state(entry: &Conntrack) -> ConntrackState {
    let seen_reply = entry.status.has(CtStatus::SEEN_REPLY);
    let state = if !entry.status.has(CtStatus::CONFIRMED) {
        "NONE"
    } else if entry.orig.proto == crate::event::Proto::TCP {
        CT_TCP_STATES
            .get(usize::from(entry.tcp_state))
            .copied()
            .unwrap_or("NONE")
    } else if seen_reply {
        "REPLIED"
    } else {
        "NEW"
    };
    ConntrackState {
        state,
        seen_reply,
        zone: entry.zone,
    }
}
