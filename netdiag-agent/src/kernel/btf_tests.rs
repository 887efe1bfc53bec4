use proptest::prelude::*;

use super::{Btf, BtfError};

/// Writes BTF of this machine's byte order.
#[derive(Default)]
struct Writer {
    types: Vec<u8>,
    strings: Vec<u8>,
    strings_from: u32,
}

impl Writer {
    fn new() -> Self {
        Self {
            strings: vec![0],
            ..Self::default()
        }
    }

    /// A module's blob numbers its strings on from those of the base.
    fn after(base: &Self) -> Self {
        Self {
            strings: vec![0],
            strings_from: base.strings.len() as u32,
            ..Self::default()
        }
    }

    fn name(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let at = self.strings.len() as u32;
        self.strings.extend_from_slice(text.as_bytes());
        self.strings.push(0);
        self.strings_from + at
    }

    fn words(&mut self, words: &[u32]) {
        for word in words {
            self.types.extend_from_slice(&word.to_ne_bytes());
        }
    }

    fn ty(&mut self, name: &str, kind: u32, vlen: u32, size_or_type: u32) {
        let name = self.name(name);
        self.words(&[name, kind << 24 | vlen, size_or_type]);
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&0xeb9f_u16.to_ne_bytes());
        out.extend_from_slice(&[1, 0]);
        for word in [
            24,
            0,
            self.types.len() as u32,
            self.types.len() as u32,
            self.strings.len() as u32,
        ] {
            out.extend_from_slice(&word.to_ne_bytes());
        }
        out.extend_from_slice(&self.types);
        out.extend_from_slice(&self.strings);
        out
    }
}

/// `int` (1), anonymous union (2), `sk_buff` with it (3), typedef `skb_t` of it (4), `outer` embedding the typedef (5),
/// enum (6), func proto of 3 (7), pointer (8), `btf_trace_kfree_skb` (9).
fn sample() -> Writer {
    let mut w = Writer::new();
    w.ty("int", 1, 0, 4);
    w.words(&[32]);
    w.ty("", 5, 2, 8);
    let dev = w.name("dev");
    let scratch = w.name("dev_scratch");
    w.words(&[dev, 1, 0, scratch, 1, 0]);
    w.ty("sk_buff", 4, 3, 32);
    let (head, len) = (w.name("head"), w.name("len"));
    w.words(&[head, 1, 0, 0, 2, 64, len, 1, 128]);
    w.ty("skb_t", 8, 0, 3);
    w.ty("outer", 4, 1, 64);
    let skb = w.name("skb");
    w.words(&[skb, 4, 256]);
    w.ty("skb_drop_reason", 6, 2, 4);
    let (a, b) = (
        w.name("SKB_NOT_DROPPED_YET"),
        w.name("SKB_DROP_REASON_NO_SOCKET"),
    );
    w.words(&[a, 0, b, 3]);
    w.ty("", 13, 4, 0);
    w.words(&[0, 0, 0, 0, 0, 0, 0, 0]);
    w.ty("", 2, 0, 7);
    w.ty("btf_trace_kfree_skb", 8, 0, 8);
    w
}

#[test]
fn members_are_found_through_anonymous_unions_typedefs_and_embedded_structs() {
    let bytes = sample().bytes();
    let btf = Btf::parse(&bytes).expect("sample is valid");
    assert_eq!(btf.offset("sk_buff.len"), Some(16));
    assert_eq!(btf.offset("sk_buff.dev"), Some(8));
    assert_eq!(btf.offset("outer.skb.dev_scratch"), Some(40));
    assert_eq!(btf.offset("sk_buff.nothing"), None);
    assert_eq!(btf.offset("nothing.dev"), None);
    assert_eq!(btf.size("outer"), Some(64));
}

#[test]
fn enum_names_and_tracepoint_arguments() {
    let bytes = sample().bytes();
    let btf = Btf::parse(&bytes).expect("sample is valid");
    assert_eq!(
        btf.enum_values("skb_drop_reason"),
        [(0, "SKB_NOT_DROPPED_YET"), (3, "SKB_DROP_REASON_NO_SOCKET")]
    );
    assert_eq!(btf.tracepoint_args("kfree_skb"), Some(3));
    assert_eq!(btf.tracepoint_args("icmp_send"), None);
}

#[test]
fn a_module_refers_to_types_and_strings_of_the_kernel() {
    let base = sample();
    let mut module = Writer::after(&base);
    let status = module.name("status");
    module.ty("nf_conn", 4, 2, 40);
    // "head" is a string of the base, type 3 its sk_buff.
    let head = base
        .strings
        .windows(5)
        .position(|w| w == b"head\0")
        .expect("in sample") as u32;
    module.words(&[status, 1, 0, head, 3, 64]);
    let (base, module) = (base.bytes(), module.bytes());
    let mut btf = Btf::parse(&base).expect("sample is valid");
    let look = |btf: &Btf<'_>| (btf.offset("nf_conn.head.dev"), btf.offset("nf_conn.status"));
    for _ in 0..2 {
        let seen = btf.with_module(&module, look).expect("module is valid");
        assert_eq!(seen, (Some(16), Some(0)));
        assert_eq!(look(&btf), (None, None), "gone with its module");
    }
}

#[test]
fn a_struct_that_contains_itself_ends() {
    let mut w = Writer::new();
    w.ty("", 4, 1, 8);
    w.words(&[0, 1, 0]);
    w.ty("loop_t", 8, 0, 2);
    w.ty("top", 4, 2, 8);
    let x = w.name("x");
    w.words(&[0, 1, 0, x, 2, 0]);
    let bytes = w.bytes();
    let btf = Btf::parse(&bytes).expect("well-formed");
    assert_eq!(btf.offset("top.deep"), None);
    assert_eq!(btf.offset("top.x.deep"), None);
}

#[test]
fn foreign_bytes_are_refused() {
    assert_eq!(Btf::parse(b"").err(), Some(BtfError::Header));
    assert_eq!(
        Btf::parse(b"\x7fELF and so on, and so on").err(),
        Some(BtfError::Header)
    );
}

proptest! {
    #[test]
    fn damaged_bytes_never_panic(at in 0usize..600, value: u8, cut in 0usize..600) {
        let mut bytes = sample().bytes();
        let len = bytes.len();
        bytes[at % len] = value;
        bytes.truncate(len - cut % len);
        if let Ok(btf) = Btf::parse(&bytes) {
            let _ = btf.offset("outer.skb.dev");
            let _ = btf.enum_values("skb_drop_reason");
            let _ = btf.tracepoint_args("kfree_skb");
        }
    }

    #[test]
    fn random_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        if bytes.len() > 24 {
            bytes[..2].copy_from_slice(&0xeb9f_u16.to_ne_bytes());
            bytes[4..8].copy_from_slice(&24u32.to_ne_bytes());
        }
        if let Ok(btf) = Btf::parse(&bytes) {
            let _ = btf.offset("a.b");
        }
    }
}
