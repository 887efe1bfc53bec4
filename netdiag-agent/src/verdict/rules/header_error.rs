//! `HEADER_ERROR`: a malformed IP header.

use super::{Page, Rule, counted, death, unexplained_at_input_routing};
use crate::flow::drops::DropKind;
use crate::verdict::case::{Case, Death};
use crate::verdict::finding::Finding;
use crate::verdict::types::{Cause, Component, Confidence};

#[derive(Debug)]
pub struct HeaderError;

impl Rule for HeaderError {
    fn cause(&self) -> Cause {
        Cause("HEADER_ERROR")
    }

    fn page(&self) -> Page {
        Page {
            what_happened: "The packet's headers are malformed or truncated: wrong version or length, an option that cannot be parsed.",
            how_we_know: "The kernel freed it with reason IP_INHDR, IP_INADDRERRORS, PKT_TOO_SMALL or HDR_TRUNC; the IpInHdrErrors counter rises. Older kernels give no reason where received packets are routed: then the counter alone says so, and it is inferred.",
            what_else: "A broken tunnel or NIC offload, a program with a raw socket, or an attack.",
            what_to_do: "Capture the packet at the interface before this hop and find out who builds it.",
        }
    }

    fn judge(&self, case: &Case<'_>) -> Option<Finding> {
        let (found, confidence) = match case.death_of(|kind| kind == DropKind::Header) {
            Some(found) => (found, Confidence::Proven),
            None => (suspected(case)?, Confidence::Inferred),
        };
        let device = found.group.ifname.as_deref().unwrap_or("any");
        let component = Component {
            kind: "packet".to_owned(),
            ..Component::default()
        };
        let source = found.group.packet.as_ref()?.tuple.src.ip();
        let summary = format!("{source} sends packets with malformed headers");
        let commands = [format!("tcpdump -ni {device} -vvv host {source}")];
        let finding = death(self.cause(), found)
            .component(component)
            .remedy(summary, commands);
        let finding = match counted(case, found, IN_HEADER_ERRORS) {
            Some(delta) => finding.counter(IN_HEADER_ERRORS, delta),
            None => finding,
        };
        Some(Finding {
            confidence,
            ..finding
        })
    }
}

const IN_HEADER_ERRORS: &str = "Ip.InHdrErrors";

/// Dropped where it was routed, for no reason given, while the namespace counted a broken header.
fn suspected<'a>(case: &Case<'a>) -> Option<Death<'a>> {
    let found = unexplained_at_input_routing(case)?;
    counted(case, found, IN_HEADER_ERRORS).map(|_| found)
}
