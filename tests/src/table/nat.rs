//! Translation and what hides behind it: exemptions, hairpins, twins, overlays, connections older than the trace.

use super::conntrack;
use super::controls::{self, step};
use crate::faults::nat::{self, SAME_PORT};
use crate::faults::{Place, at, broken, overlay};
use crate::scenario::{Attempt, Expect, Scenario, Select};
use crate::server::port;
use crate::step::{Answer, Kind, Step};
use crate::topology::service_port;

pub const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "masq_missing",
        "one destination is exempt from masquerade, and has no way back to the pods",
        nat::exempt,
        exempt,
    ),
    Scenario::new(
        "masq_unexpected",
        "the node masquerades what one of its pods sends another through a Service",
        nat::between_pods,
        between_pods,
    ),
    Scenario::new(
        "hairpin",
        "nothing; a pod reaches itself through a Service",
        nat::hairpin,
        hairpin,
    ),
    Scenario::new(
        "same_source_port",
        "nothing; another pod talks to the same server from the same source port",
        nat::twin,
        twin,
    ),
    Scenario::new(
        "same_source_port_node",
        "nothing; two pods talk to one server from the same source port, and the node is traced",
        nat::twin,
        twins,
    )
    .select(Select::Uplink),
    Scenario::new(
        "older_than_trace",
        "nothing; the connection through a Service is older than the trace",
        nat::old_connection,
        older,
    ),
    Scenario::new(
        "older_than_trace_lost",
        "the node forgets a connection that is older than the trace",
        nat::old_slow_connection,
        older_lost,
    ),
    Scenario::new(
        "sidecar",
        "nothing; the pod redirects a port to a server of its own",
        nat::sidecar,
        sidecar,
    ),
    Scenario::new(
        "older_than_trace_silent",
        "the far end of a connection that is older than the trace falls silent",
        nat::old_silent_connection,
        older_silent,
    ),
    Scenario::new(
        "stateless_nat",
        "nothing; the node translates without conntrack",
        nat::stateless,
        stateless,
    ),
    Scenario::new(
        "overlay",
        "nothing; a pod of another node is reached through VXLAN",
        overlay::vxlan,
        overlay,
    ),
    Scenario::new(
        "overlay_node",
        "nothing; a pod of another node is reached through VXLAN, and the node is traced",
        overlay::vxlan,
        overlay,
    )
    .select(Select::Uplink),
    Scenario::new(
        "overlay_silent",
        "a pod of another node, reached through VXLAN, does not answer",
        overlay::silent,
        overlay_silent,
    ),
];

fn exempt(place: &Place) -> Vec<Attempt> {
    let expect = Expect::no_answer(&["MASQ_MISSING"])
        .confidence(&["PROVEN"])
        .component(&[
            ("kind", "iptables_rule"),
            ("chain", "POSTROUTING"),
            ("rule", "1"),
        ]);
    let attempt = Attempt::new(step(Kind::Tcp, place.healthy()), &[Answer::Timeout], expect);
    controls::beside(place, vec![attempt])
}

fn between_pods(place: &Place) -> Vec<Attempt> {
    let vip = at(place.addresses().vip_local, service_port(port::TCP[0]));
    let expect =
        Expect::delivered_though(&["MASQ_UNEXPECTED"]).present(&["caveats", "remediation"]);
    let attempt = Attempt::new(Step::new(Kind::Tcp, vip), &[Answer::Ok], expect);
    [vec![attempt], controls::external(place)].concat()
}

fn hairpin(place: &Place) -> Vec<Attempt> {
    let vip = at(place.addresses().vip_local, service_port(port::TCP[2]));
    let expect = Expect::delivered().present(&["nat"]);
    let attempt = Attempt::new(Step::new(Kind::Tcp, vip), &[Answer::Ok], expect);
    controls::beside(place, vec![attempt])
}

fn twin(place: &Place) -> Vec<Attempt> {
    let to = at(place.healthy(), port::TCP[0]);
    let step = Step::new(Kind::Tcp, to)
        .from(place.addresses().pod[0])
        .port(SAME_PORT);
    vec![Attempt::new(
        step,
        &[Answer::Ok],
        Expect::delivered().present(&["nat"]),
    )]
}

fn twins(place: &Place) -> Vec<Attempt> {
    let to = at(place.healthy(), port::TCP[0]);
    let other = Step::new(Kind::Held, to).from(place.local());
    let other = Attempt::new(other, &[Answer::Ok], Expect::delivered().present(&["nat"]));
    [twin(place), vec![other]].concat()
}

fn older(place: &Place) -> Vec<Attempt> {
    let vip = at(place.addresses().vip_external, service_port(port::TCP[0]));
    let step = Step::new(Kind::Held, vip).from(place.addresses().pod[0]);
    let attempt = Attempt::new(step, &[Answer::Ok], Expect::delivered().present(&["nat"]));
    [vec![attempt], controls::external(place)].concat()
}

fn sidecar(place: &Place) -> Vec<Attempt> {
    let mut taken = Expect::delivered().present(&["nat", "caveats"]);
    (taken.hops, taken.action) = (&["NF_OUTPUT"], "TRANSLATED");
    let attempt = Attempt::new(step(Kind::Tcp, place.healthy()), &[Answer::Ok], taken);
    controls::beside(place, vec![attempt])
}

fn older_silent(place: &Place) -> Vec<Attempt> {
    let step =
        Step::new(Kind::Held, at(place.healthy(), broken::TCP)).from(place.addresses().pod[0]);
    vec![
        Attempt::new(step, &[Answer::Timeout], Expect::no_answer(&["NO_ANSWER"])),
        controls::tcp(place.healthy()),
    ]
}

fn older_lost(place: &Place) -> Vec<Attempt> {
    let slow = at(place.healthy(), port::SLOW);
    let step = Step::new(Kind::Held, slow)
        .from(place.addresses().pod[0])
        .flush();
    let answers = &[Answer::Timeout, Answer::Refused];
    vec![
        Attempt::new(step, answers, conntrack::forgotten()),
        controls::tcp(place.healthy()),
    ]
}

/// Nothing but TCP's own sequence numbers joins the two sides.
fn stateless(place: &Place) -> Vec<Attempt> {
    let to = |port| Step::new(Kind::Tcp, at(place.healthy(), port));
    let mut through = Expect::delivered().present(&["nat"]);
    (through.hops, through.action) = (&["NIC_EGRESS"], "SEEN");
    let refused = Expect::refused(&["PEER_REFUSED"], &["FABRIC", "NIC_INGRESS"]).present(&["nat"]);
    vec![
        Attempt::new(to(port::TCP[0]), &[Answer::Ok], through),
        Attempt::new(to(port::CLOSED), &[Answer::Refused], refused),
        controls::udp(place.healthy()),
        controls::icmp(place.healthy()),
    ]
}

/// The tunnel's two hops, and the uplink under it, each asked of one conversation.
fn overlay(place: &Place) -> Vec<Attempt> {
    let pod = place.addresses().stranger;
    let passes = |hops, reply| {
        let mut expect = Expect::delivered();
        (expect.hops, expect.action, expect.reply) = (hops, "SEEN", reply);
        expect
    };
    let own = [
        (Kind::Tcp, port::TCP[0], passes(&["TUNNEL_ENCAP"], false)),
        (Kind::Tcp, port::TCP[1], passes(&["NIC_EGRESS"], false)),
        (Kind::Tcp, port::TCP[2], passes(&["TUNNEL_DECAP"], true)),
        (Kind::Icmp, 0, passes(&["NIC_INGRESS"], true)),
    ];
    let own = own.map(|(kind, port, expect)| {
        Attempt::new(Step::new(kind, at(pod, port)), &[Answer::Ok], expect)
    });
    controls::beside(place, own.to_vec())
}

fn overlay_silent(place: &Place) -> Vec<Attempt> {
    let mut expect = Expect::no_answer(&["NO_ANSWER"]);
    expect.hops = &["TUNNEL_ENCAP"];
    let silent = step(Kind::Tcp, place.addresses().stranger);
    controls::beside(
        place,
        vec![Attempt::new(silent, &[Answer::Timeout], expect)],
    )
}
