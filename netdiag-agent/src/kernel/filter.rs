//! The maps that tell the programs what to look for.

use std::net::IpAddr;

use aya::Ebpf;
use aya::maps::{HashMap, MapData, MapError};
use netdiag_common::settings::{NETNS_POD, NETNS_TRACED, NETNS_WANTED, Target};

use super::error::KernelError;
use crate::event::Netns;

const NETNS: &str = "NETNS";
const ADDRESSES: &str = "ADDRESSES";
const TARGETS: &str = "TARGETS";

pub struct Filter {
    netns: HashMap<MapData, u32, u32>,
    addresses: HashMap<MapData, [u8; 16], u32>,
    targets: HashMap<MapData, Target, u32>,
}

impl Filter {
    pub fn open(ebpf: &mut Ebpf) -> Result<Self, KernelError> {
        let mut take = |name| ebpf.take_map(name).ok_or(KernelError::Object(name));
        Ok(Self {
            netns: take(NETNS)?.try_into().map_err(failed(NETNS))?,
            addresses: take(ADDRESSES)?.try_into().map_err(failed(ADDRESSES))?,
            targets: take(TARGETS)?.try_into().map_err(failed(TARGETS))?,
        })
    }

    /// A pod's namespace.
    pub fn add_pod(&mut self, netns: Netns) -> Result<(), KernelError> {
        self.netns
            .insert(netns.0, NETNS_WANTED | NETNS_POD, 0)
            .map_err(failed(NETNS))
    }

    /// The pod whose traffic was asked for.
    pub fn add_traced(&mut self, netns: Netns) -> Result<(), KernelError> {
        self.netns
            .insert(netns.0, NETNS_WANTED | NETNS_POD | NETNS_TRACED, 0)
            .map_err(failed(NETNS))
    }

    pub fn add_node(&mut self, netns: Netns) -> Result<(), KernelError> {
        self.netns
            .insert(netns.0, NETNS_WANTED, 0)
            .map_err(failed(NETNS))
    }

    pub fn add_address(&mut self, address: IpAddr) -> Result<(), KernelError> {
        self.addresses
            .insert(octets(address), 1, 0)
            .map_err(failed(ADDRESSES))
    }

    /// What is not there is as good as removed.
    pub fn remove_netns(&mut self, netns: Netns) -> Result<(), KernelError> {
        absent_or(self.netns.remove(&netns.0), NETNS)
    }

    pub fn remove_address(&mut self, address: IpAddr) -> Result<(), KernelError> {
        absent_or(self.addresses.remove(&octets(address)), ADDRESSES)
    }

    pub fn add_target(&mut self, target: (Option<IpAddr>, Option<u16>)) -> Result<(), KernelError> {
        self.targets
            .insert(key(target), 1, 0)
            .map_err(failed(TARGETS))
    }
}

fn absent_or(removed: Result<(), MapError>, map: &'static str) -> Result<(), KernelError> {
    match removed {
        Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error))
            if error.io_error.raw_os_error() == Some(libc::ENOENT) =>
        {
            Ok(())
        }
        Err(error) => Err(failed(map)(error)),
    }
}

fn failed(map: &'static str) -> impl Fn(MapError) -> KernelError {
    move |source| KernelError::Map { map, source }
}

/// Absent means any, which the wire writes as zero.
fn key((address, port): (Option<IpAddr>, Option<u16>)) -> Target {
    Target {
        addr: address.map_or([0; 16], octets),
        port: port.unwrap_or(0),
        _pad: [0; 2],
    }
}

/// IPv4 as v4-mapped.
fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
    .octets()
}
