//! Builds the eBPF object that the agent embeds.
//!
//! The object needs the sources of the Rust library (there is no ready-made `core` for BPF) and bpf-linker. Without them
//! this stops before the expensive part, with one line that says what to run.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use aya_build::{Package, Toolchain};
use object::build::elf::{Builder, SectionData};

/// Overrides the toolchain that compiles the eBPF programs.
const TOOLCHAIN_VARIABLE: &str = "NETDIAG_BPF_TOOLCHAIN";
/// In order of preference: the workspace's own, and the one `cargo xtask setup` links from system packages.
const TOOLCHAINS: [&str; 2] = ["1.95.0", "netdiag-bpf"];

fn main() {
    println!("cargo::rerun-if-env-changed={TOOLCHAIN_VARIABLE}");
    if let Err(problem) = build() {
        println!("cargo::error={problem}");
    }
}

fn build() -> Result<(), String> {
    let toolchain = toolchain()?;
    linker()?;
    let manifest =
        env::var("CARGO_MANIFEST_DIR").map_err(|e| format!("CARGO_MANIFEST_DIR: {e}"))?;
    let workspace = Path::new(&manifest)
        .parent()
        .ok_or("the agent's folder has no parent")?;
    let common = workspace.join("netdiag-common");
    println!("cargo::rerun-if-changed={}", common.display());
    println!(
        "cargo::rerun-if-changed={}",
        workspace.join("Cargo.toml").display()
    );
    let root = workspace.join("netdiag-ebpf");
    let root = root
        .to_str()
        .ok_or("the path of netdiag-ebpf is not UTF-8")?;
    // SAFETY: build scripts start with one thread. The first is set here and not outside: other crates' build scripts
    // would see it and switch on unstable features; the inner cargo needs exactly 1 to build `core`. The second, because
    // all the inner cargo says is repeated as warnings. The others, because the release profile is made for the size of
    // the agent: with it the programs' stack frames grow, and a chain of calls may have 512 bytes in all.
    unsafe {
        env::set_var("RUSTC_BOOTSTRAP", "1");
        env::set_var("CARGO_TERM_QUIET", "true");
        env::set_var("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3");
        env::set_var("CARGO_PROFILE_RELEASE_LTO", "off");
    }
    aya_build::build_ebpf(
        [Package {
            name: "netdiag-ebpf",
            root_dir: root,
            ..Package::default()
        }],
        Toolchain::Custom(&toolchain),
    )
    .map_err(|error| format!("build netdiag-ebpf with toolchain {toolchain}: {error:#}"))?;
    let out = env::var("OUT_DIR").map_err(|error| format!("OUT_DIR: {error}"))?;
    without_debug_sections(&Path::new(&out).join("netdiag-ebpf"))
}

/// DWARF is what BTF was made from, and three quarters of the object; no loader reads it.
fn without_debug_sections(file: &Path) -> Result<(), String> {
    let failed = |act: &str, error: &dyn std::fmt::Display| {
        format!("{act} the eBPF object {}: {error}", file.display())
    };
    let whole = fs::read(file).map_err(|error| failed("read", &error))?;
    let mut object = Builder::read(whole.as_slice()).map_err(|error| failed("parse", &error))?;
    for section in &mut object.sections {
        let name = section.name.to_string();
        section.delete = name.starts_with(".debug_") || name.starts_with(".rel.debug_");
    }
    object.delete_orphans();
    // LLVM keeps the names of sections among those of symbols; the writer wants them apart.
    let names = object.sections.add();
    names.name = ".shstrtab".into();
    names.sh_type = object::elf::SHT_STRTAB;
    names.data = SectionData::SectionString;
    let mut small = Vec::new();
    object
        .write(&mut small)
        .map_err(|error| failed("write", &error))?;
    fs::write(file, small).map_err(|error| failed("write", &error))
}

/// The first toolchain that has the library's sources.
fn toolchain() -> Result<String, String> {
    if let Ok(name) = env::var(TOOLCHAIN_VARIABLE) {
        return if has_library_sources(&name) {
            Ok(name)
        } else {
            Err(format!(
                "toolchain {name} ({TOOLCHAIN_VARIABLE}) has no library sources (rust-src): run `cargo xtask setup`"
            ))
        };
    }
    TOOLCHAINS
        .into_iter()
        .find(|name| has_library_sources(name))
        .map(str::to_owned)
        .ok_or_else(|| {
            "no Rust toolchain with library sources (rust-src) for the eBPF programs: run `cargo xtask setup`".to_owned()
        })
}

fn has_library_sources(toolchain: &str) -> bool {
    let output = Command::new("rustup")
        .args(["run", toolchain, "rustc", "--print", "sysroot"])
        .output();
    let Ok(output) = output else { return false };
    let sysroot = String::from_utf8_lossy(&output.stdout);
    output.status.success()
        && Path::new(sysroot.trim())
            .join("lib/rustlib/src/rust/library/core/Cargo.toml")
            .is_file()
}

/// bpf-linker on the PATH; cargo's own folder for programs is added when it is there but not on the PATH.
fn linker() -> Result<(), String> {
    const NAME: &str = "bpf-linker";
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = env::split_paths(&path).collect();
    if folders.iter().any(|folder| folder.join(NAME).is_file()) {
        return Ok(());
    }
    let installed = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")))
        .map(|cargo| cargo.join("bin"))
        .filter(|folder| folder.join(NAME).is_file());
    let Some(installed) = installed else {
        return Err(format!("{NAME} not found: run `cargo xtask setup`"));
    };
    folders.push(installed);
    let joined = env::join_paths(folders).map_err(|error| format!("PATH: {error}"))?;
    // SAFETY: build scripts start with one thread.
    unsafe { env::set_var("PATH", joined) };
    Ok(())
}
