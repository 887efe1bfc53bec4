//! Every place in the kernel where a program of ours can be attached.

macro_rules! hooks {
    ($($(#[$doc:meta])* $name:ident = $id:literal, $text:literal;)*) => {
        /// Which program reported an event. The numbers are the wire format: append, never renumber.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum HookId { $($(#[$doc])* $name = $id,)* }

        impl HookId {
            /// All hooks, in wire order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// `None` for a number this build does not know.
            pub const fn from_u16(id: u16) -> Option<Self> {
                match id { $($id => Some(Self::$name),)* _ => None }
            }

            /// The name used in evidence, recordings and `netdiag doctor`: attach kind and kernel name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

hooks! {
    /// Packet received by an interface (from the pod on its host-side veth, from the fabric on an uplink).
    TcIngress = 0, "tc:ingress";
    /// Packet about to be transmitted by an interface, after POSTROUTING and NAT.
    TcEgress = 1, "tc:egress";
    KfreeSkb = 2, "tp_btf:kfree_skb";
    NetDevStartXmit = 3, "tp_btf:net_dev_start_xmit";
    NetifReceiveSkb = 4, "tp_btf:netif_receive_skb";
    IcmpSend = 5, "tp_btf:icmp_send";
    TcpSendReset = 6, "tp_btf:tcp_send_reset";
    TcpReceiveReset = 7, "tp_btf:tcp_receive_reset";
    TcpRetransmitSkb = 8, "tp_btf:tcp_retransmit_skb";
    InetSockSetState = 9, "tp_btf:inet_sock_set_state";
    InetSkErrorReport = 10, "tp_btf:inet_sk_error_report";
    TcpBadCsum = 11, "tp_btf:tcp_bad_csum";
    NeighUpdate = 12, "tp_btf:neigh_update";
    NeighTimerHandler = 13, "tp_btf:neigh_timer_handler";
    NeighEventSendDone = 14, "tp_btf:neigh_event_send_done";
    FibTableLookup = 15, "tp_btf:fib_table_lookup";
    Fib6TableLookup = 16, "tp_btf:fib6_table_lookup";
    UdpFailQueueRcvSkb = 17, "tp_btf:udp_fail_queue_rcv_skb";
    /// A netfilter hook refused a packet.
    NfHookSlowExit = 18, "fexit:nf_hook_slow";
    /// The same where functions have no fexit.
    NfHookSlowReturn = 19, "kretprobe:nf_hook_slow";
    NftDoChain = 20, "kretprobe:nft_do_chain";
    IptDoTable = 21, "kretprobe:ipt_do_table";
    Ip6tDoTable = 22, "kretprobe:ip6t_do_table";
    NfConntrackIn = 23, "kretprobe:nf_conntrack_in";
    NfConntrackConfirm = 24, "kretprobe:__nf_conntrack_confirm";
    NfNatInetFn = 25, "kretprobe:nf_nat_inet_fn";
}

/// Slots of the per-hook counter maps.
pub const HOOK_SLOTS: u32 = 64;
