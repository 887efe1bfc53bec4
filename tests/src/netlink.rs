//! As much of netlink as the lab's two requests need: attributes, messages, acknowledgements.

use std::io;

use anyhow::{Context, Result, bail};
use netlink_sys::{Socket, SocketAddr};

/// The flag of an attribute that holds attributes.
const NESTED: u16 = 1 << 15;
const ERROR: u16 = 2;
const HEADER: usize = 16;

/// `NLM_F_REQUEST`, `NLM_F_ACK`, `NLM_F_EXCL`, `NLM_F_CREATE`.
pub mod flag {
    pub const REQUEST: u16 = 0x1;
    pub const ACKNOWLEDGE: u16 = 0x4;
    pub const EXCLUSIVE: u16 = 0x200;
    pub const CREATE: u16 = 0x400;
}

pub fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

pub fn nested(kind: u16, attributes: &[Vec<u8>]) -> Vec<u8> {
    attribute(kind | NESTED, &attributes.concat())
}

pub fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let mut message = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    message
}

/// A socket of the namespace of this thread.
pub fn open(protocol: isize) -> Result<Socket> {
    let mut socket = Socket::new(protocol).context("open a netlink socket")?;
    socket.bind_auto().context("bind a netlink socket")?;
    Ok(socket)
}

pub fn send(socket: &Socket, messages: &[u8]) -> Result<()> {
    socket
        .send_to(messages, &SocketAddr::new(0, 0), 0)
        .context("send to the kernel")?;
    Ok(())
}

/// Waits for the acknowledgement of a request.
pub fn acknowledged(socket: &Socket) -> Result<()> {
    let (reply, _) = socket.recv_from_full().context("hear from the kernel")?;
    let code = reply
        .get(16..20)
        .and_then(|bytes| bytes.try_into().ok())
        .map(i32::from_ne_bytes);
    let kind = reply
        .get(4..6)
        .and_then(|bytes| bytes.try_into().ok())
        .map(u16::from_ne_bytes);
    match (kind, code) {
        (Some(ERROR), Some(0)) => Ok(()),
        (Some(ERROR), Some(code)) => Err(io::Error::from_raw_os_error(-code).into()),
        _ => bail!(
            "an answer of {} bytes that is no acknowledgement",
            reply.len()
        ),
    }
}
