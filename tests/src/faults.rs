//! One function per fault, made with the tools an operator would use. A fault lives as long as its node.
//!
//! A fault hits what `broken` names (one port, one destination) and leaves the rest of the node healthy, so that the
//! controls of the same run prove that netdiag can tell.

pub mod firewall;
pub mod program;
pub mod routing;
pub mod socket;

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;

use crate::node::Node;
use crate::plan::{Addresses, Family};
use crate::server::port;

/// A node and the family its fault is made for.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    pub node: &'a Node,
    pub family: Family,
}

impl<'a> Case<'a> {
    pub const fn addresses(&self) -> &'a Addresses {
        self.node.addresses(self.family)
    }

    /// The external address no fault touches.
    pub const fn healthy(&self) -> IpAddr {
        self.addresses().external[0]
    }

    /// The external address that routing faults hit.
    pub const fn broken(&self) -> IpAddr {
        self.addresses().external[1]
    }

    /// The second pod.
    pub const fn local(&self) -> IpAddr {
        self.addresses().pod[1]
    }
}

/// The ports that port-wise faults hit.
pub mod broken {
    use super::port;

    pub const TCP: u16 = port::TCP[1];
    pub const UDP: u16 = port::UDP[1];
    /// A listener whose queue is full.
    pub const LISTENER: u16 = 8090;
    /// A datagram socket nobody reads.
    pub const RECEIVER: u16 = 9090;
}

/// Nothing is broken.
#[expect(clippy::unnecessary_wraps, reason = "stands where faults stand")]
pub fn none(_: &Case) -> Result<()> {
    Ok(())
}

pub(crate) const fn at(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address, port)
}
