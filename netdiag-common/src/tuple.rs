//! The 5-tuple of one direction of a flow.

/// IP protocol numbers the programs look into.
pub const IPPROTO_ICMP: u8 = 1;
pub const IPPROTO_TCP: u8 = 6;
pub const IPPROTO_UDP: u8 = 17;
pub const IPPROTO_ICMPV6: u8 = 58;
pub const IPPROTO_SCTP: u8 = 132;

/// Addresses, ports and protocol of one packet, as they stand in its headers.
///
/// For ICMP echo both ports are the echo identifier, so that request and reply are reverses of each other.
/// All other ICMP has ports 0. Aligned so that the BPF back end moves words: it splits accesses it cannot prove aligned.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tuple {
    /// Source address; IPv4 is v4-mapped (`::ffff:a.b.c.d`).
    pub saddr: [u8; 16],
    pub daddr: [u8; 16],
    /// Host byte order.
    pub sport: u16,
    pub dport: u16,
    pub proto: u8,
    pub _pad: [u8; 3],
}

const _: () = assert!(size_of::<Tuple>() == 40);

impl Tuple {
    pub const ZERO: Self = Self {
        saddr: [0; 16],
        daddr: [0; 16],
        sport: 0,
        dport: 0,
        proto: 0,
        _pad: [0; 3],
    };

    /// The tuple of a packet that answers this one.
    #[inline(always)]
    #[must_use]
    pub const fn reversed(&self) -> Self {
        Self {
            saddr: self.daddr,
            daddr: self.saddr,
            sport: self.dport,
            dport: self.sport,
            proto: self.proto,
            _pad: [0; 3],
        }
    }

    /// One value for both directions: the end with the smaller (address, port) comes first.
    #[inline(always)]
    #[must_use]
    pub fn canonical(&self) -> Self {
        let source = (halves(&self.saddr), self.sport);
        let destination = (halves(&self.daddr), self.dport);
        if source <= destination {
            *self
        } else {
            self.reversed()
        }
    }
}

/// Two words compare in two instructions; sixteen bytes would be a loop the verifier has to walk.
#[inline(always)]
fn halves(address: &[u8; 16]) -> (u64, u64) {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *address;
    (
        u64::from_be_bytes([a, b, c, d, e, f, g, h]),
        u64::from_be_bytes([i, j, k, l, m, n, o, p]),
    )
}

/// The v4-mapped form of an IPv4 address in network byte order.
#[inline(always)]
#[must_use]
pub const fn mapped(v4: [u8; 4]) -> [u8; 16] {
    [
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, v4[0], v4[1], v4[2], v4[3],
    ]
}

#[cfg(feature = "user")]
// SAFETY: repr(C), only integers, padding explicit.
unsafe impl aya::Pod for Tuple {}
