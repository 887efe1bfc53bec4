//! Network namespaces: finding, naming and entering them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;

use nix::sched::{CloneFlags, setns};

use super::error::IdentityError;
use crate::event::Netns;

/// Where `ip netns add` puts names. /var/run is a link to /run on all but old systems.
const NAME_DIRS: [&str; 2] = ["/run/netns", "/var/run/netns"];

const THREAD_NET: &str = "/proc/thread-self/ns/net";

/// A network namespace and how to get at it again.
///
/// Holds no descriptor: one would keep the namespace of a deleted pod, and with it the pod's veth, alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetnsHandle {
    netns: Netns,
    path: PathBuf,
    name: Option<String>,
}

impl NetnsHandle {
    /// What `--netns` takes: a name below /run/netns, or a path (it has a slash).
    pub fn find(what: &str) -> Result<Self, IdentityError> {
        if what.contains('/') {
            Self::by_path(Path::new(what))
        } else {
            Self::by_name(what)
        }
    }

    pub fn by_name(name: &str) -> Result<Self, IdentityError> {
        let no_such_name = || IdentityError::NoSuchName {
            name: name.to_owned(),
        };
        if name.is_empty() {
            return Err(no_such_name());
        }
        let path = NAME_DIRS
            .iter()
            .map(|dir| Path::new(dir).join(name))
            .find(|path| path.exists())
            .ok_or_else(no_such_name)?;
        let netns = inode_of(&open_net(&path)?, &path)?;
        Ok(Self {
            netns,
            path,
            name: Some(name.to_owned()),
        })
    }

    pub fn by_path(path: &Path) -> Result<Self, IdentityError> {
        let netns = inode_of(&open_net(path)?, path)?;
        Ok(Self {
            netns,
            path: path.to_owned(),
            name: registered_name(netns),
        })
    }

    /// By path, under a name of the caller's choice.
    pub fn called_at(path: &Path, name: String) -> Result<Self, IdentityError> {
        Ok(Self {
            netns: inode_of(&open_net(path)?, path)?,
            path: path.to_owned(),
            name: Some(name),
        })
    }

    /// The same under another name.
    #[must_use]
    pub fn called(self, name: String) -> Self {
        Self {
            name: Some(name),
            ..self
        }
    }

    pub fn by_pid(pid: u32) -> Result<Self, IdentityError> {
        let path = pid_path(pid);
        let file = open_net(&path).map_err(|error| match error {
            // A zombie still has /proc/PID but no namespaces any more.
            IdentityError::Open { cause, .. } if cause.kind() == io::ErrorKind::NotFound => {
                IdentityError::NoSuchPid { pid }
            }
            error => error,
        })?;
        let netns = inode_of(&file, &path)?;
        let name = registered_name(netns).or_else(|| Some(format!("pid {pid}")));
        Ok(Self { netns, path, name })
    }

    /// The namespace the caller is in.
    pub fn own() -> Result<Self, IdentityError> {
        let here = Path::new(THREAD_NET);
        let netns = inode_of(&open_net(here)?, here)?;
        // The process outlives the thread.
        let process = pid_path(std::process::id());
        let path = if linked_inode(&process) == Some(netns) {
            process
        } else {
            here.to_owned()
        };
        Ok(Self {
            netns,
            path,
            name: registered_name(netns),
        })
    }

    pub const fn netns(&self) -> Netns {
        self.netns
    }

    /// Opens the namespace, as long as it exists.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Name below /run/netns, or `pid N`; `None` for an unnamed namespace this process is in or was given by path.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// For messages.
    pub fn label(&self) -> String {
        self.name
            .clone()
            .unwrap_or_else(|| self.path.display().to_string())
    }

    /// Opens the namespace, wherever it can be reached now: the process it was found by may have ended while others
    /// live on in it.
    pub(super) fn open(&self) -> Result<File, IdentityError> {
        if let Some(file) = self.open_at(&self.path) {
            return Ok(file);
        }
        let gone = || IdentityError::Gone {
            namespace: self.label(),
        };
        let again = all()?
            .into_iter()
            .find(|other| other.netns == self.netns)
            .ok_or_else(gone)?;
        self.open_at(&again.path).ok_or_else(gone)
    }

    fn open_at(&self, path: &Path) -> Option<File> {
        let file = open_net(path).ok()?;
        (inode_of(&file, path).ok()? == self.netns).then_some(file)
    }
}

/// Runs `work` inside a namespace, on a thread of its own: `setns` binds to the thread, and a worker of an async
/// runtime must never carry it on to other tasks.
pub fn run_in<T: Send>(
    handle: &NetnsHandle,
    work: impl FnOnce() -> T + Send,
) -> Result<T, IdentityError> {
    in_thread(handle, || {
        enter(handle)?;
        Ok(work())
    })
}

/// Visits namespaces one after the other on one thread; one that is gone does not stop the walk.
pub(super) fn run_in_each<T: Send>(
    handles: &[NetnsHandle],
    work: impl Fn(&NetnsHandle) -> T + Sync,
) -> Result<Vec<Result<T, IdentityError>>, IdentityError> {
    let Some(first) = handles.first() else {
        return Ok(Vec::new());
    };
    in_thread(first, || {
        Ok(handles
            .iter()
            .map(|handle| enter(handle).map(|()| work(handle)))
            .collect())
    })
}

fn in_thread<T: Send>(
    handle: &NetnsHandle,
    work: impl FnOnce() -> Result<T, IdentityError> + Send,
) -> Result<T, IdentityError> {
    thread::scope(|scope| {
        thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, work)
            .map_err(|cause| IdentityError::Thread {
                namespace: handle.label(),
                cause,
            })?
            .join()
            .map_err(|_| IdentityError::Panicked {
                namespace: handle.label(),
            })?
    })
}

fn enter(handle: &NetnsHandle) -> Result<(), IdentityError> {
    // Entering where one is already would need a privilege for nothing.
    let here = linked_inode(Path::new(THREAD_NET));
    if here == Some(handle.netns) {
        return Ok(());
    }
    let file = handle.open()?;
    setns(&file, CloneFlags::CLONE_NEWNET).map_err(|errno| IdentityError::Enter {
        namespace: handle.label(),
        cause: errno.into(),
    })
}

/// Every network namespace that has a name or a process, each once, by its best name.
pub fn all() -> Result<Vec<NetnsHandle>, IdentityError> {
    let mut found: BTreeMap<Netns, NetnsHandle> = BTreeMap::new();
    for (netns, path, name) in registered() {
        found.entry(netns).or_insert(NetnsHandle {
            netns,
            path,
            name: Some(name),
        });
    }
    let proc = Path::new("/proc");
    let entries = fs::read_dir(proc).map_err(|cause| IdentityError::Open {
        path: proc.to_owned(),
        cause,
    })?;
    // Lowest pid first: the pause process of a pod outlives its containers.
    let mut pids: Vec<u32> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    for pid in pids {
        let path = pid_path(pid);
        let Some(netns) = linked_inode(&path) else {
            continue;
        };
        found.entry(netns).or_insert_with(|| NetnsHandle {
            netns,
            path,
            name: Some(format!("pid {pid}")),
        });
    }
    Ok(found.into_values().collect())
}

/// The inode in the text of a /proc link, `net:[4026531840]`: reading it costs less than following it.
fn linked_inode(path: &Path) -> Option<Netns> {
    let link = fs::read_link(path).ok()?;
    let inode = link.to_str()?.strip_prefix("net:[")?.strip_suffix(']')?;
    inode.parse().ok().map(Netns)
}

fn registered() -> impl Iterator<Item = (Netns, PathBuf, String)> {
    let entries = NAME_DIRS.iter().find_map(|dir| fs::read_dir(dir).ok());
    entries.into_iter().flatten().flatten().filter_map(|entry| {
        let path = entry.path();
        // What `ip netns` leaves when a reboot took the mount is an empty plain file.
        let file = open_net(&path).ok()?;
        Some((
            inode_of(&file, &path).ok()?,
            path,
            entry.file_name().into_string().ok()?,
        ))
    })
}

fn registered_name(netns: Netns) -> Option<String> {
    registered()
        .find(|(inode, ..)| *inode == netns)
        .map(|(_, _, name)| name)
}

fn pid_path(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/ns/net"))
}

fn open_net(path: &Path) -> Result<File, IdentityError> {
    // Opening a pipe or a device by mistake must not block or do anything.
    let not_netns = || IdentityError::NotNetns {
        path: path.to_owned(),
    };
    let failed = |cause| IdentityError::Open {
        path: path.to_owned(),
        cause,
    };
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(not_netns());
    }
    let file = File::open(path).map_err(failed)?;
    if is_net(&file) {
        Ok(file)
    } else {
        Err(not_netns())
    }
}

/// Namespaces of all kinds are files of one file system; only this ioctl tells them apart.
fn is_net(file: &File) -> bool {
    // _IO(0xb7, 0x3) of `linux/nsfs.h`.
    const NS_GET_NSTYPE: libc::Ioctl = 0xb703;
    // SAFETY: takes no argument and only reads; the descriptor is open for the length of the call.
    let kind = unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE) };
    kind == libc::CLONE_NEWNET
}

fn inode_of(file: &File, path: &Path) -> Result<Netns, IdentityError> {
    let meta = file.metadata().map_err(|cause| IdentityError::Open {
        path: path.to_owned(),
        cause,
    })?;
    Ok(Netns(meta.ino() as u32))
}

#[cfg(test)]
#[path = "netns_tests.rs"]
mod tests;
