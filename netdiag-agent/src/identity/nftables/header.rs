//! The headers a trace message carries: the first 40 bytes from the network header, the first 20 from the transport one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::event::{IcmpKind, Packet, Proto, TcpFlags, TcpHeader, Tuple};

/// `None` for what is no IP packet, or is cut off before its addresses.
pub fn packet(network: &[u8], transport: &[u8]) -> Option<Packet> {
    let ip = match network.first()? >> 4 {
        4 => v4(network.first_chunk()?),
        6 => v6(network.first_chunk()?),
        _ => return None,
    };
    let later = ip.fragment;
    let transport = if later { &[][..] } else { transport };
    let word = |at: usize| {
        let bytes = transport.get(at..at + 2)?;
        Some(u16::from_be_bytes([bytes[0], bytes[1]]))
    };
    let (proto, icmp) = (ip.proto, ip.proto.is_icmp());
    let ports = matches!(proto, Proto::TCP | Proto::UDP | Proto(33 | 132 | 136));
    let kind = transport.first().copied().unwrap_or_default();
    let is_echo = icmp && matches!(kind, 0 | 8 | 128 | 129);
    let (sport, dport) = match () {
        () if ports => (word(0), word(2)),
        () if is_echo => (word(4), word(4)),
        () => (None, None),
    };
    let tcp = transport
        .first_chunk::<14>()
        .filter(|_| proto == Proto::TCP);
    Some(Packet {
        tuple: Tuple {
            proto,
            src: SocketAddr::new(ip.source, sport.unwrap_or(0)),
            dst: SocketAddr::new(ip.destination, dport.unwrap_or(0)),
        },
        inner: None,
        outer: None,
        tcp: tcp.map(|bytes| TcpHeader {
            flags: TcpFlags(bytes[13]),
            seq: u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
            ack: u32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]),
        }),
        icmp: (icmp && transport.len() >= 2).then(|| IcmpKind {
            kind,
            code: transport[1],
        }),
        ttl: ip.ttl,
        ip_id: ip.id,
        len: ip.length,
        dont_fragment: ip.dont_fragment,
        fragment: later,
        mark: 0,
        skb: None,
        snap: None,
    })
}

struct Ip {
    source: IpAddr,
    destination: IpAddr,
    proto: Proto,
    ttl: u8,
    id: u16,
    length: u32,
    dont_fragment: bool,
    fragment: bool,
}

fn v4(header: &[u8; 20]) -> Ip {
    let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let address = |at: usize| {
        let bytes = [header[at], header[at + 1], header[at + 2], header[at + 3]];
        IpAddr::V4(Ipv4Addr::from(bytes))
    };
    Ip {
        source: address(12),
        destination: address(16),
        proto: Proto(header[9]),
        ttl: header[8],
        id: word(4),
        length: u32::from(word(2)),
        dont_fragment: word(6) & 0x4000 != 0,
        fragment: word(6) & 0x1fff != 0,
    }
}

/// Extension headers are not followed: their packets have no ports here.
fn v6(header: &[u8; 40]) -> Ip {
    let address = |at: usize| {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&header[at..at + 16]);
        IpAddr::V6(Ipv6Addr::from(bytes))
    };
    Ip {
        source: address(8),
        destination: address(24),
        proto: Proto(header[6]),
        ttl: header[7],
        id: 0,
        length: 40 + u32::from(u16::from_be_bytes([header[4], header[5]])),
        dont_fragment: false,
        fragment: false,
    }
}

#[cfg(test)]
mod tests {
    use super::packet;

    #[test]
    fn a_syn_reads_back() {
        let network = [
            0x45, 0, 0, 60, 1, 2, 0x40, 0, 63, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
        ];
        let mut transport = [0; 20];
        transport[..4].copy_from_slice(&[0x9c, 0x40, 0, 80]);
        transport[13] = 2;
        let packet = packet(&network, &transport).expect("a packet");
        assert_eq!(packet.tuple.to_string(), "tcp 10.0.0.1:40000 > 10.0.0.2:80");
        assert!(packet.tcp.expect("TCP").flags.is_syn());
        assert_eq!(
            (packet.ttl, packet.len, packet.dont_fragment),
            (63, 60, true)
        );
    }

    #[test]
    fn what_is_cut_off_is_no_packet() {
        for network in [&[][..], &[0x45; 19], &[0x60; 39], &[0x10; 40]] {
            assert!(packet(network, &[]).is_none());
        }
    }
}
