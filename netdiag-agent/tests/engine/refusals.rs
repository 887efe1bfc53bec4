//! What a netfilter hook says of a packet it refused, beside the drop itself.

use netdiag::event::{Detail, HookId, NfFamily, NfHook, Refusal, Refuser, Span};
use netdiag::verdict::{Action, HopName, Verdict};

use crate::nat::{clash, insert_failed};
use crate::story::{BACKEND, CLIENT, Story, VETH, last, run, run_with, tuple};

/// The hook's answer to the last packet of the story, which is given an address for it.
fn refused(mut story: Story, hook: NfHook, by: Refuser) -> Story {
    const SKB: u64 = 0xffff_8880_0000_1000;
    if let Some(packet) = story
        .events
        .last_mut()
        .and_then(|drop| drop.packet.as_mut())
    {
        packet.skb = Some(SKB);
    }
    let refusal = Refusal {
        hook,
        family: NfFamily::IPV4,
        by,
        table_family: None,
        table: None,
        chain: None,
    };
    let mut story = story.push(
        HookId::NfHookSlowExit,
        VETH,
        tuple(CLIENT, BACKEND),
        0,
        None,
        Detail::Refused(refusal),
    );
    if let Some(packet) = story
        .events
        .last_mut()
        .and_then(|said| said.packet.as_mut())
    {
        packet.skb = Some(SKB);
        packet.tcp = None;
    }
    story
}

#[test]
fn the_hook_that_refused_is_believed_more_than_the_stack() {
    let story = Story::new().syn_at_pod().firewall(false);
    let guessed = run(&story, Span::millis(400));
    let at = |verdict: &Verdict, name| {
        let mut hops = verdict.hops.iter();
        hops.any(|hop| hop.name == name && hop.action == Action::Dropped)
    };
    assert!(at(last(&guessed), HopName::NfForward));
    let story = refused(story, NfHook::POSTROUTING, Refuser::Nft);
    let said = run(&story, Span::millis(400));
    let verdict = last(&said);
    assert!(at(verdict, HopName::NfPostrouting), "{verdict:#?}");
    assert!(!at(verdict, HopName::NfForward), "{verdict:#?}");
    assert_eq!(
        said.len(),
        guessed.len(),
        "the answer is no packet of its own"
    );
}

#[test]
fn a_failed_insertion_that_was_seen_needs_no_counter() {
    let story = clash(Story::new().syn_at_pod());
    let cause = |story: &Story| {
        let verdicts = run(story, Span::millis(400));
        last(&verdicts).cause.map(|cause| cause.0)
    };
    assert_ne!(cause(&story), Some("SNAT_PORTS_EXHAUSTED"), "no counter");
    let seen = refused(story, NfHook::POSTROUTING, Refuser::Confirm);
    assert_eq!(cause(&seen), Some("SNAT_PORTS_EXHAUSTED"));
}

#[test]
fn what_a_table_refused_is_no_failed_insertion_whatever_the_counters_say() {
    let counters = [insert_failed(0, 0), insert_failed(1, 9)];
    let story = clash(Story::new().syn_at_pod());
    let story = refused(story, NfHook::POSTROUTING, Refuser::Legacy);
    let verdicts = run_with(&counters, &story, Span::millis(400));
    assert_eq!(
        last(&verdicts).cause.map(|cause| cause.0),
        Some("HOST_FIREWALL_DROP")
    );
}
