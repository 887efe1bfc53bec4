//! What is a death, what is noise, and how sure either is.

use netdiag::engine::{Config, Engine, Input};
use netdiag::event::{HookId, Ktime, Span};
use netdiag::verdict::{Action, Confidence, HopName, Outcome};

use crate::story::{Story, actions, inventory, last, run};

#[test]
fn a_dropped_syn_is_a_death_within_200_ms() {
    let story = Story::new().syn_at_pod().firewall(false);
    let verdicts = run(&story, Span::millis(190));
    let verdict = last(&verdicts);
    assert_eq!(verdict.outcome, Outcome::DroppedHere);
    assert_eq!(
        verdict.cause.map(|cause| cause.0),
        Some("HOST_FIREWALL_DROP")
    );
    assert_eq!(verdict.confidence, Confidence::Proven);
    assert_eq!(
        verdict.died_between,
        Some((HopName::PodVeth, HopName::NicEgress))
    );
    assert!(
        actions(verdict).contains(&(HopName::NfForward, Action::Dropped, false)),
        "{:?}",
        actions(verdict)
    );
}

#[test]
fn a_syn_lost_once_whose_retransmission_gets_through_is_delivered_with_a_caveat() {
    let story = Story::new()
        .syn_at_pod()
        .firewall(false)
        .wait(Span::millis(1000))
        .syn_at_pod()
        .syn_at_uplink()
        .syn_ack_at_uplink()
        .syn_ack_at_pod()
        .ack_at_pod();
    let verdicts = run(&story, Span::millis(300));
    assert_eq!(verdicts[0].outcome, Outcome::DroppedHere);
    let verdict = last(&verdicts);
    assert_eq!(
        (verdict.outcome, &verdict.uuid),
        (Outcome::Delivered, &verdicts[0].uuid)
    );
    assert!(
        verdict.revision > 1 && !verdict.caveats.is_empty(),
        "{verdict:#?}"
    );
}

#[test]
fn a_dropped_answer_is_a_lost_reply() {
    let story = Story::new()
        .syn_at_pod()
        .syn_at_uplink()
        .syn_ack_at_uplink()
        .firewall(true);
    let verdicts = run(&story, Span::millis(300));
    let verdict = last(&verdicts);
    assert_eq!(
        (verdict.outcome, verdict.is_reply),
        (Outcome::ReplyLost, true)
    );
    assert!(
        actions(verdict).contains(&(HopName::NfForward, Action::Dropped, true)),
        "{:?}",
        actions(verdict)
    );
    assert_eq!(
        verdict.died_between,
        Some((HopName::NicIngress, HopName::PodVeth))
    );
}

#[test]
fn silence_beyond_the_node_is_inferred_and_has_suspects() {
    let story = Story::new().syn_at_pod().syn_at_uplink();
    assert!(
        run(&story, Span::millis(2900))
            .iter()
            .all(|verdict| verdict.at.0 > story.at + 2_800_000_000)
    );
    let verdicts = run(&story, Span::millis(3200));
    let verdict = last(&verdicts);
    assert_eq!(verdict.outcome, Outcome::LeftNodeNoAnswer);
    assert_eq!(verdict.confidence, Confidence::Inferred);
    assert!(!verdict.suspects.is_empty());
    assert_eq!(
        verdict.died_between,
        Some((HopName::NicEgress, HopName::NicIngress))
    );
}

#[test]
fn a_reset_from_beyond_the_node_is_a_refusal() {
    let story = Story::new().syn_at_pod().syn_at_uplink().rst_at_uplink();
    let verdicts = run(&story, Span::millis(150));
    let verdict = last(&verdicts);
    assert_eq!(
        (verdict.outcome, verdict.cause.map(|c| c.0)),
        (Outcome::Refused, Some("PEER_REFUSED"))
    );
}

/// The noise list of the facts: what the kernel frees in healthy runs.
#[test]
fn noise_is_no_death() {
    let noise = [
        ("NOT_SPECIFIED", "tcp_v4_rcv"),
        ("QUEUE_PURGE", "skb_queue_purge_reason"),
        ("OTHERHOST", "ip_rcv_core"),
        ("TCP_OLD_DATA", "tcp_data_queue"),
        ("NOT_SPECIFIED", "tcp_rcv_state_process"),
    ];
    for (reason, location) in noise {
        let story = Story::established()
            .fin_from_pod()
            .dropped(false, reason, location, &[]);
        for verdict in run(&story, Span::millis(3500)) {
            assert_eq!(
                verdict.outcome,
                Outcome::Delivered,
                "{reason} in {location}"
            );
        }
    }
}

#[test]
fn lost_events_take_the_proof_from_what_was_not_seen() {
    let with_loss = |story: Story| {
        let mut engine = Engine::new(Config::default());
        for input in inventory()
            .into_iter()
            .chain(story.events.iter().cloned().map(Input::Event))
        {
            engine.step(input);
        }
        engine.step(Input::Lost {
            hook: HookId::KfreeSkb,
            at: Ktime(story.at),
            count: 37,
        });
        last(&engine.step(Input::Stop(Ktime(story.at + 1_000_000_000)))).clone()
    };
    let dropped = with_loss(Story::new().syn_at_pod().firewall(false));
    assert_eq!(
        (dropped.lost_events, dropped.confidence),
        (37, Confidence::Inferred)
    );
    let refused = with_loss(Story::new().syn_at_pod().syn_at_uplink().rst_at_uplink());
    assert_eq!(refused.confidence, Confidence::Proven, "the RST was seen");
}

/// The last retransmission before the deadline is dropped like the first; while that settles nothing is unsaid.
#[test]
fn a_drop_just_before_the_deadline_does_not_unsay_the_death() {
    let story = Story::new()
        .syn_at_pod()
        .firewall(false)
        .wait(Span::millis(2950))
        .syn_at_pod()
        .firewall(false);
    let verdicts = run(&story, Span::millis(6000));
    assert!(!verdicts.is_empty());
    for verdict in &verdicts {
        assert_eq!(verdict.outcome, Outcome::DroppedHere, "{verdicts:#?}");
    }
}

/// What a switch floods to a machine it is not for says nothing of the flow; what a pod sends to nobody does.
#[test]
fn a_frame_for_another_station_is_a_death_only_on_the_pods_own_link() {
    let unanswered = || Story::new().syn_at_pod().syn_at_uplink();
    let without = run(&unanswered(), Span::millis(3500));
    let copy = unanswered().dropped(true, "OTHERHOST", "ip_rcv_core", &[]);
    let with = run(&copy, Span::millis(3500));
    let said = |verdicts: &[_]| (last(verdicts).outcome, last(verdicts).cause);
    assert_eq!(said(&without).0, Outcome::LeftNodeNoAnswer);
    assert_ne!(said(&with).1.map(|cause| cause.0), Some("NEIGH_FAILED"));
    assert_ne!(said(&with).0, Outcome::ReplyLost);
    assert!(!actions(last(&with)).contains(&(HopName::NicIngress, Action::Dropped, true)));

    let astray = Story::new()
        .syn_at_pod()
        .dropped(false, "OTHERHOST", "ip_rcv_core", &[]);
    let verdicts = run(&astray, Span::millis(400));
    let verdict = last(&verdicts);
    assert_eq!(verdict.outcome, Outcome::DroppedHere);
    assert_eq!(verdict.cause.map(|cause| cause.0), Some("NEIGH_FAILED"));
    assert!(actions(verdict).contains(&(HopName::PodVeth, Action::Dropped, false)));
}
