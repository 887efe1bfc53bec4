//! Nothing outlives the run: named namespaces are removed on drop, on SIGINT, SIGTERM and SIGHUP, and, after a
//! SIGKILL, by the next run.
//!
//! A namespace is named `nd<pid>…`, so the next run can tell whose it was and that its owner is dead.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::fd::IntoRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Mutex, Once};

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};

/// Where named namespaces live, by convention of iproute2.
pub const NETNS_DIR: &str = "/run/netns";
/// First letters of every namespace the lab makes; a process id follows.
pub const PREFIX: &str = "nd";

static PATHS: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
static WAKE: AtomicI32 = AtomicI32::new(-1);
static START: Once = Once::new();

/// Sweeps what dead runs left and arms the signal handlers; once per process.
pub fn start() {
    START.call_once(|| {
        sweep();
        if let Err(error) = catch_signals() {
            eprintln!("lab: catch signals: {error}; an interrupted run leaves its namespaces to the next one");
        }
    });
}

pub(crate) fn register(path: &Path) {
    PATHS
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .insert(path.to_owned());
}

/// Removes one named namespace; the namespace itself dies with its last socket and process.
pub(crate) fn remove(path: &Path) {
    unmount(path);
    PATHS
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .remove(path);
}

fn unmount(path: &Path) {
    // Both may fail on what is half made or already gone; there is nothing better to do then.
    let _ = umount2(path, MntFlags::MNT_DETACH);
    let _ = fs::remove_file(path);
}

fn remove_all() {
    let paths = PATHS
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .clone();
    for path in &paths {
        unmount(path);
    }
}

/// Removes the namespaces of lab processes that no longer exist.
pub fn sweep() {
    let Ok(entries) = fs::read_dir(NETNS_DIR) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(owner) else {
            continue;
        };
        if !Path::new("/proc").join(pid.to_string()).exists() {
            unmount(&entry.path());
        }
    }
}

/// Process id in a name the lab gave: `nd123-0-node` → 123.
fn owner(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split_once('-')?.0.parse().ok()
}

/// The handler only wakes a thread: removing takes locks, which a handler must not.
fn catch_signals() -> anyhow::Result<()> {
    let (mut reader, writer) = std::io::pipe()?;
    WAKE.store(writer.into_raw_fd(), Ordering::Release);
    std::thread::spawn(move || {
        let mut signal = [0; 1];
        if reader.read_exact(&mut signal).is_ok() {
            remove_all();
            finish(i32::from(signal[0]));
        }
    });
    let action = SigAction::new(
        SigHandler::Handler(wake),
        SaFlags::SA_RESTART,
        SigSet::empty(),
    );
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler only calls write(2) on a descriptor that is never closed.
        unsafe { sigaction(signal, &action)? };
    }
    Ok(())
}

extern "C" fn wake(signal: i32) {
    let byte = [signal as u8];
    // SAFETY: write(2) is async-signal-safe; the buffer lives over the call.
    unsafe { libc::write(WAKE.load(Ordering::Acquire), byte.as_ptr().cast(), 1) };
}

/// Dies of the signal, as it would have without us.
fn finish(signal: i32) {
    if let Ok(signal) = Signal::try_from(signal) {
        let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
        // SAFETY: restores the default action.
        if unsafe { sigaction(signal, &default) }.is_ok() {
            let _ = raise(signal);
        }
    }
    std::process::exit(130);
}

#[cfg(test)]
mod tests {
    use super::owner;

    #[test]
    fn only_names_of_the_lab_have_an_owner() {
        assert_eq!(owner("nd123-0-node"), Some(123));
        assert_eq!(owner("nd-node"), None);
        assert_eq!(owner("node123-0"), None);
        assert_eq!(owner("cni-123"), None);
    }
}
