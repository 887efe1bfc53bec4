//! Doing something inside another network namespace.

use std::fs::File;
use std::io;
use std::os::linux::fs::MetadataExt;
use std::path::Path;
use std::thread;

use nix::sched::{CloneFlags, setns};

use crate::event::Netns;

/// The namespace of this process.
pub const OWN: &str = "/proc/self/ns/net";

/// The namespace of this thread.
const THREAD: &str = "/proc/thread-self/ns/net";

/// Opens the namespace at `path`, or our own.
pub fn open(path: Option<&Path>) -> io::Result<File> {
    File::open(path.unwrap_or(Path::new(OWN)))
}

/// The inode that names it.
pub fn inode(netns: &File) -> io::Result<Netns> {
    Ok(Netns(netns.metadata()?.st_ino() as u32))
}

/// Runs `work` in a thread that has entered `netns`. A thread of its own, because a namespace belongs to a thread and
/// the async runtime moves its tasks between threads. Where we are already there is nothing to enter, and no privilege is
/// needed for it.
pub fn within<T: Send>(netns: &File, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    if inode(netns)? == inode(&open(Some(Path::new(THREAD)))?)? {
        return Ok(work());
    }
    thread::scope(|scope| {
        let worker = thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, || {
                setns(netns, CloneFlags::CLONE_NEWNET)?;
                Ok(work())
            })?;
        worker
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the worker in the namespace panicked")))
    })
}
