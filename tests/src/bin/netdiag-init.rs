//! The first process of a test guest: mounts, loads the modules, runs one command, says how it ended, powers off.
//!
//! The host reads only the last line, `netdiag-vm: N passed, N failed`.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

/// Type and place; one that this kernel lacks is left out.
const MOUNTS: &[(&str, &str)] = &[
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("devpts", "/dev/pts"),
    ("tmpfs", "/run"),
    ("tmpfs", "/tmp"),
    ("bpf", "/sys/fs/bpf"),
    ("debugfs", "/sys/kernel/debug"),
    ("tracefs", "/sys/kernel/tracing"),
    ("cgroup2", "/sys/fs/cgroup"),
];

/// Of the whole machine, so before any namespace is made.
const CONNTRACK_LIMIT: &str = "/proc/sys/net/netfilter/nf_conntrack_max";

fn main() {
    if std::process::id() != 1 {
        let answer = work().unwrap_or_else(|error| {
            println!("init: {error:#}");
            "0 passed, 1 failed".to_owned()
        });
        println!("netdiag-vm: {answer}");
        return;
    }
    // The work is done in a child, so that this process can do nothing but reap: a test that waits for an orphan
    // to be gone must not find it as a zombie.
    match Command::new("/init").spawn() {
        Ok(child) => reap_until(Pid::from_raw(child.id() as i32)),
        Err(error) => println!("init: start the worker: {error}"),
    }
    // SAFETY: the call takes no memory. It returns only on failure, and then the kernel panics, which ends QEMU too.
    unsafe {
        libc::sync();
        libc::reboot(libc::RB_POWER_OFF);
    }
}

fn reap_until(child: Pid) {
    while let Ok(status) = waitpid(None, None) {
        if matches!(status, WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..) if pid == child)
        {
            return;
        }
    }
}

/// Returns the counts that the command printed last.
fn work() -> Result<String> {
    for (kind, place) in MOUNTS {
        // A folder that exists already, or one that only appears with its file system, is no failure.
        let _ = fs::create_dir_all(place);
        if let Err(error) = mount(
            Some(*kind),
            *place,
            Some(*kind),
            MsFlags::empty(),
            None::<&str>,
        ) {
            println!("init: no {kind}: {error}");
        }
    }
    for module in fs::read_to_string("/modules/order")
        .context("read /modules/order")?
        .lines()
    {
        if let Err(error) = load(module) {
            println!("init: {error:#}");
        }
    }
    // The scenario that fills the table needs a minute for the usual limit under emulation.
    if let Err(error) = fs::write(CONNTRACK_LIMIT, "8192") {
        println!("init: lower {CONNTRACK_LIMIT}: {error}");
    }
    let command = fs::read_to_string("/netdiag-vm").context("read /netdiag-vm")?;
    println!("init: {}", command.lines().next().unwrap_or_default());
    run(&command)
}

fn load(module: &str) -> Result<()> {
    let file = File::open(module).with_context(|| format!("open {module}"))?;
    // SAFETY: the descriptor is open, the parameters are an empty NUL-ended string, and flags 0 ask for all checks.
    let result =
        unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), c"".as_ptr(), 0) };
    if result != 0 {
        return Err(std::io::Error::last_os_error()).with_context(|| format!("load {module}"));
    }
    Ok(())
}

fn run(command: &str) -> Result<String> {
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", command])
        .env("PATH", "/usr/sbin:/usr/bin")
        .env("HOME", "/root")
        .env("TERM", "dumb");
    let mut child = shell
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("start /bin/sh")?;
    let stdout = child.stdout.take().context("the command has no output")?;
    let mut counts = None;
    for line in BufReader::new(stdout).split(b'\n') {
        let line =
            String::from_utf8_lossy(&line.context("read the command's output")?).into_owned();
        println!("{line}");
        if line.contains(" passed") && line.contains(" failed") {
            counts = Some(line);
        }
    }
    let success = child.wait().context("wait for the command")?.success();
    Ok(match counts {
        Some(counts) if success || !counts.contains(" 0 failed") => counts,
        None if success => "1 passed, 0 failed".to_owned(),
        _ => "0 passed, 1 failed".to_owned(),
    })
}
