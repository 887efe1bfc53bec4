//! What this kernel and this process can do, found out bit by bit and never guessed from a version.

use std::collections::BTreeMap;
use std::fs;

use aya::maps::MapType;
use aya::programs::{ProgramType, SchedClassifier, TcAttachType};
use aya::sys::{BpfHelper, is_helper_supported, is_map_supported};

use super::facts::Facts;
use super::fexit;
use super::hooks::HOOKS;
use super::symbols::Symbols;

pub const VMLINUX_BTF: &str = "/sys/kernel/btf/vmlinux";
/// Modules with types of their own that the programs look into.
pub const MODULES_BTF: [&str; 3] = [
    "/sys/kernel/btf/nf_conntrack",
    "/sys/kernel/btf/nf_tables",
    "/sys/kernel/btf/x_tables",
];

/// Every bit the plan depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one independent bit of the machine"
)]
pub struct Capabilities {
    /// Capabilities of the process that are needed and missing, by name.
    pub missing_privileges: Vec<&'static str>,
    pub btf: bool,
    pub ring_buffer: bool,
    /// TC links that end with the process; otherwise clsact filters.
    pub tcx: bool,
    /// TC programs may read kernel memory.
    pub tc_kernel_read: bool,
    /// Function names can be resolved.
    pub symbols: bool,
    pub drop_reasons: bool,
    pub conntrack: bool,
    /// Tracepoints we have a program for, with their arguments.
    pub tracepoints: BTreeMap<&'static str, u32>,
    /// Struct members this kernel has not.
    pub absent: Vec<&'static str>,
    /// Functions can be probed by name.
    pub kprobes: bool,
    /// Functions of the kernel proper can be traced by trampoline.
    pub fexit: bool,
    /// Functions we have a probe for and this kernel, with the modules it has now, has not. Empty where symbols are hidden.
    pub functions_missing: Vec<&'static str>,
}

impl Capabilities {
    /// Tries everything that needs no BTF.
    pub fn probe() -> Self {
        let missing_privileges = missing_privileges();
        let allowed = missing_privileges.is_empty();
        Self {
            btf: fs::metadata(VMLINUX_BTF).is_ok(),
            ring_buffer: allowed && is_map_supported(MapType::RingBuf).unwrap_or(false),
            tcx: allowed && has_tcx(),
            tc_kernel_read: allowed && can_tc_read_kernel(),
            kprobes: allowed && fs::metadata(KPROBE_PMU).is_ok(),
            missing_privileges,
            ..Self::default()
        }
    }

    /// Adds what only BTF and the symbol table can tell.
    pub fn complete(&mut self, facts: &Facts, symbols: &Symbols) {
        self.symbols = !symbols.is_empty();
        self.fexit =
            self.missing_privileges.is_empty() && facts.fexit_test.is_some_and(fexit::can_attach);
        if self.symbols {
            let wanted: Vec<_> = HOOKS
                .iter()
                .filter_map(|hook| hook.attach.function())
                .collect();
            self.functions_missing = symbols.missing(&wanted);
        }
        self.drop_reasons = !facts.reasons.is_empty() && facts.settings.kfree_skb_args >= 3;
        self.conntrack = facts.settings.tuplehash_size != 0;
        self.tracepoints.clone_from(&facts.tracepoints);
        self.absent.clone_from(&facts.absent);
    }
}

/// Kprobes are opened through a performance monitoring unit of their own.
const KPROBE_PMU: &str = "/sys/bus/event_source/devices/kprobe/type";

impl Capabilities {
    /// The highest tier there is something for.
    pub const fn tier(&self) -> u8 {
        if self.fexit {
            2
        } else if self.kprobes {
            1
        } else {
            0
        }
    }

    /// Leaves only what this tier needs.
    pub const fn limit(&mut self, tier: u8) {
        self.kprobes &= tier >= 1;
        self.fexit &= tier >= 2;
    }
}

/// Asks for the programs on the loopback interface, which every namespace has: only a kernel with tcx understands.
fn has_tcx() -> bool {
    SchedClassifier::query_tcx("lo", TcAttachType::Ingress).is_ok()
}

fn can_tc_read_kernel() -> bool {
    is_helper_supported(
        ProgramType::SchedClassifier,
        BpfHelper::BPF_FUNC_probe_read_kernel,
    )
    .unwrap_or(false)
}

/// Numbers of `linux/capability.h`.
const NEEDED: [(u32, &str); 3] = [(12, "CAP_NET_ADMIN"), (38, "CAP_PERFMON"), (39, "CAP_BPF")];
/// Held alone it stands for the two newer ones.
const SYS_ADMIN: u32 = 21;

fn missing_privileges() -> Vec<&'static str> {
    let held = fs::read_to_string("/proc/self/status").map_or(0, |status| effective(&status));
    missing(held)
}

/// The `CapEff` line of `/proc/self/status`.
fn effective(status: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

fn missing(held: u64) -> Vec<&'static str> {
    let has = |number: u32| held & (1 << number) != 0;
    NEEDED
        .iter()
        .filter(|(number, _)| !(has(*number) || *number >= 38 && has(SYS_ADMIN)))
        .map(|(_, name)| *name)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn privileges_are_read_from_the_effective_set() {
        let status = "Name:\tx\nCapPrm:\t000001ffffffffff\nCapEff:\t0000000000001000\n";
        assert_eq!(missing(effective(status)), ["CAP_PERFMON", "CAP_BPF"]);
        assert_eq!(
            missing(effective("")),
            ["CAP_NET_ADMIN", "CAP_PERFMON", "CAP_BPF"]
        );
    }

    #[test]
    fn sys_admin_stands_for_bpf_and_perfmon_but_not_for_net_admin() {
        assert_eq!(missing(1 << SYS_ADMIN), ["CAP_NET_ADMIN"]);
        assert!(missing(1 << SYS_ADMIN | 1 << 12).is_empty());
    }
}
