//! nf_tables over netlink: reading tables as the kernel holds them, and a table of our own.
//!
//! Numbers are those of `linux/netfilter/nf_tables.h` and `linux/netfilter/nfnetlink.h`.

mod channel;
mod encode;
mod expression;
mod header;
mod own;
mod read;
mod trace;

pub use own::Scope;
pub(super) use own::{NAME_PREFIX, Own, sweep};
pub(super) use read::{Contents, Named};
pub(super) use trace::Listener;
