//! What a session does over time: bulk, floods, interfaces that come and go.

use std::net::UdpSocket;

use super::lab::{Lab, Observed, goes, is};
use super::{Session, Watch, WatchInterface};
use crate::engine::Input;
use crate::event::{Detail, Event, HookId, IfIndex, Pass};

/// Promise 3: nothing is lost in silence.
#[tokio::test]
async fn what_passed_the_filter_is_what_arrives_plus_what_was_counted_lost() {
    let Some(lab) = Lab::new() else { return };
    let mut session = Session::start(&lab.watch()).expect("start");
    lab.within("pod", || {
        for _ in 0..6000 {
            let socket = UdpSocket::bind("10.244.0.2:0").expect("bind");
            socket.send_to(b"x", "192.0.2.10:7000").expect("send");
        }
    });
    let (mut arrived, mut reported) = (0, 0);
    for input in session.drain() {
        match input {
            Input::Event(_) => arrived += 1,
            Input::Lost { count, .. } => reported += count,
            other => panic!("{other:?}"),
        }
    }
    let totals = HookId::ALL.iter().map(|hook| session.totals(*hook));
    let (seen, lost) = totals.fold((0, 0), |sum, totals| {
        (sum.0 + totals.seen, sum.1 + totals.lost)
    });
    assert!(
        lost > 0,
        "the ring was meant to overflow; {arrived} arrived"
    );
    assert_eq!((seen, reported), (arrived + lost, lost));
}

#[tokio::test]
async fn bulk_data_is_counted_and_not_reported() {
    let Some(lab) = Lab::new() else { return };
    let mut seen = Observed::start(&lab.watch());
    let client = lab.udp("pod", "10.244.0.2:0");
    let _server = lab.udp("ext", "192.0.2.10:7001");
    for _ in 0..2000 {
        client.send_to(b"x", "192.0.2.10:7001").expect("send");
    }
    let first = |e: &Event| is(e, "vetha", "10.244.0.2", "192.0.2.10:7001");
    seen.expect(HookId::TcIngress, "first", first).await;
    let cpus = std::thread::available_parallelism().expect("CPUs").get();
    let events = seen.drain();
    let reported = events
        .iter()
        .filter(|e| e.hook == Some(HookId::TcIngress) && first(e))
        .count();
    assert!(reported <= cpus, "at most one per CPU, not {reported}");
    assert!(events.len() < 200, "{} events", events.len());
}

#[tokio::test]
async fn an_interface_may_come_and_go() {
    let Some(lab) = Lab::new() else { return };
    let gone = WatchInterface {
        ifindex: IfIndex(4242),
        ..lab.interface("vetha")
    };
    let mut watch = lab.watch();
    watch.interfaces = vec![gone];
    let mut seen = Observed::start(&watch);
    let vetha = lab.interface("vetha");
    seen.session.watch_interface(&vetha).expect("attach");
    lab.connect("192.0.2.10:9001");
    seen.expect(HookId::TcIngress, "SYN", |e| {
        is(e, "vetha", "10.244.0.2", "192.0.2.10:9001")
    })
    .await;
    seen.session
        .unwatch_interface(lab.netns("node"), vetha.ifindex);
    seen.drain();
    seen.events.clear();
    lab.connect("192.0.2.10:9002");
    let sighting = Detail::Seen(Pass::Received);
    assert!(
        !seen
            .drain()
            .iter()
            .any(|e| e.hook == Some(HookId::TcIngress) && e.detail == sighting)
    );
    seen.session.watch_interface(&vetha).expect("attach again");
    lab.sh("ip -n $P-node link del vetha");
    seen.session
        .unwatch_interface(lab.netns("node"), vetha.ifindex);
    drop(seen);
}

#[tokio::test]
async fn the_programs_pass_the_verifier_with_their_debug_lines_on() {
    let Some(lab) = Lab::new() else { return };
    let mut seen = Observed::start(&Watch {
        debug_log: true,
        ..lab.watch()
    });
    lab.connect("192.0.2.10:9001");
    seen.expect(HookId::TcIngress, "SYN", |e| {
        goes(e, "10.244.0.2", "192.0.2.10:9001")
    })
    .await;
}
