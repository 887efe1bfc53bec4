use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Command;

use super::*;
use crate::identity::testing::Lab;

#[test]
fn pairs_of_lines_become_names() {
    let mut values = BTreeMap::new();
    parse_pairs(
        "TcpExt: ListenOverflows ListenDrops\nTcpExt: 3 4\nTcp: MaxConn InSegs\nTcp: -1 9\n",
        &mut values,
    );
    let shown: Vec<(&str, u64)> = values
        .iter()
        .map(|(name, value)| (name.as_str(), *value))
        .collect();
    assert_eq!(
        shown,
        [
            ("Tcp.InSegs", 9),
            ("TcpExt.ListenDrops", 4),
            ("TcpExt.ListenOverflows", 3)
        ]
    );
}

#[test]
fn ipv6_names_are_split_after_the_family() {
    let mut values = BTreeMap::new();
    parse_lines(
        "Ip6InNoRoutes  1\nUdpLite6NoPorts 2\nUdp6RcvbufErrors 3\nIcmp6InErrors\t4\nifIndex 7\n",
        &mut values,
    );
    let shown: Vec<(&str, u64)> = values
        .iter()
        .map(|(name, value)| (name.as_str(), *value))
        .collect();
    let wanted = [
        ("Icmp6.InErrors", 4),
        ("Ip6.InNoRoutes", 1),
        ("Udp6.RcvbufErrors", 3),
        ("UdpLite6.NoPorts", 2),
    ];
    assert_eq!(shown, wanted);
}

#[test]
fn cut_and_foreign_text_is_left_out() {
    let mut values = BTreeMap::new();
    for text in ["", "Tcp", "Tcp:", "Tcp: A B\nTcp: 1", "\n\n\n", "Tcp: A\n"] {
        parse_pairs(text, &mut values);
        parse_lines(text, &mut values);
    }
    assert_eq!(
        values.into_iter().collect::<Vec<_>>(),
        [("Tcp.A".to_owned(), 1)]
    );
}

fn read(handle: &NetnsHandle) -> BTreeMap<String, u64> {
    let Delta::Counters { values, netns, .. } = counters(handle).unwrap() else {
        panic!()
    };
    assert_eq!(netns, handle.netns());
    values
}

#[test]
fn counters_move_in_their_own_namespace_only() {
    let Some(mut lab) = Lab::new() else { return };
    let (here, there) = (lab.netns("here"), lab.netns("there"));
    let (here, there) = (Lab::handle(&here), Lab::handle(&there));
    let (before, before_there) = (read(&here), read(&there));
    run_in(&here, || {
        // Nobody takes it: the kernel counts a datagram without a port.
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.send_to(b"x", "127.0.0.1:9").unwrap();
        TcpStream::connect("127.0.0.1:9").unwrap_err();
    })
    .unwrap();
    let (after, after_there) = (read(&here), read(&there));
    assert_eq!(after["Udp.NoPorts"], before["Udp.NoPorts"] + 1);
    assert_eq!(after["Tcp.OutRsts"], before["Tcp.OutRsts"] + 1);
    assert_eq!(after_there["Udp.NoPorts"], before_there["Udp.NoPorts"]);
    assert!(after.contains_key("TcpExt.ListenOverflows") && after.contains_key("Ip6.InNoRoutes"));
}

#[test]
fn conntrack_statistics_are_those_of_the_namespace() {
    let Some(mut lab) = Lab::new() else { return };
    let name = lab.netns("ct");
    let handle = Lab::handle(&name);
    // Conntrack is idle in a namespace until a rule asks for it.
    let rules = [
        "add table ip t",
        "add chain ip t c { type filter hook input priority 0; }",
        "add rule ip t c ct state new",
    ];
    for rule in rules {
        let status = Command::new("ip")
            .args(["netns", "exec", &name, "nft", rule])
            .status()
            .unwrap();
        assert!(status.success(), "nft {rule}");
    }
    if !Path::new("/proc/sys/net/netfilter/nf_conntrack_count").exists() {
        eprintln!("skipped: no conntrack on this kernel");
        return;
    }
    let (listener, stream) = run_in(&handle, || {
        let listener = TcpListener::bind("127.0.0.1:8080").unwrap();
        let stream = TcpStream::connect("127.0.0.1:8080").unwrap();
        (listener, stream)
    })
    .unwrap();
    let values = read(&handle);
    drop((listener, stream));
    assert_eq!(values.get("conntrack.entries"), Some(&1), "{values:?}");
    assert!(values["conntrack.limit"] > 1, "{values:?}");
    assert_eq!(
        values.get("conntrack.insert_failed"),
        Some(&0),
        "{values:?}"
    );
    assert!(
        values.contains_key("conntrack.drop") && values.contains_key("conntrack.search_restart"),
        "{values:?}"
    );
}
