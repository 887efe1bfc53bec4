//! The few system calls no safe wrapper covers, each behind a safe function.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::Signal;

/// Makes the command start in the network namespace open as `netns`, which must stay open until it is spawned.
pub fn start_in_netns(command: &mut Command, netns: &File) {
    let fd = netns.as_raw_fd();
    // SAFETY: setns and dup are async-signal-safe, which is all a forked child may call before exec; the
    // descriptor is the parent's and was inherited by the fork.
    unsafe {
        command.pre_exec(move || {
            let netns = OwnedFd::from_raw_fd(libc::dup(fd));
            setns(&netns, CloneFlags::CLONE_NEWNET).map_err(io::Error::from)
        });
    }
}

/// Makes the command die with the thread that spawned it, so that a killed test run leaves no process behind.
pub fn die_with_parent(command: &mut Command, signal: Signal) {
    // SAFETY: prctl is async-signal-safe.
    unsafe {
        command.pre_exec(move || nix::sys::prctl::set_pdeathsig(signal).map_err(io::Error::from));
    }
}

/// `bpf(2)` for commands that return a descriptor.
pub fn bpf(command: u32, attributes: &BpfAttributes) -> io::Result<OwnedFd> {
    // SAFETY: the attribute block is as long as we say; every pointer in it was put there by a caller that keeps
    // the memory alive over this call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            attributes.0.as_ptr(),
            attributes.0.len(),
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a fresh descriptor the kernel just gave us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

const BPF_PROG_QUERY: u32 = 16;

/// Ids of the programs attached to an interface of this thread's namespace by links of this type.
pub fn attached(interface: u32, attach_type: u32) -> io::Result<Vec<u32>> {
    let mut ids = [0_u32; 64];
    let attributes = BpfAttributes::new()
        .put(0, &interface.to_ne_bytes())
        .put(4, &attach_type.to_ne_bytes())
        .put(16, &(ids.as_mut_ptr() as u64).to_ne_bytes())
        .put(24, &(ids.len() as u32).to_ne_bytes());
    let mut block = attributes.0;
    // SAFETY: the kernel writes into the block and into `ids`, both of which live over the call and are as long as
    // it is told.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_QUERY,
            block.as_mut_ptr(),
            block.len(),
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let count = u32::from_ne_bytes([block[24], block[25], block[26], block[27]]) as usize;
    Ok(ids[..count.min(ids.len())].to_vec())
}

/// `union bpf_attr`, long enough for the commands used here; the kernel wants unused bytes to be zero.
pub struct BpfAttributes([u8; 80]);

impl BpfAttributes {
    pub const fn new() -> Self {
        Self([0; 80])
    }

    #[must_use]
    pub fn put(mut self, offset: usize, bytes: &[u8]) -> Self {
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
        self
    }
}

impl Default for BpfAttributes {
    fn default() -> Self {
        Self::new()
    }
}

/// `setsockopt` with an `int`.
pub fn set_socket_option(
    socket: &impl AsRawFd,
    level: i32,
    name: i32,
    value: i32,
) -> io::Result<()> {
    // SAFETY: the value lives over the call and its size is given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Waits until the peer has acknowledged all that was written, at most `limit`.
pub fn wait_for_acknowledgement(socket: &impl AsRawFd, limit: Duration) -> io::Result<()> {
    let deadline = Instant::now() + limit;
    loop {
        let mut unacknowledged: libc::c_int = 0;
        // SAFETY: `TIOCOUTQ` (tcp(7): `SIOCOUTQ`) writes one int.
        let result =
            unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut unacknowledged) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        if unacknowledged == 0 || Instant::now() >= deadline {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
