//! `LISTEN_OVERFLOW`: the listener's accept queue, or its queue of SYNs, is full.

use std::net::SocketAddr;

use super::{Page, Rule, death, inside};
use crate::flow::drops::DropKind;
use crate::verdict::case::Case;
use crate::verdict::finding::Finding;
use crate::verdict::types::{Cause, Component, Confidence, HopName, NatKind, Outcome};

#[derive(Debug)]
pub struct ListenOverflow;

impl Rule for ListenOverflow {
    fn cause(&self) -> Cause {
        Cause("LISTEN_OVERFLOW")
    }

    fn page(&self) -> Page {
        Page {
            what_happened: "The SYN reached a listening socket on this node whose accept queue is full; the kernel ignores further SYNs until the program accepts. Or, without SYN cookies, half-open connections fill its SYN queue.",
            how_we_know: "The SYN was seen inside the receiver's namespace, no SYN-ACK came, and that namespace's ListenOverflows counter rose (ListenDrops alone: the SYN queue, inferred). The kernel reports no drop for it.",
            what_else: "The program hangs, is out of file descriptors, or its backlog (net.core.somaxconn) is too small for the burst.",
            what_to_do: "`ss -ltn` in the receiver's namespace: Recv-Q above Send-Q is the full queue. Look at the program; then raise its backlog and somaxconn.",
        }
    }

    fn judge(&self, case: &Case<'_>) -> Option<Finding> {
        let (finding, queue) = self.freed(case).or_else(|| self.counted(case))?;
        let dnat = case.flow.nat.iter().find(|nat| nat.kind == NatKind::Dnat);
        let port = dnat.map_or(case.flow.tuple.dst, |nat| nat.after).port();
        let socket = SocketAddr::new(case.responder_address(), port);
        let component = Component {
            kind: "socket".to_owned(),
            name: Some(socket.to_string()),
            ..Component::default()
        };
        let (summary, look) = match queue {
            Queue::Accept => (
                format!("the accept queue of {socket} is full: its program does not accept"),
                [
                    format!("ss -ltnp sport = :{port}"),
                    "sysctl net.core.somaxconn".to_owned(),
                ],
            ),
            Queue::Syn => (
                format!("the SYN queue of {socket} is full of half-open connections, most likely"),
                [
                    format!("ss -tn state syn-recv sport = :{port}"),
                    "sysctl net.ipv4.tcp_max_syn_backlog net.ipv4.tcp_syncookies".to_owned(),
                ],
            ),
        };
        let look = look.map(|command| inside(case.responder(), &command));
        Some(finding.component(component).remedy_placed(summary, look))
    }
}

/// Where a listener keeps the connections it has not accepted.
#[derive(Clone, Copy)]
enum Queue {
    Accept,
    /// Their handshake is not over.
    Syn,
}

impl ListenOverflow {
    /// The kernel says why it freed the SYN.
    fn freed(&self, case: &Case<'_>) -> Option<(Finding, Queue)> {
        let found = case.death_of(|kind| kind == DropKind::ListenQueue)?;
        let queue = match found.group.drop.reason.as_deref() {
            Some("TCP_REQQFULLDROP") => Queue::Syn,
            _ => Queue::Accept,
        };
        Some((death(self.cause(), found), queue))
    }

    /// Silence, and a counter of the receiver's that rose. What is dropped for a full accept queue is counted twice, so drops
    /// alone are the other queue's, or have a rarer reason.
    fn counted(&self, case: &Case<'_>) -> Option<(Finding, Queue)> {
        let silent = case.flow.is_tcp()
            && !case.established()
            && case.flow.tcp.syn_ack.is_none()
            && case.death().is_none()
            && case.reset().is_none();
        if !silent || !case.deadline_passed() {
            return None;
        }
        let responder = case.responder()?;
        let counters = [
            ("TcpExt.ListenOverflows", Queue::Accept, Confidence::Proven),
            ("TcpExt.ListenDrops", Queue::Syn, Confidence::Inferred),
        ];
        let risen = |name| {
            let delta = case.inventory.counter_delta(responder.netns, name);
            delta.filter(|delta| *delta > 0)
        };
        counters.into_iter().find_map(|(name, queue, confidence)| {
            let finding = Finding {
                refused_at: Some(HopName::Socket),
                ..Finding::new(Outcome::DroppedHere, self.cause(), confidence)
            };
            Some((finding.counter(name, risen(name)?), queue))
        })
    }
}
