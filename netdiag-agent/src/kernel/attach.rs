//! Programs in the kernel and what holds them there. Everything is undone by dropping it.

use std::error::Error;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aya::Ebpf;
use aya::programs::links::LinkOrder;
use aya::programs::tc::{
    NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle, qdisc_add_clsact,
};
use aya::programs::{
    BtfTracePoint, FExit, KProbe, Program, ProgramError, SchedClassifier, TcAttachType,
};

use super::clsact;
use super::error::KernelError;
use super::hooks::{Attach, HOOKS, HookSpec};
use super::netns;
use super::plan::TcMode;
use crate::event::{IfIndex, Netns, Pass};

/// An interface to attach to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchInterface {
    /// Path of its namespace; `None`: the one of this process.
    pub netns: Option<PathBuf>,
    pub ifindex: IfIndex,
    pub name: Arc<str>,
}

/// One interface with both programs on it.
#[derive(Debug)]
pub struct Watched {
    pub netns: Netns,
    pub ifindex: IfIndex,
    pub name: Arc<str>,
    links: Links,
}

#[derive(Debug)]
enum Links {
    /// The kernel ends them when they are closed, in whatever namespace the closing thread is.
    Tcx(
        #[expect(dead_code, reason = "held to keep the programs attached")]
        Vec<SchedClassifierLink>,
    ),
    /// Removed by netlink, so from a thread in their namespace.
    Clsact {
        namespace: File,
        links: Vec<SchedClassifierLink>,
        own_qdisc: bool,
    },
}

/// Attaches a loaded program to its place in the kernel; it stays while `ebpf` lives.
pub fn attach_kernel(ebpf: &mut Ebpf, hook: &HookSpec) -> Result<(), String> {
    let told = |error: ProgramError| explain(&error);
    match hook.attach {
        Attach::Tc(_) => Err("interfaces, not the kernel, have this one".to_owned()),
        Attach::Tracepoint(_) => program::<BtfTracePoint>(ebpf, hook.program)?
            .attach()
            .map(drop)
            .map_err(told),
        Attach::Exit(_) => program::<FExit>(ebpf, hook.program)?
            .attach()
            .map(drop)
            .map_err(told),
        // The entry first: a return without it would have nothing to go by.
        Attach::Return { function, entry } => {
            entry
                .into_iter()
                .chain([hook.program])
                .try_for_each(|name| {
                    let probe = program::<KProbe>(ebpf, name)?;
                    probe.attach(function, 0).map(drop).map_err(told)
                })
        }
    }
}

fn program<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut P, String>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    let program = ebpf.program_mut(name).ok_or("not in the eBPF object")?;
    program
        .try_into()
        .map_err(|error: ProgramError| explain(&error))
}

pub fn tc_hooks() -> impl Iterator<Item = (&'static HookSpec, Pass)> {
    HOOKS.iter().filter_map(|hook| match hook.attach {
        Attach::Tc(pass) => Some((hook, pass)),
        _ => None,
    })
}

/// Attaches both TC programs to one interface, in the name of process `pid`. `None`: the interface is gone, which is no
/// error.
pub fn interface(
    ebpf: &mut Ebpf,
    mode: TcMode,
    pid: u32,
    wanted: &WatchInterface,
) -> Result<Option<Watched>, KernelError> {
    let path = wanted.netns.clone();
    let fail = |source| KernelError::Netns {
        path: path.clone(),
        source,
    };
    let namespace = netns::open(wanted.netns.as_deref()).map_err(fail)?;
    let inode = netns::inode(&namespace).map_err(fail)?;
    let attached =
        netns::within(&namespace, || attach_here(ebpf, mode, pid, wanted)).map_err(fail)?;
    let Some((links, own_qdisc)) = attached.map_err(|why| KernelError::Attach {
        interface: wanted.name.to_string(),
        why,
    })?
    else {
        return Ok(None);
    };
    let links = match mode {
        TcMode::Tcx => Links::Tcx(links),
        TcMode::Clsact => Links::Clsact {
            namespace,
            links,
            own_qdisc,
        },
    };
    Ok(Some(Watched {
        netns: inode,
        ifindex: wanted.ifindex,
        name: wanted.name.clone(),
        links,
    }))
}

type Attached = Option<(Vec<SchedClassifierLink>, bool)>;

/// In the interface's namespace. Says whether the clsact qdisc is ours.
fn attach_here(
    ebpf: &mut Ebpf,
    mode: TcMode,
    pid: u32,
    wanted: &WatchInterface,
) -> Result<Attached, String> {
    // The name may have changed since it was read; the index does not.
    let Some(name) = name_of(wanted.ifindex) else {
        return Ok(None);
    };
    let own_qdisc = mode == TcMode::Clsact && add_qdisc(wanted.ifindex, &name)?;
    let mut links = Vec::new();
    for (hook, pass) in tc_hooks() {
        let attached =
            program::<SchedClassifier>(ebpf, hook.program).and_then(|program| match mode {
                TcMode::Tcx => attach_tcx(program, pass, &name),
                TcMode::Clsact => {
                    attach_clsact(program, pass, &name, clsact::handle(pid, own_qdisc))
                }
            });
        match attached {
            Ok(link) => links.push(link),
            Err(_) if name_of(wanted.ifindex).is_none() => return Ok(None),
            Err(why) => {
                drop(links);
                if own_qdisc {
                    let _ = clsact::remove_unused_qdisc(wanted.ifindex.0 as i32);
                }
                return Err(why);
            }
        }
    }
    Ok(Some((links, own_qdisc)))
}

/// Makes sure there is a clsact qdisc. True when it was not there before.
fn add_qdisc(ifindex: IfIndex, name: &str) -> Result<bool, String> {
    match qdisc_add_clsact(name) {
        Ok(()) => Ok(true),
        Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => {
            // A plain ingress qdisc sits in the same place and would run the egress program on ingress.
            match clsact::has_clsact(ifindex.0 as i32) {
                Ok(true) => Ok(false),
                Ok(false) => Err("an ingress qdisc is in the place of clsact".to_owned()),
                Err(error) => Err(explain(&error)),
            }
        }
        Err(error) => Err(explain(&error)),
    }
}

fn name_of(ifindex: IfIndex) -> Option<String> {
    let name = nix::net::if_::if_indextoname(ifindex.0).ok()?;
    // nix takes the null pointer of a missing interface for success and gives an empty name.
    let name = name.to_string_lossy().into_owned();
    (!name.is_empty()).then_some(name)
}

/// First in both directions, as below: a program before us that ends the chain would hide the packet.
fn attach_tcx(
    program: &mut SchedClassifier,
    pass: Pass,
    interface: &str,
) -> Result<SchedClassifierLink, String> {
    let first = TcAttachOptions::TcxOrder(LinkOrder::first());
    attach_with(program, pass, interface, first).map_err(|error| explain(&error))
}

fn attach_clsact(
    program: &mut SchedClassifier,
    pass: Pass,
    interface: &str,
    handle: u32,
) -> Result<SchedClassifierLink, String> {
    let at = |priority| {
        TcAttachOptions::Netlink(NlOptions {
            priority,
            handle: TcHandle::from(handle),
            classid: None,
        })
    };
    // Priority 1 may belong to a filter of another kind; 0 asks the kernel for one before all others.
    attach_with(program, pass, interface, at(1))
        .or_else(|_| attach_with(program, pass, interface, at(0)))
        .map_err(|error| explain(&error))
}

fn attach_with(
    program: &mut SchedClassifier,
    pass: Pass,
    interface: &str,
    options: TcAttachOptions,
) -> Result<SchedClassifierLink, ProgramError> {
    let direction = match pass {
        Pass::Received => TcAttachType::Ingress,
        Pass::Sent => TcAttachType::Egress,
    };
    let id = program.attach_with_options(interface, direction, options)?;
    program.take_link(id)
}

impl Drop for Watched {
    fn drop(&mut self) {
        let Links::Clsact {
            namespace,
            links,
            own_qdisc,
        } = &mut self.links
        else {
            return;
        };
        let links = std::mem::take(links);
        let (own_qdisc, ifindex) = (*own_qdisc, self.ifindex.0 as i32);
        let done = netns::within(namespace, || {
            drop(links);
            if own_qdisc {
                clsact::remove_unused_qdisc(ifindex)
            } else {
                Ok(())
            }
        });
        // An interface that is gone took its filters with it.
        if let Err(error) | Ok(Err(error)) = done
            && error.raw_os_error() != Some(libc::ENODEV)
        {
            tracing::warn!("remove the TC filters of {}: {error}", self.name);
        }
    }
}

/// Removes TC filters that a killed predecessor left in a namespace. Returns how many.
pub fn sweep_leftovers(node: Option<&Path>) -> Result<usize, KernelError> {
    let fail = |source| KernelError::Netns {
        path: node.map(Path::to_path_buf),
        source,
    };
    let namespace = netns::open(node).map_err(fail)?;
    netns::within(&namespace, clsact::sweep)
        .map_err(fail)?
        .map_err(KernelError::Sweep)
}

/// An error and its sources in one line; a verifier log is reduced to its last words.
pub fn explain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    match lines.as_slice() {
        [] => String::new(),
        [only] => (*only).to_owned(),
        // The first line says what failed; of a verifier log the last lines say why.
        [first, .., before, last] if before.len() + last.len() < 300 => {
            format!("{first} … {before} {last}")
        }
        [first, .., last] => format!("{first} … {last}"),
    }
}
