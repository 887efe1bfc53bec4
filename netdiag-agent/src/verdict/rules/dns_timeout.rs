//! `DNS_TIMEOUT`: a DNS question without an answer.

use super::{Page, Rule};
use crate::verdict::case::Case;
use crate::verdict::finding::Finding;
use crate::verdict::types::{Cause, Confidence, Outcome};

#[derive(Debug)]
pub struct DnsTimeout;

impl Rule for DnsTimeout {
    fn cause(&self) -> Cause {
        Cause("DNS_TIMEOUT")
    }

    fn page(&self) -> Page {
        Page {
            what_happened: "A DNS query was sent and no answer to it came back in time.",
            how_we_know: "The query's id was seen going out and never coming back; nothing on this node dropped it.",
            what_else: "The server is down or overloaded, its own upstream does not answer, or something between here and there drops UDP port 53.",
            what_to_do: "Ask the same server directly over TCP and over UDP, then another server; trace the DNS pod's own upstream queries next.",
        }
    }

    fn judge(&self, case: &Case<'_>) -> Option<Finding> {
        let query = case.unanswered_query()?;
        if !case.deadline_passed() || case.death().is_some() || case.icmp_refusal().is_some() {
            return None;
        }
        let unanswered = case
            .flow
            .queries
            .iter()
            .filter(|query| query.answered.is_none())
            .count();
        let server = case.flow.tuple.dst;
        let left = case.left_node();
        let outcome = if left {
            Outcome::LeftNodeNoAnswer
        } else {
            Outcome::Undetermined
        };
        // Silence beyond this node is all that was seen; what made it can only be guessed.
        let finding = Finding::new(outcome, self.cause(), Confidence::Inferred)
            .evidence(
                "tc:ingress",
                Some(unanswered as u64),
                format!("query id {:#06x} without an answer", query.id),
            )
            .suspect(
                "dns_server",
                format!(
                    "{} is down, overloaded or waits for its own upstream; `dig +tcp @{}` decides",
                    case.responder_address(),
                    server.ip()
                ),
            )
            .suspect(
                "firewall",
                "UDP port 53 is dropped on the way there or back; a capture at the server decides",
            );
        let summary = format!("the DNS server {server} does not answer");
        Some(finding.remedy(
            summary,
            [
                format!("dig +time=2 +tries=1 @{} . NS", server.ip()),
                format!("dig +tcp +time=2 +tries=1 @{} . NS", server.ip()),
            ],
        ))
    }
}
