//! Which rule it was, where only the kernel can tell: `--explain-rule`.

use super::controls::{self, step};
use crate::faults::{Place, at, explain};
use crate::needs::Need;
use crate::scenario::{Attempt, Expect, Scenario};
use crate::server::port;
use crate::step::{Answer, Kind, Step};

pub const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "rule_unclear",
        "one of two nft rules drops tcp/8081; which one only the kernel can tell, and it is not asked",
        explain::quotas,
        unclear,
    )
    .needs(&[Need::Quota]),
    Scenario::new(
        "explain_rule_nft",
        "one of two nft rules drops tcp/8081; which one the kernel is asked",
        explain::quotas,
        named,
    )
    .needs(&[Need::Quota])
    .explained(),
    Scenario::new(
        "explain_rule_reply",
        "one of two nft rules drops the answers of tcp/8081; which one the kernel is asked",
        explain::quotas_of_answers,
        named_reply,
    )
    .needs(&[Need::Quota])
    .explained(),
    Scenario::new(
        "explain_rule_iptables",
        "two rules of iptables drop tcp/8081 and tcp/8082 by bytes of the packet; the kernel is asked which",
        explain::bytes,
        numbered,
    )
    .needs(&[Need::U32])
    .explained(),
];

const FORWARD: &[&str] = &["NF_FORWARD"];
const SILENCE: &[Answer] = &[Answer::Timeout];

const ALWAYS: &[(&str, &str)] = &[
    ("kind", "nft_rule"),
    ("table", "corpfw"),
    ("chain", "always"),
    ("verdict", "DROP"),
];

fn unclear(place: &Place) -> Vec<Attempt> {
    let expect = Expect::firewall(FORWARD)
        .component(&[("kind", "netfilter"), ("chain", "FORWARD")])
        .present(&["suspects"]);
    let attempt = Attempt::new(step(Kind::Tcp, place.healthy()), SILENCE, expect);
    controls::beside(place, vec![attempt])
}

fn named(place: &Place) -> Vec<Attempt> {
    let expect = Expect::firewall(FORWARD).component(ALWAYS);
    let attempt = Attempt::new(step(Kind::Tcp, place.healthy()), SILENCE, expect);
    controls::beside(place, vec![attempt])
}

fn named_reply(place: &Place) -> Vec<Attempt> {
    let expect = Expect::reply_lost(&["HOST_FIREWALL_DROP"], FORWARD).component(ALWAYS);
    let attempt = Attempt::new(step(Kind::Tcp, place.healthy()), SILENCE, expect);
    controls::beside(place, vec![attempt])
}

fn numbered(place: &Place) -> Vec<Attempt> {
    let first = Step::new(Kind::Tcp, at(place.healthy(), port::TCP[2]));
    let expect = |rule| Expect::firewall(FORWARD).component(rule);
    let attempts = vec![
        Attempt::new(
            first,
            SILENCE,
            expect(&[("kind", "iptables_rule"), ("rule", "1")]),
        ),
        Attempt::new(
            step(Kind::Tcp, place.healthy()),
            SILENCE,
            expect(&[("kind", "iptables_rule"), ("rule", "2")]),
        ),
    ];
    [
        attempts,
        vec![
            controls::tcp(place.healthy()),
            controls::udp(place.healthy()),
        ],
    ]
    .concat()
}
