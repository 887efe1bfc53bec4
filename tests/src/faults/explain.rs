//! Rules whose matches only the kernel can decide: what they look at, no event tells.

use anyhow::Result;

use super::{Case, broken};
use crate::plan::Family;
use crate::server::port;
use crate::topology::nft_tool;

/// Two drops of nft without counters. One waits for more traffic than there is, the other for none.
pub fn quotas(case: &Case) -> Result<()> {
    table(case, &format!("tcp dport {}", broken::TCP))
}

/// The same for the answers.
pub fn quotas_of_answers(case: &Case) -> Result<()> {
    table(case, &format!("tcp sport {}", broken::TCP))
}

fn table(case: &Case, which: &str) -> Result<()> {
    let text = format!(
        "table inet corpfw {{\n chain never {{ quota over 100 mbytes drop\n }}\n\
         chain always {{ quota over 0 bytes drop\n }}\n\
         chain guard {{ type filter hook forward priority 10; policy accept; {which} jump never; {which} jump always; }}\n}}\n"
    );
    case.node.netns.feed("nft", &["-f", "-"], &text).map(drop)
}

/// Two drops of iptables that look at bytes of the packet; both are met, by different conversations.
pub fn bytes(case: &Case) -> Result<()> {
    // Behind an IP header without options: source port and destination port.
    let ports = match case.family {
        Family::V4 => 20,
        Family::V6 => 40,
    };
    for port in [port::TCP[2], broken::TCP] {
        let test = format!("{ports}&0xffff={port:#x}");
        let words = [
            "-w", "-A", "FORWARD", "-p", "tcp", "-m", "u32", "--u32", &test, "-j", "DROP",
        ];
        case.node.netns.run(nft_tool(case.family), &words)?;
    }
    Ok(())
}
