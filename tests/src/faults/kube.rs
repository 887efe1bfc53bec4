//! Rules as Kubernetes components write them: policy engines, and kube-proxy for a Service without endpoints.

use anyhow::Result;

use super::{Case, broken};
use crate::plan::Family;
use crate::topology::nft_tool;

/// A Service port nobody stands behind.
pub const EMPTY_PORT: u16 = 443;
/// As kube-proxy names it.
pub const EMPTY_SERVICE: &str = "default/empty:https";

/// Each an `iptables` command line; `_` stands for the blanks within comments.
fn rules(case: &Case, lines: &[String]) -> Result<()> {
    lines.iter().try_for_each(|line| {
        let words: Vec<_> = line
            .split_whitespace()
            .map(|word| word.replace('_', " "))
            .collect();
        let words: Vec<_> = std::iter::once("-w")
            .chain(words.iter().map(String::as_str))
            .collect();
        case.node.netns.run(nft_tool(case.family), &words).map(drop)
    })
}

/// Everything but the broken port gets the engine's mark.
fn allowed(case: &Case, chain: &str) -> Vec<String> {
    let icmp = if case.family == Family::V4 {
        "icmp"
    } else {
        "ipv6-icmp"
    };
    [
        format!("-p tcp ! --dport {}", broken::TCP),
        "-p udp".to_owned(),
        format!("-p {icmp}"),
    ]
    .map(|what| format!("-A {chain} {what} -j MARK --set-xmark 0x10000/0x10000"))
    .to_vec()
}

/// Calico's chains for the traced pod; its policy allows all but tcp to the broken port.
pub fn calico(case: &Case) -> Result<()> {
    let veth = case.node.veth();
    let (endpoint, policy) = (
        format!("cali-fw-{veth}"),
        "cali-po-tYJDMfpFqwVWUqr8RFo".to_owned(),
    );
    let comment = |text: &str| format!("-m comment --comment cali:{text}");
    let mut lines: Vec<_> = ["cali-FORWARD", "cali-from-wl-dispatch", &endpoint, &policy]
        .iter()
        .map(|chain| format!("-N {chain}"))
        .collect();
    lines.extend(allowed(case, &policy));
    lines.extend([
        format!(
            "-A {endpoint} {} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
            comment("esZ5Q4cWHbbbX9Hk")
        ),
        format!(
            "-A {endpoint} {} -m conntrack --ctstate INVALID -j DROP",
            comment("pbPcqkbIXwUUDaTn")
        ),
        format!(
            "-A {endpoint} {} -j MARK --set-xmark 0x0/0x10000",
            comment("dJ4ZbGxfvZ4mTxbX")
        ),
        format!("-A {endpoint} {} -j {policy}", comment("kXx8VhRTQjmNwN3c")),
        format!(
            "-A {endpoint} {} -m mark --mark 0x10000/0x10000 -j RETURN",
            comment("2KAcQ2uTQyEpPS5k")
        ),
        format!(
            "-A {endpoint} {} -m comment --comment Drop_if_no_policies_passed_packet -j DROP",
            comment("PdQ8vLTYjkrb8Aql")
        ),
        format!(
            "-A cali-from-wl-dispatch -i {veth} {} -g {endpoint}",
            comment("zTj6P0TIgYvgz9YM")
        ),
        format!(
            "-A cali-FORWARD -i {veth} {} -j cali-from-wl-dispatch",
            comment("8ZoYfO5HKXWbB3pk")
        ),
        format!(
            "-A cali-FORWARD {} -m mark --mark 0x10000/0x10000 -j ACCEPT",
            comment("0-8Zp3xRjZrQ7LkZ")
        ),
        format!("-I FORWARD {} -j cali-FORWARD", comment("wUHhoiAYhphO9Mso")),
    ]);
    rules(case, &lines)
}

/// kube-router's chains for the traced pod; the same policy.
pub fn kube_router(case: &Case) -> Result<()> {
    let pod = case.addresses().pod[0];
    let (firewall, policy) = (
        "KUBE-POD-FW-AZTYPPE2UQDQYGPP",
        "KUBE-NWPLCY-VXKDLMWZOIDHHMSR",
    );
    let mut lines = vec![format!("-N {firewall}"), format!("-N {policy}")];
    lines.extend(allowed(case, policy));
    lines.extend([
        format!("-A {firewall} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"),
        format!("-A {firewall} -m comment --comment run_through_nw_policy_deny-8081 -j {policy}"),
        format!(
            "-A {firewall} -m comment --comment rule_to_REJECT_traffic_destined_for_POD_name:web \
             -m mark ! --mark 0x10000/0x10000 -j REJECT"
        ),
        format!("-I FORWARD -s {pod} -m comment --comment rule_to_jump_traffic -j {firewall}"),
    ]);
    rules(case, &lines)
}

/// kube-proxy, mode iptables: the Service is rejected before it is routed away.
pub fn no_endpoints(case: &Case) -> Result<()> {
    let vip = case.addresses().vip_local;
    let name = EMPTY_SERVICE;
    rules(case, &[
        "-N KUBE-SERVICES".to_owned(),
        format!(
            "-A KUBE-SERVICES -d {vip} -p tcp --dport {EMPTY_PORT} \
             -m comment --comment {name}_has_no_endpoints -j REJECT"
        ),
        "-I FORWARD -m conntrack --ctstate NEW -m comment --comment kubernetes_service_portals -j KUBE-SERVICES"
            .to_owned(),
    ])
}

/// kube-proxy, mode nftables: a map of the Services without endpoints.
pub fn no_endpoints_nft(case: &Case) -> Result<()> {
    let family = case.family.nft();
    let kind = if case.family == Family::V4 {
        "ipv4_addr"
    } else {
        "ipv6_addr"
    };
    let vip = case.addresses().vip_local;
    case.node
        .netns
        .feed(
            "nft",
            &["-f", "-"],
            &format!(
                "table {family} kube-proxy {{
  comment \"rules for kube-proxy\"
  chain reject-chain {{
    comment \"helper for @no-endpoint-services / @no-endpoint-nodeports\"
    reject
  }}
  map no-endpoint-services {{
    type {kind} . inet_proto . inet_service : verdict
    comment \"vmap to drop or reject packets to services with no endpoints\"
    elements = {{ {vip} . tcp . {EMPTY_PORT} comment \"{EMPTY_SERVICE}\" : goto reject-chain }}
  }}
  chain service-endpoints-check {{
    {family} daddr . meta l4proto . th dport vmap @no-endpoint-services
  }}
  chain filter-forward {{
    type filter hook forward priority filter; policy accept;
    ct state new jump service-endpoints-check
  }}
}}
"
            ),
        )
        .map(drop)
}
