//! Verdicts built by hand, as the engine would build them.

use std::sync::Arc;

use super::Context;
use crate::event::{IcmpKind, IfIndex, Ktime, Netns, Proto, TcpFlags, Tuple};
use crate::inventory::cluster::{Name, Pod, Workload};
use crate::verdict::{
    Action, Cause, Component, Confidence, ConntrackState, Endpoint, Evidence, FlowKey, Hop,
    HopName, Nat, NatKind, Outcome, Remediation, RuleRef, ServiceRef, Suspect, TrafficDirection,
    Verdict,
};

pub fn context() -> Context {
    Context {
        node_name: Some("node-0".to_owned()),
        wall_offset: 1_795_219_000_000_000_000,
    }
}

fn tuple(proto: Proto, src: &str, dst: &str) -> Tuple {
    Tuple {
        proto,
        src: src.parse().unwrap(),
        dst: dst.parse().unwrap(),
    }
}

fn pod(name: &str) -> Endpoint {
    Endpoint {
        netns: Some(name.to_owned()),
        ..Endpoint::default()
    }
}

fn external() -> Endpoint {
    Endpoint {
        external: true,
        ..Endpoint::default()
    }
}

fn hop(name: HopName, action: Action) -> Hop {
    Hop {
        name,
        action,
        reply: false,
        interface: None,
        ifindex: None,
        netns: None,
        at: None,
        count: 0,
        component: None,
    }
}

fn seen(name: HopName, interface: &str, ifindex: u32, count: u64) -> Hop {
    Hop {
        interface: Some(interface.into()),
        ifindex: Some(IfIndex(ifindex)),
        netns: Some(Netns(4_026_531_840)),
        at: Some(Ktime(2_123_456_789)),
        count,
        ..hop(name, Action::Seen)
    }
}

fn back(hop: Hop) -> Hop {
    Hop { reply: true, ..hop }
}

fn evidence(source: &str, count: u64, detail: &str) -> Evidence {
    Evidence {
        source: source.to_owned(),
        count: Some(count),
        value: None,
        detail: Some(detail.to_owned()),
    }
}

/// A TCP flow that was delivered.
pub fn delivered() -> Verdict {
    Verdict {
        uuid: "3f1c2b9e-0d5a-5d7e-9c55-2f6f3f1f8a01".to_owned(),
        revision: 1,
        at: Ktime(3_000_000_001),
        outcome: Outcome::Delivered,
        confidence: Confidence::Proven,
        cause: None,
        drop_reason: None,
        direction: Some(TrafficDirection::Egress),
        is_reply: false,
        tuple: tuple(Proto::TCP, "10.244.0.2:41900", "198.51.100.10:443"),
        tcp_flags: Some(TcpFlags(TcpFlags::SYN)),
        icmp: None,
        source: pod("web"),
        destination: external(),
        key: FlowKey {
            isn: Some(2_891_336_012),
            first_seen: Ktime(2_000_000_000),
            last_seen: Ktime(2_400_000_000),
            syn_count: 1,
        },
        hops: vec![
            seen(HopName::PodVeth, "vethweb", 7, 3),
            hop(HopName::NfPostrouting, Action::Translated),
            seen(HopName::NicEgress, "eth0", 2, 3),
            back(seen(HopName::NicIngress, "eth0", 2, 2)),
            back(seen(HopName::PodVeth, "vethweb", 7, 2)),
        ],
        died_between: None,
        nat: vec![snat()],
        conntrack: Some(ConntrackState {
            state: "ESTABLISHED",
            seen_reply: true,
            zone: 0,
        }),
        evidence: vec![evidence("tc:ingress", 2, "answer seen at eth0")],
        suspects: Vec::new(),
        caveats: Vec::new(),
        lost_events: 0,
        remediation: None,
        history: vec!["    +0.000 ms cpu0 tc:ingress vethweb@4026531840 [S] received".to_owned()],
    }
}

fn snat() -> Nat {
    Nat {
        kind: NatKind::Snat,
        hop: HopName::NfPostrouting,
        before: "10.244.0.2:41900".parse().unwrap(),
        after: "10.240.0.9:41900".parse().unwrap(),
        source: "conntrack",
    }
}

/// A firewall rule behind a DNAT drops it.
pub fn firewall_drop() -> Verdict {
    let component = Component {
        kind: "iptables_rule".to_owned(),
        backend: Some("nft".to_owned()),
        table: Some("filter".to_owned()),
        chain: Some("FORWARD".to_owned()),
        rule: Some(RuleRef::Number(3)),
        text: Some("-p tcp --dport 8443 -j DROP".to_owned()),
        verdict: Some("DROP".to_owned()),
        ..Component::default()
    };
    Verdict {
        uuid: "9d3d8c54-7f06-5c6c-8f4e-6a3f65a0d102".to_owned(),
        outcome: Outcome::DroppedHere,
        cause: Some(Cause("HOST_FIREWALL_DROP")),
        drop_reason: Some("NETFILTER_DROP".into()),
        tuple: tuple(Proto::TCP, "10.244.0.2:50213", "10.96.0.10:443"),
        destination: pod("api"),
        key: FlowKey {
            syn_count: 4,
            ..delivered().key
        },
        hops: vec![
            seen(HopName::PodVeth, "vethweb", 7, 4),
            hop(HopName::NfPrerouting, Action::Translated),
            Hop {
                action: Action::Dropped,
                component: Some(component),
                ..seen(HopName::NfForward, "vethweb", 7, 4)
            },
            hop(HopName::PodVeth, Action::NotSeen),
        ],
        died_between: Some((HopName::PodVeth, HopName::PodVeth)),
        nat: vec![Nat {
            kind: NatKind::Dnat,
            hop: HopName::NfPrerouting,
            before: "10.96.0.10:443".parse().unwrap(),
            after: "10.244.0.3:8443".parse().unwrap(),
            source: "conntrack",
        }],
        conntrack: Some(ConntrackState {
            state: "NONE",
            seen_reply: false,
            zone: 0,
        }),
        evidence: vec![
            evidence(
                "tp_btf:kfree_skb",
                4,
                "reason NETFILTER_DROP, in nft_do_chain",
            ),
            Evidence {
                source: "rule_counter_delta".to_owned(),
                value: Some(4),
                ..Evidence::default()
            },
        ],
        remediation: Some(Remediation {
            summary: "rule 3 of FORWARD drops tcp/8443".to_owned(),
            commands: vec!["iptables -D FORWARD 3".to_owned()],
        }),
        ..delivered()
    }
}

/// It left the node and nothing came back.
pub fn no_answer() -> Verdict {
    Verdict {
        uuid: "5a6b7d11-58c4-5b0e-a6dc-0f2d6b7c1103".to_owned(),
        outcome: Outcome::LeftNodeNoAnswer,
        confidence: Confidence::Inferred,
        cause: Some(Cause("NO_ANSWER")),
        tuple: tuple(Proto::TCP, "10.244.0.2:41822", "198.51.100.10:9000"),
        key: FlowKey { syn_count: 3, ..delivered().key },
        hops: vec![
            seen(HopName::PodVeth, "vethweb", 7, 3),
            hop(HopName::NfPostrouting, Action::Translated),
            seen(HopName::NicEgress, "eth0", 2, 3),
            hop(HopName::Fabric, Action::NotObservable),
            back(hop(HopName::NicIngress, Action::NotSeen)),
        ],
        died_between: Some((HopName::NicEgress, HopName::NicIngress)),
        conntrack: Some(ConntrackState { state: "SYN_SENT", seen_reply: false, zone: 0 }),
        evidence: vec![evidence("tc:egress", 3, "request seen at eth0 as tcp 10.240.0.9:41900 > 198.51.100.10:9000")],
        suspects: vec![
            Suspect {
                name: "firewall".to_owned(),
                reason: "198.51.100.10 answers on another port in this trace, so port 9000 is filtered: security \
                         group, firewall or policy beyond this node"
                    .to_owned(),
            },
            Suspect {
                name: "return_route".to_owned(),
                reason: "the other side may have no route back to 10.240.0.9".to_owned(),
            },
        ],
        lost_events: 2,
        remediation: Some(Remediation {
            summary: "left this node as 10.240.0.9:41900 after 3 attempts, nothing came back in 3 s: look beyond \
                      this node"
                .to_owned(),
            commands: vec!["ip neigh show; ip route get 198.51.100.10".to_owned()],
        }),
        ..delivered()
    }
}

/// `IPv6`, UDP, to the node itself: nobody listens.
pub fn refused_v6() -> Verdict {
    let socket = Component {
        kind: "socket".to_owned(),
        name: Some("udp [2001:db8::4]:53".to_owned()),
        listening: vec!["[::1]:53".to_owned()],
        ..Component::default()
    };
    Verdict {
        uuid: "0c9d3c77-3a51-5f3e-b7c6-7b9a9e8b6704".to_owned(),
        outcome: Outcome::Refused,
        cause: Some(Cause("PORT_NOT_LISTENING")),
        drop_reason: Some("NO_SOCKET".into()),
        tuple: tuple(Proto::UDP, "[2001:db8:1::2]:53124", "[2001:db8::4]:53"),
        tcp_flags: None,
        source: Endpoint { netns: Some("cni-0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9".to_owned()), ..Endpoint::default() },
        destination: Endpoint { host: true, ..Endpoint::default() },
        key: FlowKey { isn: None, syn_count: 0, ..delivered().key },
        hops: vec![
            seen(HopName::PodVeth, "vethdns", 9, 1),
            Hop { action: Action::Dropped, component: Some(socket), ..hop(HopName::Socket, Action::Dropped) },
        ],
        nat: Vec::new(),
        conntrack: None,
        evidence: vec![evidence("tp_btf:kfree_skb", 1, "reason NO_SOCKET, in __udp6_lib_rcv")],
        remediation: Some(Remediation {
            summary: "nothing listens on udp [2001:db8::4]:53 on the node; what does listen there: [::1]:53".to_owned(),
            commands: vec!["ss -lunp # on the node".to_owned()],
        }),
        ..delivered()
    }
}

/// A ping whose answer this node dropped.
pub fn ping_reply_lost() -> Verdict {
    Verdict {
        uuid: "7e2f9a40-9a6c-5d10-8d2b-3c9f5b0a8a05".to_owned(),
        outcome: Outcome::ReplyLost,
        cause: Some(Cause("RP_FILTER")),
        drop_reason: Some("IP_RPFILTER".into()),
        is_reply: true,
        tuple: tuple(Proto::ICMP, "10.244.0.2:77", "203.0.113.5:77"),
        tcp_flags: None,
        icmp: Some(IcmpKind { kind: 8, code: 0 }),
        key: FlowKey {
            isn: None,
            syn_count: 0,
            ..delivered().key
        },
        hops: vec![
            seen(HopName::PodVeth, "vethweb", 7, 5),
            seen(HopName::NicEgress, "eth0", 2, 5),
            back(seen(HopName::NicIngress, "eth1", 3, 5)),
            back(Hop {
                action: Action::Dropped,
                ..seen(HopName::Fib, "eth1", 3, 5)
            }),
            back(hop(HopName::PodVeth, Action::NotSeen)),
        ],
        died_between: Some((HopName::NicIngress, HopName::PodVeth)),
        nat: Vec::new(),
        conntrack: None,
        evidence: vec![evidence(
            "tp_btf:kfree_skb",
            5,
            "reason IP_RPFILTER, in ip_route_input_slow, at eth1",
        )],
        remediation: Some(Remediation {
            summary: "the answer came in by eth1, the route back points to eth0".to_owned(),
            commands: vec![
                "ip route get 203.0.113.5".to_owned(),
                "sysctl -w net.ipv4.conf.eth1.rp_filter=2".to_owned(),
            ],
        }),
        ..delivered()
    }
}

/// One-way UDP.
pub fn undetermined() -> Verdict {
    Verdict {
        uuid: "b0a1c2d3-7a10-5e0f-9d36-0b1b2c3d4e06".to_owned(),
        outcome: Outcome::Undetermined,
        confidence: Confidence::Unknown,
        tuple: tuple(Proto::UDP, "10.244.0.2:40000", "198.51.100.20:8125"),
        tcp_flags: None,
        key: FlowKey {
            isn: None,
            syn_count: 0,
            ..delivered().key
        },
        caveats: vec!["one-way UDP: nothing says whether it arrived".to_owned()],
        ..delivered()
    }
}

/// One pod's connection to a Service, which went to another pod, both known by name.
pub fn named() -> Verdict {
    let labelled = |name: &str, app: &str, node: &str| {
        let mut pod = Pod::named(
            name,
            Name::new(if app == "api" { "web" } else { "shop" }, name),
        );
        pod.labels = [("app".into(), app.into())].into();
        pod.node = Some(node.into());
        pod.workload = Some(Workload {
            kind: "Deployment".into(),
            name: app.into(),
        });
        Some(Arc::new(pod))
    };
    Verdict {
        uuid: "1d2e3f40-5a6b-5c7d-8e9f-a0b1c2d3e4f5".to_owned(),
        tuple: tuple(Proto::TCP, "10.244.0.2:50213", "10.96.0.9:5432"),
        source: Endpoint {
            pod: labelled("api-7f9c", "api", "node-0"),
            machine: Some("node-0".into()),
            ..Endpoint::default()
        },
        destination: Endpoint {
            pod: labelled("db-0", "db", "node-1"),
            machine: Some("node-1".into()),
            service: Some(ServiceRef {
                name: Name::new("shop", "db"),
                port_name: Some("sql".into()),
            }),
            port_name: Some("postgres".into()),
            ..Endpoint::default()
        },
        nat: vec![Nat {
            kind: NatKind::Dnat,
            hop: HopName::NfPrerouting,
            before: "10.96.0.9:5432".parse().unwrap(),
            after: "10.244.1.7:5432".parse().unwrap(),
            source: "conntrack",
        }],
        ..no_answer()
    }
}

pub fn all() -> Vec<Verdict> {
    vec![
        delivered(),
        firewall_drop(),
        no_answer(),
        refused_v6(),
        ping_reply_lost(),
        undetermined(),
    ]
}
