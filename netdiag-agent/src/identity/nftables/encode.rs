//! Netlink messages of nf_tables, byte by byte.

/// `NFNL_SUBSYS_NFTABLES`
pub const SUBSYSTEM: u8 = 10;

/// `NLA_F_NESTED`
const NESTED: u16 = 0x8000;

/// One message: netlink header, netfilter header, attributes.
#[derive(Clone, Debug)]
pub struct Message {
    bytes: Vec<u8>,
}

impl Message {
    /// `family` is an `NFPROTO_*`, `kind` an `NFT_MSG_*`, `flags` are `NLM_F_*`.
    pub fn new(kind: u8, flags: u16, family: u8) -> Self {
        Self::of(
            u16::from(SUBSYSTEM) << 8 | u16::from(kind),
            flags,
            family,
            0,
        )
    }

    /// Begins or ends a batch; `res_id` names the subsystem, in network byte order.
    pub fn of(kind: u16, flags: u16, family: u8, res_id: u16) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        // Sequence number, set when it is sent, and the sender, which the kernel knows.
        bytes.extend([0; 8]);
        bytes.extend([family, 0]);
        bytes.extend(res_id.to_be_bytes());
        Self { bytes }
    }

    /// With one more `NLM_F_*`.
    #[must_use]
    pub fn flag(mut self, flag: u16) -> Self {
        let flags = u16::from_ne_bytes([self.bytes[6], self.bytes[7]]) | flag;
        self.bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        self
    }

    /// The bytes to send, under this sequence number.
    pub fn finish(mut self, sequence: u32) -> Vec<u8> {
        let length = (self.bytes.len() as u32).to_ne_bytes();
        self.bytes[..4].copy_from_slice(&length);
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }
}

/// Attributes inside an attribute.
#[derive(Clone, Debug, Default)]
pub struct Nest(Vec<u8>);

/// What holds attributes, in the order they are added.
pub trait Append: Sized {
    fn bytes(&mut self) -> &mut Vec<u8>;

    #[must_use]
    fn raw(mut self, kind: u16, value: &[u8]) -> Self {
        let bytes = self.bytes();
        bytes.extend((4 + value.len() as u16).to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        self
    }

    #[must_use]
    fn text(self, kind: u16, text: &str) -> Self {
        self.raw(kind, &[text.as_bytes(), b"\0"].concat())
    }

    #[must_use]
    fn u32(self, kind: u16, value: u32) -> Self {
        self.raw(kind, &value.to_be_bytes())
    }

    #[must_use]
    fn u64(self, kind: u16, value: u64) -> Self {
        self.raw(kind, &value.to_be_bytes())
    }

    #[must_use]
    fn nested(self, kind: u16, inside: &Nest) -> Self {
        self.raw(kind | NESTED, &inside.0)
    }
}

impl Append for Message {
    fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

impl Append for Nest {
    fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}
