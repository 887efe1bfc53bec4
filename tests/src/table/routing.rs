//! No way on: routes, source checks, TTL, MTU, neighbours, and a far end that is silent.

use super::controls::{self, NO_NEIGHBOUR, step};
use crate::faults::{self, Place, at, firewall, routing};
use crate::kernel::Lack;
use crate::scenario::{Attempt, Expect, Scenario, Weaker};
use crate::server::port;
use crate::step::{Answer, Kind, Step};

const FIB: &[&str] = &["FIB"];

/// The checks of received packets gave no reasons until the one for impossible sources came.
pub(super) const INPUT_WITHOUT_REASONS: Weaker = (Lack::Reason("IP_LOCAL_SOURCE"), Expect::infer);

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
        "blackhole_by_rule",
        "a rule leads what pods send to a table with a blackhole route",
        routing::blackhole_by_rule,
        blackhole_by_rule,
    )
    .only_v4()
    .only_ptp(),
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
        "ttl_expired_beyond",
        "packets with TTL 2, and a router behind the node: nothing is wrong here",
        faults::none,
        ttl_beyond,
    )
    .behind_router(),
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
        "neigh_wrong_gateway",
        "the pod has a wrong hardware address for the gateway to the second address",
        routing::wrong_gateway,
        wrong_gateway,
    )
    .only_ptp(),
    Scenario::new(
        "neigh_wrong_responder",
        "the node has a wrong hardware address for the second pod",
        routing::wrong_responder,
        wrong_responder,
    )
    .only_ptp(),
    Scenario::new(
        "neigh_wrong_initiator",
        "the node has a wrong hardware address for the pod",
        routing::wrong_initiator,
        wrong_initiator,
    )
    // In IPv6 the pod's own question for its gateway's address stays unanswered as well, and it sends nothing.
    .only_v4()
    .only_ptp(),
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
    Scenario::new(
        "routing_loop",
        "the next hop sends the packet back",
        routing::routing_loop,
        routing_loop,
    ),
    Scenario::new(
        "uplink_without_carrier",
        "the far end of the uplink is down",
        routing::uplink_without_carrier,
        no_carrier,
    ),
    Scenario::new(
        "link_down",
        "the far end of the uplink is down, its address known",
        routing::uplink_down,
        link_down,
    ),
    Scenario::new(
        "pod_link_down",
        "the second pod's interface is down, its address known",
        routing::pod_down,
        pod_link_down,
    )
    // A bridge port without carrier forwards nothing, and the kernel says nothing.
    .only_ptp(),
    Scenario::new(
        "bridge_port_down",
        "the bridge's port to the second pod is down, its address known",
        routing::bridge_port_down,
        bridge_port_down,
    )
    .only_bridge(),
];

fn bridge_port_down(place: &Place) -> Vec<Attempt> {
    let expect = Expect::dropped(&["LINK_DOWN"], &["BRIDGE"])
        // The second pod's port, by the usual plan of a bridge.
        .component(&[("kind", "interface"), ("name", "veth9c03be")]);
    let attempt = Attempt::new(step(Kind::Tcp, place.local()), &[Answer::Timeout], expect);
    [vec![attempt], controls::external(place)].concat()
}

fn one(place: &Place, kind: Kind, answers: &'static [Answer], expect: Expect) -> Vec<Attempt> {
    vec![Attempt::new(step(kind, place.broken()), answers, expect)]
}

fn no_route(place: &Place) -> Vec<Attempt> {
    let expect = Expect::dropped(&["NO_ROUTE"], FIB);
    // The default route is gone: only what stays near, and the healthy address, works on.
    [
        one(place, Kind::Tcp, &[Answer::Unreachable], expect),
        controls::external(place),
        controls::local(place),
    ]
    .concat()
}

fn no_route_udp(place: &Place) -> Vec<Attempt> {
    let expect = Expect::dropped(&["NO_ROUTE"], FIB);
    [
        one(place, Kind::Udp, &[Answer::Unreachable], expect),
        controls::external(place),
    ]
    .concat()
}

fn no_route_in_pod(place: &Place) -> Vec<Attempt> {
    let expect = Expect::dropped(&["NO_ROUTE"], FIB);
    [
        one(place, Kind::Tcp, &[Answer::Unreachable], expect),
        controls::external(place),
    ]
    .concat()
}

fn blackhole(place: &Place) -> Vec<Attempt> {
    let expect = Expect::dropped(&["BLACKHOLE_ROUTE"], FIB);
    controls::beside(place, one(place, Kind::Tcp, &[Answer::Timeout], expect))
}

/// In the plan of routed pods.
const ASKED_BY_POD: &str = "ip route get 203.0.113.20 from 172.20.33.4 iif calif0a1";

/// The plain route is a healthy one: only the packet's own question finds the blackhole.
fn blackhole_by_rule(place: &Place) -> Vec<Attempt> {
    let expect = Expect::dropped(&["BLACKHOLE_ROUTE"], FIB)
        .says(&[("/remediation/commands/0", ASKED_BY_POD)]);
    controls::beside(place, one(place, Kind::Tcp, &[Answer::Timeout], expect))
}

fn prohibit(place: &Place) -> Vec<Attempt> {
    let expect = Expect::dropped(&["PROHIBIT_ROUTE"], FIB);
    let answers = &[Answer::Unreachable, Answer::Denied];
    controls::beside(place, one(place, Kind::Tcp, answers, expect))
}

fn reverse_path(place: &Place) -> Vec<Attempt> {
    let strange = step(Kind::Tcp, place.healthy()).from(place.addresses().stranger);
    let expect = Expect::dropped(&["RP_FILTER"], FIB)
        .weaker(&[(Lack::Reason("IP_RPFILTER"), Expect::infer)]);
    controls::before(
        place,
        vec![Attempt::new(strange, &[Answer::Timeout], expect)],
    )
}

fn martian_loopback(place: &Place) -> Vec<Attempt> {
    martian(place, std::net::Ipv4Addr::LOCALHOST.into())
}

fn martian_own(place: &Place) -> Vec<Attempt> {
    martian(place, place.addresses().node)
}

fn martian(place: &Place, source: std::net::IpAddr) -> Vec<Attempt> {
    let forged = step(Kind::RawSyn, place.healthy()).from(source);
    let expect = Expect::dropped(&["MARTIAN"], FIB).weaker(&[INPUT_WITHOUT_REASONS]);
    controls::before(place, vec![Attempt::new(forged, &[Answer::Sent], expect)])
}

const TTL_HOPS: &[&str] = &["NF_FORWARD", "FIB"];

fn ttl(place: &Place) -> Vec<Attempt> {
    let short = step(Kind::Tcp, place.broken()).ttl(1);
    let expect = Expect::dropped(&["TTL_EXPIRED"], TTL_HOPS);
    controls::beside(
        place,
        vec![Attempt::new(
            short,
            &[Answer::Unreachable, Answer::Timeout],
            expect,
        )],
    )
}

fn ttl_beyond(place: &Place) -> Vec<Attempt> {
    let short = step(Kind::Tcp, place.broken()).ttl(2);
    // The router says so by ICMP; whatever that is called, this node did not drop it.
    let mut expect = Expect::no_answer(&["NO_ANSWER", "PEER_REFUSED"]);
    expect.outcomes = &["LEFT_NODE_NO_ANSWER", "REFUSED"];
    expect.confidences = &[];
    expect.present = &["evidence"];
    let answers = &[Answer::Unreachable, Answer::Timeout];
    controls::beside(place, vec![Attempt::new(short, answers, expect)])
}

fn ttl_icmp(place: &Place) -> Vec<Attempt> {
    let short = step(Kind::Icmp, place.broken()).ttl(1);
    let expect = Expect::dropped(&["TTL_EXPIRED"], TTL_HOPS);
    controls::beside(
        place,
        vec![Attempt::new(short, &[Answer::Unreachable], expect)],
    )
}

const MTU_HOPS: &[&str] = &["FIB", "NF_FORWARD", "NF_POSTROUTING"];

fn mtu(place: &Place) -> Vec<Attempt> {
    let big = step(Kind::Udp, place.broken()).size(1400).dont_fragment();
    let expect = Expect::dropped(&["MTU_EXCEEDED"], MTU_HOPS);
    controls::beside(place, vec![Attempt::new(big, &[Answer::TooBig], expect)])
}

fn mtu_icmp(place: &Place) -> Vec<Attempt> {
    let big = step(Kind::Icmp, place.broken()).size(1400).dont_fragment();
    let expect = Expect::dropped(&["MTU_EXCEEDED"], MTU_HOPS);
    controls::beside(place, vec![Attempt::new(big, &[Answer::TooBig], expect)])
}

fn neighbour(place: &Place) -> Vec<Attempt> {
    let step =
        Step::new(Kind::Tcp, at(place.addresses().nobody, port::TCP[0])).timeout(NO_NEIGHBOUR);
    let expect = Expect::dropped(&["NEIGH_FAILED"], &["NF_POSTROUTING", "NIC_EGRESS"]);
    let answers = &[Answer::Unreachable, Answer::Timeout];
    controls::beside(place, vec![Attempt::new(step, answers, expect)])
}

/// Where frames for other stations have no reason of their own, nothing tells them from other drops.
const NO_OTHERHOST: Weaker = (Lack::Reason("OTHERHOST"), |expect| {
    expect.causes = &["UNKNOWN"];
    expect.confidences = &["UNKNOWN"];
    // The function that frees them also frees what it finds malformed, and looks for a route otherwise.
    expect.hops = &["FIB"];
});

fn wrong_gateway(place: &Place) -> Vec<Attempt> {
    let expect = Expect::dropped(&["NEIGH_FAILED"], &["POD_VETH"]).weaker(&[NO_OTHERHOST]);
    let attempt = Attempt::new(step(Kind::Tcp, place.broken()), &[Answer::Timeout], expect);
    controls::beside(place, vec![attempt])
}

fn wrong_responder(place: &Place) -> Vec<Attempt> {
    let expect = Expect::dropped(&["NEIGH_FAILED"], &["POD_VETH"]).weaker(&[NO_OTHERHOST]);
    let attempt = Attempt::new(step(Kind::Tcp, place.local()), &[Answer::Timeout], expect);
    [vec![attempt], controls::external(place)].concat()
}

fn wrong_initiator(place: &Place) -> Vec<Attempt> {
    let expect = Expect::reply_lost(&["NEIGH_FAILED"], &["POD_VETH"]).weaker(&[NO_OTHERHOST]);
    vec![Attempt::new(
        step(Kind::Tcp, place.healthy()),
        &[Answer::Timeout],
        expect,
    )]
}

fn no_answer(place: &Place) -> Vec<Attempt> {
    let silent = step(Kind::Tcp, place.healthy());
    let expect = Expect::no_answer(&["NO_ANSWER"]);
    controls::beside(
        place,
        vec![Attempt::new(silent, &[Answer::Timeout], expect)],
    )
}

fn no_answer_icmp(place: &Place) -> Vec<Attempt> {
    let expect = Expect::no_answer(&["NO_ANSWER"]);
    let attempt = Attempt::new(step(Kind::Icmp, place.broken()), &[Answer::Timeout], expect);
    [vec![attempt], controls::external(place)].concat()
}

fn dns_silent(place: &Place) -> Vec<Attempt> {
    let ask = Step::new(Kind::Dns, at(place.broken(), port::DNS)).name("silent.example");
    let expect = Expect::no_answer(&["DNS_TIMEOUT"]);
    controls::beside(place, vec![Attempt::new(ask, &[Answer::Timeout], expect)])
}

fn routing_loop(place: &Place) -> Vec<Attempt> {
    let round = Step::new(Kind::Tcp, at(place.addresses().stranger, port::TCP[0]));
    let mut expect = Expect::dropped(&["ROUTING_LOOP"], &[]);
    expect.present = &["evidence", "remediation"];
    let answers = &[Answer::Unreachable, Answer::Timeout];
    controls::beside(place, vec![Attempt::new(round, answers, expect)])
}

fn no_carrier(place: &Place) -> Vec<Attempt> {
    let out = step(Kind::Tcp, place.healthy()).timeout(NO_NEIGHBOUR);
    let hops = &["NF_POSTROUTING", "QDISC", "NIC_EGRESS"];
    // The kernel says only that the neighbour did not answer: it could not be asked.
    let expect = Expect::dropped(&["LINK_DOWN"], hops);
    let answers = &[Answer::Unreachable, Answer::Timeout];
    [
        vec![Attempt::new(out, answers, expect)],
        controls::local(place),
    ]
    .concat()
}

fn link_down(place: &Place) -> Vec<Attempt> {
    let expect = Expect::dropped(&["LINK_DOWN"], &["QDISC", "NIC_EGRESS"]);
    let attempt = Attempt::new(step(Kind::Tcp, place.healthy()), &[Answer::Timeout], expect);
    [vec![attempt], controls::local(place)].concat()
}

fn pod_link_down(place: &Place) -> Vec<Attempt> {
    let expect = Expect::dropped(&["LINK_DOWN"], &["QDISC", "POD_VETH"]);
    let attempt = Attempt::new(step(Kind::Tcp, place.local()), &[Answer::Timeout], expect);
    [vec![attempt], controls::external(place)].concat()
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
