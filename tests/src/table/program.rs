//! A BPF program, or a bridge port, dropped it.

use super::controls::{self, step};
use crate::bpf;
use crate::faults::{Case, program};
use crate::needs::Need;
use crate::scenario::{Attempt, Expect, Scenario};
use crate::step::{Answer, Kind};

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
        veth,
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
];

fn broken(
    case: &Case,
    hops: &'static [&'static str],
    names: &'static [(&'static str, &'static str)],
) -> Vec<Attempt> {
    let expect = Expect::dropped(&["BPF_PROGRAM_DROP"], hops).component(names);
    controls::beside(
        case,
        vec![Attempt::new(
            step(Kind::Tcp, case.healthy()),
            &[Answer::Timeout],
            expect,
        )],
    )
}

fn uplink(case: &Case) -> Vec<Attempt> {
    broken(case, UPLINK, NAMED)
}

fn nameless(case: &Case) -> Vec<Attempt> {
    broken(case, UPLINK, &[])
}

fn veth(case: &Case) -> Vec<Attempt> {
    broken(case, VETH, NAMED)
}

fn isolated(case: &Case) -> Vec<Attempt> {
    let mut expect = Expect::dropped(&["BRIDGE_DROP", "UNKNOWN"], &["BRIDGE", "POD_VETH"]);
    expect.confidences = &[];
    let attempt = Attempt::new(
        step(Kind::Tcp, case.local()),
        &[Answer::Timeout, Answer::Unreachable],
        expect,
    );
    [vec![attempt], controls::external(case)].concat()
}
