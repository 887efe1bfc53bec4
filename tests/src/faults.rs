//! One function per fault, made with the tools an operator would use. A fault lives as long as its node.
//!
//! A fault hits what `broken` names (one port, one destination) and leaves the rest of the node healthy, so that the
//! controls of the same run prove that netdiag can tell.

pub mod conntrack;
pub mod explain;
pub mod firewall;
pub mod held;
pub mod kube;
pub mod masquerade;
pub mod nat;
pub mod overlay;
pub mod program;
pub mod proxy;
pub mod routing;
pub mod socket;

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;

use crate::node::Node;
use crate::plan::{Addresses, Family, Plan};
use crate::server::port;

/// Who is where, in the family of a run.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    pub plan: &'a Plan,
    pub family: Family,
}

impl<'a> Place<'a> {
    pub const fn addresses(&self) -> &'a Addresses {
        self.plan.addresses(self.family)
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

/// A node to break, and the family its fault is made for.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    pub node: &'a Node,
    pub place: Place<'a>,
}

impl<'a> Case<'a> {
    pub const fn new(node: &'a Node, family: Family) -> Self {
        Self {
            node,
            place: Place {
                plan: &node.plan,
                family,
            },
        }
    }
}

impl<'a> std::ops::Deref for Case<'a> {
    type Target = Place<'a>;

    fn deref(&self) -> &Place<'a> {
        &self.place
    }
}

/// The ports that port-wise faults hit.
pub mod broken {
    use super::port;

    pub const TCP: u16 = port::TCP[1];
    pub const UDP: u16 = port::UDP[1];
    /// A listener whose queue is full.
    pub const LISTENER: u16 = 8090;
    /// A listener that takes packets of neighbours only.
    pub const GUARDED: u16 = 8091;
    /// Of VXLAN, by IANA.
    pub const VXLAN: u16 = 4789;
    /// A datagram socket nobody reads.
    pub const RECEIVER: u16 = 9090;
}

/// Nothing is broken.
pub fn none(_: &Case) -> Result<()> {
    Ok(())
}

pub(crate) const fn at(address: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(address, port)
}
