//! What TCP on this node does with a connection.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use netdiag_common::hook::HookId;

use super::{connection, packet, pointer};
use crate::emit::Report;
use crate::maps::setting;
use crate::skb::field;
use crate::sock::Direction;

/// The packet is the one answered with a RST. A RST sent because the application closed has no such packet: then the
/// socket says which tuple it would have had.
#[btf_tracepoint(function = "tcp_send_reset")]
pub fn tcp_send_reset(ctx: BtfTracePointContext) -> i32 {
    let (sk, skb) = (pointer(&ctx, 0), pointer(&ctx, 1));
    if skb != 0 {
        packet(HookId::TcpSendReset, skb, Report::default())
    } else if sk != 0 {
        connection(HookId::TcpSendReset, sk, Direction::Received, 0)
    } else {
        0
    }
}

#[btf_tracepoint(function = "tcp_receive_reset")]
pub fn tcp_receive_reset(ctx: BtfTracePointContext) -> i32 {
    connection(
        HookId::TcpReceiveReset,
        pointer(&ctx, 0),
        Direction::Received,
        0,
    )
}

/// The skb of this tracepoint has no IP header yet, so the socket is asked.
#[btf_tracepoint(function = "tcp_retransmit_skb")]
pub fn tcp_retransmit_skb(ctx: BtfTracePointContext) -> i32 {
    connection(
        HookId::TcpRetransmitSkb,
        pointer(&ctx, 0),
        Direction::Sent,
        0,
    )
}

#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn inet_sock_set_state(ctx: BtfTracePointContext) -> i32 {
    let value = (ctx.arg::<u32>(1) & 0xff) << 16 | (ctx.arg::<u32>(2) & 0xff);
    connection(
        HookId::InetSockSetState,
        pointer(&ctx, 0),
        Direction::Sent,
        value,
    )
}

#[btf_tracepoint(function = "inet_sk_error_report")]
pub fn inet_sk_error_report(ctx: BtfTracePointContext) -> i32 {
    let sk = pointer(&ctx, 0);
    let errno: u32 = field(sk, setting!(offsets.sock_err));
    connection(HookId::InetSkErrorReport, sk, Direction::Sent, errno)
}

#[btf_tracepoint(function = "tcp_bad_csum")]
pub fn tcp_bad_csum(ctx: BtfTracePointContext) -> i32 {
    packet(HookId::TcpBadCsum, pointer(&ctx, 0), Report::default())
}
