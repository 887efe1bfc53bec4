//! Sockets of the second pod that take no more.

use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result};
use socket2::SockRef;

use super::{Case, at, broken};
use crate::server::{listen, receive};
use crate::sys;

/// A listener that never accepts, its queue filled from inside the pod.
pub fn full_listener(case: &Case) -> Result<()> {
    let address = at(case.local(), broken::LISTENER);
    let held = case.node.pods[1].within(|| {
        // A backlog of 0 still holds one connection.
        let listener = listen(address, 0)?;
        let first = TcpStream::connect_timeout(&address, Duration::from_secs(1))
            .with_context(|| format!("fill the queue of {address}"))?;
        Ok((listener, first))
    })?;
    case.node.keep(held);
    Ok(())
}

/// A datagram socket with the smallest buffer that nobody reads.
pub fn full_receiver(case: &Case) -> Result<()> {
    let address = at(case.local(), broken::RECEIVER);
    let socket = case.node.pods[1].within(|| {
        let socket = receive(address)?;
        SockRef::from(&socket)
            .set_recv_buffer_size(1)
            .context("shrink the receive buffer")?;
        Ok(socket)
    })?;
    case.node.keep(socket);
    Ok(())
}

/// A listener that takes packets of direct neighbours only (RFC 5082, as BGP speakers are set up).
pub fn guarded_listener(case: &Case) -> Result<()> {
    let address = at(case.local(), broken::GUARDED);
    let listener = case.node.pods[1].within(|| {
        let listener = listen(address, 16)?;
        let (level, option) = if address.is_ipv6() {
            (libc::IPPROTO_IPV6, libc::IPV6_MINHOPCOUNT)
        } else {
            (libc::IPPROTO_IP, libc::IP_MINTTL)
        };
        sys::set_socket_option(&listener, level, option, 255).context("ask for a least TTL")?;
        Ok(listener)
    })?;
    case.node.keep(listener);
    Ok(())
}
