use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Command;

use super::*;
use crate::identity::testing::Lab;

fn in_namespace(name: &str, words: &[&str]) -> std::process::Output {
    Command::new("ip")
        .args(["netns", "exec", name])
        .args(words)
        .output()
        .unwrap()
}

/// A namespace whose own connections to 10.96.0.1 are sent to 127.0.0.1.
fn translating(lab: &mut Lab) -> (String, NetnsHandle) {
    let name = lab.netns("nat");
    let rules = "add table ip t
        add chain ip t o { type nat hook output priority -100; }
        add rule ip t o ip daddr 10.96.0.1 tcp dport 80 dnat to 127.0.0.1:8080
        add chain ip t i { type filter hook input priority 0; }
        add rule ip t i ct state new counter
        add table ip6 t
        add chain ip6 t i { type filter hook input priority 0; }
        add rule ip6 t i ct state new counter";
    let output = in_namespace(&name, &["nft", rules]);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        in_namespace(&name, &["ip", "route", "add", "10.96.0.0/16", "dev", "lo"])
            .status
            .success()
    );
    let handle = Lab::handle(&name);
    (name, handle)
}

fn has(entries: &[ConntrackEntry], tuple: &str, reply: &str) -> bool {
    entries.iter().any(|entry| {
        entry.orig.to_string().starts_with(tuple) && entry.answer.to_string().ends_with(reply)
    })
}

#[test]
fn the_table_is_what_the_kernel_did() {
    let Some(mut lab) = Lab::new() else { return };
    let (name, handle) = translating(&mut lab);
    let sockets = run_in(&handle, || {
        let listener = TcpListener::bind("127.0.0.1:8080").unwrap();
        let stream = TcpStream::connect("10.96.0.1:80").unwrap();
        let udp6 = UdpSocket::bind("[::1]:5353").unwrap();
        udp6.send_to(b"x", "[::1]:5353").unwrap();
        let port = stream.local_addr().unwrap();
        (listener, stream, udp6, port)
    })
    .unwrap();
    assert!(
        in_namespace(&name, &["ping", "-c1", "-W1", "127.0.0.1"])
            .status
            .success()
    );
    let entries = dump(&handle, 1000, |_| true).unwrap();
    let tcp = entries
        .iter()
        .find(|entry| entry.orig.proto == Proto::TCP)
        .unwrap();
    assert_eq!(tcp.orig.src, sockets.3);
    assert_eq!(tcp.orig.dst, "10.96.0.1:80".parse().unwrap());
    assert_eq!(tcp.answer.src, "127.0.0.1:8080".parse().unwrap());
    assert_eq!(tcp.answer.dst, sockets.3);
    assert!(
        tcp.status
            .has(CtStatus::DST_NAT | CtStatus::CONFIRMED | CtStatus::SEEN_REPLY)
    );
    // TCP_CONNTRACK_ESTABLISHED.
    assert_eq!((tcp.tcp_state, tcp.zone), (Some(3), 0));
    assert!(tcp.timeout > 0);
    assert!(
        has(&entries, "udp [::1]:5353 > [::1]:5353", "[::1]:5353"),
        "{entries:?}"
    );
    let echo = entries
        .iter()
        .find(|entry| entry.orig.proto == Proto::ICMP)
        .unwrap();
    assert_eq!(echo.orig.src.port(), echo.orig.dst.port());
    assert_ne!(echo.orig.src.port(), 0);
    assert_eq!(echo.tcp_state, None);
}

#[test]
fn a_dump_is_filtered_and_bounded() {
    let Some(mut lab) = Lab::new() else { return };
    let (_name, handle) = translating(&mut lab);
    run_in(&handle, || {
        for port in 6000..6010 {
            UdpSocket::bind(("127.0.0.1", port))
                .unwrap()
                .send_to(b"x", "127.0.0.1:9")
                .unwrap();
        }
    })
    .unwrap();
    assert_eq!(dump(&handle, 3, |_| true).unwrap().len(), 3);
    let one = dump(&handle, 1000, |entry| entry.orig.src.port() == 6004).unwrap();
    assert_eq!(one.len(), 1, "{one:?}");
}
