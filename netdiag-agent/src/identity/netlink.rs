//! One blocking netlink conversation: a request, all its answers.

use std::fmt::Debug;
use std::io;

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_sys::{Socket, SocketAddr};

/// The kernel fills at most 32 KiB per read of a dump when the reader's buffer allows it.
const READ_SIZE: usize = 64 * 1024;

/// How often a dump is begun again that the kernel marks as inconsistent because its table changed meanwhile.
const DUMP_TRIES: usize = 5;

/// Belongs to the network namespace of the thread that opened it.
pub(super) struct Channel {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Channel {
    pub(super) fn open(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self {
            socket,
            sequence: 0,
            buffer: Vec::with_capacity(READ_SIZE),
        })
    }

    /// All answers to a dump request.
    pub(super) fn dump<T: Message>(&mut self, request: &T) -> io::Result<Vec<T>> {
        let mut answers = Vec::new();
        for _ in 0..DUMP_TRIES {
            answers.clear();
            if !self.dump_each(request, |answer| answers.push(answer))? {
                break;
            }
        }
        // Of a table that never rests, what was read last is as good as it gets.
        Ok(answers)
    }

    /// Hands over the answers to a dump one by one; true when the table changed meanwhile.
    pub(super) fn dump_each<T: Message>(
        &mut self,
        request: &T,
        mut take: impl FnMut(T),
    ) -> io::Result<bool> {
        self.exchange(request, NLM_F_REQUEST | NLM_F_DUMP, &mut take)
    }

    /// The answer to a request about one object.
    pub(super) fn get<T: Message>(&mut self, request: &T) -> io::Result<T> {
        let mut answer = None;
        self.exchange(request, NLM_F_REQUEST, &mut |message| {
            answer = Some(message);
        })?;
        answer.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
    }

    fn exchange<T: Message>(
        &mut self,
        request: &T,
        flags: u16,
        take: &mut dyn FnMut(T),
    ) -> io::Result<bool> {
        self.sequence += 1;
        let payload = NetlinkPayload::InnerMessage(request.clone());
        let mut message = NetlinkMessage::new(NetlinkHeader::default(), payload);
        message.header.flags = flags;
        message.header.sequence_number = self.sequence;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;

        let dump = flags & NLM_F_DUMP == NLM_F_DUMP;
        let mut reader = Reader {
            take,
            interrupted: false,
            sequence: self.sequence,
            dump,
        };
        loop {
            self.buffer.clear();
            self.socket.recv(&mut self.buffer, 0)?;
            if reader.read(&self.buffer)? {
                return Ok(reader.interrupted);
            }
        }
    }
}

/// What one netlink family sends and receives.
pub(super) trait Message:
    NetlinkSerializable + NetlinkDeserializable + Clone + Debug
{
}

impl<T: NetlinkSerializable + NetlinkDeserializable + Clone + Debug> Message for T {}

struct Reader<'a, T> {
    take: &'a mut dyn FnMut(T),
    interrupted: bool,
    sequence: u32,
    dump: bool,
}

impl<T: Message> Reader<'_, T> {
    /// Reads one datagram; true when the conversation is over.
    fn read(&mut self, datagram: &[u8]) -> io::Result<bool> {
        for bytes in messages(datagram) {
            match NetlinkMessage::<T>::deserialize(bytes) {
                Ok(message) if message.header.sequence_number != self.sequence => {}
                Ok(message) => {
                    self.interrupted |= message.header.flags & NLM_F_DUMP_INTR != 0;
                    if self.payload(message.payload)? {
                        return Ok(true);
                    }
                }
                // One object this build cannot read must not hide the others.
                Err(error) if self.dump => tracing::debug!(%error, "skipped a netlink message"),
                Err(error) => {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        error.to_string(),
                    ));
                }
            }
        }
        Ok(false)
    }

    fn payload(&mut self, payload: NetlinkPayload<T>) -> io::Result<bool> {
        match payload {
            NetlinkPayload::Done(done) if done.code < 0 => {
                Err(io::Error::from_raw_os_error(-done.code))
            }
            NetlinkPayload::Error(error) if error.code.is_some() => Err(error.to_io()),
            NetlinkPayload::Done(_) | NetlinkPayload::Error(_) => Ok(true),
            NetlinkPayload::InnerMessage(answer) => {
                (self.take)(answer);
                Ok(!self.dump)
            }
            _ => Ok(false),
        }
    }
}

/// Splits a datagram at the lengths its message headers state; stops at the first impossible one.
pub(super) fn messages(datagram: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*rest.first_chunk::<4>()?) as usize;
        if length < 16 || length > rest.len() {
            return None;
        }
        let message = &rest[..length];
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

#[cfg(test)]
mod tests {
    use super::messages;

    #[test]
    fn a_datagram_is_split_at_stated_lengths() {
        let mut datagram = vec![0; 18 + 2 + 16];
        datagram[0] = 18;
        datagram[20] = 16;
        let lengths: Vec<usize> = messages(&datagram).map(<[u8]>::len).collect();
        assert_eq!(lengths, [18, 16]);
    }

    #[test]
    fn impossible_lengths_end_the_datagram() {
        for length in [0_u8, 4, 15, 21] {
            let mut datagram = vec![0; 20];
            datagram[0] = length;
            assert_eq!(messages(&datagram).count(), 0, "length {length}");
        }
        assert_eq!(messages(&[1, 2]).count(), 0);
    }
}
