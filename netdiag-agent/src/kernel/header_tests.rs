//! Headers of every shape, sent for real and read back from the TC programs.

use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use super::lab::{Lab, Observed};
use super::{Watch, WatchInterface};
use crate::event::{Detail, Event, HookId, Pass};

fn at(event: &Event, interface: &str, destination: &str) -> bool {
    event.place.ifname.as_deref() == Some(interface)
        && event
            .packet
            .as_ref()
            .is_some_and(|packet| packet.tuple.dst.to_string() == destination)
}

fn option(socket: &UdpSocket, level: libc::c_int, name: libc::c_int, value: &[u8]) {
    // SAFETY: a valid socket and an option of the length given.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            value.as_ptr().cast(),
            value.len() as u32,
        )
    };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
}

#[tokio::test]
async fn ipv4_options_do_not_hide_the_ports() {
    let Some(lab) = Lab::new() else { return };
    let mut seen = Observed::start(&lab.watch());
    let client = lab.udp("pod", "10.244.0.2:0");
    option(&client, libc::IPPROTO_IP, libc::IP_OPTIONS, &[1, 1, 1, 0]);
    client.send_to(b"x", "192.0.2.10:6001").expect("send");
    let packet = seen
        .expect(HookId::TcIngress, "datagram", |e| {
            at(e, "vetha", "192.0.2.10:6001")
        })
        .await
        .packet;
    assert_eq!(packet.expect("packet").len, 20 + 4 + 8 + 1);
}

#[tokio::test]
async fn ipv6_extension_headers_do_not_hide_the_ports() {
    let Some(lab) = Lab::new() else { return };
    let mut seen = Observed::start(&lab.watch());
    let client = lab.udp("pod", "[fd00:1::2]:0");
    // Eight bytes of padding each, as hop-by-hop and as destination options.
    let padding = [0, 0, 1, 4, 0, 0, 0, 0];
    option(&client, libc::IPPROTO_IPV6, libc::IPV6_HOPOPTS, &padding);
    option(&client, libc::IPPROTO_IPV6, libc::IPV6_DSTOPTS, &padding);
    client.send_to(b"x", "[2001:db8::10]:6002").expect("send");
    let packet = seen
        .expect(HookId::TcIngress, "datagram", |e| {
            at(e, "vetha", "[2001:db8::10]:6002")
        })
        .await
        .packet;
    assert_eq!(packet.expect("packet").len, 40 + 16 + 8 + 1);
}

#[tokio::test]
async fn the_first_fragment_has_the_ports_and_later_ones_say_they_are_fragments() {
    let Some(lab) = Lab::new() else { return };
    let mut seen = Observed::start(&lab.watch());
    for (own, destination, bare) in [
        ("10.244.0.2:0", "192.0.2.10:6003", "192.0.2.10:0"),
        ("[fd00:1::2]:0", "[2001:db8::10]:6003", "[2001:db8::10]:0"),
    ] {
        let client = lab.udp("pod", own);
        // IP_MTU_DISCOVER off, so that IPv4 fragments too.
        option(
            &client,
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            &0u32.to_ne_bytes(),
        );
        client.send_to(&[0; 4000], destination).expect("send");
        let first = seen
            .expect(HookId::TcIngress, "first fragment", |e| {
                at(e, "vetha", destination)
            })
            .await;
        assert!(!first.packet.expect("packet").fragment);
        let later = seen
            .expect(HookId::TcIngress, "later fragment", |e| {
                at(e, "vetha", bare)
            })
            .await;
        assert!(later.packet.expect("packet").fragment);
    }
}

/// The frames are made by hand: this way the test needs no VLAN devices, which not every kernel has.
#[tokio::test]
async fn tagged_and_doubly_tagged_frames_are_read() {
    let Some(lab) = Lab::new() else { return };
    let mut seen = Observed::start(&lab.watch());
    for (tags, port) in [(1, 6010_u16), (2, 6011), (3, 6012)] {
        lab.within("pod", || send_tagged(tags, port));
        let to = format!("192.0.2.10:{port}");
        seen.expect(HookId::TcIngress, "tagged datagram", |e| {
            at(e, "vetha", &to)
        })
        .await;
        seen.expect(HookId::NetDevStartXmit, "tagged datagram", |e| {
            at(e, "eth0", &to)
        })
        .await;
        seen.expect(HookId::NetifReceiveSkb, "tagged datagram", |e| {
            at(e, "vetha", &to)
        })
        .await;
    }
}

/// A UDP datagram behind this many VLAN tags, the outermost a provider's when there is more than one.
fn send_tagged(tags: usize, port: u16) {
    let mut frame = vec![0xff; 6];
    frame.extend([2, 0, 0, 0, 0, 1]);
    for tag in 0..tags {
        frame.extend(if tag + 1 < tags {
            [0x88, 0xa8]
        } else {
            [0x81, 0x00]
        });
        frame.extend([0x00, 100 + tag as u8]);
    }
    frame.extend([
        0x08, 0x00, 0x45, 0, 0, 29, 0, 1, 0, 0, 64, 17, 0, 0, 10, 244, 0, 2, 192, 0, 2, 10,
    ]);
    frame.extend([0x9c, 0x41]);
    frame.extend(port.to_be_bytes());
    frame.extend([0, 9, 0, 0, b'x']);
    // SAFETY: plain system calls on memory that outlives them.
    unsafe {
        let socket = libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0);
        assert!(socket >= 0);
        let mut to: libc::sockaddr_ll = std::mem::zeroed();
        to.sll_family = libc::AF_PACKET as u16;
        to.sll_ifindex = libc::if_nametoindex(c"eth0".as_ptr()) as i32;
        let sent = libc::sendto(
            socket,
            frame.as_ptr().cast(),
            frame.len(),
            0,
            (&raw const to).cast(),
            size_of::<libc::sockaddr_ll>() as u32,
        );
        libc::close(socket);
        assert_eq!(sent, frame.len() as isize);
    }
}

#[tokio::test]
async fn a_layer_3_device_has_no_ethernet_header() {
    let Some(lab) = Lab::new() else { return };
    lab.sh("
        ip -n $P-node tuntap add dev tun0 mode tun; ip -n $P-node link set tun0 up
        ip -n $P-node route add 198.51.100.0/24 dev tun0
        ip netns exec $P-node sysctl -qw net.ipv4.conf.tun0.ignore_routes_with_linkdown=0
    ");
    let mut watch = lab.watch();
    watch.interfaces.push(lab.interface("tun0"));
    let mut seen = Observed::start(&watch);
    let client = lab.udp("pod", "10.244.0.2:0");
    client.send_to(b"x", "198.51.100.7:6005").expect("send");
    let event = seen
        .expect(HookId::TcEgress, "datagram", |e| {
            at(e, "tun0", "198.51.100.7:6005")
        })
        .await;
    assert_eq!(event.packet.expect("packet").len, 29);
}

/// A question for `a.test`, type A.
const QUESTION: &[u8] =
    b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x04test\x00\x00\x01\x00\x01";

#[tokio::test]
async fn dns_messages_come_with_their_bytes_over_udp_and_tcp() {
    let Some(lab) = Lab::new() else { return };
    let mut seen = Observed::start(&lab.watch());
    for (own, server) in [
        ("10.244.0.2:0", "192.0.2.10:53"),
        ("[fd00:1::2]:0", "[2001:db8::10]:53"),
    ] {
        let client = lab.udp("pod", own);
        client.send_to(QUESTION, server).expect("send");
        let asked = seen
            .expect(HookId::TcIngress, "question", |e| at(e, "vetha", server))
            .await;
        assert_eq!(
            asked.detail,
            Detail::Dns {
                pass: Pass::Received,
                message: QUESTION.to_vec()
            }
        );
    }
    let long: Vec<u8> = QUESTION
        .iter()
        .copied()
        .chain(std::iter::repeat_n(7, 300))
        .collect();
    let client = lab.udp("pod", "10.244.0.2:0");
    client.send_to(&long, "192.0.2.10:53").expect("send");
    seen.expect(HookId::TcEgress, "long question", |e| {
        at(e, "eth0", "192.0.2.10:53")
            && e.detail
                == Detail::Dns {
                    pass: Pass::Sent,
                    message: long[..128].to_vec(),
                }
    })
    .await;
    let listener = lab.listen("ext", "192.0.2.10:53");
    let mut stream = lab.within("pod", || {
        std::net::TcpStream::connect("192.0.2.10:53").expect("connect")
    });
    let mut framed = (QUESTION.len() as u16).to_be_bytes().to_vec();
    framed.extend_from_slice(QUESTION);
    std::io::Write::write_all(&mut stream, &framed).expect("send");
    seen.expect(HookId::TcEgress, "question over TCP", |e| {
        at(e, "eth0", "192.0.2.10:53")
            && matches!(&e.detail, Detail::Dns { message, .. } if message == QUESTION)
    })
    .await;
    drop(listener);
}

#[tokio::test]
async fn echo_request_and_reply_are_two_directions_of_one_tuple() {
    let Some(lab) = Lab::new() else { return };
    let mut seen = Observed::start(&lab.watch());
    for to in ["192.0.2.10", "2001:db8::10"] {
        lab.sh(&format!(
            "ip netns exec $P-pod ping -qc 1 -w 2 {to} >/dev/null"
        ));
        let to: std::net::IpAddr = to.parse().expect("address");
        let request = seen
            .expect(HookId::TcIngress, "request", |e| {
                e.place.ifname.as_deref() == Some("vetha")
                    && e.packet.as_ref().is_some_and(|p| p.tuple.dst.ip() == to)
            })
            .await;
        let tuple = request.packet.expect("packet").tuple;
        assert!(tuple.src.port() != 0 && tuple.src.port() == tuple.dst.port());
        seen.expect(HookId::TcEgress, "reply", |e| {
            e.packet
                .as_ref()
                .is_some_and(|p| p.tuple == tuple.reversed())
        })
        .await;
    }
}

#[tokio::test]
async fn a_bad_tcp_checksum_is_seen() {
    let Some(lab) = Lab::new() else { return };
    let _listener = lab.listen("node", "10.244.0.1:6006");
    let mut seen = Observed::start(&lab.watch());
    lab.within("pod", || {
        send_raw_syn([10, 244, 0, 2], [10, 244, 0, 1], 6006);
    });
    seen.expect(HookId::TcpBadCsum, "SYN", |e| {
        e.packet
            .as_ref()
            .is_some_and(|packet| packet.tuple.dst.to_string() == "10.244.0.1:6006")
    })
    .await;
}

/// A SYN whose checksum is wrong. The kernel fills in the IPv4 header's own.
fn send_raw_syn(source: [u8; 4], destination: [u8; 4], port: u16) {
    let mut packet = vec![0x45, 0, 0, 40, 0, 1, 0, 0, 64, 6, 0, 0];
    packet.extend(source);
    packet.extend(destination);
    packet.extend([0x9c, 0x40]);
    packet.extend(port.to_be_bytes());
    packet.extend([
        0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0xde, 0xad, 0, 0,
    ]);
    // SAFETY: plain system calls on memory that outlives them.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_RAW);
        assert!(socket >= 0);
        let mut to: libc::sockaddr_in = std::mem::zeroed();
        to.sin_family = libc::AF_INET as u16;
        to.sin_addr.s_addr = u32::from_ne_bytes(destination);
        let sent = libc::sendto(
            socket,
            packet.as_ptr().cast(),
            packet.len(),
            0,
            (&raw const to).cast(),
            size_of::<libc::sockaddr_in>() as u32,
        );
        libc::close(socket);
        assert_eq!(sent, 40);
    }
}

/// Where the kernel lets TC programs read nothing but the packet, the interface still tells the namespace.
#[tokio::test]
async fn interfaces_of_two_namespaces_are_told_apart() {
    let Some(lab) = Lab::new() else { return };
    let index = lab.within("ext", || {
        nix::net::if_::if_nametoindex("eth0").expect("eth0")
    });
    let ext = WatchInterface {
        netns: Some(lab.path("ext")),
        ifindex: crate::event::IfIndex(index),
        name: "eth0".into(),
    };
    let mut interfaces = lab.watch().interfaces;
    interfaces.push(ext);
    let mut seen = Observed::start(&Watch {
        interfaces,
        ..lab.watch()
    });
    lab.connect("192.0.2.10:9001");
    let there = lab.netns("ext");
    seen.expect(HookId::TcIngress, "SYN", |e| {
        e.place.netns == Some(there)
            && e.packet
                .as_ref()
                .is_some_and(|p| p.tuple.dst.to_string() == "192.0.2.10:9001")
    })
    .await;
}
