//! `CHECKSUM`: a wrong checksum.

use super::{Page, Rule, death};
use crate::flow::drops::DropKind;
use crate::verdict::case::{Case, Finding};
use crate::verdict::types::{Cause, Component};

#[derive(Debug)]
pub struct Checksum;

impl Rule for Checksum {
    fn cause(&self) -> Cause {
        Cause("CHECKSUM")
    }

    fn page(&self) -> Page {
        Page {
            what_happened: "The IP, TCP, UDP or ICMP checksum of the packet is wrong: the receiver discarded it.",
            how_we_know: "The kernel freed it with reason TCP_CSUM, UDP_CSUM, ICMP_CSUM or IP_CSUM; the receiving namespace's InCsumErrors rises.",
            what_else: "Usually not corruption but offload: a NIC, virtual switch or VXLAN device that was trusted to fill in the checksum and did not.",
            what_to_do: "Switch the suspected offload off and try again: `ethtool -K DEV tx off`, or tx-checksum-ip-generic on the tunnel device.",
        }
    }

    fn judge(&self, case: &Case<'_>) -> Option<Finding> {
        let found = case.death_of(|kind| kind == DropKind::Checksum)?;
        let interface = found.group.ifname.as_deref().unwrap_or("DEVICE");
        let component = Component {
            kind: "interface".to_owned(),
            name: Some(interface.to_owned()),
            ..Component::default()
        };
        let summary = format!(
            "packets arrive at {interface} with a wrong checksum: suspect checksum offload on the way"
        );
        let commands = [
            format!("ethtool -k {interface} | grep checksum"),
            format!("ethtool -K {interface} tx off"),
        ];
        let mut finding = death(self.cause(), found)
            .component(component)
            .remedy(summary, commands);
        if case.flow.bad_checksums > 0 {
            finding = finding.evidence("tp_btf:tcp_bad_csum", Some(case.flow.bad_checksums), "");
        }
        Some(finding)
    }
}
