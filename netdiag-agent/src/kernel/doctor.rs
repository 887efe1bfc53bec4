//! What this node lets us see, for `netdiag doctor`.

use super::capability::Capabilities;
use super::error::KernelError;
use super::hooks::{Attach, HOOKS};
use super::load::read_facts;
use super::plan::{plan, usable};
use super::symbols::Symbols;

/// One capability, what is lost without it and what would bring it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapabilityReport {
    pub name: String,
    pub present: bool,
    pub detail: String,
    pub loses: String,
    pub todo: String,
}

/// Whether a trace can start at all; cheap, so that it can be asked first.
pub fn ensure_observable() -> Result<(), KernelError> {
    plan(&Capabilities::probe())?;
    Ok(())
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probed {
    pub reports: Vec<CapabilityReport>,
    /// The highest tier a trace would attach something of.
    pub tier: u8,
}

/// Tries everything. Leaves nothing attached.
pub fn probe() -> Probed {
    let mut capabilities = Capabilities::probe();
    let symbols = std::fs::read("/proc/kallsyms")
        .map_or_else(|_| Symbols::default(), |text| Symbols::parse(&text));
    let resolved = read_facts();
    if let Ok(facts) = &resolved {
        capabilities.complete(facts, &symbols);
    }
    let mut reports = essentials(&capabilities);
    if let Err(error) = resolved {
        reports.push(report(
            "kernel types",
            false,
            &error.to_string(),
            "everything",
            "use a kernel with CONFIG_DEBUG_INFO_BTF",
        ));
    }
    reports.extend(comforts(&capabilities));
    reports.extend(HOOKS.iter().filter_map(|hook| {
        let Attach::Tracepoint(name) = hook.attach else {
            return None;
        };
        let arguments = capabilities.tracepoints.get(name);
        let absent = hook
            .needs
            .iter()
            .find(|need| capabilities.absent.contains(need));
        let (present, detail) = match (arguments, absent) {
            (Some(count), None) => (true, format!("{count} arguments")),
            (Some(_), Some(member)) => (false, format!("the kernel has no {member}")),
            (None, _) => (false, "the kernel has no such tracepoint".to_owned()),
        };
        Some(report(
            hook.id.name(),
            present,
            &detail,
            hook.loses,
            "a newer kernel",
        ))
    }));
    reports.extend(probes(&capabilities));
    let used = plan(&capabilities).map_or_else(|_| Vec::new(), |plan| plan.probes);
    Probed {
        reports,
        tier: used.iter().map(|hook| hook.tier).max().unwrap_or(0),
    }
}

/// What Tiers 1 and 2 could add.
fn probes(capabilities: &Capabilities) -> Vec<CapabilityReport> {
    let hooks = HOOKS.iter().filter(|hook| hook.tier > 0);
    hooks
        .map(|hook| {
            let present = usable(hook, capabilities);
            let function = hook.attach.function().unwrap_or_default();
            let missing = capabilities.functions_missing.contains(&function);
            let able = capabilities.tier() >= hook.tier;
            let (detail, todo) = match (present, able, missing) {
                (true, ..) => (hook.adds.to_owned(), ""),
                (_, false, _) if hook.tier == 1 => (
                    "the kernel has no kprobes".to_owned(),
                    "a kernel with CONFIG_KPROBES",
                ),
                (_, false, _) => (
                    "functions cannot be traced by fexit".to_owned(),
                    "a kernel with CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS",
                ),
                (_, _, true) => (
                    format!("no function {function}: its module is not loaded"),
                    "nothing: it comes with the first rule that needs it",
                ),
                (_, _, false) => (
                    "the kernel's type information lacks struct nf_hook_state".to_owned(),
                    "a newer kernel",
                ),
            };
            let name = format!("tier {}: {}", hook.tier, hook.id.name());
            report(&name, present, &detail, hook.loses, todo)
        })
        .collect()
}

fn essentials(capabilities: &Capabilities) -> Vec<CapabilityReport> {
    let missing = capabilities.missing_privileges.join(", ");
    let allowed = missing.is_empty();
    vec![
        report(
            "privileges",
            allowed,
            if allowed {
                "CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN"
            } else {
                &missing
            },
            "everything",
            "run as root, or grant the missing capabilities",
        ),
        report(
            "BTF",
            capabilities.btf,
            "/sys/kernel/btf/vmlinux",
            "everything",
            "use a kernel with CONFIG_DEBUG_INFO_BTF",
        ),
        report(
            "BPF ring buffer",
            capabilities.ring_buffer,
            "",
            "everything",
            "Linux 5.8 or newer",
        ),
    ]
}

fn comforts(capabilities: &Capabilities) -> Vec<CapabilityReport> {
    vec![
        report(
            "tcx",
            capabilities.tcx,
            if capabilities.tcx {
                "TC links that end with the process"
            } else {
                "clsact filters instead, removed at exit or by the next start"
            },
            "nothing",
            "Linux 6.6 or newer",
        ),
        report(
            "drop reasons",
            capabilities.drop_reasons,
            "",
            "why the kernel dropped a packet, beyond the function that did",
            "Linux 5.17 or newer",
        ),
        report(
            "conntrack types",
            capabilities.conntrack,
            "struct nf_conn",
            "exact NAT of each packet; TCP sequence numbers remain",
            "load nf_conntrack, or a kernel with its BTF",
        ),
        report(
            "kernel symbols",
            capabilities.symbols,
            "/proc/kallsyms",
            "the netfilter hook of a drop",
            "grant CAP_SYSLOG, or kernel.kptr_restrict=0",
        ),
        report(
            "kernel memory at TC",
            capabilities.tc_kernel_read,
            "bpf_probe_read_kernel",
            "conntrack of packets seen at TC; tracepoints still have it",
            "a newer kernel",
        ),
    ]
}

fn report(name: &str, present: bool, detail: &str, loses: &str, todo: &str) -> CapabilityReport {
    CapabilityReport {
        name: name.to_owned(),
        present,
        detail: detail.to_owned(),
        loses: loses.to_owned(),
        todo: if present {
            String::new()
        } else {
            todo.to_owned()
        },
    }
}
