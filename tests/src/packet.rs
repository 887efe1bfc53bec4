//! Packets no socket would make: forged sources, wrong checksums.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, bail, ensure};
use socket2::{Domain, Protocol, Socket, Type};

use crate::step::{Kind, Step};

const TCP: u8 = 6;
const UDP: u8 = 17;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const DEFAULT_TTL: u8 = 64;

/// Builds the packet of a raw step and sends it.
pub fn send(step: &Step, from: SocketAddr) -> Result<()> {
    let packet = build(step, from)?;
    let domain = Domain::for_address(step.to);
    // IPPROTO_RAW means that the IP header is ours, in both families.
    let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))
        .context("open a raw socket")?;
    // A raw IPv6 socket refuses a destination with a port.
    let to = SocketAddr::new(step.to.ip(), 0);
    for _ in 0..step.count {
        socket
            .send_to(&packet, &to.into())
            .with_context(|| format!("send {step}"))?;
    }
    Ok(())
}

fn build(step: &Step, from: SocketAddr) -> Result<Vec<u8>> {
    let (protocol, mut segment) = match step.kind {
        Kind::RawSyn => (TCP, bare(from.port(), step.to.port(), SYN)),
        Kind::RawAck => (TCP, bare(from.port(), step.to.port(), ACK)),
        Kind::RawUdp => (UDP, datagram(from.port(), step.to.port(), step.size)),
        _ => bail!("{step}: not a raw packet"),
    };
    let at = if protocol == TCP { 16 } else { 6 };
    let mut sum = checksum(&[
        &pseudo_header(from.ip(), step.to.ip(), protocol, &segment),
        &segment,
    ]);
    if step.bad_checksum {
        sum ^= 0x5555;
    }
    segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    let ttl = step.ttl.unwrap_or(DEFAULT_TTL);
    let mut packet = header(from.ip(), step.to.ip(), protocol, ttl, segment.len())?;
    if step.bad_option {
        ensure!(step.to.is_ipv4(), "{step}: IPv6 has no such option");
        // A timestamp option shorter than its own header; one word more of header.
        packet[0] = 0x46;
        packet.extend([68, 2, 0, 0]);
    }
    packet.extend(segment);
    Ok(packet)
}

/// A TCP header and nothing else.
fn bare(from: u16, to: u16, flags: u8) -> Vec<u8> {
    let mut segment = [from.to_be_bytes(), to.to_be_bytes()].concat();
    segment.extend(0x1020_3040_u32.to_be_bytes());
    segment.extend([0, 0, 0, 0, 5 << 4, flags, 0x72, 0x10, 0, 0, 0, 0]);
    segment
}

fn datagram(from: u16, to: u16, size: usize) -> Vec<u8> {
    let length = (8 + size) as u16;
    let mut segment = [
        from.to_be_bytes(),
        to.to_be_bytes(),
        length.to_be_bytes(),
        [0; 2],
    ]
    .concat();
    segment.resize(8 + size, b'n');
    segment
}

fn header(from: IpAddr, to: IpAddr, protocol: u8, ttl: u8, payload: usize) -> Result<Vec<u8>> {
    Ok(match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            // The kernel fills in identification and header checksum.
            let total = (20 + payload) as u16;
            let mut header = vec![0x45, 0];
            header.extend(total.to_be_bytes());
            header.extend([0, 0, 0x40, 0, ttl, protocol, 0, 0]);
            header.extend(from.octets());
            header.extend(to.octets());
            header
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut header = vec![0x60, 0, 0, 0];
            header.extend((payload as u16).to_be_bytes());
            header.extend([protocol, ttl]);
            header.extend(from.octets());
            header.extend(to.octets());
            header
        }
        _ => bail!("{from} and {to} are of two families"),
    })
}

fn pseudo_header(from: IpAddr, to: IpAddr, protocol: u8, segment: &[u8]) -> Vec<u8> {
    let mut header = Vec::with_capacity(40);
    for address in [from, to] {
        match address {
            IpAddr::V4(address) => header.extend(address.octets()),
            IpAddr::V6(address) => header.extend(address.octets()),
        }
    }
    header.extend((segment.len() as u32).to_be_bytes());
    header.extend([0, 0, 0, protocol]);
    header
}

/// The Internet checksum over even-sized parts; only the last may be odd.
pub fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum: u32 = 0;
    for pair in parts.iter().flat_map(|part| part.chunks(2)) {
        sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(text: &str) -> Vec<u8> {
        let step: Step = text.parse().expect(text);
        let from = if step.to.is_ipv6() {
            "[fd00::1]:4000"
        } else {
            "10.0.0.1:4000"
        };
        build(&step, from.parse().expect("an address")).expect(text)
    }

    /// A packet is valid when the sum over it, checksum included, is zero.
    fn remainder(packet: &[u8], addresses: std::ops::Range<usize>, protocol: u8) -> u16 {
        let segment = &packet[addresses.end..];
        let tail = [
            &(segment.len() as u32).to_be_bytes()[..],
            &[0, 0, 0, protocol],
        ]
        .concat();
        checksum(&[&packet[addresses], &tail, segment])
    }

    #[test]
    fn checksums_are_right_unless_asked_otherwise() {
        assert_eq!(remainder(&packet("raw-syn:10.0.0.2:80"), 12..20, TCP), 0);
        assert_eq!(remainder(&packet("raw-udp:[fd00::2]:80"), 8..40, UDP), 0);
        assert_ne!(
            remainder(&packet("raw-syn:10.0.0.2:80,badsum"), 12..20, TCP),
            0
        );
    }
}
