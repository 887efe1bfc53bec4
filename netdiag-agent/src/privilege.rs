//! Giving up every privilege that is not needed.
//!
//! | kept | for |
//! |---|---|
//! | `BPF`, `PERFMON` | loading programs that read kernel memory, and reading their maps |
//! | `NET_ADMIN` | attaching to interfaces; netfilter's rules and conntrack's table by netlink |
//! | `NET_RAW` | the raw socket by which iptables asks for its tables of xtables, and for ipsets |
//! | `SYS_PTRACE` | `/proc/PID/ns/net` of processes of other users |
//! | `SYSLOG` | addresses in `/proc/kallsyms`: from them, the netfilter hook of a drop |
//! | `SYS_ADMIN` | `setns` into another network namespace, which demands it in the user namespace that owns the target |
//!
//! Without `NET_RAW` such rules are known as far as nft sees them, or not at all; the verdicts say so.
//! Without `SYS_ADMIN` the node's own namespace is observed all the same; pods' namespaces are known by number only.

use caps::{CapSet, Capability, CapsHashSet};
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};

/// What a trace may need in its whole life.
const KEPT: [Capability; 7] = [
    Capability::CAP_BPF,
    Capability::CAP_PERFMON,
    Capability::CAP_NET_ADMIN,
    Capability::CAP_NET_RAW,
    Capability::CAP_SYS_PTRACE,
    Capability::CAP_SYSLOG,
    Capability::CAP_SYS_ADMIN,
];

/// What is kept, as Kubernetes spells it.
pub fn kept() -> impl Iterator<Item = String> {
    KEPT.iter().map(|kept| {
        let name = kept.to_string();
        name.strip_prefix("CAP_")
            .map_or_else(|| name.clone(), str::to_owned)
    })
}

/// Whom it concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// This process. A command it starts as root has root's privileges again.
    Process,
    /// This process and all it will ever start.
    Tree,
}

#[derive(Debug, thiserror::Error)]
#[error("give up capabilities: {0}")]
pub struct Error(String);

/// What is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept(Vec<Capability>);

impl Kept {
    /// Other network namespaces can be entered.
    pub fn can_enter_namespaces(&self) -> bool {
        self.0.contains(&Capability::CAP_SYS_ADMIN)
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(ToString::to_string)
    }
}

/// Drops what is not in [`KEPT`]. Capabilities belong to threads: call it before there are others.
pub fn limit(scope: Scope) -> Result<Kept, Error> {
    lift_memory_limit();
    let failed = |error: caps::errors::CapsError| Error(error.to_string());
    let wanted: CapsHashSet = KEPT.into_iter().collect();
    let held = |set| caps::read(None, set).map_err(failed);
    let within = |set| -> Result<CapsHashSet, Error> {
        Ok(held(set)?.intersection(&wanted).copied().collect())
    };
    if scope == Scope::Tree {
        // The bounding set can only be reduced with CAP_SETPCAP; where that is missing, what follows is enough.
        if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP).map_err(failed)? {
            for surplus in held(CapSet::Bounding)?.difference(&wanted) {
                caps::drop(None, CapSet::Bounding, *surplus).map_err(failed)?;
            }
        }
        nix::sys::prctl::set_no_new_privs().map_err(|errno| Error(errno.to_string()))?;
    }
    let (effective, permitted, inheritable) = (
        within(CapSet::Effective)?,
        within(CapSet::Permitted)?,
        within(CapSet::Inheritable)?,
    );
    // In this order none of the sets is ever asked to exceed another.
    caps::set(None, CapSet::Inheritable, &inheritable).map_err(failed)?;
    caps::set(None, CapSet::Effective, &effective).map_err(failed)?;
    caps::set(None, CapSet::Permitted, &permitted).map_err(failed)?;
    let left = KEPT.into_iter().filter(|kept| effective.contains(kept));
    Ok(Kept(left.collect()))
}

/// Before Linux 5.11 maps count as locked memory, of which a user may have 64 KiB or so. Raising that takes `SYS_RESOURCE`,
/// which is about to go. Where it cannot be raised, later kernels do not ask, and on earlier ones creating the maps fails
/// and says so.
fn lift_memory_limit() {
    if let Err(error) = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY) {
        tracing::debug!("raise the limit of locked memory: {error}");
    }
}
