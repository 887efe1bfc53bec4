//! A packet filter dropped or rejected it.

use std::time::Duration;

use super::controls::{self, NAME, step};
use crate::faults::{Case, Place, at, firewall, routing};
use crate::kernel::Lack;
use crate::needs::Need;
use crate::scenario::{Attempt, Expect, Scenario};
use crate::server::port;
use crate::step::{Answer, Kind, Step};
use crate::topology::service_port;

const FORWARD: &[&str] = &["NF_FORWARD"];

/// What is expected of a hop's component.
type Fields = &'static [(&'static str, &'static str)];

/// The first rule of a chain that iptables made.
macro_rules! iptables_rule {
    ($backend:literal, $table:literal, $chain:literal, $verdict:literal) => {
        &[
            ("kind", "iptables_rule"),
            ("backend", $backend),
            ("table", $table),
            ("chain", $chain),
            ("rule", "1"),
            ("verdict", $verdict),
        ]
    };
}

const RULE: Fields = iptables_rule!("nft", "filter", "FORWARD", "DROP");
const LEGACY_RULE: Fields = iptables_rule!("legacy", "filter", "FORWARD", "DROP");
const REJECT: Fields = iptables_rule!("nft", "filter", "FORWARD", "REJECT");
const INPUT: Fields = iptables_rule!("nft", "filter", "INPUT", "DROP");
const OUTPUT: Fields = iptables_rule!("nft", "filter", "OUTPUT", "DROP");
const RAW: Fields = iptables_rule!("nft", "raw", "PREROUTING", "DROP");
const LEGACY_RAW: Fields = iptables_rule!("legacy", "raw", "PREROUTING", "DROP");
const MANGLE: Fields = iptables_rule!("nft", "mangle", "POSTROUTING", "DROP");
const POLICY: Fields = &[
    ("kind", "iptables_policy"),
    ("backend", "nft"),
    ("chain", "FORWARD"),
];
const LEGACY_POLICY: Fields = &[
    ("kind", "iptables_policy"),
    ("backend", "legacy"),
    ("chain", "FORWARD"),
];
const TABLE: Fields = &[
    ("kind", "nft_rule"),
    ("family", "inet"),
    ("table", "corpfw"),
    ("chain", "blk"),
    ("verdict", "DROP"),
];

const FIRST_TABLE: Fields = &[
    ("kind", "nft_rule"),
    ("family", "inet"),
    ("table", "first"),
    ("verdict", "DROP"),
];

pub const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "late_fragments",
        "a rule drops all fragments but the first",
        firewall::late_fragments,
        late_fragments,
    )
    .only_v4(),
    Scenario::new(
        "bridge_input",
        "a rule of family bridge drops tcp/8081 on its way up to the node",
        firewall::bridge_input,
        bridge_input,
    )
    .only_bridge(),
    Scenario::new(
        "two_tables",
        "two nft tables without counters refuse the packet, the first by a match nobody else can evaluate",
        firewall::two_tables,
        two_tables,
    ),
    Scenario::new(
        "forward_rule",
        "iptables-nft: FORWARD drops tcp/8081",
        firewall::forward_rule,
        forward_rule,
    ),
    Scenario::new(
        "forward_rule_legacy",
        "iptables-legacy: FORWARD drops tcp/8081",
        firewall::forward_rule_legacy,
        forward_rule_legacy,
    )
    .needs(&[Need::IptablesLegacy]),
    Scenario::new(
        "forward_policy",
        "iptables-nft: policy DROP in FORWARD, and no rule that accepts tcp/8081",
        firewall::forward_policy,
        forward_policy,
    ),
    Scenario::new(
        "forward_policy_legacy",
        "iptables-legacy: policy DROP in FORWARD, and no rule that accepts tcp/8081",
        firewall::forward_policy_legacy,
        forward_policy_legacy,
    )
    .needs(&[Need::IptablesLegacy]),
    Scenario::new(
        "forward_table",
        "a table of nft drops tcp/8081",
        firewall::forward_table,
        forward_table,
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
        raw,
    ),
    Scenario::new(
        "raw_prerouting_legacy",
        "iptables-legacy: raw PREROUTING drops tcp/8081",
        firewall::raw_prerouting_legacy,
        raw_legacy,
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
        reject,
    ),
    Scenario::new(
        "reject_reset",
        "FORWARD rejects tcp/8081 with a reset",
        firewall::reject_reset,
        reject,
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
        "long_answers_dropped",
        "FORWARD drops long segments from tcp/8081",
        firewall::long_answers,
        long_answers,
    ),
    Scenario::new(
        "long_questions_reset",
        "FORWARD rejects long segments to tcp/8081 with a reset",
        firewall::reset_long_questions,
        long_questions,
    ),
    Scenario::new(
        "queue_unread",
        "FORWARD hands tcp/8081 to a queue that nobody reads",
        firewall::queue,
        queue,
    ),
    Scenario::new(
        "ingress_rule",
        "FORWARD drops tcp/8081 that comes in",
        ingress_rule,
        ingress,
    )
    .from_outside(),
];

/// The broken port of the healthy external host, beside all controls.
/// Without the name of the table, both stay suspects.
fn late_fragments(place: &Place) -> Vec<Attempt> {
    let expect = Expect::dropped(&["HOST_FIREWALL_DROP"], &["NF_PREROUTING"]).component(&[
        ("kind", "nft_rule"),
        ("table", "odd"),
        ("chain", "early"),
    ]);
    let big = step(Kind::Icmp, place.broken()).size(4000);
    let attempt = Attempt::new(big, &[Answer::Timeout], expect);
    controls::beside(place, vec![attempt])
}

fn bridge_input(place: &Place) -> Vec<Attempt> {
    let expect = Expect::dropped(&["HOST_FIREWALL_DROP"], &["NF_INPUT"]).component(&[
        ("kind", "nft_rule"),
        ("family", "bridge"),
        ("table", "l2"),
        ("chain", "up"),
    ]);
    let attempt = Attempt::new(step(Kind::Tcp, place.broken()), &[Answer::Timeout], expect);
    controls::beside(place, vec![attempt])
}

fn long_answers(place: &Place) -> Vec<Attempt> {
    // Long enough to be sent again a few times.
    let long = step(Kind::Tcp, place.healthy())
        .size(4000)
        .timeout(Duration::from_secs(4));
    let expect = Expect::reply_lost(&["HOST_FIREWALL_DROP"], FORWARD).component(RULE);
    controls::beside(place, vec![Attempt::new(long, SILENCE, expect)])
}

fn long_questions(place: &Place) -> Vec<Attempt> {
    let long = step(Kind::Tcp, place.healthy()).size(4000);
    let expect = Expect::firewall(FORWARD).component(REJECT);
    controls::beside(place, vec![Attempt::new(long, &[Answer::Refused], expect)])
}

/// Nobody gets it, so nobody can let it pass.
fn queue(place: &Place) -> Vec<Attempt> {
    external(place, SILENCE, Expect::firewall(FORWARD).component(RULE))
}

fn two_tables(place: &Place) -> Vec<Attempt> {
    let expect = Expect::firewall(FORWARD).component(FIRST_TABLE).weaker(&[(
        Lack::NftTableName,
        |expect| {
            *expect = Expect::firewall(FORWARD)
                .component(&[("kind", "netfilter")])
                .present(&["evidence", "remediation", "suspects"]);
        },
    )]);
    let attempt = Attempt::new(step(Kind::Tcp, place.healthy()), &[Answer::Timeout], expect);
    controls::beside(place, vec![attempt])
}

fn external(place: &Place, answer: &'static [Answer], expect: Expect) -> Vec<Attempt> {
    let attempt = Attempt::new(step(Kind::Tcp, place.healthy()), answer, expect);
    controls::beside(place, vec![attempt])
}

const SILENCE: &[Answer] = &[Answer::Timeout];

fn forward_rule(place: &Place) -> Vec<Attempt> {
    external(place, SILENCE, Expect::firewall(FORWARD).component(RULE))
}

fn forward_rule_legacy(place: &Place) -> Vec<Attempt> {
    external(
        place,
        SILENCE,
        Expect::firewall(FORWARD).component(LEGACY_RULE),
    )
}

fn forward_policy(place: &Place) -> Vec<Attempt> {
    external(place, SILENCE, Expect::firewall(FORWARD).component(POLICY))
}

fn forward_policy_legacy(place: &Place) -> Vec<Attempt> {
    external(
        place,
        SILENCE,
        Expect::firewall(FORWARD).component(LEGACY_POLICY),
    )
}

fn forward_table(place: &Place) -> Vec<Attempt> {
    external(place, SILENCE, Expect::firewall(FORWARD).component(TABLE))
}

fn raw(place: &Place) -> Vec<Attempt> {
    external(
        place,
        SILENCE,
        Expect::firewall(&["NF_PREROUTING"]).component(RAW),
    )
}

fn raw_legacy(place: &Place) -> Vec<Attempt> {
    external(
        place,
        SILENCE,
        Expect::firewall(&["NF_PREROUTING"]).component(LEGACY_RAW),
    )
}

fn postrouting(place: &Place) -> Vec<Attempt> {
    external(
        place,
        SILENCE,
        Expect::firewall(&["NF_POSTROUTING"]).component(MANGLE),
    )
}

fn output(place: &Place) -> Vec<Attempt> {
    external(
        place,
        SILENCE,
        Expect::firewall(&["NF_OUTPUT"]).component(OUTPUT),
    )
}

fn reject(place: &Place) -> Vec<Attempt> {
    external(
        place,
        &[Answer::Refused],
        Expect::firewall(FORWARD).component(REJECT),
    )
}

fn reply(place: &Place) -> Vec<Attempt> {
    let expect = Expect::reply_lost(&["HOST_FIREWALL_DROP"], FORWARD).component(RULE);
    external(place, SILENCE, expect)
}

fn forward_udp(place: &Place) -> Vec<Attempt> {
    let expect = Expect::firewall(FORWARD).component(RULE);
    let attempt = Attempt::new(step(Kind::Udp, place.healthy()), SILENCE, expect);
    controls::beside(place, vec![attempt])
}

fn forward_icmp(place: &Place) -> Vec<Attempt> {
    let expect = Expect::firewall(FORWARD).component(RULE);
    let attempt = Attempt::new(step(Kind::Icmp, place.broken()), SILENCE, expect);
    controls::beside(place, vec![attempt])
}

fn forward_dns(place: &Place) -> Vec<Attempt> {
    let ask = Step::new(Kind::Dns, at(place.broken(), port::DNS)).name(NAME);
    let expect = Expect::firewall(FORWARD).component(RULE);
    controls::beside(place, vec![Attempt::new(ask, SILENCE, expect)])
}

/// The address the Service translates to.
fn service_rule(case: &Case) -> anyhow::Result<()> {
    firewall::forward_destination_port(case, case.healthy(), port::TCP[0])
}

fn forward_service(place: &Place) -> Vec<Attempt> {
    let vip = at(place.addresses().vip_external, service_port(port::TCP[0]));
    let expect = Expect::firewall(FORWARD).component(RULE);
    vec![
        Attempt::new(Step::new(Kind::Tcp, vip), SILENCE, expect),
        controls::udp(place.healthy()),
        controls::tcp(place.local()),
    ]
}

fn input(place: &Place) -> Vec<Attempt> {
    let expect = Expect::firewall(&["NF_INPUT"]).component(INPUT);
    let attempt = Attempt::new(step(Kind::Tcp, place.addresses().node), SILENCE, expect);
    controls::beside(place, vec![attempt])
}

fn pod_to_pod(place: &Place) -> Vec<Attempt> {
    let expect = Expect::firewall(FORWARD).component(RULE);
    let attempt = Attempt::new(step(Kind::Tcp, place.local()), SILENCE, expect);
    controls::beside(place, vec![attempt])
}

fn ingress_rule(case: &Case) -> anyhow::Result<()> {
    routing::pods_reachable(case)?;
    firewall::forward_rule(case)
}

fn ingress(place: &Place) -> Vec<Attempt> {
    let pod = place.local();
    let expect = Expect::firewall(FORWARD).component(RULE);
    vec![
        Attempt::new(step(Kind::Tcp, pod), SILENCE, expect),
        controls::tcp(pod),
        controls::icmp(pod),
    ]
}
