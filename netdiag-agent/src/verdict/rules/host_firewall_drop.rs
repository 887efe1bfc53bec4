//! `HOST_FIREWALL_DROP`: a netfilter rule or policy of this node dropped or rejected the packet.

use super::{Page, Rule, death};
use crate::verdict::case::Case;
use crate::verdict::finding::Finding;
use crate::verdict::firewall;
use crate::verdict::types::Cause;

#[derive(Debug)]
pub struct HostFirewallDrop;

impl Rule for HostFirewallDrop {
    fn cause(&self) -> Cause {
        Cause("HOST_FIREWALL_DROP")
    }

    fn page(&self) -> Page {
        Page {
            what_happened: "A rule or chain policy of iptables (legacy or nft) or of an nftables table on this node dropped or rejected the packet.",
            how_we_know: "The kernel freed the packet in a netfilter hook (reason NETFILTER_DROP, or the function nft_do_chain / nf_hook_slow); its stack or route names the hook. An ICMP error or RST made in the same moment means REJECT.",
            what_else: "A full conntrack table and an exhausted SNAT port range also end in a netfilter hook; the conntrack counters tell them apart.",
            what_to_do: "List the rules of the named hook with counters, find the one whose counter moves with each attempt, and remove or narrow it. Where a firewall manager owns the chain, change its configuration instead.",
        }
    }

    fn judge(&self, case: &Case<'_>) -> Option<Finding> {
        let dropped = firewall::dropped(case)?;
        let v6 = case.flow.tuple.is_ipv6();
        let finding = death(self.cause(), dropped.death).component(dropped.component(v6));
        let finding = dropped.tell(finding);
        if let Some(undo) = dropped.undo() {
            return Some(finding.remedy(undo.summary, undo.commands));
        }
        let hook = dropped.chain().unwrap_or("a netfilter hook");
        let verb = if dropped.verdict == "REJECT" {
            "rejects"
        } else {
            "drops"
        };
        let summary = format!(
            "a firewall rule or policy in {hook} {verb} {}",
            case.flow.tuple
        );
        Some(finding.remedy(summary, commands(dropped.backend(), v6, dropped.chain())))
    }
}

fn commands(backend: Option<&str>, v6: bool, chain: Option<&str>) -> Vec<String> {
    let chain = chain.unwrap_or("FORWARD");
    // The filter table has no PREROUTING and POSTROUTING.
    let table = match chain {
        "PREROUTING" => "-t raw ",
        "POSTROUTING" => "-t mangle ",
        _ => "",
    };
    let iptables = if v6 { "ip6tables" } else { "iptables" };
    let legacy = format!("{iptables}-legacy {table}-nvL {chain} --line-numbers");
    let nft = format!(
        "nft -a list ruleset | grep -n -B12 -E 'drop|reject' # look for hook {}",
        chain.to_lowercase()
    );
    match backend {
        Some("legacy") => vec![legacy],
        Some(_) => vec![
            format!("{iptables}-nft {table}-nvL {chain} --line-numbers"),
            nft,
        ],
        None => vec![legacy, nft],
    }
}
