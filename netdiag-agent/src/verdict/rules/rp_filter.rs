//! `RP_FILTER`: reverse-path filtering dropped the packet.

use super::martian::is_impossible;
use super::{Page, Rule, counted, death, ip, route_get, towards, unexplained_at_input_routing};
use crate::flow::drops::DropKind;
use crate::verdict::case::{Case, Death};
use crate::verdict::finding::Finding;
use crate::verdict::types::{Cause, Component, Confidence};

#[derive(Debug)]
pub struct RpFilter;

impl Rule for RpFilter {
    fn cause(&self) -> Cause {
        Cause("RP_FILTER")
    }

    fn page(&self) -> Page {
        Page {
            what_happened: "The node would not route an answer to this source address out of the interface the packet came in by, so strict reverse-path filtering dropped it.",
            how_we_know: "The kernel freed the packet with reason IP_RPFILTER; the namespace's IPReversePathFilter counter rises with it. Older kernels give no reason: then the counter alone says so, and it is inferred.",
            what_else: "The sysctl may be right and the route wrong: a missing or doubled route to the source gives the same picture.",
            what_to_do: "Compare `ip route get SOURCE` with the interface the packet came in by. Add the route, or set rp_filter of that interface to 2 (loose).",
        }
    }

    fn judge(&self, case: &Case<'_>) -> Option<Finding> {
        let (found, confidence) = match case.death_of(|kind| kind == DropKind::RpFilter) {
            Some(found) => (found, Confidence::Proven),
            None => (suspected(case)?, Confidence::Inferred),
        };
        let group = found.group;
        let source = group.packet.as_ref()?.tuple.src.ip();
        let interface = group.ifname.as_deref().unwrap_or("all");
        let component = Component {
            kind: "sysctl".to_owned(),
            name: Some(format!("net.ipv4.conf.{interface}.rp_filter")),
            ..Component::default()
        };
        let commands = [
            format!("{} route get {source}", ip(source)),
            format!("{} rule", ip(source)),
            format!(
                "{} # fails while the filter drops it",
                route_get(case, found, towards(case, found))
            ),
            format!("sysctl net.ipv4.conf.all.rp_filter net.ipv4.conf.{interface}.rp_filter"),
            format!("sysctl -w net.ipv4.conf.{interface}.rp_filter=2"),
        ];
        let summary =
            format!("{source} came in by {interface}, but the route back to it leads elsewhere");
        let mut finding = death(self.cause(), found)
            .component(component)
            .remedy(summary, commands);
        if let Some(delta) = counted(case, found, COUNTER) {
            finding = finding.counter(COUNTER, delta);
        }
        Some(Finding {
            confidence,
            ..finding
        })
    }
}

const COUNTER: &str = "TcpExt.IPReversePathFilter";

/// Dropped where it was routed, for no reason given, while the namespace counted a packet from a wrong side.
fn suspected<'a>(case: &Case<'a>) -> Option<Death<'a>> {
    let found = unexplained_at_input_routing(case)?;
    let source = found.group.packet.as_ref()?.tuple.src.ip();
    counted(case, found, COUNTER)
        .filter(|_| !is_impossible(case, found, source))
        .map(|_| found)
}
