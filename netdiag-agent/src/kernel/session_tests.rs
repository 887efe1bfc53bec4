//! Real packets through real namespaces. Each test says why it does not run where it cannot.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::{Session, Watch};
use crate::engine::Input;
use crate::event::Event;
use crate::kernel::lab::Lab;

fn watch(lab: &Lab) -> Watch {
    Watch {
        node: Some(lab.path("node")),
        interfaces: vec![lab.interface("vetha"), lab.interface("eth0")],
        namespaces: vec![lab.netns("pod")],
        addresses: Lab::pod_addresses(),
        ..Watch::default()
    }
}

fn connect(lab: &Lab, to: &str) -> bool {
    let to: SocketAddr = to.parse().expect("address");
    lab.within("pod", move || {
        TcpStream::connect_timeout(&to, Duration::from_millis(300)).is_ok()
    })
}

fn listen(lab: &Lab, on: &str) -> TcpListener {
    let on: SocketAddr = on.parse().expect("address");
    lab.within("ext", move || TcpListener::bind(on).expect("bind"))
}

fn events(session: &mut Session) -> Vec<Event> {
    session
        .drain()
        .into_iter()
        .filter_map(|input| match input {
            Input::Event(event) => Some(event),
            _ => None,
        })
        .collect()
}

#[tokio::test]
async fn dump() {
    let Some(lab) = Lab::new() else { return };
    lab.sh("ip netns exec $P-node iptables -A FORWARD -p tcp --dport 8080 -j DROP");
    lab.sh("ip netns exec $P-node ip6tables -A FORWARD -p tcp --dport 8080 -j DROP");
    let start = Instant::now();
    let mut session = Session::start(&watch(&lab))
        .unwrap_or_else(|e| panic!("{}", crate::kernel::attach::explain(&e)));
    println!("ready in {:?}", start.elapsed());
    println!("hooks {:?}\nblind {:#?}", session.hooks(), session.blind());
    let _a = listen(&lab, "192.0.2.10:9000");
    let _b = listen(&lab, "[2001:db8::10]:9000");
    for to in [
        "192.0.2.10:9000",
        "[2001:db8::10]:9000",
        "192.0.2.10:8080",
        "[2001:db8::10]:8080",
        "192.0.2.10:9001",
        "10.99.0.1:1",
    ] {
        println!("{to} {}", connect(&lab, to));
    }
    for e in events(&mut session) {
        println!(
            "{:?} {:?} {} {:?} {:?}\n    {:?}",
            e.hook,
            e.place.netns,
            e.place.ifname.as_deref().unwrap_or("-"),
            e.packet
                .as_ref()
                .map(|p| (p.tuple.to_string(), p.tcp.map(|t| t.flags.0))),
            e.conntrack
                .map(|c| (c.orig.to_string(), c.answer.to_string(), c.status)),
            e.detail
        );
    }
    let stop = Instant::now();
    drop(session);
    println!("detached in {:?}", stop.elapsed());
}
