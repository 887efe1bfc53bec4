//! ip-masq-agent told wrong things.

use super::controls;
use crate::faults::{Place, at, masquerade};
use crate::scenario::{Attempt, Expect, Scenario};
use crate::server::port;
use crate::step::{Answer, Kind, Step};
use crate::topology::service_port;

pub const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "masq_agent_missing",
        "ip-masq-agent exempts an address that has no way back to the pods",
        masquerade::exempt_too_much,
        missing,
    ),
    Scenario::new(
        "masq_agent_unexpected",
        "ip-masq-agent does not exempt the pods' own network",
        masquerade::exempt_too_little,
        unexpected,
    ),
];

const AGENT: &[(&str, &str)] = &[
    ("kind", "iptables_rule"),
    ("table", "nat"),
    ("chain", "IP-MASQ-AGENT"),
    ("owner", "ip-masq-agent"),
];

fn missing(place: &Place) -> Vec<Attempt> {
    let to = Step::new(Kind::Tcp, at(place.broken(), port::TCP[0]));
    let expect = Expect::no_answer(&["MASQ_MISSING"])
        .confidence(&["PROVEN"])
        .component(AGENT);
    let attempt = Attempt::new(to, &[Answer::Timeout], expect);
    controls::beside(place, vec![attempt])
}

fn unexpected(place: &Place) -> Vec<Attempt> {
    let vip = at(place.addresses().vip_local, service_port(port::TCP[0]));
    let mut expect = Expect::delivered_though(&["MASQ_UNEXPECTED"])
        .component(AGENT)
        .present(&["caveats", "remediation"]);
    (expect.hops, expect.action) = (&["NF_POSTROUTING"], "TRANSLATED");
    let attempt = Attempt::new(Step::new(Kind::Tcp, vip), &[Answer::Ok], expect);
    [vec![attempt], controls::external(place)].concat()
}
