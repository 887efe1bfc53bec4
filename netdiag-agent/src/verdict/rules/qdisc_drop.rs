//! `QDISC_DROP`: a queue on the way out was full, or shaped the packet away.

use super::{Page, Rule, death};
use crate::flow::drops::DropKind;
use crate::verdict::case::Case;
use crate::verdict::finding::Finding;
use crate::verdict::types::{Cause, Component};

#[derive(Debug)]
pub struct QdiscDrop;

impl Rule for QdiscDrop {
    fn cause(&self) -> Cause {
        Cause("QDISC_DROP")
    }

    fn page(&self) -> Page {
        Page {
            what_happened: "The queueing discipline of an interface dropped the packet: its queue was full, or a shaper's or policer's rate was exceeded.",
            how_we_know: "The kernel freed it with reason QDISC_DROP, QDISC_OVERLIMIT, CPU_BACKLOG or FULL_RING at that interface.",
            what_else: "A bandwidth limit set by the CNI's bandwidth plugin (pod annotations) is such a shaper.",
            what_to_do: "`tc -s qdisc` shows which queue drops; raise its limit or rate, or find who sends too much.",
        }
    }

    fn judge(&self, case: &Case<'_>) -> Option<Finding> {
        let found = case.death_of(|kind| kind == DropKind::Qdisc)?;
        let interface = found.group.ifname.as_deref().unwrap_or("DEVICE");
        let component = Component {
            kind: "qdisc".to_owned(),
            name: Some(interface.to_owned()),
            ..Component::default()
        };
        let summary = format!("the queue of {interface} drops packets");
        let commands = [format!("tc -s qdisc show dev {interface}")];
        Some(
            death(self.cause(), found)
                .component(component)
                .remedy(summary, commands),
        )
    }
}
