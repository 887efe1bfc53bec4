//! `SOCKET_BUFFER_FULL`: the receiver does not read fast enough.

use super::{Page, Rule, counted, death, unexplained_at_socket};
use crate::event::Proto;
use crate::flow::drops::DropKind;
use crate::verdict::case::{Case, Death};
use crate::verdict::finding::Finding;
use crate::verdict::types::{Cause, Component, Confidence};

#[derive(Debug)]
pub struct SocketBufferFull;

impl Rule for SocketBufferFull {
    fn cause(&self) -> Cause {
        Cause("SOCKET_BUFFER_FULL")
    }

    fn page(&self) -> Page {
        Page {
            what_happened: "The packet reached its socket, whose receive queue was full.",
            how_we_know: "The kernel freed it with reason SOCKET_RCVBUFF (or its protocol's memory was exhausted), or the socket's queue refused it with ENOMEM.",
            what_else: "A process that hangs, is throttled by its CPU limit, or a burst larger than net.core.rmem_default.",
            what_to_do: "Look at the receiver first (is it running? throttled?); then raise SO_RCVBUF or net.core.rmem_max.",
        }
    }

    fn judge(&self, case: &Case<'_>) -> Option<Finding> {
        let (found, confidence) = match case.death_of(|kind| kind == DropKind::SocketBuffer) {
            Some(found) => (found, Confidence::Proven),
            None => (suspected(case)?, Confidence::Inferred),
        };
        let socket = found.group.packet.as_ref()?.tuple.dst;
        let component = Component {
            kind: "socket".to_owned(),
            name: Some(socket.to_string()),
            ..Component::default()
        };
        let summary = format!("the process behind {socket} does not empty its receive queue");
        let commands = [
            format!("ss -uamnp src {} sport = :{}", socket.ip(), socket.port()),
            "sysctl net.core.rmem_default net.core.rmem_max".to_owned(),
        ];
        let mut finding = death(self.cause(), found)
            .component(component)
            .remedy(summary, commands);
        if case.flow.queue_full > 0 {
            finding = finding.evidence(
                "tp_btf:udp_fail_queue_rcv_skb",
                Some(case.flow.queue_full),
                "",
            );
        }
        if let Some(delta) = counted(case, found, counter(case)) {
            finding = finding.counter(counter(case), delta);
        }
        Some(Finding {
            confidence,
            ..finding
        })
    }
}

const fn counter(case: &Case<'_>) -> &'static str {
    if case.flow.tuple.is_ipv6() {
        "Udp6.RcvbufErrors"
    } else {
        "Udp.RcvbufErrors"
    }
}

/// Freed by the receiver for no reason given, while its namespace counted a full buffer.
fn suspected<'a>(case: &Case<'a>) -> Option<Death<'a>> {
    let found = unexplained_at_socket(case).filter(|_| case.flow.tuple.proto == Proto::UDP)?;
    counted(case, found, counter(case)).map(|_| found)
}
