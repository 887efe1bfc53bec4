//! TCP options, read and written, and what routes say of them.

use serde_json::json;

use super::super::attr::Attributes;
use super::super::datatype::HOST_INTEGER;
use super::super::field::{self, Part};
use super::Decoder;

/// `NFT_EXTHDR_OP_TCPOPT`
const TCP_OPTION: u32 = 1;
/// `NFT_EXTHDR_F_PRESENT`
const PRESENT: u32 = 1;
/// `NFT_RT_TCPMSS`
const MAXSEG: u32 = 3;

impl Decoder<'_> {
    /// `enum nft_exthdr_attributes`; extension headers of IPv6 and options of others nft is asked for.
    pub(super) fn option(&mut self, body: Attributes<'_>) -> Option<()> {
        if body.u32(6)? != TCP_OPTION {
            return None;
        }
        let kind = body.u32(2)?.try_into().ok()?;
        let part = match body.u32(5).unwrap_or(0) {
            PRESENT => field::has_tcp_option(kind)?,
            _ => field::tcp_option(kind, body.u32(3)?, body.u32(4)?)?,
        };
        match body.u32(7) {
            Some(source) => self.mangle(source, &part),
            None => self.load(body.u32(1)?, part),
        }
    }

    /// `enum nft_rt_attributes`; of the route's properties only the one that options are set to.
    pub(super) fn route(&mut self, body: Attributes<'_>) -> Option<()> {
        if body.u32(2)? != MAXSEG {
            return None;
        }
        let part = Part {
            left: json!({"rt": {"key": "mtu"}}),
            of: &HOST_INTEGER,
            size: 2,
        };
        self.load(body.u32(1)?, part)
    }
}
