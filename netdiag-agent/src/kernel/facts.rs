//! What the running kernel's BTF says: the load-time settings of the programs, and the names of drop reasons.
//!
//! Pure: takes the bytes, does not read them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use netdiag_common::offsets::{ABSENT, Offsets};
use netdiag_common::settings::Settings;

use super::btf::{Btf, BtfError};
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
}

/// Resolves all of it. `module` is the BTF of `nf_conntrack` where that is a module with types of its own.
pub fn resolve(vmlinux: &[u8], module: Option<&[u8]>) -> Result<Facts, BtfError> {
    let mut btf = Btf::parse(vmlinux)?;
    if let Some(module) = module
        && btf.size("nf_conn").is_none()
    {
        btf.add_module(module)?;
    }
    let offsets = Offsets::resolve(|path| btf.offset(path));
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
            Attach::Tc(_) => None,
        })
        .collect();
    let args = |name: &str| tracepoints.get(name).copied().unwrap_or(2);
    Ok(Facts {
        settings: Settings {
            offsets,
            tuplehash_size: conntrack_size(&btf, &offsets),
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
    })
}

/// 0 unless every member needed to read a conntrack entry is there.
fn conntrack_size(btf: &Btf<'_>, offsets: &Offsets) -> u32 {
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
    btf.size("nf_conntrack_tuple_hash").unwrap_or(0)
}
