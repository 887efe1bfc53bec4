//! Connection tracking and translation went wrong.

use std::time::Duration;

use super::controls::{self, step};
use crate::faults::{self, Place, at, conntrack};
use crate::kernel::Lack;
use crate::scenario::{Attempt, Expect, Scenario};
use crate::server::{SLOWNESS, port};
use crate::step::{Answer, Kind, Step};

pub const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "snat_ports_exhausted",
        "the node may masquerade on two ports, and both are taken",
        conntrack::two_snat_ports,
        no_port,
    ),
    Scenario::new(
        "conntrack_invalid",
        "a rule of FORWARD drops what conntrack calls INVALID",
        conntrack::drop_invalid,
        invalid,
    ),
    Scenario::new(
        "conntrack_invalid_midstream",
        "a packet of a connection conntrack never saw begin, and a rule that drops what is INVALID",
        conntrack::drop_midstream,
        midstream,
    ),
    Scenario::new(
        "conntrack_lost",
        "the node forgets its connections while an answer is on its way",
        faults::none,
        lost,
    ),
    Scenario::new(
        "conntrack_full",
        "the conntrack table is full",
        conntrack::full_table,
        full,
    )
    // Filling it takes a second or two.
    .only_bridge(),
];

fn no_port(place: &Place) -> Vec<Attempt> {
    let expect = Expect::dropped(&["SNAT_PORTS_EXHAUSTED"], &["NF_POSTROUTING"]);
    // One lost SYN may be a race; the second says that it is not.
    let step = step(Kind::Tcp, place.healthy()).timeout(Duration::from_millis(2500));
    let attempt = Attempt::new(step, &[Answer::Timeout], expect);
    controls::beside(place, vec![attempt])
}

/// The cause is the connection's; the rule that acts on it is named all the same.
const INVALID_RULE: &[(&str, &str)] = &[
    ("kind", "conntrack"),
    ("backend", "nft"),
    ("chain", "FORWARD"),
    ("rule", "1"),
    ("verdict", "DROP"),
];

fn invalid(place: &Place) -> Vec<Attempt> {
    // conntrack verifies checksums of what it forwards.
    let wrong = step(Kind::RawSyn, place.healthy()).bad_checksum();
    let expect = Expect::dropped(&["CONNTRACK_INVALID"], &["NF_FORWARD"]).component(INVALID_RULE);
    controls::beside(place, vec![Attempt::new(wrong, &[Answer::Sent], expect)])
}

fn midstream(place: &Place) -> Vec<Attempt> {
    // One lost segment of a living connection would be nothing.
    let stray = step(Kind::RawAck, place.healthy()).count(3);
    let expect = Expect::dropped(&["CONNTRACK_INVALID"], &["NF_FORWARD"]).component(INVALID_RULE);
    controls::beside(place, vec![Attempt::new(stray, &[Answer::Sent], expect)])
}

/// Answers to a connection that the node has forgotten.
pub(super) fn forgotten() -> Expect {
    let expect = Expect::reply_lost(&["CONNTRACK_LOST"], &["SOCKET"]);
    expect.confidence(&["PROVEN", "INFERRED"]).weaker(&[(
        // A segment that meets no socket is freed without a reason there, as TCP frees those it has done with, and no
        // tracepoint tells of the reset: it is only seen to leave.
        Lack::Reason("NO_SOCKET"),
        Expect::infer,
    )])
}

fn lost(place: &Place) -> Vec<Attempt> {
    let slow = Step::new(Kind::Tcp, at(place.healthy(), port::SLOW)).flush();
    let slow = slow.timeout(SLOWNESS + Duration::from_secs(1));
    vec![
        Attempt::new(slow, &[Answer::Timeout, Answer::Refused], forgotten()),
        controls::tcp(place.healthy()),
        controls::tcp(place.local()),
    ]
}

fn full(place: &Place) -> Vec<Attempt> {
    let expect = Expect::dropped(&["CONNTRACK_FULL"], &["NF_PREROUTING"]);
    vec![Attempt::new(
        step(Kind::Tcp, place.healthy()),
        &[Answer::Timeout],
        expect,
    )]
}
