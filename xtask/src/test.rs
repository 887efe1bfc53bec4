//! `cargo xtask test`: the rings, from the cheapest to the dearest, and one table at the end.

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use crate::tally::Tally;
use crate::{setup, sh, vm};

#[derive(clap::Args)]
pub struct Args {
    /// Leave the virtual machines out
    #[arg(long)]
    no_vm: bool,
    /// Run these rings only
    #[arg(long, value_name = "RING")]
    only: Vec<Ring>,
    /// All kernels in the vm ring, not just the oldest with drop reasons and the newest
    #[arg(long)]
    all: bool,
}

/// The same scenarios, closer and closer to a real node.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Ring {
    /// Unit tests and recordings: no root, no kernel
    Unit,
    /// Real packets through real programs on this kernel
    Lab,
    /// The lab again on other kernels
    Vm,
}

impl Ring {
    const ALL: [Self; 3] = [Self::Unit, Self::Lab, Self::Vm];
}

/// How a ring, or one kernel of the vm ring, ended.
struct Row {
    name: String,
    took: Duration,
    outcome: Outcome,
}

enum Outcome {
    Ran(Tally),
    /// Why it cannot run on this machine.
    Left(String),
}

pub fn run(args: &Args) -> Result<ExitCode> {
    setup::build_tools()?;
    if let Err(error) = setup::packages::ensure() {
        println!("{error:#}");
    }
    setup::promtool::ensure();
    sh::run(&mut build())?;
    let rings = Ring::ALL
        .into_iter()
        .filter(|ring| args.only.is_empty() || args.only.contains(ring));
    let mut rows = Vec::new();
    for ring in rings.filter(|ring| !(args.no_vm && *ring == Ring::Vm)) {
        match ring {
            Ring::Unit => rows.push(timed("unit, replay", || {
                tests(&mut unit_tests()).map(Outcome::Ran)
            })),
            Ring::Lab => {
                // The time of the ring is the tests' own.
                sh::run(lab_programs(&[&["lab"], RESIDENTS].concat()).arg("--no-run"))?;
                rows.push(timed("lab", lab));
            }
            Ring::Vm => rows.extend(virtual_machines(args.all)),
        }
    }
    Ok(report(&rows))
}

fn timed(name: &str, ring: impl FnOnce() -> Result<Outcome>) -> Row {
    println!("\n=== {name}");
    let started = Instant::now();
    let outcome = ring().unwrap_or_else(|error| {
        println!("{error:#}");
        Outcome::Ran(Tally::default().failed_at_least_once(false))
    });
    Row {
        name: name.to_owned(),
        took: started.elapsed(),
        outcome,
    }
}

/// All commands build the same packages with the same features and profile, so that nothing is built twice.
pub fn cargo(subcommand: &str) -> Command {
    let mut command = sh::cargo();
    command.args([subcommand, "--features", "netdiag-tests/lab"]);
    command
}

/// The programs that the rings run: netdiag itself, the lab, the guest's init.
pub fn build() -> Command {
    cargo("build")
}

/// A failed test says in a line what was wrong; whoever wants more runs that test alone.
const BACKTRACE: (&str, &str) = ("RUST_BACKTRACE", "0");

fn unit_tests() -> Command {
    let mut command = sh::cargo();
    command
        .args(["test", "--no-fail-fast"])
        .env(BACKTRACE.0, BACKTRACE.1);
    command
}

/// What starts containers and agents.
const RESIDENTS: &[&str] = &["pods", "agent", "lifecycle", "pcap"];

/// Some of the lab's test programs.
fn lab_programs(programs: &[&str]) -> Command {
    let mut command = cargo("test");
    command.arg("--no-fail-fast").env(BACKTRACE.0, BACKTRACE.1);
    command.args(programs.iter().flat_map(|name| ["--test", name]));
    command
}

/// So many tests of each program at once.
fn lab_tests(programs: &[&str], at_once: u8) -> Command {
    let mut command = lab_programs(programs);
    command.args(["--", "--test-threads", &at_once.to_string()]);
    command
}

/// The scenarios; beside them, as both wait more than they work, whatever starts containers and agents. The lines of the
/// second are shown when the first are through.
fn lab() -> Result<Outcome> {
    if let Some(why) = no_lab_here() {
        return Ok(Outcome::Left(why));
    }
    let mut scenarios = lab_tests(&["lab"], 12);
    let mut residents = lab_tests(RESIDENTS, 5);
    let mut lines = Vec::new();
    let (first, second) = std::thread::scope(|scope| {
        let second = scope.spawn(|| {
            let mut tally = Tally::default();
            let success = sh::each_line(&mut residents, |line| {
                tally.see(line);
                lines.push(line.to_owned());
            })?;
            Ok(tally.failed_at_least_once(success))
        });
        let first = tests(&mut scenarios);
        let panicked = |_| {
            Err(anyhow!(
                "the thread that runs the lab's other tests panicked"
            ))
        };
        (first, second.join().unwrap_or_else(panicked))
    });
    for line in &lines {
        println!("{line}");
    }
    let mut tally = first?;
    tally.add(second?);
    Ok(Outcome::Ran(tally))
}

/// Why real packets cannot be traced on this machine.
pub fn no_lab_here() -> Option<String> {
    if !sh::is_root() {
        return Some("needs root: network namespaces and eBPF programs".to_owned());
    }
    if !std::path::Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Some("this kernel has no BTF (/sys/kernel/btf/vmlinux)".to_owned());
    }
    let missing = setup::packages::missing(|ring| ring == setup::packages::Ring::Lab);
    (!missing.is_empty()).then(|| format!("packages are missing: {}", missing.join(" ")))
}

fn tests(command: &mut Command) -> Result<Tally> {
    let mut tally = Tally::default();
    let success = sh::follow(command, |line| tally.see(line))?;
    Ok(tally.failed_at_least_once(success))
}

fn virtual_machines(all: bool) -> Vec<Row> {
    if let Some(why) = vm::cannot_run() {
        return vec![timed("vm", || Ok(Outcome::Left(why)))];
    }
    let kernels: Vec<_> = vm::KERNELS
        .iter()
        .filter(|kernel| all || kernel.always)
        .collect();
    let one = |kernel: &&vm::Kernel| {
        let name = format!("vm {}", kernel.name);
        timed(&name, || vm::test(kernel, all).map(Outcome::Ran))
    };
    kernels.iter().map(one).collect()
}

/// What failed, the table and the closing line.
fn report(rows: &[Row]) -> ExitCode {
    let mut total = Tally::default();
    for Row { name, outcome, .. } in rows {
        if let Outcome::Ran(tally) = outcome {
            total.add(tally.clone());
            for failure in &tally.failures {
                println!("\nfailed in {name}: {failure}");
            }
        }
    }
    println!("\n{:<14} {:<28} {:>8}", "ring", "result", "time");
    for Row {
        name,
        took,
        outcome,
    } in rows
    {
        let result = match outcome {
            Outcome::Ran(tally) => format!("{} passed, {} failed", tally.passed, tally.failed),
            Outcome::Left(why) => format!("not run: {why}"),
        };
        println!("{name:<14} {result:<28} {:>6.1} s", took.as_secs_f64());
    }
    println!("\n{} passed, {} failed", total.passed, total.failed);
    if total.failed == 0 && total.passed > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
