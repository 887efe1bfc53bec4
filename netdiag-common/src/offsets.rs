//! Where the running kernel keeps the fields the programs read; resolved from its BTF before loading.

/// A field this kernel does not have.
pub const ABSENT: u32 = u32::MAX;

macro_rules! offsets {
    ($($(#[$doc:meta])* $field:ident = $path:literal;)*) => {
        /// Byte offsets, one per kernel field, [`ABSENT`] where the kernel has none.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Offsets { $($(#[$doc])* pub $field: u32,)* }

        impl Offsets {
            pub const ABSENT: Self = Self { $($field: ABSENT,)* };

            /// Resolves each field's BTF path (`struct.member.member`) with `lookup`.
            pub fn resolve(mut lookup: impl FnMut(&'static str) -> Option<u32>) -> Self {
                Self { $($field: match lookup($path) { Some(o) => o, None => ABSENT },)* }
            }

            /// Path and offset of every field, for `netdiag doctor` and tests.
            pub fn each(&self, mut visit: impl FnMut(&'static str, u32)) {
                $(visit($path, self.$field);)*
            }
        }
    };
}

offsets! {
    skb_head = "sk_buff.head";
    skb_network_header = "sk_buff.network_header";
    skb_dev = "sk_buff.dev";
    skb_len = "sk_buff.len";
    skb_mark = "sk_buff.mark";
    skb_nfct = "sk_buff._nfct";
    skb_protocol = "sk_buff.protocol";
    skb_iif = "sk_buff.skb_iif";
    skb_refdst = "sk_buff._skb_refdst";
    skb_sk = "sk_buff.sk";
    skb_data = "sk_buff.data";
    /// An offset from `head`, as on every 64-bit kernel.
    skb_tail = "sk_buff.tail";
    sock_net = "sock.__sk_common.skc_net";
    sock_family = "sock.__sk_common.skc_family";
    sock_saddr = "sock.__sk_common.skc_rcv_saddr";
    sock_daddr = "sock.__sk_common.skc_daddr";
    sock_saddr6 = "sock.__sk_common.skc_v6_rcv_saddr";
    sock_daddr6 = "sock.__sk_common.skc_v6_daddr";
    sock_sport = "sock.__sk_common.skc_num";
    sock_dport = "sock.__sk_common.skc_dport";
    sock_protocol = "sock.sk_protocol";
    sock_err = "sock.sk_err";
    ct_status = "nf_conn.status";
    ct_zone = "nf_conn.zone.id";
    ct_tuplehash = "nf_conn.tuplehash";
    ct_tcp_state = "nf_conn.proto.tcp.state";
    tuplehash_tuple = "nf_conntrack_tuple_hash.tuple";
    tuple_saddr = "nf_conntrack_tuple.src.u3";
    tuple_sport = "nf_conntrack_tuple.src.u";
    tuple_family = "nf_conntrack_tuple.src.l3num";
    tuple_daddr = "nf_conntrack_tuple.dst.u3";
    tuple_dport = "nf_conntrack_tuple.dst.u";
    tuple_proto = "nf_conntrack_tuple.dst.protonum";
    dev_ifindex = "net_device.ifindex";
    dev_name = "net_device.name";
    dev_net = "net_device.nd_net";
    net_inum = "net.ns.inum";
    dst_dev = "dst_entry.dev";
    dst_input = "dst_entry.input";
    dst_output = "dst_entry.output";
    dst_error = "dst_entry.error";
    neigh_dev = "neighbour.dev";
    neigh_state = "neighbour.nud_state";
    neigh_key = "neighbour.primary_key";
    neigh_table = "neighbour.tbl";
    neigh_table_family = "neigh_table.family";
    task_nsproxy = "task_struct.nsproxy";
    nsproxy_net = "nsproxy.net_ns";
    flowi4_saddr = "flowi4.saddr";
    flowi4_daddr = "flowi4.daddr";
    flowi4_proto = "flowi4.__fl_common.flowic_proto";
    flowi4_ports = "flowi4.uli";
    flowi4_iif = "flowi4.__fl_common.flowic_iif";
    flowi6_iif = "flowi6.__fl_common.flowic_iif";
    flowi6_saddr = "flowi6.saddr";
    flowi6_daddr = "flowi6.daddr";
    flowi6_proto = "flowi6.__fl_common.flowic_proto";
    flowi6_ports = "flowi6.uli";
    fib6_result_type = "fib6_result.fib6_type";
    fib6_table_id = "fib6_table.tb6_id";
    nf_state_hook = "nf_hook_state.hook";
    nf_state_pf = "nf_hook_state.pf";
    nf_state_in = "nf_hook_state.in";
    nf_state_out = "nf_hook_state.out";
    nf_state_net = "nf_hook_state.net";
    nft_pkt_skb = "nft_pktinfo.skb";
    nft_chain_name = "nft_chain.name";
    nft_chain_table = "nft_chain.table";
    nft_table_name = "nft_table.name";
    /// A bit field, so read with its byte.
    nft_table_family = "nft_table.family";
    xt_table_name = "xt_table.name";
}

#[cfg(feature = "user")]
// SAFETY: repr(C), only u32 fields.
unsafe impl aya::Pod for Offsets {}
