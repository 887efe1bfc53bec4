//! From the running kernel's self-description and the embedded object to programs ready to be verified.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::num::NonZero;
use std::path::Path;
use std::thread;

use aya::maps::MapError;
use aya::programs::Program;
use aya::{Btf, Ebpf, EbpfError, EbpfLoader};

use super::Watch;
use super::attach::explain;
use super::capability::{Capabilities, MODULES_BTF, VMLINUX_BTF};
use super::error::KernelError;
use super::facts::{self, Facts};
use super::hooks::{Attach, HookSpec};
use super::plan::Plan;
use super::symbols::Symbols;
use crate::event::HookId;

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/netdiag-ebpf"));

/// `aya_log::Level::Debug`; 0 is off.
const LOG_DEBUG: u8 = 4;

/// What is read from the running kernel before anything is loaded. Large; gone once the programs are loaded.
pub struct Kernel {
    pub facts: Facts,
    pub symbols: Symbols,
    pub btf: Btf,
    pub loader: EbpfLoader<'static>,
}

impl Kernel {
    /// All at once: each part takes a tenth of a second.
    pub fn read() -> Result<Self, KernelError> {
        thread::scope(|scope| {
            let symbols = scope.spawn(|| {
                let text = fs::read("/proc/kallsyms");
                text.map_or_else(|_| Symbols::default(), |text| Symbols::parse(&text))
            });
            let btf = scope.spawn(Btf::from_sys_fs);
            // A new loader reads the kernel's types for itself.
            let loader = scope.spawn(EbpfLoader::new);
            let facts = read_facts()?;
            let failed = || KernelError::Read {
                path: VMLINUX_BTF.into(),
                source: io::Error::other("no usable type information"),
            };
            Ok(Self {
                facts,
                symbols: symbols.join().unwrap_or_default(),
                btf: btf.join().map_err(|_| failed())?.map_err(|_| failed())?,
                loader: loader.join().map_err(|_| failed())?,
            })
        })
    }
}

/// Resolves what the programs need from the kernel's types.
pub fn read_facts() -> Result<Facts, KernelError> {
    let path = Path::new(VMLINUX_BTF);
    let vmlinux = fs::read(path).map_err(|source| KernelError::Read {
        path: path.into(),
        source,
    })?;
    let modules: Vec<_> = MODULES_BTF
        .iter()
        .filter_map(|path| fs::read(path).ok())
        .collect();
    facts::resolve(&vmlinux, &modules).map_err(|source| KernelError::Btf {
        path: path.into(),
        source,
    })
}

/// Creates the maps and prepares the programs.
pub fn load_object(
    loader: EbpfLoader<'static>,
    facts: &Facts,
    capabilities: &Capabilities,
    plan: &Plan,
    watch: &Watch,
) -> Result<Ebpf, KernelError> {
    let mut settings = facts.settings;
    settings.tc_kernel_read = u32::from(capabilities.tc_kernel_read);
    settings.snap = u32::from(watch.snap);
    settings.netfilter = u32::from(!plan.probes.is_empty());
    settings.vxlan_port = watch.vxlan_port.map_or(0, u32::from);
    settings.any_address = u32::from(watch.any_address);
    let narrowed = !watch.targets.is_empty() && !watch.targets.contains(&(None, None));
    settings.targets = u32::from(narrowed);
    let level = if watch.debug_log { LOG_DEBUG } else { 0 };
    // Shortens the lifetime to that of the values it is given.
    let mut loader: EbpfLoader<'_> = loader;
    loader
        .override_global("SETTINGS", &settings, true)
        .override_global(aya_log::LEVEL, &level, false)
        .load(OBJECT)
        .map_err(told)
}

/// Of all that goes wrong with maps, a limit on memory is what a user can do something about.
fn told(error: EbpfError) -> KernelError {
    match error {
        EbpfError::MapError(MapError::CreateError { name, io_error })
            if io_error.raw_os_error() == Some(libc::EPERM) =>
        {
            KernelError::LockedMemory { map: name }
        }
        other => KernelError::Load(Box::new(other)),
    }
}

/// Has the kernel verify the programs of these hooks, on all CPUs: it is most of the time a trace takes to start.
pub fn verify(
    ebpf: &mut Ebpf,
    hooks: &[&'static HookSpec],
    btf: &Btf,
) -> Vec<(&'static HookSpec, Result<(), String>)> {
    let wanted = |name: &str| {
        let is = |hook: &&HookSpec| hook.program == name || hook.attach.entry() == Some(name);
        hooks.iter().copied().find(is)
    };
    let mut work: Vec<_> = ebpf
        .programs_mut()
        .filter_map(|(name, program)| Some((wanted(name)?, program)))
        .collect();
    let cpus = thread::available_parallelism().map_or(1, NonZero::get);
    let share = work.len().div_ceil(cpus).max(1);
    let verified: Vec<(HookId, Result<(), String>)> = thread::scope(|scope| {
        let workers: Vec<_> = work
            .chunks_mut(share)
            .map(|chunk| {
                scope.spawn(|| {
                    let verified = |(hook, program): &mut (&HookSpec, &mut Program)| {
                        (hook.id, verify_one(hook, program, btf))
                    };
                    chunk.iter_mut().map(verified).collect::<Vec<_>>()
                })
            })
            .collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap_or_default())
            .collect()
    });
    // Of the two programs of a hook both must do.
    let mut done: HashMap<HookId, Result<(), String>> = HashMap::new();
    for (hook, result) in verified {
        let known = done.entry(hook).or_insert(Ok(()));
        if known.is_ok() {
            *known = result;
        }
    }
    let result = |hook: &HookSpec| {
        done.get(&hook.id)
            .cloned()
            .unwrap_or_else(|| Err("not in the eBPF object".to_owned()))
    };
    hooks.iter().map(|hook| (*hook, result(hook))).collect()
}

fn verify_one(hook: &HookSpec, program: &mut Program, btf: &Btf) -> Result<(), String> {
    match (hook.attach, program) {
        (Attach::Tracepoint(name), Program::BtfTracePoint(program)) => program.load(name, btf),
        (Attach::Tc(_), Program::SchedClassifier(program)) => program.load(),
        (Attach::Exit(function), Program::FExit(program)) => program.load(function, btf),
        (Attach::Return { .. }, Program::KProbe(program)) => program.load(),
        _ => return Err("a program of another kind in the eBPF object".to_owned()),
    }
    .map_err(|error| explain(&error))
}

/// Parsing the kernel's types needs some 50 MiB for a moment, in pieces the allocator would keep.
pub fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes a number; safe to call at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}
