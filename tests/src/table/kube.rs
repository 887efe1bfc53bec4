//! Rules that Kubernetes components wrote said no.

use super::controls::{self, step};
use crate::faults::kube::{self, EMPTY_PORT, EMPTY_SERVICE};
use crate::faults::{Place, at};
use crate::scenario::{Attempt, Expect, Scenario};
use crate::step::{Answer, Kind, Step};

const FORWARD: &[&str] = &["NF_FORWARD"];

pub const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "netpol_calico",
        "a policy of Calico forbids tcp/8081",
        kube::calico,
        calico,
    )
    .only_ptp(),
    Scenario::new(
        "netpol_kube_router",
        "a policy of kube-router forbids tcp/8081",
        kube::kube_router,
        kube_router,
    ),
    Scenario::new(
        "svc_no_endpoints",
        "kube-proxy (iptables) rejects a Service without endpoints",
        kube::no_endpoints,
        no_endpoints,
    ),
    Scenario::new(
        "svc_no_endpoints_nft",
        "kube-proxy (nftables) rejects a Service without endpoints",
        kube::no_endpoints_nft,
        no_endpoints,
    ),
];

fn calico(place: &Place) -> Vec<Attempt> {
    let expect = Expect::dropped(&["NETPOL_DROP"], FORWARD).component(&[
        ("owner", "calico"),
        ("table", "filter"),
        ("verdict", "DROP"),
    ]);
    let attempt = Attempt::new(step(Kind::Tcp, place.healthy()), &[Answer::Timeout], expect);
    controls::beside(place, vec![attempt])
}

fn kube_router(place: &Place) -> Vec<Attempt> {
    let mut expect = Expect::dropped(&["NETPOL_DROP"], FORWARD).component(&[
        ("owner", "kube-router"),
        ("chain", "KUBE-POD-FW-AZTYPPE2UQDQYGPP"),
        ("verdict", "REJECT"),
    ]);
    // Whether the packet had the engine's mark before the chain began is not known.
    expect.confidences = &["PROVEN", "INFERRED"];
    let attempt = Attempt::new(step(Kind::Tcp, place.healthy()), &[Answer::Refused], expect);
    controls::beside(place, vec![attempt])
}

fn no_endpoints(place: &Place) -> Vec<Attempt> {
    let empty = Step::new(Kind::Tcp, at(place.addresses().vip_local, EMPTY_PORT));
    let expect = Expect::dropped(&["SVC_NO_ENDPOINTS"], FORWARD)
        .component(&[("owner", "kube-proxy"), ("name", EMPTY_SERVICE)]);
    controls::beside(place, vec![Attempt::new(empty, &[Answer::Refused], expect)])
}
