//! What the running kernel's BTF says: the load-time settings of the programs, and the names of drop reasons.
//!
//! Pure: takes the bytes, does not read them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use netdiag_common::offsets::{ABSENT, Offsets};
use netdiag_common::settings::Settings;

use super::btf::{Btf, BtfError};
use super::fexit;
use super::hooks::{Attach, HOOKS};

const REASON_PREFIX: &str = "SKB_DROP_REASON_";

/// Everything taken from BTF; the BTF itself is dropped after this.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Without what depends on the trace: addresses and targets.
    pub settings: Settings,
    /// Drop reasons without their prefix; empty on kernels without.
    pub reasons: HashMap<u32, Arc<str>>,
    /// Arguments of each tracepoint we have a program for and this kernel has.
    pub tracepoints: BTreeMap<&'static str, u32>,
    /// Struct members this kernel has not.
    pub absent: Vec<&'static str>,
    /// Type id of the function on which fexit can be tried.
    pub fexit_test: Option<u32>,
}

/// Resolves all of it. `modules` are the BTF of modules, each on top of `vmlinux`; one that cannot be read tells nothing.
pub fn resolve(vmlinux: &[u8], modules: &[Vec<u8>]) -> Result<Facts, BtfError> {
    let mut btf = Btf::parse(vmlinux)?;
    let mut found = HashMap::new();
    let mut tuplehash_size = 0;
    note_offsets(&btf, &mut found);
    for module in modules {
        let _ = btf.with_module(module, |btf| {
            note_offsets(btf, &mut found);
            tuplehash_size = tuplehash_size.max(btf.size("nf_conntrack_tuple_hash").unwrap_or(0));
        });
    }
    tuplehash_size = btf
        .size("nf_conntrack_tuple_hash")
        .unwrap_or(tuplehash_size);
    let offsets = Offsets::resolve(|path| found.get(path).copied());
    let mut absent = Vec::new();
    offsets.each(|path, offset| {
        if offset == ABSENT {
            absent.push(path);
        }
    });
    let values = btf.enum_values("skb_drop_reason");
    let number = |wanted: &str| {
        let found = values
            .iter()
            .find(|(_, name)| name.strip_prefix(REASON_PREFIX) == Some(wanted));
        found.map_or(u32::MAX, |(value, _)| *value)
    };
    let tracepoints: BTreeMap<&'static str, u32> = HOOKS
        .iter()
        .filter_map(|hook| match hook.attach {
            Attach::Tracepoint(name) => Some((name, btf.tracepoint_args(name)?)),
            _ => None,
        })
        .collect();
    let args = |name: &str| tracepoints.get(name).copied().unwrap_or(2);
    Ok(Facts {
        settings: Settings {
            offsets,
            tuplehash_size: conntrack_size(tuplehash_size, &offsets),
            kfree_skb_args: args("kfree_skb"),
            udp_fail_args: args("udp_fail_queue_rcv_skb"),
            reason_not_specified: number("NOT_SPECIFIED"),
            reason_netfilter_drop: number("NETFILTER_DROP"),
            ..Settings::EMPTY
        },
        reasons: values
            .iter()
            .map(|(value, name)| {
                (
                    *value,
                    Arc::from(name.strip_prefix(REASON_PREFIX).unwrap_or(name)),
                )
            })
            .collect(),
        tracepoints,
        absent,
        fexit_test: btf
            .function("nf_hook_slow")
            .and(btf.function(fexit::TEST_FUNCTION)),
    })
}

/// Adds the offsets this BTF knows and none before it did.
fn note_offsets(btf: &Btf<'_>, found: &mut HashMap<&'static str, u32>) {
    Offsets::ABSENT.each(|path, _| {
        if !found.contains_key(path)
            && let Some(offset) = btf.offset(path)
        {
            found.insert(path, offset);
        }
    });
}

/// 0 unless every member needed to read a conntrack entry is there.
fn conntrack_size(size: u32, offsets: &Offsets) -> u32 {
    let needed = [
        offsets.skb_nfct,
        offsets.ct_tuplehash,
        offsets.tuplehash_tuple,
        offsets.tuple_saddr,
        offsets.tuple_daddr,
    ];
    if needed.contains(&ABSENT) {
        return 0;
    }
    size
}
