//! Everything that can go wrong while finding out who is who.

use std::io;
use std::path::PathBuf;

/// Each message names the act, the object and, where there is one, the way out. The cause is part of the message and
/// not a `source()`, so that a chain of errors does not print it twice.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error(
        "the pods {one} and {other} hang on different nodes of this machine: follow them one by one"
    )]
    TwoNodes { one: String, other: String },
    #[error("no network namespace named {name} below /run/netns (ip netns list shows them)")]
    NoSuchName { name: String },
    #[error(
        "no process with pid {pid} (its container may have been restarted: look the pid up again)"
    )]
    NoSuchPid { pid: u32 },
    #[error(
        "{path} is not a network namespace (give a name that ip netns list shows, or /proc/PID/ns/net)"
    )]
    NotNetns { path: PathBuf },
    #[error("open network namespace {path}: {cause}")]
    Open { path: PathBuf, cause: io::Error },
    #[error("network namespace {namespace} has gone")]
    Gone { namespace: String },
    #[error("enter network namespace {namespace}: {cause} (needs CAP_SYS_ADMIN: run as root)")]
    Enter { namespace: String, cause: io::Error },
    #[error("start a thread for network namespace {namespace}: {cause}")]
    Thread { namespace: String, cause: io::Error },
    #[error("the work inside network namespace {namespace} panicked")]
    Panicked { namespace: String },
    #[error("give either a network namespace or a pid, not both")]
    TwoSelectors,
    #[error("no interface {name} in {namespace}; there are: {existing}")]
    NoSuchInterface {
        name: String,
        namespace: String,
        existing: String,
    },
    #[error("{act} of {namespace}: {cause}")]
    Netlink {
        act: &'static str,
        namespace: String,
        cause: io::Error,
    },
    #[error("read {path} of {namespace}: {cause}")]
    Read {
        path: &'static str,
        namespace: String,
        cause: io::Error,
    },
}

impl IdentityError {
    /// The kernel refused for want of a capability: nothing typed differently would help.
    pub fn is_unprivileged(&self) -> bool {
        match self {
            Self::Enter { cause, .. } | Self::Open { cause, .. } => {
                cause.kind() == io::ErrorKind::PermissionDenied
            }
            _ => false,
        }
    }
}
