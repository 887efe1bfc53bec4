//! From what can be done to what will be done, and what will stay unseen. Pure.

use thiserror::Error;

use super::capability::Capabilities;
use super::hooks::{Attach, HOOKS, HookSpec, PACKET};
use crate::inventory::BlindSpot;

/// How TC programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcMode {
    /// A link that ends with the process.
    Tcx,
    /// A filter that has to be removed.
    Clsact,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub tc: TcMode,
    pub tracepoints: Vec<&'static HookSpec>,
    pub blind: Vec<BlindSpot>,
}

/// Why this node cannot be observed at all.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Unobservable {
    #[error("missing privileges: {} (run as root, or grant them)", .0.join(", "))]
    Privileges(Vec<&'static str>),
    #[error(
        "the kernel has no BTF (/sys/kernel/btf/vmlinux): it must be built with CONFIG_DEBUG_INFO_BTF"
    )]
    Btf,
    #[error("the kernel has no BPF ring buffer: Linux 5.8 or newer is needed")]
    RingBuffer,
}

/// Decides. Whatever is missing beyond the essentials becomes a blind spot.
pub fn plan(capabilities: &Capabilities) -> Result<Plan, Unobservable> {
    if !capabilities.missing_privileges.is_empty() {
        return Err(Unobservable::Privileges(
            capabilities.missing_privileges.clone(),
        ));
    }
    if !capabilities.btf {
        return Err(Unobservable::Btf);
    }
    if !capabilities.ring_buffer {
        return Err(Unobservable::RingBuffer);
    }
    let mut blind = Vec::new();
    let mut tracepoints = Vec::new();
    for hook in HOOKS {
        match missing(hook, capabilities) {
            Some(why) => blind.push(BlindSpot {
                what: hook.id.name().to_owned(),
                why,
            }),
            None if matches!(hook.attach, Attach::Tracepoint(_)) => tracepoints.push(hook),
            None => {}
        }
    }
    blind.extend(poorer(capabilities));
    let tc = if capabilities.tcx {
        TcMode::Tcx
    } else {
        TcMode::Clsact
    };
    Ok(Plan {
        tc,
        tracepoints,
        blind,
    })
}

/// Why a hook cannot be used.
fn missing(hook: &HookSpec, capabilities: &Capabilities) -> Option<String> {
    let Attach::Tracepoint(name) = hook.attach else {
        return None;
    };
    if !capabilities.tracepoints.contains_key(name) {
        return Some(format!(
            "this kernel has no tracepoint {name}; not seen: {}",
            hook.loses
        ));
    }
    let absent = hook
        .needs
        .iter()
        .find(|need| capabilities.absent.contains(need))?;
    Some(format!(
        "this kernel has no {absent}; not seen: {}",
        hook.loses
    ))
}

/// What is attached but says less than it could.
fn poorer(capabilities: &Capabilities) -> impl Iterator<Item = BlindSpot> {
    let headers = PACKET.iter().any(|need| capabilities.absent.contains(need));
    [
        (!capabilities.drop_reasons, "drop reasons", "this kernel gives none (Linux 5.17 and newer do): a drop is known by the function that made it"),
        (!capabilities.conntrack, "conntrack", "no struct nf_conn in the kernel's type information: NAT is followed by TCP sequence numbers only"),
        (!capabilities.symbols, "kernel symbols", "/proc/kallsyms shows no addresses (kptr_restrict, CAP_SYSLOG): the netfilter hook of a drop is unknown"),
        (!capabilities.tc_kernel_read || headers, "conntrack at TC", "TC programs may not read kernel memory here: NAT is seen only by the tracepoints"),
    ]
    .into_iter()
    .filter(|(missing, ..)| *missing)
    .map(|(_, what, why)| BlindSpot { what: what.to_owned(), why: why.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Capabilities {
        let tracepoints = HOOKS.iter().filter_map(|hook| match hook.attach {
            Attach::Tracepoint(name) => Some((name, 3)),
            Attach::Tc(_) => None,
        });
        Capabilities {
            btf: true,
            ring_buffer: true,
            tcx: true,
            tc_kernel_read: true,
            symbols: true,
            drop_reasons: true,
            conntrack: true,
            tracepoints: tracepoints.collect(),
            ..Capabilities::default()
        }
    }

    #[test]
    fn a_kernel_with_everything_has_no_blind_spot() {
        let plan = plan(&full()).expect("observable");
        assert_eq!((plan.tc, plan.blind.len()), (TcMode::Tcx, 0));
        assert_eq!(plan.tracepoints.len(), HOOKS.len() - 2);
    }

    #[test]
    fn linux_5_10_loses_three_tracepoints_reasons_and_tcx_but_is_observed() {
        let mut old = full();
        for name in ["icmp_send", "tcp_bad_csum", "inet_sk_error_report"] {
            old.tracepoints.remove(name);
        }
        (old.tcx, old.drop_reasons, old.tc_kernel_read) = (false, false, false);
        let plan = plan(&old).expect("observable");
        assert_eq!(plan.tc, TcMode::Clsact);
        let blind: Vec<_> = plan.blind.iter().map(|spot| spot.what.as_str()).collect();
        assert_eq!(
            blind,
            [
                "tp_btf:icmp_send",
                "tp_btf:inet_sk_error_report",
                "tp_btf:tcp_bad_csum",
                "drop reasons",
                "conntrack at TC"
            ]
        );
    }

    #[test]
    fn a_missing_struct_member_costs_the_hooks_that_need_it() {
        let mut odd = full();
        odd.absent.push("neighbour.dev");
        let plan = plan(&odd).expect("observable");
        assert_eq!(plan.blind.len(), 3);
        assert!(
            plan.blind
                .iter()
                .all(|spot| spot.what.starts_with("tp_btf:neigh_"))
        );
    }

    #[test]
    fn the_essentials_are_essential() {
        let privileges = Capabilities {
            missing_privileges: vec!["CAP_BPF"],
            ..full()
        };
        assert_eq!(
            plan(&privileges),
            Err(Unobservable::Privileges(vec!["CAP_BPF"]))
        );
        assert_eq!(
            plan(&Capabilities {
                btf: false,
                ..full()
            }),
            Err(Unobservable::Btf)
        );
        assert_eq!(
            plan(&Capabilities {
                ring_buffer: false,
                ..full()
            }),
            Err(Unobservable::RingBuffer)
        );
    }
}
