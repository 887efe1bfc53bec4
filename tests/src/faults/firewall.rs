//! Packet filters: every hook, every back end, DROP and REJECT, request and reply.

use anyhow::Result;

use super::{Case, broken};
use crate::netns::Netns;
use crate::plan::Family;
use crate::topology::{legacy_tool, nft_tool};

fn rule(netns: &Netns, tool: &str, rule: &str) -> Result<()> {
    netns.sh(&format!("{tool} -w {rule}")).map(drop)
}

fn on_node(case: &Case, text: &str) -> Result<()> {
    rule(&case.node.netns, nft_tool(case.family), text)
}

/// iptables-nft, FORWARD, a rule.
pub fn forward_rule(case: &Case) -> Result<()> {
    on_node(
        case,
        &format!("-I FORWARD -p tcp --dport {} -j DROP", broken::TCP),
    )
}

/// Long answers only: the handshake and what acknowledges or closes gets through.
pub fn long_answers(case: &Case) -> Result<()> {
    on_node(
        case,
        &format!(
            "-I FORWARD -p tcp --sport {} -m length --length 500: -j DROP",
            broken::TCP
        ),
    )
}

/// Long questions only, of connections that stand.
pub fn reset_long_questions(case: &Case) -> Result<()> {
    on_node(
        case,
        &format!(
            "-I FORWARD -p tcp --dport {} -m length --length 500: -j REJECT --reject-with tcp-reset",
            broken::TCP
        ),
    )
}

/// Handed to a program that does not run.
pub fn queue(case: &Case) -> Result<()> {
    on_node(
        case,
        &format!(
            "-I FORWARD -p tcp --dport {} -j NFQUEUE --queue-num 7",
            broken::TCP
        ),
    )
}

/// Drops what has no ports: all fragments but the first, before conntrack puts them together.
pub fn late_fragments(case: &Case) -> Result<()> {
    let table = "table ip odd { chain early { type filter hook prerouting priority -450; ip frag-off & 0x1fff != 0 counter drop; }\n}\n";
    case.node.netns.feed("nft", &["-f", "-"], table).map(drop)
}

/// A rule of nftables' own family bridge, on frames the node itself takes up.
pub fn bridge_input(case: &Case) -> Result<()> {
    let (broken, port) = (case.broken(), &case.node.plan.names.veths[0]);
    let family = match case.family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    };
    let table = format!(
        "table bridge l2 {{ chain up {{ type filter hook input priority 0; iifname \"{port}\" {family} daddr {broken} tcp dport {} drop; }}\n}}\n",
        broken::TCP
    );
    case.node.netns.feed("nft", &["-f", "-"], &table).map(drop)
}

/// iptables-legacy, FORWARD, a rule.
pub fn forward_rule_legacy(case: &Case) -> Result<()> {
    let text = format!("-I FORWARD -p tcp --dport {} -j DROP", broken::TCP);
    rule(&case.node.netns, legacy_tool(case.family), &text)
}

/// What a chain with policy DROP lets pass: everything but the broken ports.
fn accept_all_but_broken(case: &Case, tool: &str) -> Result<()> {
    let icmp = if case.family == Family::V4 {
        "icmp"
    } else {
        "ipv6-icmp"
    };
    for text in [
        "-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT".to_owned(),
        format!("-A FORWARD -p tcp ! --dport {} -j ACCEPT", broken::TCP),
        format!("-A FORWARD -p udp ! --dport {} -j ACCEPT", broken::UDP),
        format!("-A FORWARD -p {icmp} -j ACCEPT"),
        "-P FORWARD DROP".to_owned(),
    ] {
        rule(&case.node.netns, tool, &text)?;
    }
    Ok(())
}

/// iptables-nft, FORWARD, the policy.
pub fn forward_policy(case: &Case) -> Result<()> {
    accept_all_but_broken(case, nft_tool(case.family))
}

/// iptables-legacy, FORWARD, the policy.
pub fn forward_policy_legacy(case: &Case) -> Result<()> {
    accept_all_but_broken(case, legacy_tool(case.family))
}

/// A table of its own, as nft users and firewalld make them.
pub fn forward_table(case: &Case) -> Result<()> {
    case.node
        .netns
        .feed(
            "nft",
            &["-f", "-"],
            &format!(
                "table inet corpfw {{\n chain blk {{ tcp dport {} counter drop comment \"corporate block\"; }}\n \
                 chain guard {{ type filter hook forward priority 10; policy accept; jump blk; }}\n}}\n",
                broken::TCP
            ),
        )
        .map(drop)
}

/// Two tables that both refuse the packet, without counters. The first does it by a match whose value only the kernel
/// knows when the packet passes.
pub fn two_tables(case: &Case) -> Result<()> {
    let port = broken::TCP;
    let table = |name: &str, priority: i32, rule: &str| {
        format!(
            "table inet {name} {{ chain guard {{ type filter hook forward priority {priority}; policy accept; {rule}\n }}\n}}\n"
        )
    };
    let script = table(
        "first",
        -10,
        &format!("meta cpu < 4096 tcp dport {port} drop;"),
    ) + &table("second", 10, &format!("tcp dport {port} drop;"));
    case.node.netns.feed("nft", &["-f", "-"], &script).map(drop)
}

/// FORWARD, datagrams.
pub fn forward_udp(case: &Case) -> Result<()> {
    on_node(
        case,
        &format!("-I FORWARD -p udp --dport {} -j DROP", broken::UDP),
    )
}

/// FORWARD, DNS to the broken address.
pub fn forward_dns(case: &Case) -> Result<()> {
    on_node(
        case,
        &format!("-I FORWARD -d {} -p udp --dport 53 -j DROP", case.broken()),
    )
}

/// FORWARD, all there is to the broken address.
pub fn forward_destination(case: &Case) -> Result<()> {
    on_node(case, &format!("-I FORWARD -d {} -j DROP", case.broken()))
}

/// INPUT: the node's own server.
pub fn input_rule(case: &Case) -> Result<()> {
    on_node(
        case,
        &format!("-I INPUT -p tcp --dport {} -j DROP", broken::TCP),
    )
}

/// OUTPUT, inside the pod.
pub fn output_rule_in_pod(case: &Case) -> Result<()> {
    let text = format!("-I OUTPUT -p tcp --dport {} -j DROP", broken::TCP);
    rule(case.node.pod(), nft_tool(case.family), &text)
}

/// raw PREROUTING: before conntrack has seen it.
pub fn raw_prerouting(case: &Case) -> Result<()> {
    on_node(
        case,
        &format!(
            "-t raw -I PREROUTING -p tcp --dport {} -j DROP",
            broken::TCP
        ),
    )
}

/// The same by iptables-legacy.
pub fn raw_prerouting_legacy(case: &Case) -> Result<()> {
    let text = format!(
        "-t raw -I PREROUTING -p tcp --dport {} -j DROP",
        broken::TCP
    );
    rule(&case.node.netns, legacy_tool(case.family), &text)
}

/// mangle POSTROUTING: routed, not yet masqueraded.
pub fn mangle_postrouting(case: &Case) -> Result<()> {
    on_node(
        case,
        &format!(
            "-t mangle -I POSTROUTING -p tcp --dport {} -j DROP",
            broken::TCP
        ),
    )
}

/// FORWARD, REJECT with ICMP port unreachable.
pub fn reject_icmp(case: &Case) -> Result<()> {
    on_node(
        case,
        &format!("-I FORWARD -p tcp --dport {} -j REJECT", broken::TCP),
    )
}

/// FORWARD, REJECT with a reset.
pub fn reject_reset(case: &Case) -> Result<()> {
    on_node(
        case,
        &format!(
            "-I FORWARD -p tcp --dport {} -j REJECT --reject-with tcp-reset",
            broken::TCP
        ),
    )
}

/// FORWARD, the answers.
pub fn forward_reply(case: &Case) -> Result<()> {
    on_node(
        case,
        &format!("-I FORWARD -p tcp --sport {} -j DROP", broken::TCP),
    )
}

/// FORWARD, between two pods of the node; on a bridge only `br_netfilter` makes it work.
pub fn pod_to_pod(case: &Case) -> Result<()> {
    let [a, b] = case.addresses().pod;
    on_node(
        case,
        &format!(
            "-I FORWARD -s {a} -d {b} -p tcp --dport {} -j DROP",
            broken::TCP
        ),
    )
}

/// Only the first SYN is lost: the retransmission gets through.
pub fn first_packet_only(case: &Case) -> Result<()> {
    on_node(
        case,
        &format!(
            "-I FORWARD -p tcp --syn --dport {} -m statistic --mode nth --every 1000000 --packet 0 -j DROP",
            broken::TCP
        ),
    )
}

/// The external host drops in silence: the node did nothing wrong.
pub fn external_silence(case: &Case) -> Result<()> {
    let text = format!("-I INPUT -p tcp --dport {} -j DROP", broken::TCP);
    rule(&case.node.external, nft_tool(case.family), &text)
}

/// The external host loses all to its second address.
pub fn external_silence_to_address(case: &Case) -> Result<()> {
    let text = format!("-I INPUT -d {} -j DROP", case.broken());
    rule(&case.node.external, nft_tool(case.family), &text)
}

/// FORWARD, one port of one address.
pub fn forward_destination_port(case: &Case, to: std::net::IpAddr, port: u16) -> Result<()> {
    on_node(
        case,
        &format!("-I FORWARD -d {to} -p tcp --dport {port} -j DROP"),
    )
}
