//! What listens in a namespace.

use std::io;
use std::net::{IpAddr, SocketAddr};

use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use netlink_packet_sock_diag::{AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP, SockDiagMessage};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;

use super::error::IdentityError;
use super::netlink::Channel;
use super::netns::{NetnsHandle, run_in};
use crate::event::Proto;
use crate::inventory::{Delta, Listener};

/// Listening TCP sockets and UDP sockets that take datagrams from anybody. A socket that serves both families shows
/// as `[::]`.
pub fn listeners(namespace: &NetnsHandle) -> Result<Delta, IdentityError> {
    let sockets = run_in(namespace, read)?.map_err(|cause| IdentityError::Netlink {
        act: "list the sockets",
        namespace: namespace.label(),
        cause,
    })?;
    Ok(Delta::Listeners {
        netns: namespace.netns(),
        sockets,
    })
}

fn read() -> io::Result<Vec<Listener>> {
    let mut channel = Channel::open(NETLINK_SOCK_DIAG)?;
    let mut found = Vec::new();
    for (protocol, states) in [
        (IPPROTO_TCP, StateFlags::LISTEN),
        (IPPROTO_UDP, StateFlags::CLOSE),
    ] {
        for (family, socket_id) in [
            (AF_INET, SocketId::new_v4()),
            (AF_INET6, SocketId::new_v6()),
        ] {
            let request = SockDiagMessage::InetRequest(InetRequest {
                family,
                protocol,
                extensions: ExtensionFlags::empty(),
                states: states.clone(),
                socket_id,
            });
            match channel.dump(&request) {
                Ok(answers) => found.extend(
                    answers
                        .iter()
                        .filter_map(|answer| listener(protocol, answer)),
                ),
                // Without the diag module of this protocol, or without IPv6, the kernel knows no such table.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                Err(error) => return Err(error),
            }
        }
    }
    found.sort_unstable();
    // With SO_REUSEPORT many sockets share one address.
    found.dedup();
    Ok(found)
}

fn listener(protocol: u8, answer: &SockDiagMessage) -> Option<Listener> {
    let SockDiagMessage::InetResponse(response) = answer else {
        return None;
    };
    let id = &response.header.socket_id;
    // A UDP socket that is not bound yet has no port.
    (id.source_port != 0).then(|| Listener {
        proto: Proto(protocol),
        address: SocketAddr::new(unmapped(id.source_address), id.source_port),
    })
}

/// An IPv6 socket bound to `::ffff:a.b.c.d` serves IPv4 only.
fn unmapped(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;
    use crate::identity::testing::Lab;

    #[test]
    fn the_listeners_of_a_namespace_are_found() {
        let Some(mut lab) = Lab::new() else { return };
        let name = lab.netns("listen");
        let handle = Lab::handle(&name);
        let open = || {
            let tcp = ["127.0.0.1:8080", "[::]:9090", "[::ffff:127.0.0.1]:7070"];
            let tcp: Vec<TcpListener> = tcp
                .iter()
                .map(|address| TcpListener::bind(address).unwrap())
                .collect();
            let server = UdpSocket::bind("0.0.0.0:53").unwrap();
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            client.connect("127.0.0.1:53").unwrap();
            (tcp, server, client)
        };
        let sockets = run_in(&handle, open).unwrap();
        let Delta::Listeners {
            netns,
            sockets: found,
        } = listeners(&handle).unwrap()
        else {
            panic!()
        };
        drop(sockets);
        let shown: Vec<String> = found
            .iter()
            .map(|listener| format!("{} {}", listener.proto, listener.address))
            .collect();
        assert_eq!(
            shown,
            [
                "tcp 127.0.0.1:7070",
                "tcp 127.0.0.1:8080",
                "tcp [::]:9090",
                "udp 0.0.0.0:53"
            ]
        );
        assert_eq!(netns, handle.netns());
    }
}
