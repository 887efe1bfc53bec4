//! What can keep a trace from starting.

use std::io;
use std::path::PathBuf;

use aya::maps::MapError;
use thiserror::Error;

use super::btf::BtfError;
use super::plan::Unobservable;

#[derive(Debug, Error)]
pub enum KernelError {
    #[error("cannot observe this node: {0}")]
    Unobservable(#[from] Unobservable),
    #[error("cannot observe this node: neither TC nor the drop tracepoint could be attached: {0}")]
    Nothing(String),
    #[error("read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("understand {path}")]
    Btf { path: PathBuf, source: BtfError },
    #[error("load the eBPF object")]
    Load(#[source] Box<aya::EbpfError>),
    #[error(
        "create the map {map}: its memory is more than may be locked (before Linux 5.11 maps count as locked memory): \
         `ulimit -l unlimited`, or grant CAP_SYS_RESOURCE"
    )]
    LockedMemory { map: String },
    #[error("the eBPF object has no {0}")]
    Object(&'static str),
    #[error("fill the map {map}")]
    Map { map: &'static str, source: MapError },
    #[error("watch the event ring")]
    Ring(#[source] io::Error),
    #[error("enter the network namespace {}", path.as_ref().map_or_else(|| "of this process".into(), |path| path.display().to_string()))]
    Netns {
        path: Option<PathBuf>,
        source: io::Error,
    },
    #[error("attach to {interface}: {why}")]
    Attach { interface: String, why: String },
    #[error("remove TC filters left by an earlier run")]
    Sweep(#[source] io::Error),
}
