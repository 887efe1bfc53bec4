//! Translation: one flow on both its sides, connections older than the trace, clashes.

use std::collections::BTreeMap;

use netdiag::engine::Input;
use netdiag::event::{Conntrack, CtStatus, Detail, Drop, HookId, Ktime, Pass, Span, TcpFlags};
use netdiag::inventory::Delta;
use netdiag::verdict::{Action, Confidence, HopName, NatKind, Outcome};

use crate::story::{
    BACKEND, CLIENT, NODE, SNAT, Story, UPLINK, VETH, VIP, actions, last, run, run_with, tuple,
};

#[test]
fn a_handshake_through_nat_is_one_delivered_flow() {
    let story = Story::established();
    let verdicts = run(&story, Span::millis(100));
    assert_eq!(verdicts.len(), 1, "{verdicts:#?}");
    let verdict = last(&verdicts);
    assert_eq!(
        (verdict.outcome, verdict.cause, verdict.revision),
        (Outcome::Delivered, None, 1)
    );
    assert_eq!(verdict.tuple, tuple(CLIENT, VIP));
    let nat: Vec<_> = verdict
        .nat
        .iter()
        .map(|nat| (nat.kind, nat.before.to_string(), nat.after.to_string()))
        .collect();
    assert_eq!(
        nat,
        [
            (NatKind::Dnat, VIP.to_owned(), BACKEND.to_owned()),
            (NatKind::Snat, CLIENT.to_owned(), SNAT.to_owned())
        ]
    );
    assert_eq!(verdict.key.isn, Some(1000));
    assert!(verdict.died_between.is_none());
}

fn older(entry: Conntrack) -> Input {
    Input::Inventory(Delta::Connections {
        netns: NODE,
        entries: vec![entry],
    })
}

/// Data of a connection whose SYN nobody saw, the answer first: the server pushes.
fn pushed() -> Story {
    let ack = TcpFlags::ACK;
    let (seen, sent) = (Detail::Seen(Pass::Received), Detail::Seen(Pass::Sent));
    Story::new()
        .push(
            HookId::NetifReceiveSkb,
            UPLINK,
            tuple(BACKEND, SNAT),
            ack,
            None,
            seen.clone(),
        )
        .push(HookId::TcEgress, VETH, tuple(VIP, CLIENT), ack, None, sent)
        .push(HookId::TcIngress, VETH, tuple(CLIENT, VIP), ack, None, seen)
}

#[test]
fn a_connection_older_than_the_trace_is_one_flow_though_its_answer_is_seen_first() {
    let known = [older(Story::conntrack(false))];
    let verdicts = run_with(&known, &pushed(), Span::millis(300));
    let verdict = last(&verdicts);
    assert_eq!(verdicts.len(), 1, "{verdicts:#?}");
    assert_eq!(
        (verdict.outcome, verdict.tuple),
        (Outcome::Delivered, tuple(CLIENT, VIP))
    );
    assert_eq!(verdict.nat.len(), 2, "{:?}", verdict.nat);
    assert!(actions(verdict).contains(&(HopName::NicIngress, Action::Seen, true)));
    // The dump is what joins them.
    let unjoined = run(&pushed(), Span::millis(300));
    assert!(
        unjoined
            .iter()
            .any(|verdict| verdict.tuple != tuple(CLIENT, VIP)),
        "{unjoined:#?}"
    );
}

#[test]
fn a_new_connection_on_an_old_tuple_is_not_given_the_old_translation() {
    let mut stale = Story::conntrack(false);
    stale.answer = tuple(BACKEND, "192.0.2.1:61000");
    let story = Story::established();
    let verdicts = run_with(&[older(stale)], &story, Span::millis(100));
    assert_eq!(verdicts, run(&story, Span::millis(100)));
}

/// A SYN dropped where its SNAT could not be entered into the table.
pub fn clash(story: Story) -> Story {
    let entry = Conntrack {
        status: CtStatus(0x190),
        ..Story::conntrack(false)
    };
    let drop = Drop {
        reason: Some("NETFILTER_DROP".into()),
        location: Some("nf_hook_slow".into()),
        stack: ["nf_hook_slow", "ip_output"].map(Into::into).to_vec(),
        route: None,
        refusal: None,
    };
    story.push(
        HookId::KfreeSkb,
        UPLINK,
        tuple(SNAT, BACKEND),
        TcpFlags::SYN,
        Some(entry),
        Detail::Dropped(drop),
    )
}

pub fn insert_failed(at: u64, value: u64) -> Input {
    let values = BTreeMap::from([("conntrack.insert_failed".to_owned(), value)]);
    Input::Inventory(Delta::Counters {
        netns: NODE,
        at: Ktime(at),
        values,
    })
}

#[test]
fn one_clash_is_no_proof_of_exhaustion_and_two_are() {
    let counters = [insert_failed(0, 0), insert_failed(1, 9)];
    let once = clash(Story::new().syn_at_pod());
    let verdicts = run_with(&counters, &once, Span::millis(400));
    let verdict = last(&verdicts);
    assert_eq!(
        verdict.cause.map(|cause| cause.0),
        Some("SNAT_PORTS_EXHAUSTED")
    );
    assert_eq!(verdict.confidence, Confidence::Inferred);
    assert!(
        verdict.caveats.iter().any(|caveat| caveat.contains("race")),
        "{verdict:#?}"
    );

    let twice = clash(once.wait(Span::millis(1000)).syn_at_pod());
    let verdicts = run_with(&counters, &twice, Span::millis(400));
    assert_eq!(last(&verdicts).confidence, Confidence::Proven);
}

#[test]
fn a_clash_that_healed_is_delivered() {
    let counters = [insert_failed(0, 0), insert_failed(1, 1)];
    let healed = clash(Story::new().syn_at_pod())
        .wait(Span::millis(1000))
        .syn_at_pod()
        .syn_at_uplink()
        .syn_ack_at_uplink()
        .syn_ack_at_pod()
        .ack_at_pod();
    let verdicts = run_with(&counters, &healed, Span::millis(300));
    assert_eq!(last(&verdicts).outcome, Outcome::Delivered);
}

#[test]
fn a_living_connection_that_is_translated_anew_and_reset_has_lost_its_entry() {
    let elsewhere = "192.0.2.1:61000";
    let anew = Conntrack {
        answer: tuple(BACKEND, elsewhere),
        ..Story::conntrack(false)
    };
    let healthy = Story::established().wait(Span::millis(500));
    let ack = TcpFlags::ACK;
    let moved = healthy.push(
        HookId::NetDevStartXmit,
        UPLINK,
        tuple(elsewhere, BACKEND),
        ack,
        Some(anew),
        Detail::Seen(Pass::Sent),
    );
    let verdicts = run(&moved, Span::millis(300));
    assert_eq!(last(&verdicts).outcome, Outcome::Delivered);

    let reset = moved.push(
        HookId::NetifReceiveSkb,
        UPLINK,
        tuple(BACKEND, elsewhere),
        TcpFlags::RST,
        Some(Conntrack {
            reply: true,
            ..anew
        }),
        Detail::Seen(Pass::Received),
    );
    let verdicts = run(&reset, Span::millis(300));
    let verdict = last(&verdicts);
    assert_eq!(verdict.cause.map(|cause| cause.0), Some("CONNTRACK_LOST"));
}

#[test]
fn a_reset_that_leaves_the_node_and_not_the_pod_is_of_a_forgotten_connection() {
    let healthy = Story::established().wait(Span::millis(500));
    let resets = |story: Story| {
        story.push(
            HookId::NetDevStartXmit,
            UPLINK,
            tuple(SNAT, BACKEND),
            TcpFlags::RST,
            None,
            Detail::Seen(Pass::Sent),
        )
    };
    let verdicts = run(&resets(healthy.clone()), Span::millis(300));
    let verdict = last(&verdicts);
    assert_eq!(
        (
            verdict.outcome,
            verdict.cause.map(|cause| cause.0),
            verdict.confidence
        ),
        (
            Outcome::ReplyLost,
            Some("CONNTRACK_LOST"),
            Confidence::Inferred
        )
    );
    assert_eq!(
        verdict.died_between,
        Some((HopName::NicIngress, HopName::Socket))
    );
    // The pod gave up itself.
    let by_pod = healthy.push(
        HookId::TcIngress,
        VETH,
        tuple(CLIENT, VIP),
        TcpFlags::RST,
        Some(Story::conntrack(false)),
        Detail::Seen(Pass::Received),
    );
    let verdicts = run(&resets(by_pod), Span::millis(300));
    assert_eq!(last(&verdicts).outcome, Outcome::Delivered);
}

#[test]
fn a_service_that_leads_back_to_its_client_is_told_apart_from_other_martians() {
    let martian = |answer| {
        let entry = Conntrack {
            answer,
            ..Story::conntrack(false)
        };
        let drop = Drop {
            reason: Some("IP_LOCAL_SOURCE".into()),
            location: Some("ip_rcv_finish_core".into()),
            stack: Vec::new(),
            route: None,
            refusal: None,
        };
        let story = Story::new().syn_at_pod().push(
            HookId::KfreeSkb,
            VETH,
            answer.reversed(),
            TcpFlags::SYN,
            Some(entry),
            Detail::Dropped(drop),
        );
        let verdict = last(&run(&story, Span::millis(400))).clone();
        assert_eq!(verdict.cause.map(|cause| cause.0), Some("MARTIAN"));
        verdict
            .caveats
            .iter()
            .any(|caveat| caveat.contains("hairpin"))
    };
    assert!(martian(tuple("10.244.0.2:7070", CLIENT)));
    assert!(!martian(tuple(BACKEND, CLIENT)));
}

#[test]
fn segments_sent_again_and_again_are_a_caveat() {
    let mut story = Story::established();
    let caveats = |story: &Story| last(&run(story, Span::millis(300))).caveats.clone();
    let resend = |story: Story| {
        let at = (HookId::TcpRetransmitSkb, VETH, tuple(CLIENT, VIP));
        story.push(at.0, at.1, at.2, TcpFlags::ACK, None, Detail::Retransmitted)
    };
    story = resend(story);
    assert_eq!(
        caveats(&story),
        Vec::<String>::new(),
        "one loss is TCP's daily bread"
    );
    story = resend(story);
    assert!(caveats(&story)[0].contains("sent again"));
}
