//! `LISTEN_OVERFLOW`: the listener's accept queue is full.

use super::{Page, Rule, death, inside};
use crate::flow::drops::DropKind;
use crate::verdict::case::Case;
use crate::verdict::finding::Finding;
use crate::verdict::types::{Cause, Component, Confidence, Outcome};

#[derive(Debug)]
pub struct ListenOverflow;

impl Rule for ListenOverflow {
    fn cause(&self) -> Cause {
        Cause("LISTEN_OVERFLOW")
    }

    fn page(&self) -> Page {
        Page {
            what_happened: "The SYN reached a listening socket on this node whose accept queue is full; the kernel ignores further SYNs until the program accepts.",
            how_we_know: "The SYN was seen inside the receiver's namespace, no SYN-ACK came, and that namespace's ListenOverflows counter rose. The kernel reports no drop for it.",
            what_else: "The program hangs, is out of file descriptors, or its backlog (net.core.somaxconn) is too small for the burst.",
            what_to_do: "`ss -ltn` in the receiver's namespace: Recv-Q above Send-Q is the full queue. Look at the program; then raise its backlog and somaxconn.",
        }
    }

    fn judge(&self, case: &Case<'_>) -> Option<Finding> {
        let tuple = case.flow.tuple;
        let mut finding = if let Some(found) = case.death_of(|kind| kind == DropKind::ListenQueue) {
            death(self.cause(), found)
        } else {
            if !case.flow.is_tcp() || case.established() || case.flow.tcp.syn_ack.is_some() {
                return None;
            }
            if !case.deadline_passed() || case.death().is_some() || case.reset().is_some() {
                return None;
            }
            let responder = case.responder()?;
            let overflows = case
                .inventory
                .counter_delta(responder.netns, "TcpExt.ListenOverflows")
                .filter(|n| *n > 0)?;
            Finding {
                refused_at: Some(crate::verdict::HopName::Socket),
                ..Finding::new(Outcome::DroppedHere, self.cause(), Confidence::Proven)
            }
            .counter("TcpExt.ListenOverflows", overflows)
        };
        let port = tuple.dst.port();
        let port = case
            .flow
            .nat
            .iter()
            .find(|nat| nat.kind == crate::verdict::NatKind::Dnat)
            .map_or(port, |nat| nat.after.port());
        let socket = std::net::SocketAddr::new(case.responder_address(), port);
        let component = Component {
            kind: "socket".to_owned(),
            name: Some(socket.to_string()),
            ..Component::default()
        };
        finding = finding.component(component);
        let summary = format!("the accept queue of {socket} is full: its program does not accept");
        let look = [
            format!("ss -ltnp sport = :{port}"),
            "sysctl net.core.somaxconn".to_owned(),
        ];
        let look = look.map(|command| inside(case.responder(), &command));
        Some(finding.remedy_placed(summary, look))
    }
}
