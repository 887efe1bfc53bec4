//! Real packets through real namespaces. Each test says why it does not run where it cannot.

use std::net::IpAddr;
use std::time::Duration;

use super::Watch;
use crate::event::{CtStatus, Detail, Event, HookId, IcmpKind, NudState};
use crate::kernel::lab::{Lab, Observed, goes, is};

/// The lab's addresses in one family.
struct Family {
    tables: &'static str,
    pod: &'static str,
    node: &'static str,
    uplink: &'static str,
    ext: &'static str,
    forward: &'static str,
}

const FAMILIES: [Family; 2] = [
    Family {
        tables: "iptables",
        pod: "10.244.0.2",
        node: "10.244.0.1",
        uplink: "192.0.2.1",
        ext: "192.0.2.10",
        forward: "ip_forward",
    },
    Family {
        tables: "ip6tables",
        pod: "fd00:1::2",
        node: "fd00:1::1",
        uplink: "2001:db8::1",
        ext: "2001:db8::10",
        forward: "ip6_forward",
    },
];

/// `address:port`, with the brackets IPv6 wants.
fn at(address: &str, port: u16) -> String {
    let ip: IpAddr = address.parse().expect("address");
    std::net::SocketAddr::new(ip, port).to_string()
}

fn flags(event: &Event) -> u8 {
    event
        .packet
        .as_ref()
        .and_then(|packet| packet.tcp)
        .map_or(0, |tcp| tcp.flags.0)
}

#[tokio::test]
async fn a_connection_is_followed_through_masquerade_and_back() {
    let Some(lab) = Lab::new() else { return };
    let mut seen = Observed::start(&lab.watch());
    for f in &FAMILIES {
        let server = at(f.ext, 9000);
        let _listener = lab.listen("ext", &server);
        assert!(lab.connect(&server));
        let syn = seen
            .expect(HookId::TcIngress, "SYN", |e| is(e, "vetha", f.pod, &server))
            .await;
        assert_eq!((flags(&syn), syn.place.netns), (2, Some(lab.netns("node"))));
        let tuple = syn.packet.expect("tuple").tuple;
        for hook in [HookId::TcEgress, HookId::NetDevStartXmit] {
            let left = seen
                .expect(hook, "SYN", |e| is(e, "eth0", f.uplink, &server))
                .await;
            let conntrack = left.conntrack.expect("masquerade needs conntrack");
            assert_eq!(conntrack.orig, tuple, "{}", seen.text());
            assert_eq!(conntrack.answer.dst.ip().to_string(), f.uplink);
            assert!(conntrack.status.has(CtStatus::SRC_NAT) && !conntrack.reply);
        }
        let answer = seen
            .expect(HookId::TcIngress, "SYN-ACK", |e| {
                is(e, "eth0", &server, f.uplink)
            })
            .await;
        assert_eq!(flags(&answer), 0x12);
        let back = seen
            .expect(HookId::TcEgress, "SYN-ACK", |e| {
                is(e, "vetha", &server, f.pod)
            })
            .await;
        assert!(back.conntrack.expect("conntrack").reply);
        seen.expect(HookId::NetifReceiveSkb, "SYN-ACK in the pod", |e| {
            is(e, "eth0", &server, f.pod)
        })
        .await;
        seen.expect(HookId::InetSockSetState, "ESTABLISHED", |e| {
            goes(e, f.pod, &server) && e.detail == Detail::TcpState { old: 2, new: 1 }
        })
        .await;
    }
}

#[tokio::test]
async fn a_forwarded_syn_dies_in_the_firewall() {
    let Some(lab) = Lab::new() else { return };
    let mut seen = Observed::start(&lab.watch());
    for f in &FAMILIES {
        lab.sh(&format!(
            "ip netns exec $P-node {} -A FORWARD -p tcp --dport 8080 -j DROP",
            f.tables
        ));
        let server = at(f.ext, 8080);
        assert!(!lab.connect(&server));
        let drop = seen
            .expect(HookId::KfreeSkb, "SYN", |e| goes(e, f.pod, &server))
            .await;
        let Detail::Dropped(detail) = &drop.detail else {
            panic!("{drop:?}")
        };
        assert_eq!(detail.reason.as_deref(), Some("NETFILTER_DROP"));
        assert!(
            detail.stack.iter().any(|name| &**name == f.forward),
            "{detail:?}"
        );
        assert_eq!(&*detail.stack[0], "nft_do_chain");
        let route = detail
            .route
            .as_ref()
            .expect("forwarded packets have a route");
        assert_eq!((route.input.as_deref(), route.error), (Some(f.forward), 0));
        assert_eq!(drop.place.netns, Some(lab.netns("node")));
        assert!(drop.conntrack.is_some());
        let left = seen
            .drain()
            .iter()
            .any(|e| e.hook == Some(HookId::TcEgress) && goes(e, f.uplink, &server));
        assert!(!left, "{}", seen.text());
    }
}

#[tokio::test]
async fn an_icmp_error_names_the_flow_on_both_sides_of_nat() {
    let Some(lab) = Lab::new() else { return };
    let mut seen = Observed::start(&lab.watch());
    for (f, kind, code) in [(&FAMILIES[0], 3, 3), (&FAMILIES[1], 1, 4)] {
        let closed = at(f.ext, 7777);
        let socket = lab.udp("pod", &at(f.pod, 0));
        socket.send_to(b"x", &closed).expect("send");
        let mine = socket.local_addr().expect("address");
        let icmp = Some(IcmpKind { kind, code });
        let is_error = |e: &Event| e.packet.as_ref().is_some_and(|packet| packet.icmp == icmp);
        let outer = seen
            .expect(HookId::TcIngress, "ICMP error", |e| {
                is(e, "eth0", f.ext, f.uplink) && is_error(e)
            })
            .await;
        let inner = outer
            .packet
            .and_then(|packet| packet.inner)
            .expect("inner tuple");
        assert_eq!(
            (inner.src.ip().to_string().as_str(), inner.dst.to_string()),
            (f.uplink, closed.clone())
        );
        let back = seen
            .expect(HookId::TcEgress, "ICMP error", |e| {
                is(e, "vetha", f.ext, f.pod) && is_error(e)
            })
            .await;
        let inner = back
            .packet
            .and_then(|packet| packet.inner)
            .expect("inner tuple");
        assert_eq!((inner.src, inner.dst.to_string()), (mine, closed));
        assert!(back.conntrack.expect("conntrack").related);
    }
}

#[tokio::test]
async fn targets_narrow_what_is_followed() {
    let Some(lab) = Lab::new() else { return };
    let targets = vec![(Some("192.0.2.10".parse().expect("address")), Some(9000))];
    let mut seen = Observed::start(&Watch {
        targets,
        ..lab.watch()
    });
    let _listener = lab.listen("ext", "192.0.2.10:9000");
    assert!(!lab.connect("192.0.2.10:9001"));
    assert!(lab.connect("192.0.2.10:9000"));
    seen.expect(HookId::TcIngress, "answer after NAT", |e| {
        is(e, "eth0", "192.0.2.10:9000", "192.0.2.1")
    })
    .await;
    let other = seen
        .drain()
        .iter()
        .any(|e| goes(e, "10.244.0.2", "192.0.2.10:9001"));
    assert!(!other, "{}", seen.text());
}

#[tokio::test]
async fn an_address_nobody_asked_for_is_not_followed() {
    let Some(lab) = Lab::new() else { return };
    let stranger = Watch {
        pods: Vec::new(),
        namespaces: vec![lab.netns("pod")],
        addresses: Vec::new(),
        ..lab.watch()
    };
    let mut seen = Observed::start(&stranger);
    lab.connect("192.0.2.10:9001");
    assert!(
        seen.drain().iter().all(|e| e.packet.is_none()),
        "{}",
        seen.text()
    );
    drop(seen);
    let mut seen = Observed::start(&Watch {
        any_address: true,
        ..stranger
    });
    lab.connect("192.0.2.10:9001");
    seen.expect(HookId::TcIngress, "RST", |e| {
        is(e, "eth0", "192.0.2.10:9001", "192.0.2.1")
    })
    .await;
}

#[tokio::test]
async fn no_route_is_seen_as_lookup_icmp_and_drop() {
    let Some(lab) = Lab::new() else { return };
    let mut seen = Observed::start(&lab.watch());
    lab.connect("203.0.113.9:443");
    let lookup = seen
        .expect(HookId::FibTableLookup, "miss", |e| {
            goes(e, "10.244.0.2", "203.0.113.9")
        })
        .await;
    assert_eq!(
        lookup.place.netns,
        Some(lab.netns("node")),
        "by the interface it came in"
    );
    let icmp = seen
        .expect(HookId::IcmpSend, "unreachable", |e| {
            goes(e, "10.244.0.2", "203.0.113.9:443")
        })
        .await;
    assert_eq!(icmp.detail, Detail::IcmpSent(IcmpKind { kind: 3, code: 0 }));
    let drop = seen
        .expect(HookId::KfreeSkb, "SYN", |e| {
            goes(e, "10.244.0.2", "203.0.113.9:443")
        })
        .await;
    let Detail::Dropped(detail) = drop.detail else {
        panic!()
    };
    assert_eq!(detail.location.as_deref(), Some("ip_error"));
    lab.sh("ip -n $P-node -6 route add unreachable 2001:db8:9::/48");
    lab.connect("[2001:db8:9::9]:443");
    let lookup = seen
        .expect(HookId::Fib6TableLookup, "miss", |e| {
            goes(e, "fd00:1::2", "2001:db8:9::9")
        })
        .await;
    assert_eq!(lookup.detail, Detail::FibError(101));
}

#[tokio::test]
async fn a_pod_without_a_route_is_seen_by_its_namespace() {
    let Some(lab) = Lab::new() else { return };
    lab.sh("ip -n $P-pod route del default");
    let mut seen = Observed::start(&lab.watch());
    lab.connect("203.0.113.9:443");
    let lookup = seen
        .expect(HookId::FibTableLookup, "miss", |e| {
            goes(e, "0.0.0.0", "203.0.113.9")
        })
        .await;
    assert_eq!(lookup.place.netns, Some(lab.netns("pod")));
}

#[tokio::test]
async fn resets_are_seen_by_sender_and_receiver() {
    let Some(lab) = Lab::new() else { return };
    let mut seen = Observed::start(&lab.watch());
    for f in &FAMILIES {
        let closed = at(f.node, 9);
        lab.connect(&closed);
        let sent = seen
            .expect(HookId::TcpSendReset, "SYN", |e| goes(e, f.pod, &closed))
            .await;
        assert_eq!(
            (flags(&sent), sent.place.netns),
            (2, Some(lab.netns("node")))
        );
        let received = seen
            .expect(HookId::TcpReceiveReset, "RST", |e| goes(e, &closed, f.pod))
            .await;
        assert_eq!(received.place.netns, Some(lab.netns("pod")));
        let error = seen
            .expect(HookId::InetSkErrorReport, "refused", |e| {
                goes(e, f.pod, &closed)
            })
            .await;
        assert_eq!(error.detail, Detail::SocketError(111));
    }
}

#[tokio::test]
async fn a_silent_next_hop_is_seen_as_neighbour_and_retransmission() {
    let Some(lab) = Lab::new() else { return };
    lab.sh("ip netns exec $P-pod sysctl -qw net.ipv4.neigh.eth0.retrans_time_ms=100");
    lab.sh("ip -n $P-pod route add 198.51.100.9 via 10.244.0.77");
    let mut seen = Observed::start(&lab.watch());
    lab.connect("198.51.100.9:80");
    let gone = "10.244.0.77".parse::<IpAddr>().expect("address");
    seen.expect(HookId::NeighEventSendDone, "question", |e| {
        e.detail
            == Detail::Neighbour {
                address: gone,
                state: NudState::INCOMPLETE,
            }
    })
    .await;
    seen.expect(HookId::NeighTimerHandler, "failure", |e| {
        e.detail
            == Detail::Neighbour {
                address: gone,
                state: NudState::FAILED,
            }
    })
    .await;
    lab.sh("ip netns exec $P-node iptables -A FORWARD -p tcp --dport 81 -j DROP");
    let to = "192.0.2.10:81".parse().expect("address");
    lab.within("pod", || {
        std::net::TcpStream::connect_timeout(&to, Duration::from_millis(1300)).is_ok()
    });
    seen.expect(HookId::TcpRetransmitSkb, "SYN", |e| {
        goes(e, "10.244.0.2", "192.0.2.10:81")
    })
    .await;
}

#[tokio::test]
async fn a_full_socket_buffer_is_seen() {
    let Some(lab) = Lab::new() else { return };
    let server = lab.udp("node", "10.244.0.1:5000");
    let size: libc::c_int = 1;
    // SAFETY: a valid socket and an option of the size given.
    let done = unsafe {
        libc::setsockopt(
            std::os::fd::AsRawFd::as_raw_fd(&server),
            libc::SOL_SOCKET,
            libc::SO_RCVBUF,
            (&raw const size).cast(),
            4,
        )
    };
    assert_eq!(done, 0);
    let mut seen = Observed::start(&lab.watch());
    let client = lab.udp("pod", "10.244.0.2:0");
    for _ in 0..50 {
        client.send_to(&[0; 512], "10.244.0.1:5000").expect("send");
    }
    let full = seen
        .expect(HookId::UdpFailQueueRcvSkb, "datagram", |e| {
            goes(e, "10.244.0.2", "10.244.0.1:5000")
        })
        .await;
    assert!(matches!(full.detail, Detail::UdpQueueFull(_)), "{full:?}");
}
