//! The toolchain of the eBPF programs: a rustc that has the sources of `core`, linked in rustup as `netdiag-bpf`.
//!
//! bpf-linker uses rustc's own LLVM and takes the first `libLLVM*` it meets in `LD_LIBRARY_PATH`, where
//! `rustup run` puts `<toolchain>/lib`. So the folder linked as toolchain may hold no LLVM but the right one.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{packages, say};
use crate::sh;

/// Newer compilers carry an LLVM that the pinned bpf-linker cannot use.
const CHANNEL: &str = "1.95.0";
/// netdiag-agent's build script asks for this name.
const NAME: &str = "netdiag-bpf";
const STEP: &str = "eBPF toolchain";
/// Debian's compiler for browsers is the newest one a stable release carries.
const DEBIAN: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// A compiler that can build the eBPF programs.
pub struct Toolchain {
    pub version: String,
    pub llvm: u32,
}

impl Toolchain {
    /// Asks `rustc`; `None` when it cannot run or has no library sources.
    fn probe(mut rustc: impl FnMut() -> Command) -> Option<Self> {
        let sysroot = sh::output(rustc().args(["--print", "sysroot"])).ok()?;
        let sources =
            Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core/Cargo.toml");
        if !sources.exists() {
            return None;
        }
        Self::parse(&sh::output(rustc().arg("-vV")).ok()?)
    }

    fn parse(verbose_version: &str) -> Option<Self> {
        let field = |name: &str| {
            verbose_version
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
        };
        let llvm = field("LLVM version")?.split('.').next()?.parse().ok()?;
        Some(Self {
            version: field("release")?.to_owned(),
            llvm,
        })
    }

    fn linked() -> Option<Self> {
        Self::probe(|| rustup_rustc(NAME))
    }
}

fn rustup_rustc(toolchain: &str) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", toolchain, "rustc"]);
    command
}

/// Finds or makes the toolchain.
pub fn ensure() -> Result<Toolchain> {
    if sh::find("rustup").is_none() {
        bail!("rustup is not in PATH: install it, then run this again");
    }
    if let Some(ready) = Toolchain::linked() {
        say(
            STEP,
            format_args!(
                "ok, already there (rustc {}, LLVM {})",
                ready.version, ready.llvm
            ),
        );
        return Ok(ready);
    }
    if let Err(why) = standard() {
        say(
            STEP,
            format_args!("rustup cannot bring it ({why:#}); taking Debian's packages"),
        );
        debian().context(
            "no rustc with library sources: neither rustup nor Debian's packages could bring one",
        )?;
    }
    let made = Toolchain::linked()
        .with_context(|| format!("toolchain {NAME} was linked but has no library sources"))?;
    say(
        STEP,
        format_args!("done: rustc {}, LLVM {}", made.version, made.llvm),
    );
    Ok(made)
}

/// rustup's own way.
fn standard() -> Result<()> {
    if sh::output(rustup_rustc(CHANNEL).arg("-V")).is_err() {
        say(STEP, format_args!("installing rustc {CHANNEL} with rustup"));
        let mut install = Command::new("rustup");
        install.args([
            "toolchain",
            "install",
            CHANNEL,
            "--profile",
            "minimal",
            "--no-self-update",
        ]);
        sh::output_within(&mut install, Duration::from_mins(5))?;
    }
    if Toolchain::probe(|| rustup_rustc(CHANNEL)).is_none() {
        say(
            STEP,
            format_args!("adding rust-src to {CHANNEL} with rustup"),
        );
        let mut add = Command::new("rustup");
        add.args(["component", "add", "rust-src", "--toolchain", CHANNEL]);
        sh::output_within(&mut add, Duration::from_mins(2))?;
    }
    let sysroot = sh::output(rustup_rustc(CHANNEL).args(["--print", "sysroot"]))?;
    say(STEP, format_args!("linking {CHANNEL} as {NAME}"));
    link(Path::new(sysroot.trim()))
}

fn link(folder: &Path) -> Result<()> {
    sh::output(
        Command::new("rustup")
            .args(["toolchain", "link", NAME])
            .arg(folder),
    )
    .map(drop)
}

/// Debian's compiler, installed by root, else unpacked below the home folder.
fn debian() -> Result<()> {
    let home = data_folder()?;
    let missing = packages::not_installed(&DEBIAN)?;
    let prefix = if missing.is_empty() {
        PathBuf::from("/")
    } else if sh::is_root() {
        say(STEP, format_args!("installing {}", missing.join(" ")));
        packages::install(&missing)?;
        PathBuf::from("/")
    } else {
        let prefix = home.join("root");
        say(
            STEP,
            format_args!("unpacking {} below {}", DEBIAN.join(" "), prefix.display()),
        );
        packages::unpack(&DEBIAN, &prefix)?;
        prefix
    };
    wrap(&home, &prefix)?;
    link(&home)
}

/// A folder that looks like a toolchain: wrappers in bin/, and the one LLVM in lib/.
fn wrap(home: &Path, prefix: &Path) -> Result<()> {
    let libraries = prefix.join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH));
    let (bin, lib) = (home.join("bin"), home.join("lib"));
    for folder in [&bin, &lib] {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    let search = if prefix == Path::new("/") {
        String::new()
    } else {
        format!(
            "export LD_LIBRARY_PATH='{}:{}'\n",
            lib.display(),
            libraries.display()
        )
    };
    for program in ["rustc", "cargo", "rustdoc"] {
        let wrapper = bin.join(program);
        let real = prefix.join("usr/bin").join(program);
        let script = format!("#!/bin/sh\n{search}exec '{}' \"$@\"\n", real.display());
        fs::write(&wrapper, script).with_context(|| format!("write {}", wrapper.display()))?;
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))
            .with_context(|| format!("make {} executable", wrapper.display()))?;
    }
    let version = Toolchain::parse(&sh::output(Command::new(bin.join("rustc")).arg("-vV"))?)
        .context("Debian's rustc does not say its LLVM version")?;
    let llvm = find_llvm(&libraries, version.llvm)?;
    let name = lib.join(llvm.file_name().expect("a found file has a name"));
    match symlink(&llvm, &name) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("link {}", name.display()))
        }
        _ => Ok(()),
    }
}

/// `libLLVM.so.22.1` since LLVM 18, `libLLVM-17.so` before.
fn find_llvm(libraries: &Path, major: u32) -> Result<PathBuf> {
    let entries =
        fs::read_dir(libraries).with_context(|| format!("list {}", libraries.display()))?;
    let is_it = |name: &str| {
        name.starts_with(&format!("libLLVM.so.{major}"))
            || name.starts_with(&format!("libLLVM-{major}.so"))
    };
    entries
        .flatten()
        .find(|entry| is_it(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .with_context(|| format!("no libLLVM {major} in {}", libraries.display()))
}

fn data_folder() -> Result<PathBuf> {
    if let Some(data) = std::env::var_os("XDG_DATA_HOME").filter(|data| !data.is_empty()) {
        return Ok(Path::new(&data).join(NAME));
    }
    let home = std::env::var_os("HOME").context("HOME is not set: nowhere to put the toolchain")?;
    Ok(Path::new(&home).join(".local/share").join(NAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_rustc_says_of_itself() {
        let said = "rustc 1.95.0 (x 2026-04-14)\nbinary: rustc\nhost: x86_64\nrelease: 1.95.0\nLLVM version: 22.1.2\n";
        let parsed = Toolchain::parse(said).unwrap();
        assert_eq!((parsed.version.as_str(), parsed.llvm), ("1.95.0", 22));
        assert!(
            Toolchain::parse("release: 1.0.0\n").is_none(),
            "a rustc without LLVM cannot do it"
        );
    }
}
