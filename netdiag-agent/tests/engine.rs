//! The core on hand-made event streams: what a node reports of one connection, and the verdict it must give.
//!
//! Recordings of real runs are replayed by the scenarios of the `tests` crate; here stand the cases that need exact
//! times or orders which a real run cannot be made to have.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use netdiag::engine::{Config, Engine, Input};
use netdiag::event::{
    Conntrack, CtStatus, Detail, Drop, Event, HookId, IfIndex, Ktime, Netns, NfFamily, NfHook,
    Packet, Pass, Place, Proto, Refusal, Refuser, Span, TcpFlags, TcpHeader, Tuple,
};
use netdiag::inventory::{Delta, Link, Namespace, NamespaceKind, Node, Role};
use netdiag::verdict::{Action, Confidence, HopName, NatKind, Outcome, Verdict};
use proptest::prelude::*;

const NODE: Netns = Netns(1);
const POD: Netns = Netns(2);
const VETH: IfIndex = IfIndex(5);
const UPLINK: IfIndex = IfIndex(2);
const CLIENT: &str = "10.244.0.2:40000";
const VIP: &str = "10.96.0.10:80";
const BACKEND: &str = "198.51.100.10:8080";
const SNAT: &str = "192.0.2.1:40000";

fn tuple(src: &str, dst: &str) -> Tuple {
    let parse = |text: &str| text.parse::<SocketAddr>().expect("a socket address");
    Tuple {
        proto: Proto::TCP,
        src: parse(src),
        dst: parse(dst),
    }
}

fn inventory() -> Vec<Input> {
    let link = |netns, ifindex, name: &str, role, address: &str| {
        Delta::Link(Link {
            netns,
            ifindex,
            name: name.into(),
            role,
            peer: None,
            up: true,
            mtu: 1500,
            addresses: vec![address.parse().expect("an address")],
        })
    };
    let namespace = |netns, kind, name: &str| {
        Delta::Namespace(Namespace {
            netns,
            kind,
            name: Some(name.into()),
            target: false,
        })
    };
    let node = Node {
        name: "node-0".into(),
        netns: NODE,
        wall_offset: 0,
        kernel: "6.18".into(),
        tier: 0,
        hooks: Vec::new(),
    };
    [
        Delta::Node(node),
        namespace(NODE, NamespaceKind::Node, "node"),
        namespace(POD, NamespaceKind::Pod, "pod"),
        link(NODE, VETH, "veth5", Role::PodVeth, "10.244.0.1"),
        link(NODE, UPLINK, "eth0", Role::Uplink, "192.0.2.1"),
        link(POD, IfIndex(3), "eth0", Role::PodInterface, "10.244.0.2"),
    ]
    .into_iter()
    .map(Input::Inventory)
    .collect()
}

/// One event of a connection from the pod through a Service to an external backend.
#[derive(Clone)]
struct Story {
    at: u64,
    events: Vec<Event>,
}

impl Story {
    fn new() -> Self {
        Self {
            at: 1_000_000_000,
            events: Vec::new(),
        }
    }

    fn wait(mut self, span: Span) -> Self {
        self.at += span.0;
        self
    }

    fn conntrack(reply: bool) -> Conntrack {
        Conntrack {
            status: CtStatus(0x1b8),
            reply,
            related: false,
            orig: tuple(CLIENT, VIP),
            answer: tuple(BACKEND, SNAT),
            tcp_state: 1,
            zone: 0,
        }
    }

    fn push(
        mut self,
        hook: HookId,
        ifindex: IfIndex,
        tuple: Tuple,
        flags: u8,
        ct: Option<Conntrack>,
        detail: Detail,
    ) -> Self {
        self.at += 10_000;
        let seq = if flags & TcpFlags::ACK == 0 {
            1000
        } else {
            1001
        };
        self.events.push(Event {
            at: Ktime(self.at),
            // Softirq moves with the packet: every interface has its own CPU here.
            cpu: ifindex.0 % 4,
            hook: Some(hook),
            place: Place {
                netns: Some(NODE),
                ifindex: Some(ifindex),
                ifname: Some(format!("if{}", ifindex.0).into()),
                iif: None,
            },
            packet: Some(Packet {
                tuple,
                inner: None,
                tcp: Some(TcpHeader {
                    flags: TcpFlags(flags),
                    seq,
                    ack: 1001,
                }),
                icmp: None,
                ttl: 63,
                ip_id: 7,
                len: 60,
                dont_fragment: true,
                fragment: false,
                mark: 0,
                skb: None,
                snap: None,
            }),
            conntrack: ct,
            detail,
        });
        self
    }

    fn syn_at_pod(self) -> Self {
        self.push(
            HookId::TcIngress,
            VETH,
            tuple(CLIENT, VIP),
            TcpFlags::SYN,
            None,
            Detail::Seen(Pass::Received),
        )
    }

    fn syn_at_uplink(self) -> Self {
        let ct = Some(Self::conntrack(false));
        self.push(
            HookId::NetDevStartXmit,
            UPLINK,
            tuple(SNAT, BACKEND),
            TcpFlags::SYN,
            ct,
            Detail::Seen(Pass::Sent),
        )
    }

    fn syn_ack_at_uplink(self) -> Self {
        let flags = TcpFlags::SYN | TcpFlags::ACK;
        self.push(
            HookId::NetifReceiveSkb,
            UPLINK,
            tuple(BACKEND, SNAT),
            flags,
            None,
            Detail::Seen(Pass::Received),
        )
    }

    fn syn_ack_at_pod(self) -> Self {
        let flags = TcpFlags::SYN | TcpFlags::ACK;
        self.push(
            HookId::TcEgress,
            VETH,
            tuple(VIP, CLIENT),
            flags,
            None,
            Detail::Seen(Pass::Sent),
        )
    }

    fn ack_at_pod(self) -> Self {
        self.push(
            HookId::NetifReceiveSkb,
            VETH,
            tuple(CLIENT, VIP),
            TcpFlags::ACK,
            None,
            Detail::Seen(Pass::Received),
        )
    }

    fn rst_at_uplink(self) -> Self {
        let flags = TcpFlags::RST | TcpFlags::ACK;
        self.push(
            HookId::NetifReceiveSkb,
            UPLINK,
            tuple(BACKEND, SNAT),
            flags,
            None,
            Detail::Seen(Pass::Received),
        )
    }

    fn fin_from_pod(self) -> Self {
        let flags = TcpFlags::FIN | TcpFlags::ACK;
        self.push(
            HookId::TcIngress,
            VETH,
            tuple(CLIENT, VIP),
            flags,
            None,
            Detail::Seen(Pass::Received),
        )
    }

    fn dropped(self, reply: bool, reason: &str, location: &str, stack: &[&str]) -> Self {
        let (packet, ifindex) = if reply {
            (tuple(BACKEND, CLIENT), UPLINK)
        } else {
            (tuple(CLIENT, BACKEND), VETH)
        };
        let flags = if reply {
            TcpFlags::SYN | TcpFlags::ACK
        } else {
            TcpFlags::SYN
        };
        let drop = Drop {
            reason: Some(reason.into()),
            location: Some(location.into()),
            stack: stack.iter().map(|symbol| (*symbol).into()).collect(),
            route: None,
            refusal: None,
        };
        self.push(
            HookId::KfreeSkb,
            ifindex,
            packet,
            flags,
            Some(Self::conntrack(reply)),
            Detail::Dropped(drop),
        )
    }

    fn firewall(self, reply: bool) -> Self {
        self.dropped(
            reply,
            "NETFILTER_DROP",
            "nft_do_chain",
            &["nft_do_chain_ipv4", "nf_hook_slow", "ip_forward"],
        )
    }
}

/// Feeds the events and lets the time pass in ticks of 20 ms until `until` after the last event.
fn run(story: &Story, until: Span) -> Vec<Verdict> {
    run_with(&[], story, until)
}

/// As [`run`], on a node of which more is known.
fn run_with(known: &[Input], story: &Story, until: Span) -> Vec<Verdict> {
    let mut engine = Engine::new(Config::default());
    let mut verdicts = Vec::new();
    let mut feed = |engine: &mut Engine, input| verdicts.extend(engine.step(input));
    for input in inventory().into_iter().chain(known.iter().cloned()) {
        feed(&mut engine, input);
    }
    let end = story.at + until.0;
    let mut events = story.events.iter().peekable();
    let mut now = 1_000_000_000;
    while now < end {
        now += 20_000_000;
        while let Some(event) = events.next_if(|event| event.at.0 <= now) {
            feed(&mut engine, Input::Event(event.clone()));
        }
        feed(&mut engine, Input::Tick(Ktime(now)));
    }
    feed(&mut engine, Input::Stop(Ktime(end)));
    verdicts
}

fn last(verdicts: &[Verdict]) -> &Verdict {
    verdicts.last().expect("a verdict")
}

fn actions(verdict: &Verdict) -> Vec<(HopName, Action, bool)> {
    verdict
        .hops
        .iter()
        .map(|hop| (hop.name, hop.action, hop.reply))
        .collect()
}

#[test]
fn a_handshake_through_nat_is_one_delivered_flow() {
    let story = Story::new()
        .syn_at_pod()
        .syn_at_uplink()
        .syn_ack_at_uplink()
        .syn_ack_at_pod()
        .ack_at_pod();
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
    let story = Story::new()
        .syn_at_pod()
        .syn_at_uplink()
        .syn_ack_at_uplink()
        .syn_ack_at_pod()
        .ack_at_pod();
    let verdicts = run_with(&[older(stale)], &story, Span::millis(100));
    assert_eq!(verdicts, run(&story, Span::millis(100)));
}

/// A SYN dropped where its SNAT could not be entered into the table.
fn clash(story: Story) -> Story {
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

fn insert_failed(at: u64, value: u64) -> Input {
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
        let story = Story::new()
            .syn_at_pod()
            .syn_at_uplink()
            .syn_ack_at_uplink()
            .syn_ack_at_pod()
            .ack_at_pod()
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

/// What must not depend on the order in which the CPUs' events arrive.
fn essence(verdicts: &[Verdict]) -> Vec<String> {
    let mut latest = BTreeMap::new();
    for verdict in verdicts {
        latest.insert((verdict.tuple, verdict.key.first_seen), verdict);
    }
    latest
        .into_values()
        .map(|v| {
            format!(
                "{:?} {:?} {:?} {:?} {:?} {:?}",
                v.tuple,
                v.outcome,
                v.cause,
                v.confidence,
                actions(v),
                v.nat
            )
        })
        .collect()
}

fn stories() -> Vec<Story> {
    vec![
        Story::new()
            .syn_at_pod()
            .syn_at_uplink()
            .syn_ack_at_uplink()
            .syn_ack_at_pod()
            .ack_at_pod()
            .fin_from_pod(),
        Story::new()
            .syn_at_pod()
            .firewall(false)
            .wait(Span::millis(1000))
            .syn_at_pod()
            .firewall(false),
        Story::new()
            .syn_at_pod()
            .syn_at_uplink()
            .syn_ack_at_uplink()
            .firewall(true),
        Story::new().syn_at_pod().syn_at_uplink().rst_at_uplink(),
        Story::new()
            .syn_at_pod()
            .firewall(false)
            .wait(Span::millis(900))
            .syn_at_pod()
            .syn_at_uplink()
            .syn_ack_at_uplink(),
    ]
}

proptest! {
    /// Any merge of the per-CPU streams gives the verdict of the merge in order of time.
    #[test]
    fn interleaving_of_cpus_does_not_matter(which in 0usize..5, choices in proptest::collection::vec(any::<u8>(), 32)) {
        let story = &stories()[which];
        let decide = |events: &[Event]| {
            let mut engine = Engine::new(Config::default());
            let mut verdicts = Vec::new();
            for input in inventory().into_iter().chain(events.iter().cloned().map(Input::Event)) {
                verdicts.extend(engine.step(input));
            }
            verdicts.extend(engine.step(Input::Tick(Ktime(story.at + 5_000_000_000))));
            verdicts.extend(engine.step(Input::Stop(Ktime(story.at + 5_100_000_000))));
            essence(&verdicts)
        };
        let mut queues: BTreeMap<u32, Vec<Event>> = BTreeMap::new();
        for event in story.events.iter().rev() {
            queues.entry(event.cpu).or_default().push(event.clone());
        }
        let mut shuffled = Vec::new();
        let mut choices = choices.into_iter().cycle();
        while let Some(count) = Some(queues.len()).filter(|count| *count > 0) {
            let pick = usize::from(choices.next().unwrap_or(0)) % count;
            let cpu = *queues.keys().nth(pick).expect("pick is below the number of queues");
            let queue = queues.get_mut(&cpu).expect("the key was just read");
            shuffled.extend(queue.pop());
            if queue.is_empty() {
                queues.remove(&cpu);
            }
        }
        prop_assert_eq!(decide(&story.events), decide(&shuffled));
    }
}
