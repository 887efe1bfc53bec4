//! `cargo xtask setup`: each step says what it does, is skipped when done, and ends in one line when it cannot.

pub mod linker;
pub mod packages;
pub mod promtool;
pub mod toolchain;

use std::process::ExitCode;

use anyhow::Result;

/// Everything, in the order in which it is needed.
pub fn run() -> Result<ExitCode> {
    build_tools()?;
    packages::ensure()?;
    promtool::ensure();
    println!("ready: cargo build, cargo test, cargo xtask demo");
    Ok(ExitCode::SUCCESS)
}

/// What `cargo build` needs, and nothing else.
pub fn build_tools() -> Result<()> {
    let toolchain = toolchain::ensure()?;
    linker::ensure(&toolchain)
}

/// The one line of a step.
fn say(step: &str, what: impl std::fmt::Display) {
    println!("{step:<16} {what}");
}
