//! Whose packet it was: lookups made in somebody else's time, what a pod says to itself, ports of a bridge, fragments.

use netdiag::engine::Input;
use netdiag::event::{
    Detail, Drop, Event, HookId, IcmpKind, IfIndex, Netns, Packet, Pass, Place, Proto, Span,
    TcpFlags, Tuple,
};
use netdiag::inventory::{Delta, Link, Namespace, NamespaceKind, Role};
use netdiag::verdict::{HopName, Outcome, Verdict};

use crate::story::{
    BACKEND, CLIENT, NODE, POD, Story, UPLINK, VETH, last, link, run, run_with, tuple,
};

const OWN: &str = "10.244.0.2:0";
const LO: IfIndex = IfIndex(1);
const OTHER: Netns = Netns(3);
const OTHER_VETH: IfIndex = IfIndex(6);
const NEIGHBOUR: &str = "10.244.0.3:8080";

fn loopback() -> Vec<Input> {
    let link = link(POD, LO, "lo", Role::Loopback, "127.0.0.1");
    vec![Input::Inventory(Delta::Link(link))]
}

/// A second pod, whose end of the pair on the node is up or not.
fn second_pod(up: bool) -> Vec<Input> {
    let namespace = Namespace {
        netns: OTHER,
        kind: NamespaceKind::Pod,
        name: Some("other".into()),
        target: false,
    };
    let inside = link(OTHER, IfIndex(9), "eth0", Role::PodInterface, "10.244.0.3");
    let veth = Link {
        peer: Some((OTHER, IfIndex(9))),
        up,
        addresses: Vec::new(),
        ..link(NODE, OTHER_VETH, "veth6", Role::PodVeth, "0.0.0.0")
    };
    [
        Delta::Namespace(namespace),
        Delta::Link(inside),
        Delta::Link(veth),
    ]
    .into_iter()
    .map(Input::Inventory)
    .collect()
}

fn at(story: Story, netns: Netns, ifindex: IfIndex, packet: Packet, detail: Detail) -> Story {
    let mut story = story.wait(Span::millis(1));
    let event = Event {
        at: netdiag::event::Ktime(story.at),
        cpu: 0,
        hook: Some(HookId::NetDevStartXmit),
        place: Place {
            netns: Some(netns),
            ifindex: Some(ifindex),
            ifname: Some("dev".into()),
            iif: None,
        },
        packet: Some(packet),
        conntrack: None,
        detail,
    };
    story.events.push(event);
    story
}

/// The pod asks the second one.
fn syn_to_neighbour() -> Story {
    Story::new().push(
        HookId::TcIngress,
        VETH,
        tuple(CLIENT, NEIGHBOUR),
        TcpFlags::SYN,
        None,
        Detail::Seen(Pass::Received),
    )
}

fn echo(kind: u8, src: &str, dst: &str) -> Packet {
    Packet {
        icmp: Some(IcmpKind { kind, code: 0 }),
        ..Packet::of(Tuple {
            proto: Proto::ICMP,
            ..tuple(src, dst)
        })
    }
}

fn dropped(reason: &str, location: &str) -> Detail {
    Detail::Dropped(Drop {
        reason: Some(reason.into()),
        location: Some(location.into()),
        stack: Vec::new(),
        route: None,
        refusal: None,
    })
}

fn cause(verdict: &Verdict) -> Option<&str> {
    verdict.cause.map(|cause| cause.0)
}

#[test]
fn an_echo_to_oneself_is_answered_by_oneself() {
    let mut story = Story::new();
    for (kind, pass) in [
        (8, Pass::Sent),
        (8, Pass::Received),
        (0, Pass::Sent),
        (0, Pass::Received),
    ] {
        story = at(story, POD, LO, echo(kind, OWN, OWN), Detail::Seen(pass));
    }
    let verdicts = run_with(&loopback(), &story, Span::millis(4000));
    assert_eq!(verdicts.len(), 1, "{verdicts:#?}");
    assert_eq!(last(&verdicts).outcome, Outcome::Delivered);
}

#[test]
fn an_echo_to_oneself_that_nobody_answers_is_lost_here() {
    let sent = at(
        Story::new(),
        POD,
        LO,
        echo(8, OWN, OWN),
        Detail::Seen(Pass::Sent),
    );
    let verdicts = run_with(&loopback(), &sent, Span::millis(4000));
    assert_eq!(last(&verdicts).outcome, Outcome::DroppedHere);
}

#[test]
fn a_lookup_in_somebody_elses_time_is_not_booked_on_the_pod() {
    // The next router, a namespace of the same machine, finds no route for what has just left: its softirq ran while
    // the pod's process was current.
    let lookup = Packet::of(tuple(CLIENT, BACKEND));
    let story = Story::new().syn_at_pod().syn_at_uplink();
    let story = at(story, POD, IfIndex(3), lookup, Detail::FibError(101));
    let verdicts = run(&story, Span::millis(4000));
    assert_eq!(cause(last(&verdicts)), Some("NO_ANSWER"), "{verdicts:#?}");
}

#[test]
fn a_lookup_of_the_pods_own_is() {
    let lookup = Packet::of(tuple("0.0.0.0:40000", BACKEND));
    let story = at(Story::new(), POD, IfIndex(3), lookup, Detail::FibError(101));
    let verdicts = run(&story, Span::millis(4000));
    assert_eq!(cause(last(&verdicts)), Some("NO_ROUTE"), "{verdicts:#?}");
}

#[test]
fn a_lookup_for_an_echo_is_a_flow_and_one_for_the_kernels_own_answer_is_not() {
    // Type and code stand in place of the destination port.
    let lookup = |source, typed| {
        let packet = Packet::of(Tuple {
            proto: Proto::ICMP,
            ..tuple(source, typed)
        });
        let story = at(Story::new(), NODE, UPLINK, packet, Detail::FibError(101));
        run(&story, Span::millis(4000))
    };
    let asked = lookup("192.0.2.1:0", "10.244.0.2:2048");
    assert_eq!(cause(last(&asked)), Some("NO_ROUTE"), "{asked:#?}");
    assert_eq!(lookup("192.0.2.1:0", "10.244.0.2:0"), [], "an answer");
    assert_eq!(lookup("192.0.2.1:0", "10.244.0.2:2816"), [], "an error");
}

#[test]
fn what_enters_for_a_pod_here_and_never_comes_out_is_lost_here() {
    let story = syn_to_neighbour();
    let verdicts = run_with(&second_pod(true), &story, Span::millis(4000));
    let verdict = last(&verdicts);
    assert_eq!(verdict.outcome, Outcome::DroppedHere, "{verdict:#?}");
    let remedy = verdict.remediation.as_ref().expect("a remedy");
    // What looks into the other pod must be run there.
    assert!(
        remedy
            .commands
            .iter()
            .all(|command| command.starts_with("ip netns exec other ")),
        "{remedy:?}"
    );
}

#[test]
fn a_bridge_that_has_no_port_for_it_is_no_tunnel() {
    let to = Packet::of(tuple(CLIENT, NEIGHBOUR));
    let lost = |up| {
        let story = syn_to_neighbour();
        let detail = dropped("NO_TX_TARGET", "br_handle_frame_finish");
        let story = at(story, NODE, VETH, to.clone(), detail);
        run_with(&second_pod(up), &story, Span::millis(400))
    };
    assert_eq!(cause(last(&lost(true))), Some("BRIDGE_DROP"));
    let down = lost(false);
    let verdict = last(&down);
    assert_eq!(cause(verdict), Some("LINK_DOWN"));
    let component = verdict.hops.iter().find_map(|hop| hop.component.as_ref());
    let port = component.and_then(|component| component.name.as_deref());
    assert_eq!(port, Some("veth6"), "{verdict:#?}");
    assert!(verdict.hops.iter().any(|hop| hop.name == HopName::Bridge));
}

#[test]
fn a_later_fragment_belongs_to_the_one_flow_between_its_ends() {
    let request = echo(8, CLIENT, BACKEND);
    let rest = Packet {
        fragment: true,
        ..Packet::of(Tuple {
            proto: Proto::ICMP,
            ..tuple("10.244.0.2:0", "198.51.100.10:0")
        })
    };
    let lost = || dropped("NETFILTER_DROP", "nft_do_chain");
    let story = at(
        Story::new(),
        NODE,
        VETH,
        request.clone(),
        Detail::Seen(Pass::Received),
    );
    let one = at(story.clone(), NODE, VETH, rest.clone(), lost());
    let verdicts = run(&one, Span::millis(400));
    assert_eq!(last(&verdicts).outcome, Outcome::DroppedHere);

    // Of two it may be either's.
    let mut second = request;
    second.tuple.src.set_port(40_001);
    let story = at(story, NODE, VETH, second, Detail::Seen(Pass::Received));
    let two = at(story, NODE, VETH, rest, lost());
    let verdicts = run(&two, Span::millis(400));
    assert!(
        verdicts
            .iter()
            .all(|verdict| verdict.outcome != Outcome::DroppedHere),
        "{verdicts:#?}"
    );
}

#[test]
fn that_nobody_forwards_a_group_is_no_failure() {
    let chatter = |to| {
        Packet::of(Tuple {
            proto: Proto::UDP,
            ..tuple("10.244.0.2:5353", to)
        })
    };
    let lost = || dropped("IP_INNOROUTES", "ip_rcv_finish_core");
    let said = |to| {
        let story = at(
            Story::new(),
            NODE,
            VETH,
            chatter(to),
            Detail::Seen(Pass::Received),
        );
        run(
            &at(story, NODE, VETH, chatter(to), lost()),
            Span::millis(4000),
        )
    };
    assert_eq!(
        last(&said("224.0.0.251:5353")).outcome,
        Outcome::Undetermined
    );
    assert_eq!(
        last(&said("203.0.113.9:5353")).outcome,
        Outcome::DroppedHere
    );
}
