//! A packet filter dropped or rejected it.

use std::net::IpAddr;

use super::controls::{self, NAME, step};
use crate::faults::{Case, Place, at, broken, firewall, routing};
use crate::needs::Need;
use crate::scenario::{Attempt, Expect, Scenario};
use crate::server::port;
use crate::step::{Answer, Kind, Step};

const FORWARD: &[&str] = &["NF_FORWARD"];
const NFT: &[(&str, &str)] = &[("backend", "nft")];
const LEGACY: &[(&str, &str)] = &[("backend", "legacy")];

pub const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "forward_rule",
        "iptables-nft: FORWARD drops tcp/8081",
        firewall::forward_rule,
        forward_nft,
    ),
    Scenario::new(
        "forward_rule_legacy",
        "iptables-legacy: FORWARD drops tcp/8081",
        firewall::forward_rule_legacy,
        forward_legacy,
    )
    .needs(&[Need::IptablesLegacy]),
    Scenario::new(
        "forward_policy",
        "iptables-nft: policy DROP in FORWARD, and no rule that accepts tcp/8081",
        firewall::forward_policy,
        forward_nft,
    ),
    Scenario::new(
        "forward_policy_legacy",
        "iptables-legacy: policy DROP in FORWARD, and no rule that accepts tcp/8081",
        firewall::forward_policy_legacy,
        forward_legacy,
    )
    .needs(&[Need::IptablesLegacy]),
    Scenario::new(
        "forward_table",
        "a table of nft drops tcp/8081",
        firewall::forward_table,
        forward_nft,
    ),
    Scenario::new(
        "forward_udp",
        "FORWARD drops udp/9001",
        firewall::forward_udp,
        forward_udp,
    ),
    Scenario::new(
        "forward_icmp",
        "FORWARD drops all to one address",
        firewall::forward_destination,
        forward_icmp,
    ),
    Scenario::new(
        "forward_dns",
        "FORWARD drops DNS to one server",
        firewall::forward_dns,
        forward_dns,
    ),
    Scenario::new(
        "forward_service",
        "FORWARD drops tcp/8080 behind a Service",
        service_rule,
        forward_service,
    ),
    Scenario::new(
        "input_rule",
        "INPUT drops tcp/8081",
        firewall::input_rule,
        input,
    ),
    Scenario::new(
        "output_rule_in_pod",
        "OUTPUT inside the pod drops tcp/8081",
        firewall::output_rule_in_pod,
        output,
    ),
    Scenario::new(
        "raw_prerouting",
        "raw PREROUTING drops tcp/8081",
        firewall::raw_prerouting,
        prerouting,
    ),
    Scenario::new(
        "raw_prerouting_legacy",
        "iptables-legacy: raw PREROUTING drops tcp/8081",
        firewall::raw_prerouting_legacy,
        prerouting,
    )
    .needs(&[Need::IptablesLegacy]),
    Scenario::new(
        "mangle_postrouting",
        "mangle POSTROUTING drops tcp/8081",
        firewall::mangle_postrouting,
        postrouting,
    ),
    Scenario::new(
        "reject_icmp",
        "FORWARD rejects tcp/8081 with ICMP",
        firewall::reject_icmp,
        reject_icmp,
    ),
    Scenario::new(
        "reject_reset",
        "FORWARD rejects tcp/8081 with a reset",
        firewall::reject_reset,
        reject_reset,
    ),
    Scenario::new(
        "forward_reply",
        "FORWARD drops the answers of tcp/8081",
        firewall::forward_reply,
        reply,
    ),
    Scenario::new(
        "pod_to_pod",
        "FORWARD drops tcp/8081 between two pods",
        firewall::pod_to_pod,
        pod_to_pod,
    ),
    Scenario::new(
        "ingress_rule",
        "FORWARD drops tcp/8081 that comes in",
        ingress_rule,
        ingress,
    )
    .from_outside(),
];

/// The conversation with the broken port of the healthy external host.
fn broken_tcp(to: IpAddr, answers: &'static [Answer], expect: Expect) -> Vec<Attempt> {
    vec![Attempt::new(step(Kind::Tcp, to), answers, expect)]
}

fn forward_nft(place: &Place) -> Vec<Attempt> {
    let expect = Expect::firewall(FORWARD).component(NFT);
    controls::beside(
        place,
        broken_tcp(place.healthy(), &[Answer::Timeout], expect),
    )
}

fn forward_legacy(place: &Place) -> Vec<Attempt> {
    let expect = Expect::firewall(FORWARD).component(LEGACY);
    controls::beside(
        place,
        broken_tcp(place.healthy(), &[Answer::Timeout], expect),
    )
}

fn forward_udp(place: &Place) -> Vec<Attempt> {
    let attempt = Attempt::new(
        step(Kind::Udp, place.healthy()),
        &[Answer::Timeout],
        Expect::firewall(FORWARD),
    );
    controls::beside(place, vec![attempt])
}

fn forward_icmp(place: &Place) -> Vec<Attempt> {
    let attempt = Attempt::new(
        step(Kind::Icmp, place.broken()),
        &[Answer::Timeout],
        Expect::firewall(FORWARD),
    );
    controls::beside(place, vec![attempt])
}

fn forward_dns(place: &Place) -> Vec<Attempt> {
    let ask = Step::new(Kind::Dns, at(place.broken(), port::DNS)).name(NAME);
    let attempt = Attempt::new(ask, &[Answer::Timeout], Expect::firewall(FORWARD));
    controls::beside(place, vec![attempt])
}

/// The address the Service translates to; the Service itself works on.
fn service_rule(case: &Case) -> anyhow::Result<()> {
    firewall::forward_destination_port(case, case.healthy(), port::TCP[0])
}

fn forward_service(place: &Place) -> Vec<Attempt> {
    let vip = at(
        place.addresses().vip_external,
        crate::topology::service_port(port::TCP[0]),
    );
    let broken = Step::new(Kind::Tcp, vip);
    vec![
        Attempt::new(broken, &[Answer::Timeout], Expect::firewall(FORWARD)),
        controls::udp(place.healthy()),
        controls::tcp(place.local()),
    ]
}

fn input(place: &Place) -> Vec<Attempt> {
    let expect = Expect::firewall(&["NF_INPUT"]).component(NFT);
    controls::beside(
        place,
        broken_tcp(place.addresses().node, &[Answer::Timeout], expect),
    )
}

fn output(place: &Place) -> Vec<Attempt> {
    let expect = Expect::firewall(&["NF_OUTPUT"]).component(NFT);
    controls::beside(
        place,
        broken_tcp(place.healthy(), &[Answer::Timeout], expect),
    )
}

fn prerouting(place: &Place) -> Vec<Attempt> {
    let expect = Expect::firewall(&["NF_PREROUTING"]);
    controls::beside(
        place,
        broken_tcp(place.healthy(), &[Answer::Timeout], expect),
    )
}

fn postrouting(place: &Place) -> Vec<Attempt> {
    let expect = Expect::firewall(&["NF_POSTROUTING"]);
    controls::beside(
        place,
        broken_tcp(place.healthy(), &[Answer::Timeout], expect),
    )
}

fn reject_icmp(place: &Place) -> Vec<Attempt> {
    // Only IPv4 has the tracepoint that tells REJECT from DROP.
    let expect = match place.family {
        crate::plan::Family::V4 => Expect::firewall(FORWARD).component(&[("verdict", "REJECT")]),
        crate::plan::Family::V6 => Expect::firewall(FORWARD),
    };
    controls::beside(
        place,
        broken_tcp(place.healthy(), &[Answer::Refused], expect),
    )
}

fn reject_reset(place: &Place) -> Vec<Attempt> {
    let expect = Expect::firewall(FORWARD);
    controls::beside(
        place,
        broken_tcp(place.healthy(), &[Answer::Refused], expect),
    )
}

fn reply(place: &Place) -> Vec<Attempt> {
    let expect = Expect::reply_lost(&["HOST_FIREWALL_DROP"], FORWARD);
    controls::beside(
        place,
        broken_tcp(place.healthy(), &[Answer::Timeout], expect),
    )
}

fn pod_to_pod(place: &Place) -> Vec<Attempt> {
    let expect = Expect::firewall(FORWARD).component(NFT);
    controls::beside(place, broken_tcp(place.local(), &[Answer::Timeout], expect))
}

fn ingress_rule(case: &Case) -> anyhow::Result<()> {
    routing::pods_reachable(case)?;
    firewall::forward_rule(case)
}

fn ingress(place: &Place) -> Vec<Attempt> {
    let pod = place.local();
    let drop = Step::new(Kind::Tcp, at(pod, broken::TCP));
    vec![
        Attempt::new(drop, &[Answer::Timeout], Expect::firewall(FORWARD)),
        controls::tcp(pod),
        controls::icmp(pod),
    ]
}
