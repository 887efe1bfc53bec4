use std::io::Cursor;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::sync::Arc;

use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;

use super::*;
use crate::event::{
    Conntrack, CtStatus, Detail, Drop, Event, HookId, IcmpKind, IfIndex, Ktime, Netns, NudState,
    Packet, Pass, Place, Proto, Route, TcpFlags, TcpHeader, Tuple,
};
use crate::inventory::{
    BlindSpot, Delta, Link, Listener, Namespace, NamespaceKind, Node, Program, Role,
};

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9_]{1,12}",
        "\\PC{0,8}",
        Just("quote \" and\nnewline".to_owned())
    ]
}

fn symbol() -> impl Strategy<Value = Arc<str>> {
    text().prop_map(Arc::from)
}

/// The flow label is no part of an address here: packets are told apart by address, scope and port.
fn socket() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), any::<u16>(), any::<u32>()).prop_map(|(ip, port, scope)| match ip {
        IpAddr::V4(_) => SocketAddr::new(ip, port),
        IpAddr::V6(ip) => SocketAddrV6::new(ip, port, 0, scope).into(),
    })
}

fn tuple() -> impl Strategy<Value = Tuple> {
    (any::<u8>(), socket(), socket()).prop_map(|(proto, src, dst)| Tuple {
        proto: Proto(proto),
        src,
        dst,
    })
}

fn icmp() -> impl Strategy<Value = IcmpKind> {
    any::<(u8, u8)>().prop_map(|(kind, code)| IcmpKind { kind, code })
}

fn hook() -> impl Strategy<Value = HookId> {
    prop::sample::select(HookId::ALL)
}

fn pass() -> impl Strategy<Value = Pass> {
    prop_oneof![Just(Pass::Received), Just(Pass::Sent)]
}

prop_compose! {
    fn packet()(
        tuple in tuple(), inner in of(tuple()), tcp in of(any::<(u8, u32, u32)>()), icmp in of(icmp()),
        numbers in any::<(u8, u16, u32, u32)>(), flags in any::<(bool, bool)>(), skb in of(any::<u64>()),
    ) -> Packet {
        let tcp = tcp.map(|(flags, seq, ack)| TcpHeader { flags: TcpFlags(flags), seq, ack });
        let (ttl, ip_id, len, mark) = numbers;
        let (dont_fragment, fragment) = flags;
        Packet { tuple, inner, tcp, icmp, ttl, ip_id, len, dont_fragment, fragment, mark, skb }
    }
}

prop_compose! {
    fn conntrack()(
        status in any::<u32>(), flags in any::<(bool, bool)>(), orig in tuple(), answer in tuple(),
        tcp_state in any::<u8>(), zone in any::<u16>(),
    ) -> Conntrack {
        Conntrack { status: CtStatus(status), reply: flags.0, related: flags.1, orig, answer, tcp_state, zone }
    }
}

fn drop() -> impl Strategy<Value = Drop> {
    let route =
        (of(symbol()), of(symbol()), any::<u16>()).prop_map(|(input, output, error)| Route {
            input,
            output,
            error,
        });
    (of(symbol()), of(symbol()), vec(symbol(), 0..4), of(route)).prop_map(
        |(reason, location, stack, route)| Drop {
            reason,
            location,
            stack,
            route,
        },
    )
}

fn detail() -> impl Strategy<Value = Detail> {
    prop_oneof![
        pass().prop_map(Detail::Seen),
        drop().prop_map(Detail::Dropped),
        icmp().prop_map(Detail::IcmpSent),
        Just(Detail::ResetSent),
        Just(Detail::ResetReceived),
        Just(Detail::Retransmitted),
        any::<(u8, u8)>().prop_map(|(old, new)| Detail::TcpState { old, new }),
        any::<u32>().prop_map(Detail::SocketError),
        Just(Detail::BadChecksum),
        any::<(IpAddr, u8)>().prop_map(|(address, state)| Detail::Neighbour {
            address,
            state: NudState(state)
        }),
        any::<u32>().prop_map(Detail::FibError),
        any::<u32>().prop_map(Detail::UdpQueueFull),
        (pass(), vec(any::<u8>(), 0..40)).prop_map(|(pass, message)| Detail::Dns { pass, message }),
        Just(Detail::Unknown),
    ]
}

prop_compose! {
    fn event()(
        at in any::<u64>(), cpu in any::<u32>(), hook in of(hook()), netns in of(any::<u32>()),
        ifindex in of(any::<u32>()), ifname in of(symbol()), iif in of(any::<u32>()), packet in of(packet()),
        conntrack in of(conntrack()), detail in detail(),
    ) -> Event {
        let place =
            Place { netns: netns.map(Netns), ifindex: ifindex.map(IfIndex), ifname, iif: iif.map(IfIndex) };
        Event { at: Ktime(at), cpu, hook, place, packet, conntrack, detail }
    }
}

fn role() -> impl Strategy<Value = Role> {
    use Role::{Bridge, Loopback, Other, PodInterface, PodVeth, Tunnel, Uplink};
    prop::sample::select(
        &[
            PodVeth,
            Uplink,
            Bridge,
            Tunnel,
            Loopback,
            PodInterface,
            Other,
        ][..],
    )
}

fn kind() -> impl Strategy<Value = NamespaceKind> {
    prop_oneof![Just(NamespaceKind::Node), Just(NamespaceKind::Pod)]
}

fn netns() -> impl Strategy<Value = Netns> {
    any::<u32>().prop_map(Netns)
}

fn index() -> impl Strategy<Value = IfIndex> {
    any::<u32>().prop_map(IfIndex)
}

prop_compose! {
    fn node()(
        name in text(), netns in netns(), wall_offset in any::<i64>(), kernel in text(), tier in any::<u8>(),
        hooks in vec(hook(), 0..4),
    ) -> Delta {
        Delta::Node(Node { name, netns, wall_offset, kernel, tier, hooks })
    }
}

prop_compose! {
    fn link()(
        netns in netns(), ifindex in index(), name in symbol(), role in role(), peer in of((netns(), index())),
        up in any::<bool>(), mtu in any::<u32>(), addresses in vec(any::<IpAddr>(), 0..3),
    ) -> Delta {
        Delta::Link(Link { netns, ifindex, name, role, peer, up, mtu, addresses })
    }
}

fn delta() -> impl Strategy<Value = Delta> {
    let listener = (any::<u8>(), socket()).prop_map(|(proto, address)| Listener {
        proto: Proto(proto),
        address,
    });
    let program =
        (text(), text(), any::<u32>()).prop_map(|(attach, name, id)| Program { attach, name, id });
    prop_oneof![
        node(),
        link(),
        (text(), text()).prop_map(|(what, why)| Delta::Blind(BlindSpot { what, why })),
        (netns(), kind(), of(text()), any::<bool>()).prop_map(|(netns, kind, name, target)| {
            Delta::Namespace(Namespace {
                netns,
                kind,
                name,
                target,
            })
        }),
        (netns(), index()).prop_map(|(netns, ifindex)| Delta::LinkGone { netns, ifindex }),
        (netns(), vec(listener, 0..3))
            .prop_map(|(netns, sockets)| Delta::Listeners { netns, sockets }),
        (netns(), any::<u64>(), btree_map(text(), any::<u64>(), 0..4)).prop_map(
            |(netns, at, values)| Delta::Counters {
                netns,
                at: Ktime(at),
                values
            }
        ),
        (netns(), index(), vec(program, 0..3)).prop_map(|(netns, ifindex, programs)| {
            Delta::Programs {
                netns,
                ifindex,
                programs,
            }
        }),
    ]
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        8 => event().prop_map(Input::Event),
        4 => delta().prop_map(Input::Inventory),
        1 => (hook(), any::<u64>(), any::<u64>())
            .prop_map(|(hook, at, count)| Input::Lost { hook, at: Ktime(at), count }),
        1 => any::<u64>().prop_map(|at| Input::Tick(Ktime(at))),
        1 => any::<u64>().prop_map(|at| Input::Stop(Ktime(at))),
    ]
}

const CONFIG: Config = Config {
    no_answer: Span::millis(1500),
};

fn record(inputs: &[Input]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut recorder = Recorder::new(&mut bytes, "test".to_owned(), CONFIG).unwrap();
    for input in inputs {
        recorder.write(input).unwrap();
    }
    recorder.finish().unwrap();
    bytes
}

fn read(bytes: &[u8], limits: Limits) -> Result<Vec<Input>, Error> {
    Reader::new(Cursor::new(bytes), "f.ndjson".to_owned(), limits)?.collect()
}

fn message(bytes: &[u8]) -> String {
    let message = read(
        bytes,
        Limits {
            line: 1000,
            lines: 5,
        },
    )
    .expect_err("a fault")
    .to_string();
    assert!(
        !message.contains('\n') && message.contains("f.ndjson"),
        "{message}"
    );
    message
}

proptest! {
    #[test]
    fn every_input_comes_back_as_it_was(inputs in vec(input(), 0..8)) {
        let bytes = record(&inputs);
        let reader = Reader::new(Cursor::new(&bytes), "test".to_owned(), Limits::default()).unwrap();
        prop_assert_eq!(reader.config(), CONFIG);
        prop_assert_eq!(reader.collect::<Result<Vec<_>, _>>().unwrap(), inputs);
    }

    #[test]
    fn a_cut_recording_yields_its_whole_lines_and_then_says_where(inputs in vec(input(), 1..6), cut in any::<u16>()) {
        let bytes = record(&inputs);
        let header = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        let cut = header + usize::from(cut) % (bytes.len() - header);
        let whole = bytes[header..cut].iter().filter(|byte| **byte == b'\n').count();
        let reader = Reader::new(Cursor::new(&bytes[..cut]), "test".to_owned(), Limits::default()).unwrap();
        let (read, faults): (Vec<_>, Vec<_>) = reader.partition(Result::is_ok);
        let read: Vec<Input> = read.into_iter().map(Result::unwrap).collect();
        // A line that lacks only its newline is whole.
        prop_assert!(read.len() == whole || (read.len() == whole + 1 && faults.is_empty()));
        prop_assert_eq!(&read[..], &inputs[..read.len()]);
        for fault in faults {
            let expected = format!("line {}: cut off", whole + 2);
            prop_assert!(fault.unwrap_err().to_string().contains(&expected));
        }
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in vec(any::<u8>(), 0..300), line in 1_usize..100) {
        let limits = Limits { line, lines: 10 };
        let _ = read(&bytes, limits);
        let mut behind_header = record(&[]);
        behind_header.extend(bytes);
        let _ = read(&behind_header, Limits { line: 1000, lines: 10 });
    }

    #[test]
    fn damaged_recordings_do_not_make_the_reader_panic(
        inputs in vec(input(), 1..4), damage in vec(any::<(u16, u8)>(), 1..5),
    ) {
        let mut bytes = record(&inputs);
        for (at, byte) in damage {
            let at = usize::from(at) % bytes.len();
            bytes[at] = byte;
        }
        let _ = read(&bytes, Limits::default());
    }
}

#[test]
fn faults_are_named() {
    let header = String::from_utf8(record(&[])).unwrap();
    let with = |rest: &str| format!("{header}{rest}").into_bytes();

    assert!(message(b"").contains("not a netdiag recording: it is empty"));
    assert!(message(b"{\"a\":1}\n").contains("not a netdiag recording"));
    assert!(message(&[0x7f; 5000]).contains("not a netdiag recording"));
    let newer = header.replace("recording/v1", "recording/v2");
    assert!(message(newer.as_bytes()).contains("another version (netdiag.recording/v2)"));
    assert_eq!(
        message(&with("{\"tick\":1}\n{\"tick\":")),
        "f.ndjson line 3: cut off: the trace that wrote it did not end in order"
    );
    assert!(message(&with("{\"tock\":1}\n")).contains("line 2: unknown variant `tock`"));
    let hook = "{\"lost\":{\"hook\":\"x\",\"at\":1,\"count\":1}}\n";
    assert!(message(&with(hook)).contains("a hook of this netdiag"));
    assert!(message(&with(&"{\"tick\":1}\n".repeat(5))).contains("line 6: more than 5 lines"));
    let long = format!("{{\"tick\":{}1}}\n", " ".repeat(1000));
    assert!(message(&with(&long)).contains("line 2: longer than 1000 bytes"));
}

#[test]
fn a_hook_of_a_newer_netdiag_reads_as_no_hook() {
    let mut bytes = record(&[]);
    bytes.extend(
        b"{\"event\":{\"at\":1,\"cpu\":0,\"hook\":\"kprobe:new\",\"detail\":\"unknown\"}}\n",
    );
    let inputs = read(&bytes, Limits::default()).unwrap();
    let [Input::Event(event)] = inputs.as_slice() else {
        panic!("{inputs:?}")
    };
    assert_eq!(event.hook, None);
}

#[test]
fn lines_are_readable() {
    let tuple = Tuple {
        proto: Proto::TCP,
        src: "10.244.0.2:41822".parse().unwrap(),
        dst: "198.51.100.10:443".parse().unwrap(),
    };
    let packet = Packet {
        tuple,
        inner: None,
        tcp: Some(TcpHeader {
            flags: TcpFlags(TcpFlags::SYN),
            seq: 7,
            ack: 0,
        }),
        icmp: None,
        ttl: 63,
        ip_id: 1,
        len: 60,
        dont_fragment: true,
        fragment: false,
        mark: 0,
        skb: Some(0xffff_8880_0000_1000),
    };
    let event = Event {
        at: Ktime(5),
        cpu: 1,
        hook: Some(HookId::KfreeSkb),
        place: Place {
            netns: Some(Netns(4_026_531_840)),
            ..Place::default()
        },
        packet: Some(packet),
        conntrack: None,
        detail: Detail::Dropped(Drop {
            reason: Some("NETFILTER_DROP".into()),
            location: Some("nf_hook_slow".into()),
            stack: Vec::new(),
            route: None,
        }),
    };
    let bytes = record(&[Input::Event(event)]);
    let line = str::from_utf8(&bytes).unwrap().lines().nth(1).unwrap();
    assert_eq!(
        line,
        "{\"event\":{\"at\":5,\"cpu\":1,\"hook\":\"tp_btf:kfree_skb\",\"netns\":4026531840,\
         \"detail\":{\"dropped\":{\"reason\":\"NETFILTER_DROP\",\"location\":\"nf_hook_slow\"}},\
         \"packet\":{\"tuple\":\"tcp 10.244.0.2:41822 > 198.51.100.10:443\",\
         \"tcp\":{\"flags\":\"SYN\",\"seq\":7,\"ack\":0},\"ttl\":63,\"ip_id\":1,\"len\":60,\
         \"dont_fragment\":true,\"skb\":\"0xffff888000001000\"}}}"
    );
}

#[test]
fn a_recording_is_for_its_owner_only_and_survives_a_kill() {
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("trace.ndjson");
    let mut recorder = Recorder::create(&path, CONFIG).unwrap();
    recorder.write(&Input::Tick(Ktime(1))).unwrap();
    recorder
        .write(&Input::Lost {
            hook: HookId::TcIngress,
            at: Ktime(2),
            count: 3,
        })
        .unwrap();
    recorder.write(&Input::Tick(Ktime(4))).unwrap();
    // As SIGKILL does: no destructor runs.
    std::mem::forget(recorder);
    let reader = Reader::open(&path, Limits::default()).unwrap();
    assert_eq!(reader.collect::<Result<Vec<_>, _>>().unwrap().len(), 3);
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[test]
fn an_absent_file_is_named() {
    let error = Reader::open(Path::new("/nonexistent/x"), Limits::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("open recording /nonexistent/x"), "{error}");
}
