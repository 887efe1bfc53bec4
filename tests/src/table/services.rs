//! Services that do not lead where they should, in a cluster whose API server says what should be.

use serde_json::{Value, json};

use super::controls::{self, step};
use crate::faults::{Place, at, broken, kube, proxy};
use crate::kernel::Lack;
use crate::objects;
use crate::scenario::{Attempt, Expect, Scenario};
use crate::server::port;
use crate::step::{Answer, Kind, Step};

pub const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "svc_named",
        "nothing is broken, and everything has a name",
        proxy::healthy,
        named,
    )
    .within(healthy),
    Scenario::new(
        "svc_port_undefined",
        "a port the Service does not define (kube-proxy, iptables)",
        proxy::healthy,
        undefined,
    )
    .within(healthy),
    Scenario::new(
        "svc_port_undefined_nft",
        "a port the Service does not define (kube-proxy, nftables)",
        proxy::checked_nft,
        undefined_nft,
    )
    .within(healthy),
    Scenario::new(
        "svc_not_ready",
        "a Service whose only pod is not ready",
        kube::no_endpoints,
        not_ready,
    )
    .within(waiting),
    Scenario::new(
        "svc_wrong_selector",
        "a Service whose selector is misspelled",
        kube::no_endpoints,
        misspelled,
    )
    .within(nobody),
    Scenario::new(
        "target_port_mismatch",
        "the Service's targetPort is one its pod does not serve",
        proxy::mismatched,
        mismatched,
    )
    .within(wrong_target),
    Scenario::new(
        "kube_rules_missing",
        "kube-proxy (iptables) knows nothing of a Service with endpoints",
        proxy::healthy,
        missing,
    )
    .within(unknown_to_proxy),
    Scenario::new(
        "kube_rules_missing_nft",
        "kube-proxy (nftables) knows nothing of a Service with endpoints",
        proxy::healthy_nft,
        missing,
    )
    .within(unknown_to_proxy),
    Scenario::new(
        "netpol_named",
        "a policy of the cluster, put into rules by Calico, forbids tcp/8081",
        kube::calico,
        forbidden,
    )
    .only_ptp()
    .within(policed),
];

fn web(place: &Place, target: u16) -> Vec<Value> {
    let mut all = objects::base(place);
    all.push(objects::service(
        place,
        "web",
        "web",
        proxy::PORT,
        &json!(target),
    ));
    all.push(objects::slice(place, "web", target, Some(true)));
    all
}

fn healthy(place: &Place) -> Vec<Value> {
    web(place, 8080)
}

fn wrong_target(place: &Place) -> Vec<Value> {
    web(place, port::CLOSED)
}

fn empty(place: &Place, app: &str, ready: Option<bool>) -> Vec<Value> {
    let mut all = objects::base(place);
    all.push(objects::service(
        place,
        "empty",
        app,
        kube::EMPTY_PORT,
        &json!(8080),
    ));
    all.push(objects::slice(place, "empty", 8080, ready));
    all
}

fn waiting(place: &Place) -> Vec<Value> {
    empty(place, "web", Some(false))
}

fn nobody(place: &Place) -> Vec<Value> {
    empty(place, "wbe", None)
}

fn unknown_to_proxy(place: &Place) -> Vec<Value> {
    let mut all = objects::base(place);
    all.push(objects::service(
        place,
        "db",
        "web",
        proxy::UNKNOWN_PORT,
        &json!(8080),
    ));
    all.push(objects::slice(place, "db", 8080, Some(true)));
    all
}

fn policed(place: &Place) -> Vec<Value> {
    let mut all = objects::base(place);
    all.push(objects::policy(broken::TCP));
    all
}

fn vip(place: &Place, port: u16) -> Step {
    Step::new(Kind::Tcp, at(place.addresses().vip_local, port))
}

/// Of the sender, whatever becomes of what it sends.
const CLIENT: &[(&str, &str)] = &[
    ("/source/namespace", "shop"),
    ("/source/pod_name", "client-7f9c5d-x2k8p"),
    ("/source/node_name", objects::NODE),
    (
        "/source/workloads",
        r#"[{"kind":"Deployment","name":"client"}]"#,
    ),
];

fn named(place: &Place) -> Vec<Attempt> {
    let through = Expect::delivered().says(&[
        ("/source/pod_name", "client-7f9c5d-x2k8p"),
        ("/destination/service/name", "web"),
        ("/destination/service/namespace", "shop"),
        ("/destination/service/port_name", "http"),
        ("/destination/pod_name", "web-0"),
        ("/destination/port_name", "http"),
        ("/destination/labels", r#"["app=web"]"#),
    ]);
    let service = Attempt::new(vip(place, proxy::PORT), &[Answer::Ok], through);
    // kube-proxy masquerades it, as the load balancer's clients are elsewhere.
    let balanced = at(place.addresses().stranger, proxy::PORT);
    let balanced = Attempt::new(
        Step::new(Kind::Tcp, balanced),
        &[Answer::Ok],
        Expect::delivered().present(&["nat"]),
    );
    let outside = Expect::delivered().says(CLIENT);
    let outside = Attempt::new(
        Step::new(Kind::Tcp, at(place.healthy(), port::TCP[2])),
        &[Answer::Ok],
        outside,
    );
    controls::beside(place, vec![service, balanced, outside])
}

/// What is not translated goes out by the uplink, where nobody has the address.
fn lost(causes: &'static [&'static str]) -> Expect {
    let mut expect = Expect::no_answer(causes);
    expect.outcomes = &["LEFT_NODE_NO_ANSWER", "REFUSED"];
    expect.confidences = &["PROVEN"];
    expect.present = &["evidence", "remediation"];
    expect
}

const LOST: &[Answer] = &[Answer::Timeout, Answer::Unreachable, Answer::Refused];

fn undefined(place: &Place) -> Vec<Attempt> {
    let expect = lost(&["SVC_PORT_UNDEFINED"]).says(&[("/destination/service/name", "web")]);
    let attempt = Attempt::new(vip(place, proxy::UNDEFINED_PORT), LOST, expect);
    controls::beside(place, vec![attempt])
}

fn undefined_nft(place: &Place) -> Vec<Attempt> {
    let expect = Expect::dropped(&["SVC_PORT_UNDEFINED"], &["NF_FORWARD"])
        .component(&[("name", "shop/web:8881")]);
    let attempt = Attempt::new(
        vip(place, proxy::UNDEFINED_PORT),
        &[Answer::Refused],
        expect,
    );
    controls::external(place)
        .into_iter()
        .chain([attempt])
        .collect()
}

fn not_ready(place: &Place) -> Vec<Attempt> {
    let expect = Expect::dropped(&["SVC_BACKENDS_NOT_READY"], &["NF_FORWARD"])
        .component(&[("name", "shop/empty:443")]);
    let attempt = Attempt::new(vip(place, kube::EMPTY_PORT), &[Answer::Refused], expect);
    controls::beside(place, vec![attempt])
}

fn misspelled(place: &Place) -> Vec<Attempt> {
    let expect = Expect::dropped(&["SVC_NO_ENDPOINTS"], &["NF_FORWARD"]).says(&[(
        "/remediation/commands/2",
        r#"kubectl -n shop patch service empty -p '{"spec":{"selector":{"app":"web"}}}' # if those are the pods that are meant"#,
    )]);
    let attempt = Attempt::new(vip(place, kube::EMPTY_PORT), &[Answer::Refused], expect);
    controls::beside(place, vec![attempt])
}

fn mismatched(place: &Place) -> Vec<Attempt> {
    let expect = Expect::refused(&["TARGET_PORT_MISMATCH"], &["SOCKET"])
        .component(&[("name", "shop/web:8880"), ("text", "targetPort 7777")])
        .weaker(&[(
            // The kernel reports no reset for want of a socket: what the cluster declares of the pod has to do.
            Lack::Reason("NO_SOCKET"),
            |expect| {
                expect.infer();
                expect.hops = &["FABRIC"];
            },
        )]);
    let attempt = Attempt::new(vip(place, proxy::PORT), &[Answer::Refused], expect);
    controls::beside(place, vec![attempt])
}

fn missing(place: &Place) -> Vec<Attempt> {
    let expect = lost(&["KUBE_PROXY_RULES_MISSING"]).says(&[("/destination/service/name", "db")]);
    let attempt = Attempt::new(vip(place, proxy::UNKNOWN_PORT), LOST, expect);
    controls::beside(place, vec![attempt])
}

fn forbidden(place: &Place) -> Vec<Attempt> {
    let expect = Expect::dropped(&["NETPOL_DROP"], &["NF_FORWARD"])
        .component(&[("policies", r#"["shop/client-egress"]"#)]);
    let attempt = Attempt::new(step(Kind::Tcp, place.healthy()), &[Answer::Timeout], expect);
    controls::beside(place, vec![attempt])
}
