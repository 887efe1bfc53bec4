//! `cargo xtask lint`: format, clippy, and the direction in which modules may use each other.

mod layers;

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::{setup, sh};

/// Every check runs, so that one sees all that is wrong at once.
pub fn run() -> Result<ExitCode> {
    setup::build_tools()?;
    let mut wrong = Vec::new();
    let mut check = |name: &'static str, ok: bool| {
        println!("{name:<16} {}", if ok { "ok" } else { "FAILED" });
        if !ok {
            wrong.push(name);
        }
    };
    check(
        "format",
        sh::run(sh::cargo().args(["fmt", "--all", "--check"])).is_ok(),
    );
    check("layers", layering()?);
    check(
        "clippy",
        sh::run(sh::cargo().args([
            "clippy",
            "--all-targets",
            "--all-features",
            "--keep-going",
            "--",
            "-D",
            "warnings",
        ]))
        .is_ok(),
    );
    check("clippy for eBPF", sh::run(&mut clippy_for_ebpf()).is_ok());
    if wrong.is_empty() {
        println!("lint: all clean");
        return Ok(ExitCode::SUCCESS);
    }
    println!("lint: {} failed", wrong.join(", "));
    Ok(ExitCode::FAILURE)
}

fn layering() -> Result<bool> {
    let violations = layers::check(&sh::root().join("netdiag-agent/src"))?;
    for violation in &violations {
        eprintln!("{violation}");
    }
    Ok(violations.is_empty())
}

/// The eBPF crate is no default member: it only compiles for its own target, with `core` built from source.
fn clippy_for_ebpf() -> Command {
    let mut command = sh::cargo();
    command.args([
        "clippy",
        "-p",
        "netdiag-ebpf",
        "--target",
        "bpfel-unknown-none",
        "-Z",
        "build-std=core",
    ]);
    command
        .arg("--target-dir")
        .arg(sh::target().join("lint-ebpf"));
    command.args(["--", "-D", "warnings"]);
    // build-std is unstable; this is the switch the agent's build script uses too.
    command.env("RUSTC_BOOTSTRAP", "1");
    command
}
