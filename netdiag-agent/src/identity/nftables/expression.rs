//! The expressions of our own rules.

use std::net::IpAddr;

use super::encode::{Append, Nest};
use super::own::Ends;
use crate::ruleset::Family;

/// Packets of one rule that are traced per second; each makes an event for every rule it meets.
const RATE: u64 = 50;

/// `NFPROTO_IPV4`, `NFPROTO_IPV6`; `ETH_P_IP`, `ETH_P_IPV6`
const NFPROTO: [u8; 2] = [2, 10];
const ETHERTYPE: [[u8; 2]; 2] = [[0x08, 0x00], [0x86, 0xdd]];

/// `enum nft_meta_keys`
const META_PROTOCOL: u32 = 1;
const META_TRACE: u32 = 12;
const META_NFPROTO: u32 = 15;

/// `enum nft_ct_keys`: addresses by version, and the port.
const CT_SOURCE: [u32; 2] = [19, 21];
const CT_DESTINATION: [u32; 2] = [20, 22];
const CT_DESTINATION_PORT: u32 = 12;

/// The one register used.
const REGISTER: u32 = 1;

/// A list of expressions that marks packets with these ends, of their connection or their own.
pub fn marking(family: Family, ends: Ends, of_connection: bool) -> Nest {
    let mut list = List(Nest::default());
    let address = ends.source.or(ends.destination);
    if let Some(v6) = address.map(|address| usize::from(address.is_ipv6())) {
        if family == Family::Bridge {
            list.meta(META_PROTOCOL);
            list.equals(&ETHERTYPE[v6]);
        } else {
            list.meta(META_NFPROTO);
            list.equals(&NFPROTO[v6..=v6]);
        }
    }
    if of_connection {
        list.original(ends);
    } else {
        list.packet(ends);
    }
    list.limit();
    list.push(
        "immediate",
        &Nest::default()
            .u32(1, REGISTER)
            .nested(2, &Nest::default().raw(1, &[1])),
    );
    list.push("meta", &Nest::default().u32(2, META_TRACE).u32(3, REGISTER));
    list.0
}

struct List(Nest);

impl List {
    fn push(&mut self, name: &str, data: &Nest) {
        let expression = Nest::default().text(1, name).nested(2, data);
        self.0 = std::mem::take(&mut self.0).nested(1, &expression);
    }

    fn meta(&mut self, key: u32) {
        self.push("meta", &Nest::default().u32(1, REGISTER).u32(2, key));
    }

    /// Base 1 is the network header, 2 the transport header.
    fn payload(&mut self, base: u32, offset: u32, length: u32) {
        let load = Nest::default()
            .u32(1, REGISTER)
            .u32(2, base)
            .u32(3, offset)
            .u32(4, length);
        self.push("payload", &load);
    }

    /// Of the tuple in the original direction.
    fn ct(&mut self, key: u32) {
        self.push(
            "ct",
            &Nest::default().u32(1, REGISTER).u32(2, key).raw(3, &[0]),
        );
    }

    /// `NFT_CMP_EQ` is 0.
    fn equals(&mut self, bytes: &[u8]) {
        let data = Nest::default().raw(1, bytes);
        self.push(
            "cmp",
            &Nest::default().u32(1, REGISTER).u32(2, 0).nested(3, &data),
        );
    }

    fn packet(&mut self, ends: Ends) {
        for (address, offsets) in [(ends.source, [12, 8]), (ends.destination, [16, 24])] {
            if let Some(address) = address {
                let bytes = octets(address);
                self.payload(
                    1,
                    offsets[usize::from(address.is_ipv6())],
                    bytes.len() as u32,
                );
                self.equals(&bytes);
            }
        }
        for (port, offset) in [(ends.source_port, 0), (ends.destination_port, 2)] {
            if let Some(port) = port {
                self.payload(2, offset, 2);
                self.equals(&port.to_be_bytes());
            }
        }
    }

    fn original(&mut self, ends: Ends) {
        for (address, keys) in [(ends.source, CT_SOURCE), (ends.destination, CT_DESTINATION)] {
            if let Some(address) = address {
                self.ct(keys[usize::from(address.is_ipv6())]);
                self.equals(&octets(address));
            }
        }
        if let Some(port) = ends.destination_port {
            self.ct(CT_DESTINATION_PORT);
            self.equals(&port.to_be_bytes());
        }
    }

    /// Packets (type 0) per second.
    fn limit(&mut self) {
        let limit = Nest::default()
            .u64(1, RATE)
            .u64(2, 1)
            .u32(3, RATE as u32)
            .u32(4, 0);
        self.push("limit", &limit);
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}
