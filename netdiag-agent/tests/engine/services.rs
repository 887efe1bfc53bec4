//! What the cluster says, put to use: names at both ends, and why a Service did not work.

use std::sync::Arc;

use netdiag::engine::Input;
use netdiag::event::{Detail, HookId, Ktime, Pass, Proto, Span, TcpFlags};
use netdiag::inventory::Delta;
use netdiag::inventory::cluster::{
    Change, ContainerPort, Endpoint, Kind, Name, Pod, Policy, Selector, Service, ServicePort,
    Slice, SlicePort, TargetPort,
};
use netdiag::ruleset::{Backend, Family, Listing, Reading, Source};
use netdiag::verdict::{Confidence, Outcome, Verdict};

use crate::story::{CLIENT, NODE, Story, UPLINK, VIP, last, run_with, tuple};

const SECOND: Span = Span::millis(1000);
const LONG: Span = Span::millis(4000);

fn news(change: Change) -> Input {
    Input::Inventory(Delta::Cluster {
        at: Ktime(1),
        change,
    })
}

fn pod(name: &str, app: &str, address: &str, port: u16) -> Change {
    let mut pod = Pod::named(name, Name::new("shop", name));
    pod.labels = [("app".into(), app.into())].into();
    pod.addresses = vec![address.parse().unwrap()];
    pod.ports = vec![ContainerPort {
        name: Some("main".into()),
        proto: Proto::TCP,
        port,
    }];
    Change::Pod(Arc::new(pod))
}

/// `shop/web` on the address the stories ask, with this port and selector.
fn service(port: u16, app: &str) -> Change {
    Change::Service(Arc::new(Service {
        name: Name::new("shop", "web"),
        cluster_addresses: vec!["10.96.0.10".parse().unwrap()],
        outer_addresses: Vec::new(),
        selector: [("app".into(), app.into())].into(),
        ports: vec![ServicePort {
            name: Some("http".into()),
            proto: Proto::TCP,
            port,
            target: TargetPort::Number(8080),
            node_port: None,
        }],
        proxied: true,
        local_only: false,
        outer_local_only: false,
    }))
}

fn slice(port_name: &str, ready: Option<bool>) -> Change {
    let endpoints = ready.into_iter().map(|ready| Endpoint {
        address: "198.51.100.10".parse().unwrap(),
        ready,
        draining: false,
        pod: Some("web-0".into()),
        node: None,
    });
    Change::Slice(Arc::new(Slice {
        name: Name::new("shop", "web-1"),
        service: "web".into(),
        ports: vec![SlicePort {
            name: Some(port_name.into()),
            proto: Proto::TCP,
            port: 8080,
        }],
        endpoints: endpoints.collect(),
    }))
}

fn cluster(changes: Vec<Change>) -> Vec<Input> {
    let pods = [
        pod("client", "client", "10.244.0.2", 1),
        pod("web-0", "web", "198.51.100.10", 9090),
    ];
    let synced = Kind::NAMES.iter().map(|(kind, _)| Change::Synced(*kind));
    pods.into_iter()
        .chain(changes)
        .chain(synced)
        .map(news)
        .collect()
}

fn rules(text: &str) -> Input {
    let listing = Listing {
        source: Source::Iptables(Backend::IptablesNft, Family::Ip),
        text: text.to_owned(),
    };
    Input::Inventory(Delta::Rules(Arc::new(Reading::of(
        NODE,
        Ktime(1),
        vec![listing],
    ))))
}

/// The request goes out by the uplink as the pod sent it.
fn untranslated() -> Story {
    let mut story = Story::new();
    for _ in 0..2 {
        story = story.syn_at_pod().push(
            HookId::NetDevStartXmit,
            UPLINK,
            tuple(CLIENT, VIP),
            TcpFlags::SYN,
            None,
            Detail::Seen(Pass::Sent),
        );
    }
    story
}

fn said(verdict: &Verdict) -> (Option<&str>, Outcome, Confidence) {
    (
        verdict.cause.map(|cause| cause.0),
        verdict.outcome,
        verdict.confidence,
    )
}

fn evidence(verdict: &Verdict) -> String {
    let details = verdict.evidence.iter().filter_map(|one| one.detail.clone());
    details.collect::<Vec<_>>().join("\n")
}

fn delivered() -> Story {
    Story::established()
}

#[test]
fn both_ends_have_names() {
    let known = cluster(vec![service(80, "web"), slice("http", Some(true))]);
    let verdicts = run_with(&known, &delivered(), SECOND);
    assert_eq!(verdicts.len(), 1, "{verdicts:#?}");
    let verdict = last(&verdicts);
    assert_eq!(
        verdict.source.pod.as_ref().unwrap().name,
        Name::new("shop", "client")
    );
    assert_eq!(
        verdict.destination.pod.as_ref().unwrap().name,
        Name::new("shop", "web-0")
    );
    let service = verdict.destination.service.as_ref().unwrap();
    assert_eq!(
        (&service.name, service.port_name.as_deref()),
        (&Name::new("shop", "web"), Some("http"))
    );
    assert!(!verdict.destination.external);
}

#[test]
fn without_a_cluster_nothing_is_said_of_one() {
    let verdicts = run_with(&[], &delivered(), SECOND);
    let verdict = last(&verdicts);
    assert!(verdict.source.pod.is_none() && verdict.destination.external);
    assert!(verdict.caveats.is_empty(), "{:?}", verdict.caveats);
}

#[test]
fn what_cannot_be_seen_is_a_caveat_of_one_line() {
    let why: Arc<str> = "our credentials may not list and watch them (403)".into();
    let known: Vec<Input> = [Kind::Pods, Kind::Services]
        .map(|kind| news(Change::Unseen(kind, Arc::clone(&why))))
        .into();
    let verdicts = run_with(&known, &delivered(), SECOND);
    assert_eq!(
        last(&verdicts).caveats,
        [
            "blind: names of the cluster: pods of other nodes, Services (our credentials may not list and watch them (403))"
        ]
    );
}

#[test]
fn a_port_the_service_lacks_is_named() {
    let known = cluster(vec![service(8443, "web"), slice("http", Some(true))]);
    let verdicts = run_with(&known, &untranslated(), LONG);
    let verdict = last(&verdicts);
    let expected = (
        Some("SVC_PORT_UNDEFINED"),
        Outcome::LeftNodeNoAnswer,
        Confidence::Proven,
    );
    assert_eq!(said(verdict), expected, "{verdict:#?}");
    assert!(evidence(verdict).contains("shop/web defines tcp/8443 (http); asked for was tcp/80"));
}

#[test]
fn nobody_behind_it_and_who_comes_nearest() {
    let known = cluster(vec![service(80, "wbe"), slice("http", None)]);
    let verdicts = run_with(&known, &untranslated(), LONG);
    let verdict = last(&verdicts);
    let expected = (
        Some("SVC_NO_ENDPOINTS"),
        Outcome::LeftNodeNoAnswer,
        Confidence::Inferred,
    );
    assert_eq!(said(verdict), expected);
    let told = evidence(verdict);
    assert!(
        told.contains("the selector of shop/web is app=wbe; nearest is pod web-0 with app=web"),
        "{told}"
    );
    let commands = &verdict.remediation.as_ref().unwrap().commands;
    assert!(
        commands
            .iter()
            .any(|one| one.contains(r#"{"spec":{"selector":{"app":"web"}}}"#)),
        "{commands:?}"
    );
}

#[test]
fn pods_that_are_not_ready_are_named() {
    let known = cluster(vec![service(80, "web"), slice("http", Some(false))]);
    let verdicts = run_with(&known, &untranslated(), LONG);
    assert_eq!(said(last(&verdicts)).0, Some("SVC_BACKENDS_NOT_READY"));
    assert!(evidence(last(&verdicts)).contains("0 of 1 ready; not ready: web-0"));
}

#[test]
fn a_port_name_no_pod_has_is_a_mismatch() {
    let known = cluster(vec![service(80, "web"), slice("other", Some(true))]);
    let verdicts = run_with(&known, &untranslated(), LONG);
    assert_eq!(said(last(&verdicts)).0, Some("TARGET_PORT_MISMATCH"));
}

/// kube-proxy knows another Service only.
const OTHER: &str = "\
*nat
:PREROUTING ACCEPT [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-NPX46M4PTMTKRN6Y - [0:0]
-A PREROUTING -j KUBE-SERVICES
-A KUBE-SERVICES -d 10.96.0.1/32 -p tcp -m tcp --dport 443 -j KUBE-SVC-NPX46M4PTMTKRN6Y
COMMIT
";

#[test]
fn rules_that_are_missing_are_proven_by_the_rules_that_are_there() {
    let mut known = cluster(vec![service(80, "web"), slice("http", Some(true))]);
    known.push(rules(OTHER));
    let verdicts = run_with(&known, &untranslated(), LONG);
    let verdict = last(&verdicts);
    let expected = (
        Some("KUBE_PROXY_RULES_MISSING"),
        Outcome::LeftNodeNoAnswer,
        Confidence::Proven,
    );
    assert_eq!(said(verdict), expected);
    assert!(
        evidence(verdict).contains("no rule for 10.96.0.10:80"),
        "{}",
        evidence(verdict)
    );
}

#[test]
fn what_is_unknown_blames_nobody() {
    // No rules were read.
    let known = cluster(vec![service(80, "web"), slice("http", Some(true))]);
    let verdicts = run_with(&known, &untranslated(), LONG);
    assert_eq!(said(last(&verdicts)).0, Some("NO_ANSWER"));
    // Slices are not known.
    let known: Vec<Input> = vec![news(service(80, "web")), rules(OTHER)];
    let verdicts = run_with(&known, &untranslated(), LONG);
    assert_eq!(said(last(&verdicts)).0, Some("NO_ANSWER"));
}

#[test]
fn a_remote_pod_that_refuses_what_it_never_declared() {
    let story = Story::new().syn_at_pod().syn_at_uplink().rst_at_uplink();
    let known = cluster(vec![service(80, "web"), slice("http", Some(true))]);
    let verdicts = run_with(&known, &story, SECOND);
    let verdict = last(&verdicts);
    let expected = (
        Some("TARGET_PORT_MISMATCH"),
        Outcome::Refused,
        Confidence::Inferred,
    );
    assert_eq!(said(verdict), expected, "{verdict:#?}");
    let commands = &verdict.remediation.as_ref().unwrap().commands;
    assert!(
        commands[1].contains(r#""path":"/spec/ports/0/targetPort","value":9090"#),
        "{commands:?}"
    );
    assert_eq!(
        said(last(&run_with(&[], &story, SECOND))).0,
        Some("PEER_REFUSED")
    );
}

/// kube-router's chains in front of the client's pod.
const POLICED: &str = "\
*filter
:FORWARD ACCEPT [0:0]
:KUBE-POD-FW-AZTYPPE2UQDQYGPP - [0:0]
-A FORWARD -s 10.244.0.2/32 -j KUBE-POD-FW-AZTYPPE2UQDQYGPP
-A KUBE-POD-FW-AZTYPPE2UQDQYGPP -j DROP
COMMIT
";

#[test]
fn a_rule_that_is_gone_when_the_rules_are_read_again_is_named_all_the_same() {
    let mut known = cluster(vec![service(80, "web")]);
    known.push(rules(POLICED));
    known.push(rules("*filter\n:FORWARD ACCEPT [0:0]\nCOMMIT\n"));
    let story = Story::new().syn_at_pod().firewall(false);
    let verdicts = run_with(&known, &story, SECOND);
    let verdict = last(&verdicts);
    let expected = (
        Some("NETPOL_DROP"),
        Outcome::DroppedHere,
        Confidence::Inferred,
    );
    assert_eq!(said(verdict), expected, "{verdict:#?}");
    let gone = "gone when the rules were read again";
    assert!(verdict.caveats.iter().any(|one| one.contains(gone)));
    let remedy = verdict.remediation.as_ref().unwrap();
    assert!(remedy.summary.ends_with("try again"), "{remedy:?}");
    assert!(remedy.commands.is_empty(), "{remedy:?}");
}

#[test]
fn policies_that_forbid_are_named_with_the_rule_that_would_allow() {
    let deny = |name: &str| {
        Change::Policy(Arc::new(Policy {
            name: Name::new("shop", name),
            pods: Selector::default(),
            ingress: None,
            egress: Some(Vec::new()),
        }))
    };
    let mut known = cluster(vec![deny("default-deny"), service(80, "web")]);
    known.push(rules(POLICED));
    let story = Story::new().syn_at_pod().firewall(false);
    let verdicts = run_with(&known, &story, SECOND);
    let verdict = last(&verdicts);
    assert_eq!(said(verdict).0, Some("NETPOL_DROP"), "{verdict:#?}");
    let told = evidence(verdict);
    assert!(
        told.contains("egress of shop/client: selected by default-deny, and none of them allows tcp/8080 to shop/web-0"),
        "{told}"
    );
    let mut components = verdict.hops.iter().filter_map(|hop| hop.component.as_ref());
    assert_eq!(components.next().unwrap().policies, ["shop/default-deny"]);
    let commands = &verdict.remediation.as_ref().unwrap().commands;
    assert_eq!(
        commands[1],
        r#"kubectl -n shop patch networkpolicy default-deny --type=json -p '[{"op":"add","path":"/spec/egress","value":[{"to":[{"podSelector":{"matchLabels":{"app":"web"}}}],"ports":[{"protocol":"TCP","port":8080}]}]}]'"#
    );
}

#[test]
fn names_that_come_late_make_a_revision() {
    use netdiag::engine::{Config, Engine};

    let mut engine = Engine::new(Config::default());
    let mut verdicts = Vec::new();
    for input in crate::story::inventory() {
        verdicts.extend(engine.step(input));
    }
    for event in delivered().events {
        verdicts.extend(engine.step(Input::Event(event)));
    }
    verdicts.extend(engine.step(Input::Tick(Ktime(2_000_000_000))));
    assert_eq!(verdicts.len(), 1);
    assert!(verdicts[0].source.pod.is_none());
    for input in cluster(vec![service(80, "web")]) {
        assert!(engine.step(input).is_empty());
    }
    verdicts.extend(engine.step(Input::Tick(Ktime(3_000_000_000))));
    assert_eq!(verdicts.len(), 2);
    assert_eq!(
        (verdicts[1].revision, &verdicts[1].uuid),
        (2, &verdicts[0].uuid)
    );
    assert!(verdicts[1].source.pod.is_some() && verdicts[1].destination.service.is_some());
    // What is known does not make another.
    verdicts.extend(engine.step(Input::Stop(Ktime(4_000_000_000))));
    assert_eq!(verdicts.len(), 2);
}
