//! Nothing is broken on this node. Zero false verdicts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::controls::{self, NAME, step};
use super::socket::RESET_UNREPORTED;
use crate::faults::{self, Place, at, broken, firewall, routing};
use crate::needs::Need;
use crate::plan::Family;
use crate::scenario::{Attempt, Expect, Scenario, Select};
use crate::server::port;
use crate::step::{Answer, Kind, Step};

pub const SCENARIOS: &[Scenario] = &[
    Scenario::new("healthy", "nothing", faults::none, controls::all),
    Scenario::new(
        "healthy_by_pid",
        "nothing; traced by process",
        faults::none,
        controls::external,
    )
    .select(Select::Pid),
    Scenario::new(
        "healthy_by_interface",
        "nothing; traced by the pod's interface on the node",
        faults::none,
        controls::external,
    )
    .select(Select::Interface),
    Scenario::new(
        "healthy_behind_router",
        "nothing; the external host is one hop further away",
        faults::none,
        controls::all,
    )
    .behind_router(),
    Scenario::new(
        "healthy_load",
        "nothing; many connections one after the other",
        faults::none,
        load,
    ),
    Scenario::new(
        "healthy_ingress",
        "nothing; connections come in",
        routing::pods_reachable,
        ingress,
    )
    .from_outside(),
    Scenario::new(
        "to_itself",
        "nothing; the pod talks to itself and to a multicast group",
        faults::none,
        to_itself,
    ),
    Scenario::new(
        "udp_one_way",
        "nothing; nobody answers these datagrams",
        faults::none,
        one_way,
    ),
    Scenario::new(
        "dns_errors",
        "the DNS server says no",
        faults::none,
        dns_errors,
    ),
    Scenario::new(
        "syn_lost_once",
        "a rule of FORWARD drops the first SYN; its retransmission gets through",
        firewall::first_packet_only,
        lost_once,
    )
    .needs(&[Need::Statistic]),
    Scenario::new(
        "path_mtu_learnt",
        "the route is narrower than the pod thinks; TCP learns it and goes on",
        routing::narrow_route,
        path_mtu_learnt,
    ),
];

fn load(place: &Place) -> Vec<Attempt> {
    let mut attempts = controls::external(place);
    for to in [place.healthy(), place.local()] {
        let many = Step::new(Kind::Tcp, at(to, port::TCP[2])).count(25);
        attempts.push(Attempt::new(many, &[Answer::Ok], Expect::delivered()));
    }
    let big = Step::new(Kind::Tcp, at(place.healthy(), broken::TCP)).size(300_000);
    attempts.push(Attempt::new(big, &[Answer::Ok], Expect::delivered()));
    attempts
}

fn ingress(place: &Place) -> Vec<Attempt> {
    let pod = place.local();
    vec![controls::tcp(pod), controls::udp(pod), controls::icmp(pod)]
}

fn to_itself(place: &Place) -> Vec<Attempt> {
    let own = place.addresses().pod[0];
    let home: IpAddr = match place.family {
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    };
    let group: IpAddr = match place.family {
        Family::V4 => Ipv4Addr::new(239, 1, 1, 1).into(),
        Family::V6 => Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 0, 0xfb).into(),
    };
    let chatter = Step::new(Kind::UdpOneWay, at(group, 5353)).count(2);
    let mut attempts = controls::external(place);
    attempts.extend([controls::icmp(own), controls::icmp(home)]);
    attempts.push(Attempt::new(
        chatter,
        &[Answer::Sent],
        Expect::not_failing(),
    ));
    for to in [own, home] {
        // Nothing listens in the traced pod.
        let expect = Expect::refused(&["PORT_NOT_LISTENING"], &[]).weaker(&[RESET_UNREPORTED]);
        attempts.push(Attempt::new(
            step(Kind::Tcp, to),
            &[Answer::Refused],
            expect,
        ));
    }
    attempts
}

fn one_way(place: &Place) -> Vec<Attempt> {
    let mute = Step::new(Kind::UdpOneWay, at(place.healthy(), port::MUTE)).count(3);
    let mut attempts = controls::external(place);
    attempts.push(Attempt::new(mute, &[Answer::Sent], Expect::not_failing()));
    attempts
}

fn dns_errors(place: &Place) -> Vec<Attempt> {
    let ask = |to, name: &str| Step::new(Kind::Dns, at(to, port::DNS)).name(name);
    vec![
        Attempt::new(
            ask(place.healthy(), "nx.example"),
            &[Answer::Rcode(3)],
            Expect::delivered_though(&["", "DNS_NXDOMAIN"]),
        ),
        Attempt::new(
            ask(place.broken(), "fail.example"),
            &[Answer::Rcode(2)],
            Expect::delivered_though(&["", "DNS_SERVFAIL"]),
        ),
        Attempt::new(
            ask(place.addresses().vip_external, NAME),
            &[Answer::Ok],
            Expect::delivered(),
        ),
    ]
}

fn lost_once(place: &Place) -> Vec<Attempt> {
    let late = step(Kind::Tcp, place.healthy()).timeout(Duration::from_secs(3));
    let attempt = Attempt::new(
        late,
        &[Answer::Ok],
        Expect::delivered().present(&["caveats"]),
    );
    controls::beside(place, vec![attempt])
}

fn path_mtu_learnt(place: &Place) -> Vec<Attempt> {
    let big = step(Kind::Tcp, place.broken()).size(20_000);
    controls::beside(
        place,
        vec![Attempt::new(big, &[Answer::Ok], Expect::delivered())],
    )
}
