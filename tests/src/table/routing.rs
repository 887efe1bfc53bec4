//! No way on: routes, source checks, TTL, MTU, neighbours, and a far end that is silent.

use std::time::Duration;

use super::controls::{self, step};
use crate::faults::{self, Case, at, firewall, routing};
use crate::scenario::{Attempt, Expect, Scenario};
use crate::server::port;
use crate::step::{Answer, Kind, Step};

const FIB: &[&str] = &["FIB"];

pub const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "no_route",
        "the node has no route to the destination",
        routing::no_route,
        no_route,
    ),
    Scenario::new(
        "no_route_udp",
        "the node has no route to the destination",
        routing::no_route,
        no_route_udp,
    ),
    Scenario::new(
        "no_route_in_pod",
        "the pod has no route to the destination",
        routing::no_route_in_pod,
        no_route_in_pod,
    ),
    Scenario::new(
        "unreachable_route",
        "the node has an unreachable route to the destination",
        routing::unreachable_route,
        no_route,
    ),
    Scenario::new(
        "blackhole_route",
        "the node has a blackhole route to the destination",
        routing::blackhole_route,
        blackhole,
    ),
    Scenario::new(
        "prohibit_route",
        "the node has a prohibit route to the destination",
        routing::prohibit_route,
        prohibit,
    ),
    // Linux has no reverse-path filter and no check of its own addresses as source in IPv6 routing.
    Scenario::new(
        "rp_filter",
        "strict reverse-path filter, and a source that is routed elsewhere",
        routing::reverse_path,
        reverse_path,
    )
    .only_v4(),
    Scenario::new(
        "martian_loopback",
        "a packet from 127.0.0.1 on the wire",
        faults::none,
        martian_loopback,
    )
    .only_v4(),
    Scenario::new(
        "martian_own",
        "a packet from the node's own address",
        faults::none,
        martian_own,
    )
    .only_v4(),
    Scenario::new("ttl_expired", "packets with TTL 1", faults::none, ttl),
    Scenario::new(
        "ttl_expired_icmp",
        "echo requests with TTL 1",
        faults::none,
        ttl_icmp,
    ),
    Scenario::new(
        "mtu_exceeded",
        "the uplink carries 1300 bytes; 1400 with DF",
        routing::small_mtu,
        mtu,
    ),
    Scenario::new(
        "mtu_exceeded_icmp",
        "the uplink carries 1300 bytes; 1400 with DF",
        routing::small_mtu,
        mtu_icmp,
    ),
    Scenario::new(
        "neigh_failed",
        "nobody answers for the address on the uplink's network",
        faults::none,
        neighbour,
    ),
    Scenario::new(
        "no_answer",
        "the external host drops tcp/8081 in silence",
        firewall::external_silence,
        no_answer,
    ),
    Scenario::new(
        "no_answer_icmp",
        "the external host drops all to its second address",
        firewall::external_silence_to_address,
        no_answer_icmp,
    ),
    Scenario::new(
        "dns_silent",
        "the DNS server does not answer",
        faults::none,
        dns_silent,
    ),
];

fn one(case: &Case, kind: Kind, answers: &'static [Answer], expect: Expect) -> Vec<Attempt> {
    vec![Attempt::new(step(kind, case.broken()), answers, expect)]
}

fn no_route(case: &Case) -> Vec<Attempt> {
    let expect = Expect::dropped(&["NO_ROUTE"], FIB);
    // The default route is gone: only what stays near, and the healthy address, works on.
    [
        one(case, Kind::Tcp, &[Answer::Unreachable], expect),
        controls::external(case),
        controls::local(case),
    ]
    .concat()
}

fn no_route_udp(case: &Case) -> Vec<Attempt> {
    let expect = Expect::dropped(&["NO_ROUTE"], FIB);
    [
        one(case, Kind::Udp, &[Answer::Unreachable], expect),
        controls::external(case),
    ]
    .concat()
}

fn no_route_in_pod(case: &Case) -> Vec<Attempt> {
    let expect = Expect::dropped(&["NO_ROUTE"], FIB);
    [
        one(case, Kind::Tcp, &[Answer::Unreachable], expect),
        controls::external(case),
    ]
    .concat()
}

fn blackhole(case: &Case) -> Vec<Attempt> {
    let expect = Expect::dropped(&["BLACKHOLE_ROUTE"], FIB);
    controls::beside(case, one(case, Kind::Tcp, &[Answer::Timeout], expect))
}

fn prohibit(case: &Case) -> Vec<Attempt> {
    let expect = Expect::dropped(&["PROHIBIT_ROUTE"], FIB);
    let answers = &[Answer::Unreachable, Answer::Denied];
    controls::beside(case, one(case, Kind::Tcp, answers, expect))
}

fn reverse_path(case: &Case) -> Vec<Attempt> {
    let strange = step(Kind::Tcp, case.healthy()).from(case.addresses().stranger);
    let expect = Expect::dropped(&["RP_FILTER"], FIB);
    controls::before(
        case,
        vec![Attempt::new(strange, &[Answer::Timeout], expect)],
    )
}

fn martian_loopback(case: &Case) -> Vec<Attempt> {
    martian(case, std::net::Ipv4Addr::LOCALHOST.into())
}

fn martian_own(case: &Case) -> Vec<Attempt> {
    martian(case, case.addresses().node)
}

fn martian(case: &Case, source: std::net::IpAddr) -> Vec<Attempt> {
    let forged = step(Kind::RawSyn, case.healthy()).from(source);
    let expect = Expect::dropped(&["MARTIAN"], FIB);
    controls::before(case, vec![Attempt::new(forged, &[Answer::Sent], expect)])
}

const TTL_HOPS: &[&str] = &["NF_FORWARD", "FIB"];

fn ttl(case: &Case) -> Vec<Attempt> {
    let short = step(Kind::Tcp, case.broken()).ttl(1);
    let expect = Expect::dropped(&["TTL_EXPIRED"], TTL_HOPS);
    controls::beside(
        case,
        vec![Attempt::new(
            short,
            &[Answer::Unreachable, Answer::Timeout],
            expect,
        )],
    )
}

fn ttl_icmp(case: &Case) -> Vec<Attempt> {
    let short = step(Kind::Icmp, case.broken()).ttl(1);
    let expect = Expect::dropped(&["TTL_EXPIRED"], TTL_HOPS);
    controls::beside(
        case,
        vec![Attempt::new(short, &[Answer::Unreachable], expect)],
    )
}

const MTU_HOPS: &[&str] = &["FIB", "NF_FORWARD", "NF_POSTROUTING"];

fn mtu(case: &Case) -> Vec<Attempt> {
    let big = step(Kind::Udp, case.broken()).size(1400).dont_fragment();
    let expect = Expect::dropped(&["MTU_EXCEEDED"], MTU_HOPS);
    controls::beside(case, vec![Attempt::new(big, &[Answer::TooBig], expect)])
}

fn mtu_icmp(case: &Case) -> Vec<Attempt> {
    let big = step(Kind::Icmp, case.broken()).size(1400).dont_fragment();
    let expect = Expect::dropped(&["MTU_EXCEEDED"], MTU_HOPS);
    controls::beside(case, vec![Attempt::new(big, &[Answer::TooBig], expect)])
}

fn neighbour(case: &Case) -> Vec<Attempt> {
    // The kernel gives up after three requests, one second apart.
    let step = Step::new(Kind::Tcp, at(case.addresses().nobody, port::TCP[0]))
        .timeout(Duration::from_millis(4500));
    let expect = Expect::dropped(&["NEIGH_FAILED"], &["NF_POSTROUTING", "NIC_EGRESS"]);
    let answers = &[Answer::Unreachable, Answer::Timeout];
    controls::beside(case, vec![Attempt::new(step, answers, expect)])
}

fn no_answer(case: &Case) -> Vec<Attempt> {
    let silent = step(Kind::Tcp, case.healthy());
    let expect = Expect::no_answer(&["NO_ANSWER"]);
    controls::beside(case, vec![Attempt::new(silent, &[Answer::Timeout], expect)])
}

fn no_answer_icmp(case: &Case) -> Vec<Attempt> {
    let expect = Expect::no_answer(&["NO_ANSWER"]);
    let attempt = Attempt::new(step(Kind::Icmp, case.broken()), &[Answer::Timeout], expect);
    [vec![attempt], controls::external(case)].concat()
}

fn dns_silent(case: &Case) -> Vec<Attempt> {
    let ask = Step::new(Kind::Dns, at(case.broken(), port::DNS)).name("silent.example");
    let expect = Expect::no_answer(&["DNS_TIMEOUT"]);
    controls::beside(case, vec![Attempt::new(ask, &[Answer::Timeout], expect)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Family;

    #[test]
    fn what_linux_checks_in_ipv4_only_is_tried_in_ipv4_only() {
        for name in ["rp_filter", "martian_loopback", "martian_own"] {
            let scenario = SCENARIOS
                .iter()
                .find(|scenario| scenario.name == name)
                .expect(name);
            assert_eq!(scenario.families, [Family::V4]);
        }
    }
}
