//! Something on an interface dropped it: a BPF program, a bridge port, a queue, a tunnel.

use super::controls::{self, step};
use crate::bpf;
use crate::faults::{self, Place, at, program};
use crate::kernel::Lack;
use crate::needs::Need;
use crate::scenario::{Attempt, Expect, Scenario, Weaker};
use crate::step::{Answer, Kind, Step};

const UPLINK: &[&str] = &["NIC_EGRESS"];
const VETH: &[&str] = &["POD_VETH"];
const NAMED: &[(&str, &str)] = &[("name", bpf::NAME)];

pub const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "bpf_filter_uplink",
        "a tc filter on the uplink drops tcp/8081",
        program::filter_on_uplink,
        uplink,
    ),
    Scenario::new(
        "bpf_filter_veth",
        "a tc filter on the pod's veth drops tcp/8081",
        program::filter_on_veth,
        veth,
    ),
    Scenario::new(
        "bpf_tcx_uplink",
        "a tcx program on the uplink drops tcp/8081",
        program::tcx_on_uplink,
        uplink,
    )
    .needs(&[Need::Tcx]),
    Scenario::new(
        "bpf_tcx_veth",
        "a tcx program on the pod's veth drops tcp/8081",
        program::tcx_on_veth,
        veth,
    )
    .needs(&[Need::Tcx]),
    Scenario::new(
        "bpf_xdp_veth",
        "an XDP program on the pod's veth drops tcp/8081",
        program::xdp_on_veth,
        xdp,
    ),
    Scenario::new(
        "bpf_classic_uplink",
        "a classic BPF filter on the uplink drops tcp/8081",
        program::classic_on_uplink,
        nameless,
    ),
    Scenario::new(
        "bridge_isolated",
        "the pods' bridge ports are isolated from each other",
        program::isolated_ports,
        isolated,
    )
    .only_bridge(),
    Scenario::new(
        "qdisc_full",
        "a class of the uplink's queueing discipline has no room",
        program::full_queue,
        queue,
    ),
    Scenario::new(
        "tunnel_unknown",
        "the node's VXLAN device does not know the network of the packet",
        program::vxlan,
        tunnel,
    ),
];

const WITHOUT_REASONS: Lack = Lack::Reason("TC_INGRESS");
/// What is attached there tells that much.
const INFERRED: &[Weaker] = &[(WITHOUT_REASONS, Expect::infer)];
/// An action is no program that could be found there.
const UNKNOWN: &[Weaker] = &[(WITHOUT_REASONS, |expect| {
    expect.causes = &["UNKNOWN"];
    expect.confidences = &["UNKNOWN"];
})];

fn broken(
    place: &Place,
    hops: &'static [&'static str],
    names: &'static [(&'static str, &'static str)],
    weaker: &'static [Weaker],
) -> Vec<Attempt> {
    let expect = Expect::dropped(&["BPF_PROGRAM_DROP"], hops)
        .component(names)
        .weaker(weaker);
    controls::beside(
        place,
        vec![Attempt::new(
            step(Kind::Tcp, place.healthy()),
            &[Answer::Timeout],
            expect,
        )],
    )
}

fn uplink(place: &Place) -> Vec<Attempt> {
    broken(place, UPLINK, NAMED, INFERRED)
}

fn nameless(place: &Place) -> Vec<Attempt> {
    broken(place, UPLINK, &[], UNKNOWN)
}

fn veth(place: &Place) -> Vec<Attempt> {
    broken(place, VETH, NAMED, INFERRED)
}

/// The function that drops runs nothing else.
fn xdp(place: &Place) -> Vec<Attempt> {
    broken(place, VETH, NAMED, &[])
}

fn isolated(place: &Place) -> Vec<Attempt> {
    let mut expect = Expect::dropped(&["BRIDGE_DROP", "UNKNOWN"], &["BRIDGE", "POD_VETH"]);
    expect.confidences = &[];
    let attempt = Attempt::new(
        step(Kind::Tcp, place.local()),
        &[Answer::Timeout, Answer::Unreachable],
        expect,
    );
    [vec![attempt], controls::external(place)].concat()
}

fn queue(place: &Place) -> Vec<Attempt> {
    let expect = Expect::dropped(&["QDISC_DROP"], &["QDISC", "NIC_EGRESS"]);
    let attempt = Attempt::new(step(Kind::Tcp, place.healthy()), &[Answer::Timeout], expect);
    controls::beside(place, vec![attempt])
}

fn tunnel(place: &Place) -> Vec<Attempt> {
    let encapsulated = Step::new(
        Kind::UdpOneWay,
        at(place.addresses().node, faults::broken::VXLAN),
    );
    let expect = Expect::dropped(&["TUNNEL_DROP"], &["TUNNEL_DECAP", "SOCKET"]);
    controls::beside(
        place,
        vec![Attempt::new(encapsulated, &[Answer::Sent], expect)],
    )
}
