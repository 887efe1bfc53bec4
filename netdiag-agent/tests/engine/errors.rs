//! ICMP errors that are lost on their way back.

use netdiag::event::{Detail, Drop, HookId, IcmpKind, Pass, Proto, Span, Tuple};
use netdiag::verdict::{Outcome, Verdict};

use crate::story::{BACKEND, SNAT, Story, UPLINK, last, run, tuple};

/// "Port unreachable" from the backend, about the packet that left the node.
fn unreachable(story: Story, hook: HookId, detail: Detail) -> Story {
    let about = tuple(SNAT, BACKEND);
    let mut story = story.push(hook, UPLINK, about.reversed(), 0, None, detail);
    let event = story.events.last_mut().expect("the error");
    let packet = event.packet.as_mut().expect("its packet");
    packet.tuple = Tuple {
        proto: Proto::ICMP,
        ..packet.tuple
    };
    packet.tcp = None;
    packet.icmp = Some(IcmpKind { kind: 3, code: 3 });
    packet.inner = Some(about);
    story
}

fn refused() -> Story {
    let story = Story::new().syn_at_pod().syn_at_uplink();
    let received = Detail::Seen(Pass::Received);
    unreachable(story, HookId::NetifReceiveSkb, received)
}

fn tells_of_a_loss(verdict: &Verdict) -> bool {
    let mut caveats = verdict.caveats.iter();
    caveats.any(|caveat| caveat.contains("dropped on its way back") && caveat.contains("FORWARD"))
}

#[test]
fn an_error_that_a_rule_dropped_is_told_of() {
    let drop = |reason: &str, location: &str, stack: &[&str]| {
        Detail::Dropped(Drop {
            reason: Some(reason.into()),
            location: Some(location.into()),
            stack: stack.iter().map(|symbol| (*symbol).into()).collect(),
            route: None,
            refusal: None,
        })
    };
    let by_rule = drop("NETFILTER_DROP", "nft_do_chain", &["ip_forward"]);
    let verdicts = run(
        &unreachable(refused(), HookId::KfreeSkb, by_rule),
        Span::millis(300),
    );
    let verdict = last(&verdicts);
    assert_eq!(
        (verdict.outcome, verdict.cause.map(|cause| cause.0)),
        (Outcome::Refused, Some("PEER_REFUSED"))
    );
    assert!(tells_of_a_loss(verdict), "{:?}", verdict.caveats);

    // Its usual end, where a socket has read it.
    let consumed = drop("NOT_SPECIFIED", "icmp_rcv", &[]);
    let arrived = unreachable(refused(), HookId::KfreeSkb, consumed);
    for story in [refused(), arrived] {
        let verdicts = run(&story, Span::millis(300));
        assert_eq!(last(&verdicts).outcome, Outcome::Refused);
        assert!(!tells_of_a_loss(last(&verdicts)));
    }
}
