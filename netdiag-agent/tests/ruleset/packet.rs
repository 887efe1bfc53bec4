//! The packets of the test, and what is known of them at a hook.

use std::net::{IpAddr, Ipv4Addr};

use netdiag::event::{IcmpKind, Proto, TcpFlags};
use netdiag::ruleset::{AddressType, CtFacts, CtState, Hook, Interface, PacketFacts};

use crate::rng::Rng;

#[derive(Clone, Debug)]
pub struct Packet {
    pub id: u16,
    pub proto: u8,
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
    pub fn established() -> Self {
        Self {
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
    pub fn random(rng: &mut Rng, hook: Hook, id: u16, fresh: u16) -> Self {
        if hook != Hook::Input && hook != Hook::Output && rng.one_in(6) {
            return Self {
                id,
                ..Self::established()
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
        let (tcp_flags, icmp) = (*rng.pick(&[0x02_u8, 0x10, 0x12]), *rng.pick(&[8_u8, 0, 13]));
        let invalid = (proto == 6 && tcp_flags == 0x12) || (proto == 1 && icmp == 0);
        Self {
            id,
            proto,
            src,
            dst,
            sport: if proto == 1 { 0 } else { fresh },
            dport: if proto == 1 {
                fresh
            } else {
                rng.range(1000, 1005) as u16
            },
            tcp_flags,
            icmp,
            payload: rng.range(0, 60) as usize,
            state: if invalid {
                CtState::Invalid
            } else {
                CtState::New
            },
        }
    }

    /// From the IP header on, without checksums (the kernel fills in its own).
    pub fn bytes(&self) -> Vec<u8> {
        let mut l4 = match self.proto {
            6 => {
                let mut header = vec![0; 20];
                header[..2].copy_from_slice(&self.sport.to_be_bytes());
                header[2..4].copy_from_slice(&self.dport.to_be_bytes());
                header[4..8].copy_from_slice(&7_u32.to_be_bytes());
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
                header.extend([0, 1]);
                header
            }
        };
        l4.extend(std::iter::repeat_n(0, self.payload));
        let mut packet = vec![0x45, 0];
        packet.extend((20 + l4.len() as u16).to_be_bytes());
        packet.extend(self.id.to_be_bytes());
        packet.extend([0, 0, 64, self.proto, 0, 0]);
        packet.extend(self.src.octets());
        packet.extend(self.dst.octets());
        packet.extend(l4);
        packet
    }

    /// As an event at `hook` would tell.
    pub fn facts(&self, hook: Hook, mark: u32) -> PacketFacts {
        let here = self.dst.octets()[3] == 1;
        let forwarded = matches!(hook, Hook::Forward | Hook::Postrouting);
        let named = |name: &str| Interface::Named(name.to_owned());
        let ports = self.proto != 1;
        let l4 = if self.proto == 6 { 20 } else { 8 };
        PacketFacts {
            proto: Proto(self.proto),
            src: IpAddr::V4(self.src),
            dst: IpAddr::V4(self.dst),
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
            icmp: (self.proto == 1).then_some(IcmpKind {
                kind: self.icmp,
                code: 0,
            }),
            length: Some((20 + l4 + self.payload) as u32),
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
