//! `HEADER_ERROR`: a malformed IP header.

use super::{Page, Rule, death};
use crate::flow::drops::DropKind;
use crate::verdict::case::{Case, Finding};
use crate::verdict::types::{Cause, Component};

#[derive(Debug)]
pub struct HeaderError;

impl Rule for HeaderError {
    fn cause(&self) -> Cause {
        Cause("HEADER_ERROR")
    }

    fn page(&self) -> Page {
        Page {
            what_happened: "The packet's headers are malformed or truncated: wrong version or length, an option that cannot be parsed.",
            how_we_know: "The kernel freed it with reason IP_INHDR, IP_INADDRERRORS, PKT_TOO_SMALL or HDR_TRUNC; the IpInHdrErrors counter rises.",
            what_else: "A broken tunnel or NIC offload, a program with a raw socket, or an attack.",
            what_to_do: "Capture the packet at the interface before this hop and find out who builds it.",
        }
    }

    fn judge(&self, case: &Case<'_>) -> Option<Finding> {
        let found = case.death_of(|kind| kind == DropKind::Header)?;
        let device = found.group.ifname.as_deref().unwrap_or("any");
        let component = Component {
            kind: "packet".to_owned(),
            ..Component::default()
        };
        let source = found.group.packet.as_ref()?.tuple.src.ip();
        let summary = format!("{source} sends packets with malformed headers");
        let commands = [format!("tcpdump -ni {device} -vvv host {source}")];
        Some(
            death(self.cause(), found)
                .component(component)
                .remedy(summary, commands),
        )
    }
}
