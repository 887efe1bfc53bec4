//! The packets of the test, and what is known of them at a hook.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netdiag::event::{IcmpKind, Proto, TcpFlags};
use netdiag::ruleset::{AddressType, CtFacts, CtState, Hook, Interface, PacketFacts};

use crate::rng::Rng;

/// The lab's IPv6 addresses end in its IPv4 ones.
pub const fn v6(address: Ipv4Addr) -> Ipv6Addr {
    Ipv6Addr::from_bits(0xfd77 << 112 | address.to_bits() as u128)
}

#[derive(Clone, Debug)]
pub struct Packet {
    pub v6: bool,
    pub id: u16,
    pub proto: u8,
    /// For IPv6 see [`v6`].
    pub src: Ipv4Addr,
    pub dst: Ipv4Addr,
    pub sport: u16,
    pub dport: u16,
    pub tcp_flags: u8,
    pub icmp: u8,
    pub payload: usize,
    pub state: CtState,
}

impl Packet {
    /// Of the connection the lab sets up.
    pub fn established(v6: bool) -> Self {
        Self {
            v6,
            id: 1,
            proto: 17,
            src: Ipv4Addr::new(10, 77, 1, 2),
            dst: Ipv4Addr::new(10, 77, 2, 2),
            sport: 5000,
            dport: 1000,
            tcp_flags: 0,
            icmp: 0,
            payload: 10,
            state: CtState::Established,
        }
    }

    /// A packet that will meet `hook`; `fresh` is a source port nobody has used.
    pub fn random(rng: &mut Rng, v6: bool, hook: Hook, id: u16, fresh: u16) -> Self {
        if hook != Hook::Input && hook != Hook::Output && rng.one_in(6) {
            return Self {
                id,
                ..Self::established(v6)
            };
        }
        let host = |rng: &mut Rng, net: u8| Ipv4Addr::new(10, 77, net, rng.range(2, 5) as u8);
        let src = if hook == Hook::Output {
            Ipv4Addr::new(10, 77, 2, 1)
        } else {
            host(rng, 1)
        };
        let here = hook == Hook::Input || (hook == Hook::Prerouting && rng.one_in(3));
        let dst = if here {
            Ipv4Addr::new(10, 77, rng.range(1, 2) as u8, 1)
        } else {
            host(rng, 2)
        };
        // What the node answers to a SYN would be noise.
        let proto = *rng.pick(if here {
            &[17_u8, 1][..]
        } else {
            &[17, 17, 6, 1]
        });
        // Request, answer, and a request nobody answers.
        let kind = rng.range(0, 2) as usize;
        let tcp_flags = *rng.pick(&[0x02_u8, 0x10, 0x12]);
        let is_icmp = proto == 1;
        let invalid = (proto == 6 && tcp_flags == 0x12) || (is_icmp && kind == 1);
        Self {
            v6,
            id,
            proto: if is_icmp && v6 { 58 } else { proto },
            src,
            dst,
            sport: if is_icmp { 0 } else { fresh },
            dport: if is_icmp {
                fresh
            } else {
                rng.range(1000, 1005) as u16
            },
            tcp_flags,
            icmp: if v6 { [128, 129, 139] } else { [8, 0, 13] }[kind],
            // The first two bytes hold the id.
            payload: rng.range(2, 60) as usize,
            state: if invalid {
                CtState::Invalid
            } else {
                CtState::New
            },
        }
    }

    pub const fn is_icmp(&self) -> bool {
        matches!(self.proto, 1 | 58)
    }

    pub fn source(&self) -> IpAddr {
        self.address(self.src)
    }

    pub fn destination(&self) -> IpAddr {
        self.address(self.dst)
    }

    fn address(&self, address: Ipv4Addr) -> IpAddr {
        if self.v6 {
            v6(address).into()
        } else {
            address.into()
        }
    }

    /// From the IP header on. Of IPv4 the kernel fills in the header's checksum, and nobody asks for the others.
    pub fn bytes(&self) -> Vec<u8> {
        let mut l4 = self.layer4();
        if self.v6 {
            return self.behind_v6(l4);
        }
        let mut packet = vec![0x45, 0];
        packet.extend((20 + l4.len() as u16).to_be_bytes());
        packet.extend(self.id.to_be_bytes());
        packet.extend([0, 0, 64, self.proto, 0, 0]);
        packet.extend(self.src.octets());
        packet.extend(self.dst.octets());
        packet.append(&mut l4);
        packet
    }

    fn behind_v6(&self, mut l4: Vec<u8>) -> Vec<u8> {
        let (src, dst) = (v6(self.src).octets(), v6(self.dst).octets());
        let length = l4.len() as u16;
        let pseudo = [
            &src[..],
            &dst,
            &u32::from(length).to_be_bytes(),
            &[0, 0, 0, self.proto],
        ];
        let at = match self.proto {
            6 => 16,
            17 => 6,
            _ => 2,
        };
        let sum = checksum(&[&pseudo.concat(), &l4[..]].concat());
        l4[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        let mut packet = vec![0x60, 0, 0, 0];
        packet.extend(length.to_be_bytes());
        packet.extend([self.proto, 64]);
        packet.extend(src);
        packet.extend(dst);
        packet.append(&mut l4);
        packet
    }

    /// Header and payload, with the id where a raw IPv6 socket, which gets no IP header, finds it.
    fn layer4(&self) -> Vec<u8> {
        let id = self.id.to_be_bytes();
        let mut l4 = match self.proto {
            6 => {
                let mut header = vec![0; 20];
                header[..2].copy_from_slice(&self.sport.to_be_bytes());
                header[2..4].copy_from_slice(&self.dport.to_be_bytes());
                header[6..8].copy_from_slice(&id);
                header[12] = 5 << 4;
                header[13] = self.tcp_flags;
                header
            }
            17 => {
                let length = 8 + self.payload as u16;
                [self.sport, self.dport, length, 0]
                    .iter()
                    .flat_map(|word| word.to_be_bytes())
                    .collect()
            }
            _ => {
                let mut header = vec![self.icmp, 0, 0, 0];
                header.extend(self.dport.to_be_bytes());
                header.extend(id);
                header
            }
        };
        l4.extend(id);
        l4.extend(std::iter::repeat_n(0, self.payload - id.len()));
        l4
    }

    /// The id of a packet of the lab, from its layer 4 on; `None` for anybody else's.
    pub fn id_of(proto: u8, l4: &[u8]) -> Option<u16> {
        let at = match (proto, l4.first()?) {
            (6, _) | (58, 128 | 129 | 139) => 6,
            (17, _) => 8,
            _ => return None,
        };
        Some(u16::from_be_bytes([*l4.get(at)?, *l4.get(at + 1)?]))
    }

    /// As an event at `hook` would tell.
    pub fn facts(&self, hook: Hook, mark: u32) -> PacketFacts {
        let here = self.dst.octets()[3] == 1;
        let forwarded = matches!(hook, Hook::Forward | Hook::Postrouting);
        let named = |name: &str| Interface::Named(name.to_owned());
        let ports = !self.is_icmp();
        let l3 = if self.v6 { 40 } else { 20 };
        let l4 = if self.proto == 6 { 20 } else { 8 };
        PacketFacts {
            proto: Proto(self.proto),
            src: self.source(),
            dst: self.destination(),
            sport: ports.then_some(self.sport),
            dport: ports.then_some(self.dport),
            iif: match hook {
                Hook::Output => Interface::None,
                // The kernel hands the input device on to POSTROUTING since 5.7.
                _ => named("vpod"),
            },
            oif: match hook {
                Hook::Prerouting | Hook::Input => Interface::None,
                _ => named("vout"),
            },
            bridged: false,
            bridge_in: Interface::None,
            bridge_out: Interface::None,
            queued: false,
            mark: None,
            mark_before: Some(mark),
            ct: CtFacts {
                state: Some(self.state),
                status: match self.state {
                    CtState::Established => Some(0b1010),
                    CtState::New => Some(0),
                    _ => None,
                },
                reply: matches!(self.state, CtState::Established | CtState::New).then_some(false),
                original: None,
                mark: Some(0),
            },
            tcp_flags: (self.proto == 6).then_some(TcpFlags(self.tcp_flags)),
            icmp: self.is_icmp().then_some(IcmpKind {
                kind: self.icmp,
                code: 0,
            }),
            length: Some((l3 + l4 + self.payload) as u32),
            ttl: Some(if forwarded { 63 } else { 64 }),
            fragment: Some(false),
            src_type: Some(if hook == Hook::Output {
                AddressType::Local
            } else {
                AddressType::Unicast
            }),
            dst_type: Some(if here {
                AddressType::Local
            } else {
                AddressType::Unicast
            }),
            before_nat: None,
            by_legacy: None,
        }
    }
}

/// RFC 1071; 0 is written as all ones, which means the same and is never "no checksum".
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| {
        let low = pair.get(1).copied().unwrap_or(0);
        u32::from(u16::from_be_bytes([pair[0], low]))
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    match !(sum as u16) {
        0 => 0xffff,
        sum => sum,
    }
}
