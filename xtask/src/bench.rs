//! `cargo xtask bench`: what tracing costs, measured by the tests crate's `netdiag-bench`.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::{setup, sh, test};

/// As many as a kubelet admits by default.
const PODS: &str = "110";

#[derive(clap::Args)]
pub struct Args {
    /// Passed on to netdiag-bench
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

/// The only command that builds in release mode: figures of a debug build say nothing.
pub fn run(args: &Args) -> Result<ExitCode> {
    setup::build_tools()?;
    if let Some(why) = test::no_lab_here() {
        bail!("cannot measure here: {why}");
    }
    sh::run(sh::cargo().args([
        "build",
        "--release",
        "-p",
        "netdiag-agent",
        "-p",
        "netdiag-tests",
        "--bins",
    ]))?;
    let mut bench = Command::new(sh::target().join("release/netdiag-bench"));
    bench.args(&args.args).current_dir(sh::root());
    let status = bench
        .status()
        .with_context(|| format!("start {}", sh::words(&bench)))?;
    println!("\n=== from a pod's name to attached, on a node with {PODS} pods");
    let mut full_node = test::cargo("test");
    full_node.args(["-q", "-p", "netdiag-tests", "--test", "pods", "--"]);
    full_node.args(["speed", "--nocapture"]);
    full_node.env("NETDIAG_BIN", sh::target().join("release/netdiag"));
    full_node.env("NETDIAG_PODS", PODS);
    let full_node = sh::run(&mut full_node).is_ok();
    Ok(if status.success() && full_node {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
