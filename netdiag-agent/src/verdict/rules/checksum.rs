//! `CHECKSUM`: a wrong checksum.

use super::{Page, Rule, counted, death, unexplained_at_socket};
use crate::event::Proto;
use crate::flow::drops::DropKind;
use crate::verdict::case::{Case, Death};
use crate::verdict::finding::Finding;
use crate::verdict::types::{Cause, Component, Confidence};

#[derive(Debug)]
pub struct Checksum;

impl Rule for Checksum {
    fn cause(&self) -> Cause {
        Cause("CHECKSUM")
    }

    fn page(&self) -> Page {
        Page {
            what_happened: "The IP, TCP, UDP or ICMP checksum of the packet is wrong: the receiver discarded it.",
            how_we_know: "The kernel freed it with reason TCP_CSUM, UDP_CSUM, ICMP_CSUM or IP_CSUM; the receiving namespace's InCsumErrors rises. Older kernels give no reason: then the counter alone says so, and it is inferred.",
            what_else: "Usually not corruption but offload: a NIC, virtual switch or VXLAN device that was trusted to fill in the checksum and did not.",
            what_to_do: "Switch the suspected offload off and try again: `ethtool -K DEV tx off`, or tx-checksum-ip-generic on the tunnel device.",
        }
    }

    fn judge(&self, case: &Case<'_>) -> Option<Finding> {
        let (found, confidence) = match case.death_of(|kind| kind == DropKind::Checksum) {
            Some(found) => (found, Confidence::Proven),
            None => (suspected(case)?, Confidence::Inferred),
        };
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
        if let Some((name, delta)) = counter(case, found) {
            finding = finding.counter(name, delta);
        }
        Some(Finding {
            confidence,
            ..finding
        })
    }
}

/// Freed by the receiver for no reason given, while its namespace counted a wrong checksum.
fn suspected<'a>(case: &Case<'a>) -> Option<Death<'a>> {
    let found = unexplained_at_socket(case)?;
    counter(case, found).map(|_| found)
}

/// The counter of the receiving namespace that has moved; TCP counts for both families.
fn counter(case: &Case<'_>, death: Death<'_>) -> Option<(&'static str, u64)> {
    let tuple = &case.flow.tuple;
    let name = match (tuple.proto, tuple.is_ipv6()) {
        (Proto::TCP, _) => "Tcp.InCsumErrors",
        (Proto::UDP, false) => "Udp.InCsumErrors",
        (Proto::UDP, true) => "Udp6.InCsumErrors",
        _ => return None,
    };
    Some((name, counted(case, death, name)?))
}
