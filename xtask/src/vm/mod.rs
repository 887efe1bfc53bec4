//! `cargo xtask vm`: the lab on other kernels, in virtual machines made here from Debian's kernel packages.
//!
//! The guest's user space is this machine's own: the tools the lab runs with the libraries they need, and our
//! binaries. So nothing is downloaded but the kernel.

mod initramfs;
mod kernel;
mod modules;
mod qemu;
mod results;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::setup::packages::Ring;
use crate::tally::Tally;
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

#[derive(Default, clap::Args)]
pub struct Args {
    /// Kernels to run; without any, those that `cargo xtask test` runs
    #[arg(long, value_name = "VERSION", value_parser = by_name)]
    kernel: Vec<&'static Kernel>,
    #[command(flatten)]
    breadth: Breadth,
    /// Only this scenario, or this variant of one
    #[arg(long, value_name = "NAME")]
    scenario: Vec<String>,
    /// Run this shell command in the guest instead of the lab
    #[arg(long, value_name = "SHELL")]
    command: Option<String>,
    /// Fetch the newest kernel of the suite even if one is in the cache
    #[arg(long)]
    refresh: bool,
    /// Run what dies in netfilter a second time without kprobes and fexit, and write docs/tiers.md anew
    #[arg(long)]
    table: bool,
    /// Only take the results of an earlier run, or of `netdiag-lab run` on this machine, into docs/tiers.md
    #[arg(long, value_name = "LOG")]
    merge: Vec<PathBuf>,
    /// Further options for `netdiag-lab run`
    #[arg(last = true)]
    options: Vec<String>,
}

#[derive(Clone, Copy, Default, clap::Args)]
struct Breadth {
    /// All kernels
    #[arg(long)]
    all: bool,
    /// Every variant of every scenario, not one of each
    #[arg(long)]
    full: bool,
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

pub fn run(args: &Args) -> Result<ExitCode> {
    if !args.merge.is_empty() {
        let mut lines = Vec::new();
        for log in &args.merge {
            let text =
                fs::read_to_string(log).with_context(|| format!("read {}", log.display()))?;
            lines.extend(results::gathered(&text));
        }
        results::save(&lines)?;
        return Ok(ExitCode::SUCCESS);
    }
    setup::build_tools()?;
    if let Err(error) = setup::packages::ensure() {
        println!("{error:#}");
    }
    if let Some(why) = cannot_run() {
        bail!("no virtual machine here: {why}");
    }
    let wanted = KERNELS.iter().filter(|kernel| match &args.kernel[..] {
        [] => args.breadth.all || kernel.always,
        named => named.iter().any(|named| named.name == kernel.name),
    });
    let mut total = Tally::default();
    for kernel in wanted {
        total.add(boot(kernel, args)?);
    }
    println!("\n{} passed, {} failed", total.passed, total.failed);
    Ok(if total.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What `cargo xtask test` runs in each guest, within two minutes: the healthy controls, each rule back end, connection
/// tracking and translation, Services, routes, sockets and silence, on both topologies and families. `--all` runs one
/// variant of the whole table.
const TESTED: &[&str] = &[
    "healthy_bridge_v4",
    "healthy_ptp_v6",
    "hairpin_ptp_v4",
    "overlay_bridge_v4",
    "forward_rule_bridge_v4",
    "forward_rule_legacy_ptp_v4",
    "forward_policy_bridge_v6",
    "forward_table_ptp_v6",
    "forward_reply_ptp_v6",
    "reject_reset_ptp_v4",
    "pod_to_pod_bridge_v4",
    "svc_no_endpoints_ptp_v4",
    "svc_no_endpoints_nft_ptp_v6",
    "snat_ports_exhausted_bridge_v4",
    "masq_missing_ptp_v4",
    "conntrack_full_bridge_v4",
    "conntrack_invalid_bridge_v6",
    "conntrack_lost_ptp_v4",
    "no_route_bridge_v4",
    "blackhole_route_ptp_v6",
    "rp_filter_ptp_v4",
    "routing_loop_bridge_v4",
    "link_down_ptp_v6",
    "port_closed_pod_ptp_v4",
    "peer_refused_bridge_v6",
    "no_answer_bridge_v6",
];

/// The lab on one kernel, as `cargo xtask test` runs it; `all`: one variant of each scenario.
pub fn test(kernel: &Kernel, all: bool) -> Result<Tally> {
    sh::run(&mut test::build())?;
    let scenario = if all {
        choose(&list()?, false)
    } else {
        TESTED.iter().map(|name| (*name).to_owned()).collect()
    };
    let args = Args {
        scenario,
        ..Args::default()
    };
    boot(kernel, &args)
}

/// Why no virtual machine can run on this machine.
pub fn cannot_run() -> Option<String> {
    let missing = setup::packages::missing(|ring| matches!(ring, Ring::Lab | Ring::Vm));
    if !missing.is_empty() {
        return Some(format!("packages are missing: {}", missing.join(" ")));
    }
    sh::find("apt-get")
        .is_none()
        .then(|| "the kernels are Debian packages, and there is no apt-get".to_owned())
}

fn boot(kernel: &Kernel, args: &Args) -> Result<Tally> {
    let image = kernel::image(kernel, args.refresh)?;
    sh::run(&mut test::build())?;
    let command = match &args.command {
        Some(command) => command.clone(),
        None => lab_command(args)?,
    };
    let started = Instant::now();
    let folder = sh::target().join("vm");
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let initrd = folder.join(format!("{}.cpio", kernel.name));
    let programs = ["netdiag", "netdiag-lab"].map(|name| sh::target().join("debug").join(name));
    initramfs::write(&initrd, &image, &programs, &command)?;
    let log = folder.join(format!("{}.log", kernel.name));
    println!(
        "kernel {} ({}), log in {}",
        kernel.name,
        image.version,
        log.display()
    );
    let tally = qemu::run(&image.vmlinuz, &initrd, &log)?;
    if args.table {
        let text = fs::read_to_string(&log).with_context(|| format!("read {}", log.display()))?;
        results::save(&results::gathered(&text))?;
    }
    println!(
        "kernel {}: {} passed, {} failed, {:.1} s",
        kernel.name,
        tally.passed,
        tally.failed,
        started.elapsed().as_secs_f64()
    );
    Ok(tally)
}

/// Scenarios at once in a guest of two CPUs: a good part of the time of each is waiting.
const JOBS: u32 = 4;

/// Emulation is slow: unless told otherwise each scenario runs once, the next one on the next topology and family, so
/// that all of these are met.
fn lab_command(args: &Args) -> Result<String> {
    let names = if args.scenario.is_empty() {
        choose(&list()?, args.breadth.full)
    } else {
        args.scenario.clone()
    };
    let compare: &[String] = if args.table {
        &["--compare".to_owned()]
    } else {
        &[]
    };
    let words = [
        &["netdiag-lab run --jobs".to_owned(), JOBS.to_string()][..],
        compare,
        &args.options,
        &names,
    ];
    Ok(words.concat().join(" "))
}

fn list() -> Result<String> {
    sh::output(Command::new(sh::target().join("debug/netdiag-lab")).arg("list"))
}

/// A line of the list is the scenario's name, then its variants as `topology/family`, then words.
fn choose(list: &str, full: bool) -> Vec<String> {
    let mut chosen = Vec::new();
    for (number, line) in list.lines().enumerate() {
        let mut words = line.split_whitespace();
        let Some(name) = words.next() else { continue };
        let variants: Vec<_> = words.take_while(|word| word.contains('/')).collect();
        let names = variants
            .iter()
            .map(|variant| format!("{name}_{}", variant.replace('/', "_")));
        let skip = if full || variants.is_empty() {
            0
        } else {
            number % variants.len()
        };
        chosen.extend(names.skip(skip).take(if full { variants.len() } else { 1 }));
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "healthy   bridge/v4 bridge/v6 ptp/v4 ptp/v6   nothing\n\
                        rp_filter bridge/v4 ptp/v4                    strict and/or loose\n\
                        bpf_x     bridge/v4 bridge/v6 ptp/v4 ptp/v6   a program\n\
                        no_route  bridge/v4 bridge/v6 ptp/v4 ptp/v6   no route\n";

    #[test]
    fn each_scenario_runs_once_on_another_topology_or_family() {
        let chosen = choose(LIST, false);
        let expected = [
            "healthy_bridge_v4",
            "rp_filter_ptp_v4",
            "bpf_x_ptp_v4",
            "no_route_ptp_v6",
        ];
        assert_eq!(chosen, expected);
    }

    #[test]
    fn a_full_run_has_every_variant() {
        let chosen = choose(LIST, true);
        assert_eq!(chosen.len(), 4 + 2 + 4 + 4);
        assert_eq!(chosen[5], "rp_filter_ptp_v4");
    }
}
