//! `CONNTRACK_FULL`: no room for a new connection in the conntrack table.

use super::{Page, Rule, death};
use crate::event::Refuser;
use crate::flow::drops::{Backend, DropKind};
use crate::verdict::case::Case;
use crate::verdict::finding::Finding;
use crate::verdict::firewall;
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
            how_we_know: "The packet was dropped at its first netfilter hook without a conntrack entry, while the namespace's conntrack `drop` counter rose and its entries stood at the limit. With kprobes conntrack itself says so of this very packet.",
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
        let refuser = found.group.drop.refusal.as_ref().map(|refusal| refusal.by);
        let seen = match refuser {
            Some(Refuser::Conntrack) => true,
            Some(Refuser::Unknown) | None => false,
            Some(_) => return None,
        };
        let netns = found.group.spot.netns?;
        let counter = |name| case.inventory.counter_delta(netns, name);
        let dropped = counter("conntrack.drop").unwrap_or(0);
        let (entries, limit) = (
            case.inventory.counter(netns, "conntrack.entries")?,
            case.inventory.counter(netns, "conntrack.limit")?,
        );
        // The table may have shrunk a little between the drop and the reading.
        if entries * 10 < limit * 9 {
            return None;
        }
        let others = counter("conntrack.insert_failed").unwrap_or(0) >= dropped;
        if !seen && (dropped == 0 || others || by_rule(case)) {
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
        let mut finding = death(self.cause(), found);
        if dropped > 0 {
            finding = finding.counter("conntrack.drop", dropped);
        }
        Some(
            finding
                .component(component)
                .gauge("conntrack.entries", entries)
                .gauge("conntrack.limit", limit)
                .remedy(summary, commands),
        )
    }
}

/// A rule of the raw table, which comes before conntrack, certainly drops this packet.
fn by_rule(case: &Case<'_>) -> bool {
    let dropped = firewall::dropped(case);
    dropped.is_some_and(|dropped| dropped.rule().is_some_and(|rule| rule.certain))
}
