//! The registry: every program, where it goes, what it needs and what is lost without it.

use crate::event::{HookId, Pass};

/// One program and its place.
#[derive(Debug, PartialEq, Eq)]
pub struct HookSpec {
    pub id: HookId,
    /// Name of the function in the eBPF object.
    pub program: &'static str,
    pub attach: Attach,
    /// Kernel struct members without which the program has nothing to say.
    pub needs: &'static [&'static str],
    /// What a trace cannot see without it.
    pub loses: &'static str,
    /// What the kernel must offer: 0 tracepoints and TC, 1 kprobes, 2 fexit.
    pub tier: u8,
    /// What it puts in the place of a guess, or adds to what the tiers below see; empty in Tier 0.
    pub adds: &'static str,
    /// Attached only where this one cannot be.
    pub instead_of: Option<HookId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// Each watched interface, in this direction.
    Tc(Pass),
    /// A kernel tracepoint, found by its BTF.
    Tracepoint(&'static str),
    /// The return of a function of the kernel proper, by trampoline.
    Exit(&'static str),
    /// The return of any function, modules' included, by probe.
    Return {
        function: &'static str,
        /// A second program at the function's entry, for its arguments.
        entry: Option<&'static str>,
    },
}

impl Attach {
    /// The function it is attached to.
    pub const fn function(self) -> Option<&'static str> {
        match self {
            Self::Tc(_) | Self::Tracepoint(_) => None,
            Self::Exit(function) | Self::Return { function, .. } => Some(function),
        }
    }

    pub const fn entry(self) -> Option<&'static str> {
        match self {
            Self::Return { entry, .. } => entry,
            _ => None,
        }
    }
}

/// Without these no program can tell a namespace or read a header.
pub const PACKET: &[&str] = &[
    "sk_buff.head",
    "sk_buff.data",
    "sk_buff.network_header",
    "sk_buff.protocol",
    "sk_buff.dev",
    "net_device.nd_net",
    "net_device.ifindex",
    "net.ns.inum",
];
const SOCKET: &[&str] = &[
    "net.ns.inum",
    "sock.__sk_common.skc_net",
    "sock.__sk_common.skc_family",
    "sock.__sk_common.skc_num",
    "sock.__sk_common.skc_dport",
];
const NEIGHBOUR: &[&str] = &[
    "net.ns.inum",
    "net_device.nd_net",
    "neighbour.dev",
    "neighbour.nud_state",
    "neighbour.primary_key",
    "neighbour.tbl",
    "neigh_table.family",
];

const NETFILTER: &[&str] = &[
    "net.ns.inum",
    "nf_hook_state.hook",
    "nf_hook_state.pf",
    "nf_hook_state.in",
    "nf_hook_state.net",
];

const fn tracepoint(
    id: HookId,
    name: &'static str,
    needs: &'static [&'static str],
    loses: &'static str,
) -> HookSpec {
    HookSpec {
        id,
        program: name,
        attach: Attach::Tracepoint(name),
        needs,
        loses,
        tier: 0,
        adds: "",
        instead_of: None,
    }
}

/// A function inside a netfilter hook that may refuse a packet.
const fn refuser(
    id: HookId,
    program: &'static str,
    function: &'static str,
    entry: Option<&'static str>,
    adds: &'static str,
    loses: &'static str,
) -> HookSpec {
    HookSpec {
        id,
        program,
        attach: Attach::Return { function, entry },
        needs: NETFILTER,
        loses,
        tier: 1,
        adds,
        instead_of: None,
    }
}

/// All of them, in the order they are attached: sightings before drops, so that no drop comes without what led to it.
/// Tiers 1 and 2 come last; they only sharpen what the drops say.
pub const HOOKS: &[HookSpec] = &[
    HookSpec {
        id: HookId::TcIngress,
        program: "netdiag_ingress",
        attach: Attach::Tc(Pass::Received),
        needs: &[],
        loses: "packets that arrive at the watched interfaces, and DNS answers",
        tier: 0,
        adds: "",
        instead_of: None,
    },
    HookSpec {
        id: HookId::TcEgress,
        program: "netdiag_egress",
        attach: Attach::Tc(Pass::Sent),
        needs: &[],
        loses: "packets that leave by the watched interfaces, and DNS questions",
        tier: 0,
        adds: "",
        instead_of: None,
    },
    tracepoint(
        HookId::NetDevStartXmit,
        "net_dev_start_xmit",
        PACKET,
        "proof that a packet left by an interface, and its addresses after NAT",
    ),
    tracepoint(
        HookId::NetifReceiveSkb,
        "netif_receive_skb",
        PACKET,
        "packets that arrive at interfaces that are not watched by TC (bridges, inside pods)",
    ),
    tracepoint(
        HookId::KfreeSkb,
        "kfree_skb",
        PACKET,
        "drops: where and why the kernel gave a packet up",
    ),
    tracepoint(
        HookId::IcmpSend,
        "icmp_send",
        PACKET,
        "ICMP errors this node sends: REJECT tells from DROP",
    ),
    tracepoint(
        HookId::TcpSendReset,
        "tcp_send_reset",
        PACKET,
        "resets sent by this node's own TCP",
    ),
    tracepoint(
        HookId::TcpReceiveReset,
        "tcp_receive_reset",
        SOCKET,
        "resets received by sockets on this node",
    ),
    tracepoint(
        HookId::TcpRetransmitSkb,
        "tcp_retransmit_skb",
        SOCKET,
        "retransmissions by sockets on this node before they reach an interface",
    ),
    tracepoint(
        HookId::InetSockSetState,
        "inet_sock_set_state",
        SOCKET,
        "states of TCP sockets on this node",
    ),
    tracepoint(
        HookId::InetSkErrorReport,
        "inet_sk_error_report",
        SOCKET,
        "errors that reached the application",
    ),
    tracepoint(
        HookId::TcpBadCsum,
        "tcp_bad_csum",
        PACKET,
        "TCP checksum errors on kernels without drop reasons",
    ),
    tracepoint(
        HookId::NeighUpdate,
        "neigh_update",
        NEIGHBOUR,
        "next hops that become known or unknown",
    ),
    tracepoint(
        HookId::NeighTimerHandler,
        "neigh_timer_handler",
        NEIGHBOUR,
        "next hops that do not answer",
    ),
    tracepoint(
        HookId::NeighEventSendDone,
        "neigh_event_send_done",
        NEIGHBOUR,
        "the moment a next hop is first asked for",
    ),
    tracepoint(
        HookId::FibTableLookup,
        "fib_table_lookup",
        &["flowi4.saddr", "flowi4.daddr"],
        "failed IPv4 routing lookups that never made a packet",
    ),
    tracepoint(
        HookId::Fib6TableLookup,
        "fib6_table_lookup",
        &["flowi6.saddr", "flowi6.daddr", "fib6_result.fib6_type"],
        "failed IPv6 routing lookups that never made a packet",
    ),
    tracepoint(
        HookId::UdpFailQueueRcvSkb,
        "udp_fail_queue_rcv_skb",
        SOCKET,
        "datagrams refused by a full socket buffer on kernels without drop reasons",
    ),
    HookSpec {
        id: HookId::NfHookSlowExit,
        program: "nf_hook_slow_exit",
        attach: Attach::Exit("nf_hook_slow"),
        needs: NETFILTER,
        loses: "the exact netfilter hook of a drop: the stack of the drop, or its route, says which it probably was",
        tier: 2,
        adds: "the hook's number and family in the place of those read from a stack",
        instead_of: None,
    },
    HookSpec {
        id: HookId::NfHookSlowReturn,
        program: "nf_hook_slow_return",
        attach: Attach::Return {
            function: "nf_hook_slow",
            entry: Some("nf_hook_slow_entry"),
        },
        needs: NETFILTER,
        loses: "the exact netfilter hook of a drop: the stack of the drop, or its route, says which it probably was",
        tier: 1,
        adds: "the hook's number and family in the place of those read from a stack",
        instead_of: Some(HookId::NfHookSlowExit),
    },
    refuser(
        HookId::NftDoChain,
        "nft_do_chain",
        "nft_do_chain",
        Some("nft_do_chain_entry"),
        "the nft table and base chain of a drop, in the place of counters and elimination",
        "which nft table refused a packet",
    ),
    refuser(
        HookId::IptDoTable,
        "ipt_do_table",
        "ipt_do_table",
        Some("ipt_do_table_entry"),
        "the xtables table of an IPv4 drop, in the place of counters and elimination",
        "which table of iptables-legacy refused a packet",
    ),
    refuser(
        HookId::Ip6tDoTable,
        "ip6t_do_table",
        "ip6t_do_table",
        Some("ip6t_do_table_entry"),
        "the xtables table of an IPv6 drop, in the place of counters and elimination",
        "which table of ip6tables-legacy refused a packet",
    ),
    refuser(
        HookId::NfConntrackIn,
        "nf_conntrack_in",
        "nf_conntrack_in",
        None,
        "that conntrack had no entry for this very packet; counters say it of the namespace only",
        "a full conntrack table, packet by packet",
    ),
    refuser(
        HookId::NfConntrackConfirm,
        "nf_conntrack_confirm",
        "__nf_conntrack_confirm",
        None,
        "that the entry of this very packet could not be inserted; counters say it of the namespace only",
        "a failed insertion into the conntrack table, packet by packet",
    ),
    refuser(
        HookId::NfNatInetFn,
        "nf_nat_inet_fn",
        "nf_nat_inet_fn",
        None,
        "that NAT could not be set up for this packet (nf_nat_setup_info and the null binding have no other caller with one)",
        "a failed translation, packet by packet",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_hook_of_the_wire_is_registered_once() {
        let registered: Vec<_> = HOOKS.iter().map(|hook| hook.id).collect();
        let unique: BTreeSet<_> = registered.iter().copied().collect();
        assert_eq!(registered.len(), unique.len());
        assert_eq!(unique, HookId::ALL.iter().copied().collect());
    }

    #[test]
    fn every_needed_member_is_one_the_wire_carries() {
        let mut paths = BTreeSet::new();
        netdiag_common::offsets::Offsets::ABSENT.each(|path, _| {
            paths.insert(path);
        });
        for hook in HOOKS {
            for need in hook.needs {
                assert!(paths.contains(need), "{}: {need}", hook.program);
            }
        }
    }

    #[test]
    fn what_goes_beyond_tracepoints_says_what_it_adds() {
        for hook in HOOKS {
            assert_eq!(hook.tier == 0, hook.adds.is_empty(), "{}", hook.program);
            assert_eq!(hook.tier == 0, hook.attach.function().is_none());
        }
    }
}
