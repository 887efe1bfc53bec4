//! `CONNTRACK_FULL`: no room for a new connection in the conntrack table.

use super::{Page, Rule, death};
use crate::flow::drops::{Backend, DropKind};
use crate::verdict::case::{Case, Finding};
use crate::verdict::types::{Cause, Component};

#[derive(Debug)]
pub struct ConntrackFull;

impl Rule for ConntrackFull {
    fn cause(&self) -> Cause {
        Cause("CONNTRACK_FULL")
    }

    fn page(&self) -> Page {
        Page {
            what_happened: "The conntrack table had reached its limit: every packet of a new connection is dropped before any rule sees it.",
            how_we_know: "The packet was dropped at its first netfilter hook without a conntrack entry, while the namespace's conntrack `drop` counter rose and its entries stood at the limit.",
            what_else: "A DROP rule of the raw table looks the same but for the counters.",
            what_to_do: "Raise net.netfilter.nf_conntrack_max, find who makes so many connections (`conntrack -L`), shorten the time-outs of dead ones.",
        }
    }

    fn judge(&self, case: &Case<'_>) -> Option<Finding> {
        // nf_conntrack_in answers NF_DROP by itself: nft_do_chain is not what freed the packet.
        let found = case.death_of(
            |kind| matches!(kind, DropKind::Netfilter(backend) if backend != Some(Backend::Nft)),
        )?;
        if found.group.conntrack.is_some() {
            return None;
        }
        let netns = found.group.spot.netns?;
        let counter = |name| case.inventory.counter_delta(netns, name);
        let dropped = counter("conntrack.drop").filter(|drops| *drops > 0)?;
        let (entries, limit) = (
            case.inventory.counter(netns, "conntrack.entries")?,
            case.inventory.counter(netns, "conntrack.limit")?,
        );
        // The table may have shrunk a little between the drop and the reading.
        if counter("conntrack.insert_failed").unwrap_or(0) >= dropped || entries * 10 < limit * 9 {
            return None;
        }
        let component = Component {
            kind: "conntrack".to_owned(),
            ..Component::default()
        };
        let summary = format!("the conntrack table is full: {entries} of {limit} entries");
        let commands = [
            format!("sysctl -w net.netfilter.nf_conntrack_max={}", limit * 2),
            "conntrack -L -o extended | awk '{print $7}' | sort | uniq -c | sort -rn | head # who uses it".to_owned(),
        ];
        Some(
            death(self.cause(), found)
                .component(component)
                .counter("conntrack.drop", dropped)
                .gauge("conntrack.entries", entries)
                .gauge("conntrack.limit", limit)
                .remedy(summary, commands),
        )
    }
}
