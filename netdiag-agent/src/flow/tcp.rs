//! How far a TCP connection got.

use crate::event::{Ktime, TcpFlags, TcpHeader};

use super::record::Direction;

/// `enum` of `include/net/tcp_states.h`, as `inet_sock_set_state` reports it.
const TCP_ESTABLISHED: u8 = 1;
const TCP_SYN_SENT: u8 = 2;

/// First time of each step of a connection's life.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    pub syn: Option<Ktime>,
    pub syn_ack: Option<Ktime>,
    /// The initiator went on after the SYN-ACK: proof that it got it.
    pub established: Option<Ktime>,
    /// FIN or RST of either side: drops of stray packets after this are no deaths.
    pub closing: Option<Ktime>,
    pub initial_seq: Option<u32>,
    /// What either side had received when it last said that it closes.
    received: Received,
    /// Segments a TCP of this node sent again while the connection lived.
    pub resent: u32,
}

/// Acknowledgement numbers, and when they were sent.
#[derive(Clone, Copy, Debug, Default)]
struct Received {
    by_initiator: Option<(Ktime, u32)>,
    by_responder: Option<(Ktime, u32)>,
}

impl Progress {
    pub fn packet(&mut self, at: Ktime, direction: Direction, header: TcpHeader) {
        let flags = header.flags;
        match direction {
            Direction::Original if flags.is_syn() => {
                self.syn.get_or_insert(at);
                self.initial_seq.get_or_insert(header.seq);
            }
            Direction::Reply if flags.is_syn_ack() => {
                self.syn_ack.get_or_insert(at);
            }
            // A node that closes half-open connections sends RST without the peer ever having answered.
            Direction::Original if !flags.is_rst() => {
                self.established.get_or_insert(at);
            }
            _ => {}
        }
        if flags.is_fin() || flags.is_rst() {
            self.closing.get_or_insert(at);
            if flags.0 & TcpFlags::ACK != 0 {
                let side = match direction {
                    Direction::Original => &mut self.received.by_initiator,
                    Direction::Reply => &mut self.received.by_responder,
                };
                *side = Some((at, header.ack));
            }
        }
    }

    /// The side that packets of this direction go to closed after `since`, and had not received `seq` then.
    pub fn closed_without(&self, direction: Direction, seq: u32, since: Ktime) -> bool {
        let receiver = match direction {
            Direction::Original => self.received.by_responder,
            Direction::Reply => self.received.by_initiator,
        };
        // RFC 9293 §3.4: numbers are compared modulo 2^32.
        receiver.is_some_and(|(at, ack)| at > since && ack.wrapping_sub(seq).cast_signed() <= 0)
    }

    /// A socket of this node sends again what was not acknowledged in time.
    pub const fn resends(&mut self) {
        if self.established.is_some() && self.closing.is_none() {
            self.resent += 1;
        }
    }

    /// A socket changed state; `direction` is that of the packets it sends.
    pub fn state(&mut self, at: Ktime, direction: Direction, old: u8, new: u8) {
        if direction == Direction::Original && old == TCP_SYN_SENT && new == TCP_ESTABLISHED {
            self.established.get_or_insert(at);
        }
    }
}
