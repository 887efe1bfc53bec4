//! What user space tells the programs: load-time globals and the keys of the filter maps.

use crate::offsets::Offsets;

/// `Settings::any_address`: follow every flow seen at a watched interface, not only those of the pod's addresses.
pub const FOLLOW_ANY: u32 = 1;

/// `NETNS` value: events of this namespace are wanted.
pub const NETNS_WANTED: u32 = 1 << 0;
/// `NETNS` value: a pod's, not the node's.
pub const NETNS_POD: u32 = 1 << 1;
/// `NETNS` value: the traced pod's. Its packets are wanted whatever source address they claim.
pub const NETNS_TRACED: u32 = 1 << 2;

/// Load-time global `SETTINGS`: read-only data, so the verifier prunes what this kernel does not have.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub offsets: Offsets,
    /// `sizeof(struct nf_conntrack_tuple_hash)`: the reply tuple lies that far behind the original one. 0: no conntrack.
    pub tuplehash_size: u32,
    /// Arguments of the `kfree_skb` tracepoint: 2 (no reason), 3 or 4.
    pub kfree_skb_args: u32,
    /// Arguments of `udp_fail_queue_rcv_skb`: 2 (no packet) or 3.
    pub udp_fail_args: u32,
    /// 1 when TC programs may read kernel memory, so the namespace, interface name and conntrack entry of their packets.
    pub tc_kernel_read: u32,
    /// Drop reasons for which a stack is taken; `u32::MAX`: this kernel has no such reason. On kernels without reasons a stack is always taken.
    pub reason_not_specified: u32,
    pub reason_netfilter_drop: u32,
    /// [`FOLLOW_ANY`] or 0.
    pub any_address: u32,
    /// 1 when the `TARGETS` map narrows the flows to follow.
    pub targets: u32,
    /// 1 when the first bytes of each packet are wanted.
    pub snap: u32,
    /// UDP port that carries VXLAN on this node; 0: none does.
    pub vxlan_port: u32,
    /// 1 when the refusals of netfilter hooks are seen, so that a drop leaves a note for them.
    pub netfilter: u32,
}

impl Settings {
    /// What the object holds until user space overrides it: nothing can be read, nothing is wanted.
    pub const EMPTY: Self = Self {
        offsets: Offsets::ABSENT,
        tuplehash_size: 0,
        kfree_skb_args: 2,
        udp_fail_args: 2,
        tc_kernel_read: 0,
        reason_not_specified: u32::MAX,
        reason_netfilter_drop: u32::MAX,
        any_address: 0,
        targets: 0,
        snap: 0,
        vxlan_port: 0,
        netfilter: 0,
    };
}

const _: () = assert!(size_of::<Settings>() == size_of::<Offsets>() + 11 * 4);

/// Key of `TARGETS` (value unused): a destination the user asked for. Port 0 means any port, the zero address any address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Target {
    pub addr: [u8; 16],
    pub port: u16,
    pub _pad: [u8; 2],
}

const _: () = assert!(size_of::<Target>() == 20);

/// Value of `NETNS` (key: namespace inode): `NETNS_*` bits.
pub type NetnsFlags = u32;

#[cfg(feature = "user")]
mod pod {
    // SAFETY: repr(C), only integers.
    unsafe impl aya::Pod for super::Settings {}
    // SAFETY: repr(C), only integers, padding explicit.
    unsafe impl aya::Pod for super::Target {}
}
