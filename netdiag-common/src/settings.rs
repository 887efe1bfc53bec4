//! What user space tells the programs: load-time globals and the keys of the filter maps.

use crate::offsets::Offsets;

/// `Settings::any_address`: follow every flow seen at a watched interface, not only those of the pod's addresses.
pub const FOLLOW_ANY: u32 = 1;

/// Load-time global `SETTINGS`: read-only data, so the verifier prunes what this kernel does not have.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub offsets: Offsets,
    /// `sizeof(struct nf_conntrack_tuple_hash)`: the reply tuple lies that far behind the original one. 0: no conntrack.
    pub tuplehash_size: u32,
    /// Arguments of the `kfree_skb` tracepoint: 2 (no reason), 3 or 4. `tcp_send_reset` likewise has its reason at 2.
    pub kfree_skb_args: u32,
    /// Drop reasons for which a stack is taken; `u32::MAX` = none. On kernels without reasons a stack is always taken.
    pub reason_not_specified: u32,
    pub reason_netfilter_drop: u32,
    /// [`FOLLOW_ANY`] or 0.
    pub any_address: u32,
    /// 1 when the `TARGETS` map narrows the flows to follow.
    pub targets: u32,
    /// 1 switches the programs' own aya-log lines on.
    pub log: u32,
}

/// Key of `TARGETS` (value unused): a destination the user asked for. Port 0 and protocol 0 mean any.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Target {
    pub addr: [u8; 16],
    pub port: u16,
    pub _pad: [u8; 2],
}

const _: () = assert!(size_of::<Target>() == 20);

/// Value of `NETNS` (key: namespace inode): 1 = events of this namespace are wanted.
pub type NetnsFlags = u32;

#[cfg(feature = "user")]
mod pod {
    // SAFETY: repr(C), only integers.
    unsafe impl aya::Pod for super::Settings {}
    // SAFETY: repr(C), only integers, padding explicit.
    unsafe impl aya::Pod for super::Target {}
}
