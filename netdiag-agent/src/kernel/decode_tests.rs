use netdiag_common::event::{
    BY_NFT, DNS_BYTES, DnsRecord, FLAG_CT, FLAG_DF, FLAG_DST, FLAG_TUNNEL, FLAG_TUPLE, NF_NAME,
    NetfilterRecord, Record, STACK_DEPTH, StackRecord, TAIL_DNS, TAIL_NETFILTER, TAIL_NONE,
    TAIL_STACK,
};
use netdiag_common::tuple::{Tuple as WireTuple, mapped};
use proptest::prelude::*;

use super::{Names, decode};
use crate::event::{Detail, HookId, Netns, NfFamily, NfHook, Pass, Refuser};
use crate::kernel::symbols::Symbols;

const KALLSYMS: &str = "800 t a_function_of_a_module\n1000 t bpf_prog_0\n1800 T bpf_trace_run3\n2000 T sk_skb_reason_drop\n3000 t nft_do_chain\n4000 T nf_hook_slow\n\
    5000 T ip_forward\n";

fn names() -> Names {
    let reasons = [(3, "NO_SOCKET".into()), (12, "NETFILTER_DROP".into())].into();
    Names::new(reasons, Symbols::parse(KALLSYMS.as_bytes()))
}

fn record(hook: HookId) -> Record {
    let packet = WireTuple {
        saddr: mapped([10, 244, 0, 2]),
        daddr: mapped([198, 51, 100, 10]),
        sport: 40000,
        dport: 443,
        proto: 6,
        ..WireTuple::ZERO
    };
    Record {
        ktime: 7,
        skb: 0xabc,
        location: 0x3010,
        dst_input: 0x5000,
        dst_output: 0,
        ct_status: 8,
        netns: 9,
        ifindex: 2,
        iif: 3,
        value: 12,
        len: 60,
        mark: 1,
        tcp_seq: 100,
        tcp_ack: 0,
        cpu: 1,
        hook: hook as u16,
        flags: FLAG_TUPLE | FLAG_CT | FLAG_DST | FLAG_DF,
        ip_id: 5,
        dst_error: -113,
        ttl: 64,
        tcp_flags: 2,
        icmp_type: 0,
        icmp_code: 0,
        ct_info: 4,
        ct_tcp_state: 1,
        tail: TAIL_NONE,
        _pad: 0,
        ct_zone: 3,
        _pad2: [0; 2],
        dst_ifindex: 2,
        ifname: *b"eth0\0\0\0\0\0\0\0\0\0\0\0\0",
        packet,
        inner: WireTuple::ZERO,
        ct_orig: packet,
        ct_reply: packet.reversed(),
    }
}

fn bytes<T: Copy>(value: &T) -> Vec<u8> {
    // SAFETY: the wire structs have no implicit padding.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast::<u8>(), size_of::<T>()) }
        .to_vec()
}

#[test]
fn a_drop_is_named_in_full() {
    let mut tail = StackRecord {
        record: record(HookId::KfreeSkb),
        stack: [0; STACK_DEPTH],
    };
    tail.record.tail = TAIL_STACK;
    tail.stack[..4].copy_from_slice(&[0x1001, 0x2002, 0x4004, 0x5005]);
    let event = decode(&bytes(&tail), &mut names());
    let Detail::Dropped(drop) = &event.detail else {
        panic!("{event:?}")
    };
    assert_eq!(drop.reason.as_deref(), Some("NETFILTER_DROP"));
    assert_eq!(drop.location.as_deref(), Some("nft_do_chain"));
    assert_eq!(
        drop.stack.iter().map(AsRef::as_ref).collect::<Vec<_>>(),
        ["nf_hook_slow", "ip_forward"]
    );
    let route = drop.route.as_ref().expect("the packet had a route");
    assert_eq!(
        (route.input.as_deref(), route.error),
        (Some("ip_forward"), 113)
    );
    let packet = event.packet.expect("has a tuple");
    assert_eq!(
        packet.tuple.to_string(),
        "tcp 10.244.0.2:40000 > 198.51.100.10:443"
    );
    assert!(packet.tcp.expect("TCP").flags.is_syn());
    let conntrack = event.conntrack.expect("has conntrack");
    assert!(conntrack.reply && conntrack.related);
    assert_eq!(event.place.ifname.as_deref(), Some("eth0"));
}

#[test]
fn the_stack_begins_behind_our_own_program_whatever_its_frames_are_called() {
    let mut tail = StackRecord {
        record: record(HookId::KfreeSkb),
        stack: [0; STACK_DEPTH],
    };
    tail.record.tail = TAIL_STACK;
    tail.stack[..5].copy_from_slice(&[0x801, 0x1801, 0x2002, 0x4004, 0x5005]);
    let Detail::Dropped(drop) = decode(&bytes(&tail), &mut names()).detail else {
        panic!("a drop is due")
    };
    assert_eq!(
        drop.stack.iter().map(AsRef::as_ref).collect::<Vec<_>>(),
        ["nf_hook_slow", "ip_forward"]
    );
}

#[test]
fn a_tunnels_connection_is_not_that_of_the_flow_in_it() {
    let mut carried = record(HookId::KfreeSkb);
    assert!(decode(&bytes(&carried), &mut names()).conntrack.is_some());
    carried.flags |= FLAG_TUNNEL;
    assert_eq!(decode(&bytes(&carried), &mut names()).conntrack, None);
}

#[test]
fn a_reason_without_a_name_is_still_told_apart() {
    let mut other = record(HookId::KfreeSkb);
    other.value = 0x30001;
    let Detail::Dropped(drop) = decode(&bytes(&other), &mut names()).detail else {
        panic!()
    };
    assert_eq!(drop.reason.as_deref(), Some("REASON_196609"));
    let mut names = Names::default();
    let Detail::Dropped(drop) = decode(&bytes(&other), &mut names).detail else {
        panic!()
    };
    assert_eq!(drop.reason, None, "a kernel without reasons gives none");
}

#[test]
fn a_dns_length_beyond_the_buffer_is_cut() {
    let mut dns = DnsRecord {
        record: record(HookId::TcIngress),
        payload_len: 9999,
        _pad: 0,
        payload: [7; DNS_BYTES],
    };
    dns.record.tail = TAIL_DNS;
    let Detail::Dns { pass, message } = decode(&bytes(&dns), &mut names()).detail else {
        panic!()
    };
    assert_eq!((pass, message.len()), (Pass::Received, DNS_BYTES));
}

#[test]
fn an_interface_tells_the_namespace_the_program_could_not_read() {
    let mut blind = record(HookId::TcIngress);
    blind.netns = 0;
    blind.ifname = [0; 16];
    let mut names = names();
    names.interfaces.insert(2, (Netns(77), "vetha".into()));
    let event = decode(&bytes(&blind), &mut names);
    assert_eq!(event.place.netns, Some(Netns(77)));
    assert_eq!(event.place.ifname.as_deref(), Some("vetha"));
}

#[test]
fn a_short_or_foreign_entry_is_unknown() {
    assert_eq!(decode(b"short", &mut names()).detail, Detail::Unknown);
    let mut foreign = record(HookId::TcIngress);
    foreign.hook = 999;
    let event = decode(&bytes(&foreign), &mut names());
    assert_eq!((event.hook, event.detail), (None, Detail::Unknown));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..600), hook in 0u16..20, tail in 0u8..4) {
        // Offsets of `hook` and `tail`, so that the interesting branches are reached.
        if bytes.len() > 96 {
            bytes[80..82].copy_from_slice(&hook.to_ne_bytes());
            bytes[94] = tail;
        }
        let _ = decode(&bytes, &mut names());
    }
}

#[test]
fn a_refusal_names_its_table_and_the_packet_that_is_gone() {
    let mut table = [0; NF_NAME];
    table[..6].copy_from_slice(b"corpfw");
    let refused = NetfilterRecord {
        record: Record {
            tail: TAIL_NETFILTER,
            skb: 0,
            location: 0xabc,
            ttl: 0,
            len: 0,
            ..record(HookId::NfHookSlowExit)
        },
        by: BY_NFT,
        hook: 2,
        pf: 2,
        table_family: 1,
        _pad: 0,
        table,
        // Cut by the programs, so without an end.
        chain: [b'x'; NF_NAME],
    };
    let event = decode(&bytes(&refused), &mut names());
    let packet = event.packet.expect("the tuple was noted");
    assert_eq!((packet.skb, packet.tcp), (Some(0xabc), None));
    let Detail::Refused(refusal) = event.detail else {
        panic!("{:?}", event.detail);
    };
    assert_eq!(
        (refusal.hook, refusal.by, refusal.table_family),
        (NfHook::FORWARD, Refuser::Nft, Some(NfFamily::INET))
    );
    assert_eq!(refusal.table.as_deref(), Some("corpfw"));
    assert_eq!(refusal.chain.map(|chain| chain.len()), Some(NF_NAME));
}
