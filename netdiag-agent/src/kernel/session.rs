//! One trace: programs loaded and attached, events coming out.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aya::Ebpf;
use aya_log::EbpfLogger;
use nix::time::{ClockId, clock_gettime};

use super::attach::{self, WatchInterface, Watched};
use super::capability::Capabilities;
use super::decode::{Names, decode};
use super::error::KernelError;
use super::filter::Filter;
use super::hooks::{Attach, HOOKS, HookSpec};
use super::load::{Kernel, give_back_memory, load_object, verify};
use super::log::{self, Bridge};
use super::netns;
use super::plan::{Plan, TcMode, plan};
use super::ring::{Counters, Ring, Totals};
use crate::engine::Input;
use crate::event::{HookId, IfIndex, Ktime, Netns};
use crate::inventory::BlindSpot;

/// How often the loss counters are read.
const LOSS_INTERVAL: Duration = Duration::from_millis(50);

/// What to watch.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent switches, each a global of the programs"
)]
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// Path of the node's namespace; `None`: the one of this process.
    pub node: Option<PathBuf>,
    /// Get the TC programs.
    pub interfaces: Vec<WatchInterface>,
    /// The pods whose traffic is asked for.
    pub pods: Vec<Netns>,
    /// Namespaces of the other pods.
    pub namespaces: Vec<Netns>,
    /// Flows from and to these are followed.
    pub addresses: Vec<IpAddr>,
    /// Flows between any addresses are.
    pub any_address: bool,
    /// Only flows with one of these at either end; all when empty.
    pub targets: Vec<(Option<IpAddr>, Option<u16>)>,
    /// Deaths alone: one program, and none at interfaces.
    pub drops_only: bool,
    /// The first bytes of each packet are wanted.
    pub snap: bool,
    /// UDP port that carries VXLAN on the node.
    pub vxlan_port: Option<u16>,
    /// The programs' own debug lines.
    pub debug_log: bool,
    /// Use no more than this tier, even where there is more; `None`: all there is.
    pub max_tier: Option<u8>,
}

/// A program of ours in the kernel, for measuring it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedProgram {
    pub hook: HookId,
    pub name: &'static str,
    pub id: u32,
}

/// Detaches everything when dropped.
pub struct Session {
    watched: Vec<Watched>,
    ebpf: Ebpf,
    ring: Ring,
    counters: Counters,
    filter: Filter,
    names: Names,
    logger: Option<EbpfLogger<Bridge>>,
    tc: Option<TcMode>,
    hooks: Vec<HookId>,
    blind: Vec<BlindSpot>,
    losses_read: Ktime,
}

impl Session {
    /// Loads and attaches everything that can be; what cannot is a blind spot. Call it inside a tokio runtime.
    pub fn start(watch: &Watch) -> Result<Self, KernelError> {
        Self::start_with(watch, Capabilities::probe())
    }

    /// On a kernel that can do no more than this.
    pub(super) fn start_with(
        watch: &Watch,
        mut capabilities: Capabilities,
    ) -> Result<Self, KernelError> {
        // Refuses before the expensive part.
        plan(&capabilities)?;
        let kernel = Kernel::read()?;
        capabilities.complete(&kernel.facts, &kernel.symbols);
        capabilities.limit(watch.max_tier.unwrap_or(u8::MAX));
        let plan = plan(&capabilities)?;

        let mut ebpf = load_object(kernel.loader, &kernel.facts, &capabilities, &plan, watch)?;
        let Plan {
            tc,
            tracepoints,
            probes,
            mut blind,
        } = plan;
        let mut hooks: Vec<_> = attach::tc_hooks()
            .map(|(hook, _)| hook)
            .chain(tracepoints)
            .chain(probes)
            .collect();
        if watch.drops_only {
            hooks.retain(|hook| hook.id == HookId::KfreeSkb);
        }
        let mut loaded = Vec::new();
        for (hook, result) in verify(&mut ebpf, &hooks, &kernel.btf) {
            match result {
                Ok(()) => loaded.push(hook),
                Err(why) => blind.push(spot(hook, &why)),
            }
        }
        drop(kernel.btf);
        // One direction alone would show every flow as broken.
        let tc = attach::tc_hooks()
            .all(|(hook, _)| loaded.contains(&hook))
            .then_some(tc);
        let logger = if watch.debug_log {
            log::open(&mut ebpf)
        } else {
            None
        };
        let mut session = Self {
            watched: Vec::new(),
            ring: Ring::open(&mut ebpf)?,
            counters: Counters::open(&mut ebpf)?,
            filter: Filter::open(&mut ebpf)?,
            ebpf,
            names: Names::new(kernel.facts.reasons, kernel.symbols),
            logger,
            tc,
            hooks: Vec::new(),
            blind,
            losses_read: now(),
        };
        session.fill(watch)?;
        session.attach(watch, &loaded)?;
        give_back_memory();
        Ok(session)
    }

    /// Tells the programs what is wanted, before any of them runs.
    fn fill(&mut self, watch: &Watch) -> Result<(), KernelError> {
        for netns in &watch.namespaces {
            self.filter.add_pod(*netns)?;
        }
        for netns in &watch.pods {
            self.filter.add_traced(*netns)?;
        }
        // Last, because a watched namespace may be the node's own.
        self.filter.add_node(node_netns(watch.node.as_deref())?)?;
        for address in &watch.addresses {
            self.filter.add_address(*address)?;
        }
        for target in &watch.targets {
            self.filter.add_target(*target)?;
        }
        Ok(())
    }

    fn attach(&mut self, watch: &Watch, loaded: &[&'static HookSpec]) -> Result<(), KernelError> {
        for wanted in &watch.interfaces {
            if let Err(error) = self.watch_interface(wanted) {
                let what = format!("tc on {}", wanted.name);
                self.blind.push(BlindSpot {
                    what,
                    why: attach::explain(&error),
                });
            }
        }
        for hook in loaded
            .iter()
            .filter(|hook| !matches!(hook.attach, Attach::Tc(_)))
        {
            match attach::attach_kernel(&mut self.ebpf, hook) {
                Ok(()) => self.hooks.push(hook.id),
                Err(why) => self.blind.push(spot(hook, &why)),
            }
        }
        if self.watched.is_empty() && !self.hooks.contains(&HookId::KfreeSkb) {
            let why = self
                .blind
                .iter()
                .map(|spot| format!("{}: {}", spot.what, spot.why));
            return Err(KernelError::Nothing(why.collect::<Vec<_>>().join("; ")));
        }
        if !self.watched.is_empty() || (self.tc.is_some() && watch.interfaces.is_empty()) {
            self.hooks.extend(
                HOOKS
                    .iter()
                    .filter(|hook| matches!(hook.attach, Attach::Tc(_)))
                    .map(|hook| hook.id),
            );
        }
        self.hooks.sort_unstable();
        Ok(())
    }

    /// What is attached.
    pub fn hooks(&self) -> &[HookId] {
        &self.hooks
    }

    /// How many interfaces have the TC programs.
    pub const fn interfaces(&self) -> usize {
        self.watched.len()
    }

    /// What is not, and what that costs.
    pub fn blind(&self) -> &[BlindSpot] {
        &self.blind
    }

    /// The highest tier something is attached of.
    pub fn tier(&self) -> u8 {
        let attached = HOOKS.iter().filter(|hook| self.hooks.contains(&hook.id));
        attached.map(|hook| hook.tier).max().unwrap_or(0)
    }

    /// Waits for news: events in ring order, then losses. Comes back empty-handed now and then. Nothing is lost when the
    /// future is dropped.
    pub async fn next(&mut self) -> Vec<Input> {
        let mut inputs = Vec::new();
        let names = &mut self.names;
        let taken = self
            .ring
            .next(LOSS_INTERVAL, |bytes| {
                inputs.push(Input::Event(decode(bytes, names)));
            })
            .await;
        if let Err(error) = taken {
            tracing::warn!("wait for events: {error}");
        }
        if Duration::from_nanos(now().since(self.losses_read).0) >= LOSS_INTERVAL {
            self.losses(&mut inputs);
        }
        inputs
    }

    /// All that is left in the ring, and the last losses.
    pub fn drain(&mut self) -> Vec<Input> {
        let mut inputs = Vec::new();
        let names = &mut self.names;
        self.ring
            .drain(|bytes| inputs.push(Input::Event(decode(bytes, names))));
        self.losses(&mut inputs);
        inputs
    }

    fn losses(&mut self, inputs: &mut Vec<Input>) {
        let at = now();
        self.losses_read = at;
        let lost = self.counters.losses();
        if !lost.is_empty() {
            inputs.extend(
                lost.into_iter()
                    .map(|(hook, count)| Input::Lost { hook, at, count }),
            );
        }
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
    }

    /// Puts the TC programs on one more interface. One that is gone is no error.
    pub fn watch_interface(&mut self, wanted: &WatchInterface) -> Result<(), KernelError> {
        let Some(mode) = self.tc else { return Ok(()) };
        if let Some(watched) = attach::interface(&mut self.ebpf, mode, std::process::id(), wanted)?
        {
            self.names
                .interfaces
                .insert(watched.ifindex.0, (watched.netns, watched.name.clone()));
            self.watched
                .retain(|old| (old.netns, old.ifindex) != (watched.netns, watched.ifindex));
            self.watched.push(watched);
        }
        Ok(())
    }

    pub fn unwatch_interface(&mut self, netns: Netns, ifindex: IfIndex) {
        self.watched
            .retain(|old| (old.netns, old.ifindex) != (netns, ifindex));
        self.names
            .interfaces
            .retain(|index, (inode, _)| (*inode, *index) != (netns, ifindex.0));
    }

    /// One more pod.
    pub fn add_namespace(&mut self, netns: Netns) -> Result<(), KernelError> {
        self.filter.add_pod(netns)
    }

    /// Flows of these pods too, from and to these addresses.
    pub fn follow(
        &mut self,
        pods: impl IntoIterator<Item = Netns>,
        addresses: &[IpAddr],
    ) -> Result<(), KernelError> {
        pods.into_iter()
            .try_for_each(|pod| self.filter.add_traced(pod))?;
        addresses
            .iter()
            .try_for_each(|address| self.filter.add_address(*address))
    }

    /// No longer theirs: an address may have another owner soon.
    pub fn unfollow(
        &mut self,
        pods: impl IntoIterator<Item = Netns>,
        addresses: impl IntoIterator<Item = IpAddr>,
    ) -> Result<(), KernelError> {
        pods.into_iter()
            .try_for_each(|pod| self.filter.remove_netns(pod))?;
        addresses
            .into_iter()
            .try_for_each(|address| self.filter.remove_address(address))
    }

    /// Counters of one hook since the start.
    pub fn totals(&self, hook: HookId) -> Totals {
        self.counters.totals(hook)
    }

    /// The programs in the kernel.
    pub fn programs(&self) -> Vec<LoadedProgram> {
        HOOKS
            .iter()
            .filter_map(|hook| {
                let info = self.ebpf.program(hook.program)?.info().ok()?;
                Some(LoadedProgram {
                    hook: hook.id,
                    name: hook.program,
                    id: info.id(),
                })
            })
            .collect()
    }
}

pub(super) fn node_netns(path: Option<&Path>) -> Result<Netns, KernelError> {
    netns::open(path)
        .and_then(|file| netns::inode(&file))
        .map_err(|source| KernelError::Netns {
            path: path.map(Path::to_path_buf),
            source,
        })
}

fn spot(hook: &HookSpec, why: &str) -> BlindSpot {
    BlindSpot {
        what: hook.id.name().to_owned(),
        why: format!("{why}; not seen: {}", hook.loses),
    }
}

/// The clock of the events.
fn now() -> Ktime {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
    Ktime(time.as_nanos() as u64)
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
