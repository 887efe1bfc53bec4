//! bpf-linker: turns what rustc makes into one eBPF object.

use std::process::Command;

use anyhow::{Context, Result, bail};

use super::say;
use super::toolchain::Toolchain;
use crate::sh;

/// The last version that can use the LLVM inside rustc; later ones want LLVM installed on the system.
const VERSION: &str = "0.10.3";
/// The LLVM versions that bpf-linker has features for.
const LLVM: std::ops::RangeInclusive<u32> = 20..=22;
const STEP: &str = "bpf-linker";

/// Finds or builds it.
pub fn ensure(toolchain: &Toolchain) -> Result<()> {
    let present = sh::output(Command::new("bpf-linker").arg("--version")).unwrap_or_default();
    let present = present.trim().trim_start_matches("bpf-linker ");
    if present == VERSION {
        say(STEP, format_args!("ok, already there ({VERSION})"));
        return Ok(());
    }
    let llvm = toolchain.llvm;
    if !LLVM.contains(&llvm) {
        bail!(
            "bpf-linker {VERSION} knows LLVM {}-{}, rustc {} has {llvm}",
            LLVM.start(),
            LLVM.end(),
            toolchain.version
        );
    }
    let instead = if present.is_empty() {
        String::new()
    } else {
        format!(" in the place of {present}")
    };
    say(
        STEP,
        format_args!("building {VERSION} for LLVM {llvm}{instead}, about two minutes"),
    );
    let mut install = sh::cargo();
    install.args([
        "install",
        "bpf-linker",
        "--version",
        VERSION,
        "--locked",
        "--no-default-features",
        "--features",
    ]);
    install.arg(format!("llvm-{llvm},rust-llvm-{llvm}"));
    sh::run(&mut install).with_context(|| format!("build bpf-linker {VERSION}"))?;
    sh::find("bpf-linker")
        .context("bpf-linker is installed but not in PATH: add cargo's bin folder to PATH")?;
    say(STEP, "done");
    Ok(())
}
