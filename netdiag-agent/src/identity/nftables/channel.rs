//! A conversation with nf_tables. Belongs to the network namespace of the thread that opened it.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use netlink_packet_core::{NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};

use super::encode::Message;
use crate::identity::netlink::messages;

const READ_SIZE: usize = 64 * 1024;

/// How often a dump is begun again that the kernel marks as inconsistent.
const DUMP_TRIES: usize = 5;

/// `NLMSG_ERROR`, `NLMSG_DONE`
const ERROR: u16 = 2;
const DONE: u16 = 3;

/// Lengths of `struct nlmsghdr` and `struct nfgenmsg`.
const HEADER: usize = 16;
const FAMILY: usize = 4;

pub struct Channel {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

/// One message of an answer.
pub struct Answer<'a> {
    /// `NFNL_SUBSYS_* << 8 | NFT_MSG_*`
    pub kind: u16,
    /// `NFPROTO_*`
    pub family: u8,
    pub attributes: &'a [u8],
}

impl Channel {
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        Ok(Self {
            socket,
            sequence: 0,
            buffer: Vec::with_capacity(READ_SIZE),
        })
    }

    /// Everything a dump answers; `take` gets each message once the dump is known to be consistent.
    pub fn dump<T>(
        &mut self,
        kind: u8,
        family: u8,
        ask: impl Fn(Message) -> Message,
        take: impl Fn(Answer<'_>) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        let mut answers = Vec::new();
        for _ in 0..DUMP_TRIES {
            answers.clear();
            self.send(vec![ask(Message::new(
                kind,
                NLM_F_REQUEST | NLM_F_DUMP,
                family,
            ))])?;
            let mut interrupted = false;
            while !self.receive(&mut |answer| answers.extend(take(answer)), &mut interrupted)? {}
            if !interrupted {
                break;
            }
        }
        // Of rules that never rest, what was read last is as good as it gets.
        Ok(answers)
    }

    /// Sends messages in one go, under one sequence number.
    pub fn send(&mut self, messages: Vec<Message>) -> io::Result<()> {
        self.sequence += 1;
        let bytes: Vec<u8> = messages
            .into_iter()
            .flat_map(|message| message.finish(self.sequence))
            .collect();
        self.socket.send_to(&bytes, &SocketAddr::new(0, 0), 0)?;
        Ok(())
    }

    /// Waits for one acknowledgement; the error the kernel sent is the result.
    pub fn acknowledged(&mut self) -> io::Result<()> {
        let mut interrupted = false;
        while !self.receive(&mut |_| {}, &mut interrupted)? {}
        Ok(())
    }

    /// Takes one datagram; true when the answer is complete.
    fn receive(
        &mut self,
        take: &mut dyn FnMut(Answer<'_>),
        interrupted: &mut bool,
    ) -> io::Result<bool> {
        self.buffer.clear();
        self.socket.recv(&mut self.buffer, 0)?;
        for message in messages(&self.buffer) {
            let u16_at = |at: usize| u16::from_ne_bytes([message[at], message[at + 1]]);
            let sequence = u32::from_ne_bytes([message[8], message[9], message[10], message[11]]);
            if sequence != self.sequence {
                continue;
            }
            *interrupted |= u16_at(6) & NLM_F_DUMP_INTR != 0;
            match u16_at(4) {
                ERROR | DONE => return result(&message[HEADER..]).map(|()| true),
                kind => {
                    if let Some((header, attributes)) = message[HEADER..].split_at_checked(FAMILY) {
                        take(Answer {
                            kind,
                            family: header[0],
                            attributes,
                        });
                    }
                }
            }
        }
        Ok(false)
    }

    /// One datagram of news nobody asked for, when there is one.
    pub fn news(&mut self, mut take: impl FnMut(Answer<'_>)) -> io::Result<()> {
        self.buffer.clear();
        self.socket.recv(&mut self.buffer, libc::MSG_DONTWAIT)?;
        for message in messages(&self.buffer) {
            if let Some((header, attributes)) = message[HEADER..].split_at_checked(FAMILY) {
                take(Answer {
                    kind: u16::from_ne_bytes([message[4], message[5]]),
                    family: header[0],
                    attributes,
                });
            }
        }
        Ok(())
    }

    pub fn join(&mut self, group: u32) -> io::Result<()> {
        self.socket.add_membership(group)
    }
}

impl AsRawFd for Channel {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// The errno in an error or done message.
fn result(payload: &[u8]) -> io::Result<()> {
    let code = payload
        .first_chunk()
        .map_or(0, |code| i32::from_ne_bytes(*code));
    if code < 0 {
        return Err(io::Error::from_raw_os_error(-code));
    }
    Ok(())
}
