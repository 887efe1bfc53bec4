//! `cargo xtask …`: everything one does with this repository besides building it.
//!
//! It must build on a machine where nothing is set up yet, so it depends on no other crate of the workspace.

mod apt;
mod bench;
mod cluster;
mod demo;
mod lint;
mod setup;
mod sh;
mod tally;
mod test;
mod vm;

use clap::Parser;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Set-up, tests, demo and measurements of netdiag"
)]
enum Xtask {
    /// Make this machine ready: toolchain for the eBPF programs, linker, Debian packages
    Setup,
    /// Run every test ring this machine can run
    Test(test::Args),
    /// Check format, clippy and the layering of the modules
    Lint,
    /// Break a fake node in several ways and trace it for real
    Demo(demo::Args),
    /// Measure what tracing costs
    Bench(bench::Args),
    /// A node of a real Kubernetes in namespaces of its own, and scenarios on it
    Cluster(cluster::Args),
    /// Run the lab inside virtual machines with other kernels
    Vm(vm::Args),
}

fn main() -> std::process::ExitCode {
    let done = match Xtask::parse() {
        Xtask::Setup => setup::run(),
        Xtask::Test(args) => test::run(&args),
        Xtask::Lint => lint::run(),
        Xtask::Demo(args) => demo::run(&args),
        Xtask::Bench(args) => bench::run(&args),
        Xtask::Cluster(args) => cluster::run(&args),
        Xtask::Vm(args) => vm::run(&args),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            std::process::ExitCode::from(2)
        }
    }
}
