//! Packets that find no way on: which route is behind it, and how to ask for it as the packet did.

use netdiag::event::{Detail, Drop, HookId, IfIndex, Route, Span, TcpFlags};
use netdiag::verdict::{Remediation, Verdict};

use crate::story::{BACKEND, CLIENT, Story, UPLINK, VETH, last, run, tuple};

const EACCES: u16 = 13;
const EINVAL: u16 = 22;
const ENETUNREACH: u16 = 101;
const EHOSTUNREACH: u16 = 113;

/// A SYN of the pod that routing gave up, as the node's kernel reports it.
fn lost(reason: &str, error: u16, mark: u32) -> Verdict {
    let drop = Drop {
        reason: Some(reason.into()),
        location: Some("ip_error".into()),
        stack: Vec::new(),
        route: Some(Route {
            error,
            ..Route::default()
        }),
        refusal: None,
    };
    let syn = tuple(CLIENT, BACKEND);
    let detail = Detail::Dropped(drop);
    let mut story = Story::new().push(HookId::KfreeSkb, VETH, syn, TcpFlags::SYN, None, detail);
    let event = story.events.last_mut().expect("the drop");
    event.place.iif = Some(VETH);
    event.packet.as_mut().expect("its packet").mark = mark;
    last(&run(&story, Span::millis(4000))).clone()
}

fn remedy(verdict: &Verdict) -> &Remediation {
    verdict.remediation.as_ref().expect("a remedy")
}

#[test]
fn the_route_is_asked_for_as_the_packet_did() {
    let as_the_packet = "ip route get 198.51.100.10 from 10.244.0.2 iif veth5";
    for (cause, reason, error) in [
        ("NO_ROUTE", "IP_INNOROUTES", ENETUNREACH),
        ("NO_ROUTE", "IP_INNOROUTES", EHOSTUNREACH),
        ("BLACKHOLE_ROUTE", "IP_INNOROUTES", EINVAL),
        ("PROHIBIT_ROUTE", "IP_INNOROUTES", EACCES),
        ("RP_FILTER", "IP_RPFILTER", 0),
    ] {
        let verdict = lost(reason, error, 0);
        assert_eq!(verdict.cause.map(|cause| cause.0), Some(cause));
        let commands = &remedy(&verdict).commands;
        let asks = |command: &String| command.split(" #").next() == Some(as_the_packet);
        assert!(commands.iter().any(asks), "{cause}: {commands:#?}");
        assert!(
            commands.iter().any(|command| command.contains("ip rule")),
            "{commands:#?}"
        );
    }
    let marked = lost("IP_INNOROUTES", EINVAL, 0x77);
    assert_eq!(
        remedy(&marked).commands[0],
        format!("{as_the_packet} mark 0x77")
    );
}

#[test]
fn a_route_that_forbids_is_not_one_that_is_missing() {
    let unreachable = lost("IP_INNOROUTES", EHOSTUNREACH, 0);
    let summary = &remedy(&unreachable).summary;
    assert!(summary.starts_with("an unreachable route"), "{summary}");
    let missing = lost("IP_INNOROUTES", ENETUNREACH, 0);
    let summary = &remedy(&missing).summary;
    assert!(summary.starts_with("no route to"), "{summary}");
    // The error is the same where the node does not forward.
    let host = lost("IP_INADDRERRORS", EHOSTUNREACH, 0);
    let summary = &remedy(&host).summary;
    assert!(summary.contains("does not forward"), "{summary}");
}

#[test]
fn a_lookup_of_the_senders_own_names_no_interface() {
    let drop = Drop {
        reason: Some("IP_OUTNOROUTES".into()),
        location: Some("ip6_pkt_drop".into()),
        stack: Vec::new(),
        route: None,
        refusal: None,
    };
    let syn = tuple("192.0.2.1:40000", BACKEND);
    let detail = Detail::Dropped(drop);
    let story = Story::new().push(HookId::KfreeSkb, UPLINK, syn, TcpFlags::SYN, None, detail);
    let verdicts = run(&story, Span::millis(4000));
    assert_eq!(
        remedy(last(&verdicts)).commands[0],
        "ip route get 198.51.100.10 from 192.0.2.1"
    );
    let mut story = story;
    story.events[0].place.iif = Some(IfIndex(99));
    let verdicts = run(&story, Span::millis(4000));
    assert_eq!(
        remedy(last(&verdicts)).commands[0],
        "ip route get 198.51.100.10 from 192.0.2.1"
    );
}
