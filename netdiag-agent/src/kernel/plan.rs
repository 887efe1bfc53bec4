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
    /// What Tiers 1 and 2 add. That a kernel has none of them blinds nobody.
    pub probes: Vec<&'static HookSpec>,
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
    for hook in HOOKS.iter().filter(|hook| hook.tier == 0) {
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
        probes: probes(capabilities),
        blind,
    })
}

/// What refuses a packet is reported by the hook it happens in: without that one, nothing is.
fn probes(capabilities: &Capabilities) -> Vec<&'static HookSpec> {
    let mut chosen: Vec<&'static HookSpec> = Vec::new();
    for hook in HOOKS {
        let replaced = hook
            .instead_of
            .is_some_and(|better| chosen.iter().any(|hook| hook.id == better));
        if !replaced && usable(hook, capabilities) {
            chosen.push(hook);
        }
    }
    let reported = |hook: &&HookSpec| hook.attach.function() == Some("nf_hook_slow");
    if chosen.iter().any(reported) {
        chosen
    } else {
        Vec::new()
    }
}

/// A probe this kernel can have now.
pub fn usable(hook: &HookSpec, capabilities: &Capabilities) -> bool {
    let able = match hook.attach {
        Attach::Tc(_) | Attach::Tracepoint(_) => false,
        Attach::Exit(_) => capabilities.fexit,
        Attach::Return { .. } => capabilities.kprobes,
    };
    let there = hook
        .attach
        .function()
        .is_some_and(|function| !capabilities.functions_missing.contains(&function));
    able && there
        && !hook
            .needs
            .iter()
            .any(|need| capabilities.absent.contains(need))
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
            _ => None,
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
        let tier_0 = HOOKS.iter().filter(|hook| hook.tier == 0).count();
        assert_eq!(plan.tracepoints.len(), tier_0 - 2);
        assert!(plan.probes.is_empty(), "neither kprobes nor fexit");
    }

    fn probed(capabilities: &Capabilities) -> Vec<&'static str> {
        let plan = plan(capabilities).expect("observable");
        plan.probes.iter().map(|hook| hook.id.name()).collect()
    }

    #[test]
    fn fexit_takes_the_place_of_a_return_probe_and_needs_no_kprobes() {
        let fexit = Capabilities {
            fexit: true,
            ..full()
        };
        assert_eq!(probed(&fexit), ["fexit:nf_hook_slow"]);
        let kprobes = Capabilities {
            kprobes: true,
            ..full()
        };
        let names = probed(&kprobes);
        assert!(names.contains(&"kretprobe:nf_hook_slow"), "{names:?}");
        let both = Capabilities {
            kprobes: true,
            ..fexit
        };
        assert_eq!(probed(&both).len(), names.len());
        assert!(!probed(&both).contains(&"kretprobe:nf_hook_slow"));
    }

    #[test]
    fn a_module_that_is_not_loaded_costs_its_probe_and_blinds_nobody() {
        let mut without = Capabilities {
            kprobes: true,
            fexit: true,
            ..full()
        };
        let all = probed(&without).len();
        without.functions_missing = vec!["ipt_do_table", "ip6t_do_table"];
        assert_eq!(probed(&without).len(), all - 2);
        assert!(plan(&without).expect("observable").blind.is_empty());
        without.functions_missing = vec!["nf_hook_slow"];
        assert!(probed(&without).is_empty(), "nobody would report a refusal");
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
