//! Masquerade as ip-masq-agent lays it out: one chain, a RETURN for each exempt network, all else translated.

use anyhow::Result;

use super::Case;
use crate::plan::Family;
use crate::topology::nft_tool;

const CHAIN: &str = "IP-MASQ-AGENT";

/// In place of the node's own masquerade.
fn agent(case: &Case, exempt: &[String]) -> Result<()> {
    let run = |words: &[&str]| {
        let words = [&["-w", "-t", "nat"], words].concat();
        case.node.netns.run(nft_tool(case.family), &words).map(drop)
    };
    let comment = |text: &'static str| ["-m", "comment", "--comment", text];
    let led = comment("ip-masq-agent: traffic that leaves goes through its chain");
    let exempted = comment("ip-masq-agent: local traffic keeps its source");
    let last = comment("ip-masq-agent: all else is subject to MASQUERADE");
    run(&["-F", "POSTROUTING"])?;
    run(&["-N", CHAIN])?;
    let to_chain = ["-m", "addrtype", "!", "--dst-type", "LOCAL", "-j", CHAIN];
    run(&[&["-A", "POSTROUTING"], &led[..], &to_chain].concat())?;
    let link_local = match case.family {
        Family::V4 => "169.254.0.0/16",
        Family::V6 => "fe80::/10",
    };
    for network in std::iter::once(link_local).chain(exempt.iter().map(String::as_str)) {
        run(&[
            &["-A", CHAIN, "-d", network],
            &exempted[..],
            &["-j", "RETURN"],
        ]
        .concat())?;
    }
    run(&[&["-A", CHAIN], &last[..], &["-j", "MASQUERADE"]].concat())
}

/// An address that has no way back to pods is among the exempt networks.
pub fn exempt_too_much(case: &Case) -> Result<()> {
    let stranger = format!("{}/{}", case.broken(), case.family.bits());
    agent(case, &[case.addresses().pods.clone(), stranger])
}

/// The pods' own network is not among them.
pub fn exempt_too_little(case: &Case) -> Result<()> {
    agent(case, &[])
}
