//! `cargo xtask vm`: the lab on other kernels, in virtual machines made here from Debian's kernel packages.
//!
//! The guest's user space is this machine's own: the tools the lab runs with the libraries they need, and our
//! binaries. So nothing is downloaded but the kernel.

mod initramfs;
mod kernel;
mod modules;
mod qemu;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::test::Tally;
use crate::{setup, sh, test};

/// A kernel we promise to work on, and the Debian suite that carries it.
pub struct Kernel {
    pub name: &'static str,
    suite: &'static str,
    /// Part of every `cargo xtask test`.
    pub always: bool,
}

pub const KERNELS: &[Kernel] = &[
    // The oldest we support: ring buffer, but no drop reasons, no icmp_send tracepoint.
    Kernel {
        name: "5.10",
        suite: "bullseye",
        always: false,
    },
    // The oldest with drop reasons; no tcx.
    Kernel {
        name: "6.1",
        suite: "bookworm",
        always: true,
    },
    // tcx, and drop reasons of subsystems.
    Kernel {
        name: "6.12",
        suite: "trixie",
        always: false,
    },
    // The newest.
    Kernel {
        name: "7.2",
        suite: "sid",
        always: true,
    },
];

#[derive(clap::Args)]
pub struct Args {
    /// Kernels to run; without any, those that `cargo xtask test` runs
    #[arg(long, value_name = "VERSION", value_parser = by_name)]
    kernel: Vec<&'static Kernel>,
    /// All of them
    #[arg(long)]
    all: bool,
    /// Run this shell command in the guest instead of the lab
    #[arg(long, value_name = "SHELL")]
    command: Option<String>,
    /// Fetch the newest kernel of the suite even if one is in the cache
    #[arg(long)]
    refresh: bool,
}

fn by_name(name: &str) -> Result<&'static Kernel, String> {
    let known = || {
        KERNELS
            .iter()
            .map(|kernel| kernel.name)
            .collect::<Vec<_>>()
            .join(", ")
    };
    KERNELS
        .iter()
        .find(|kernel| kernel.name == name)
        .ok_or_else(|| format!("known kernels are {}", known()))
}

/// What the guest runs unless told otherwise.
const LAB: &str = "netdiag-lab run";

pub fn run(args: &Args) -> Result<ExitCode> {
    setup::build_tools()?;
    if let Err(error) = setup::packages::ensure() {
        println!("{error:#}");
    }
    if let Some(why) = cannot_run() {
        bail!("no virtual machine here: {why}");
    }
    let wanted = KERNELS.iter().filter(|kernel| match &args.kernel[..] {
        [] => args.all || kernel.always,
        named => named.iter().any(|named| named.name == kernel.name),
    });
    let mut total = Tally::default();
    for kernel in wanted {
        let tally = boot(kernel, args.command.as_deref().unwrap_or(LAB), args.refresh)?;
        total.passed += tally.passed;
        total.failed += tally.failed;
    }
    println!("\n{} passed, {} failed", total.passed, total.failed);
    Ok(if total.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The lab on one kernel.
pub fn test(kernel: &Kernel) -> Result<Tally> {
    boot(kernel, LAB, false)
}

/// Why no virtual machine can run on this machine.
pub fn cannot_run() -> Option<String> {
    let missing = setup::packages::missing(|ring| ring != setup::packages::Ring::Bench);
    if !missing.is_empty() {
        return Some(format!("packages are missing: {}", missing.join(" ")));
    }
    sh::find("apt-get")
        .is_none()
        .then(|| "the kernels are Debian packages, and there is no apt-get".to_owned())
}

fn boot(kernel: &Kernel, command: &str, refresh: bool) -> Result<Tally> {
    let image = kernel::image(kernel, refresh)?;
    sh::run(&mut test::build())?;
    let started = Instant::now();
    let folder = sh::target().join("vm");
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let initrd = folder.join(format!("{}.cpio", kernel.name));
    let programs = ["netdiag", "netdiag-lab"].map(|name| sh::target().join("debug").join(name));
    initramfs::write(&initrd, &image, &programs, command)?;
    let log = folder.join(format!("{}.log", kernel.name));
    println!(
        "kernel {} ({}), log in {}",
        kernel.name,
        image.version,
        log.display()
    );
    let tally = qemu::run(&image.vmlinuz, &initrd, &log)?;
    println!(
        "kernel {}: {} passed, {} failed, {:.1} s",
        kernel.name,
        tally.passed,
        tally.failed,
        started.elapsed().as_secs_f64()
    );
    Ok(tally)
}

/// Where downloaded kernels are kept between runs and between clones.
fn cache() -> PathBuf {
    let set = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let user = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    user.map_or_else(|| sh::target().join("vm"), |cache| cache.join("netdiag"))
}
