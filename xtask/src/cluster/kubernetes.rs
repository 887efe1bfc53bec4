//! The programs of Kubernetes, built once from Debian's source package, the newest that still has the whole tree.
//!
//! Later source packages hold kubectl only. Nothing but the package is downloaded: its dependencies are part of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::apt::{Apt, Archive};
use crate::sh;

const VERSION: &str = "1.20.2";
const SUITE: &str = "bookworm";
const GO: &str = "/usr/lib/go-1.19/bin";
/// What the tree has of this library walks maps by a runtime function that took its third argument with Go 1.18: its
/// servers die of corrupted memory within minutes. Debian's package of the library is the repaired release.
const REPAIRED: [&str; 2] = [
    "/usr/share/gocode/src/github.com/modern-go/reflect2",
    "vendor/github.com/modern-go/reflect2",
];
pub const PROGRAMS: [&str; 5] = [
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
];

/// The source or what builds it cannot be had here: nothing is wrong with this project.
#[derive(Debug)]
pub struct Unobtainable;

impl std::fmt::Display for Unobtainable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "get the source package of kubernetes {VERSION}")
    }
}

/// Where built programs are kept between runs and between clones.
fn folder() -> PathBuf {
    sh::cache().join("kubernetes").join(VERSION)
}

/// The folder of the programs: from the cache, else built.
pub fn programs() -> Result<PathBuf> {
    let folder = folder();
    if PROGRAMS
        .iter()
        .all(|program| folder.join(program).is_file())
    {
        return Ok(folder);
    }
    let started = Instant::now();
    println!("kubernetes {VERSION}: building from Debian's source package (once; minutes)");
    let work = folder.with_extension(format!("{}.partial", std::process::id()));
    let built = build(&work).and_then(|output| keep(&output, &work, &folder));
    // Whatever happened: a gigabyte of objects is of no further use.
    let cleared = fs::remove_dir_all(&work).with_context(|| format!("remove {}", work.display()));
    built?;
    cleared?;
    println!(
        "kubernetes {VERSION}: built in {:.0} s",
        started.elapsed().as_secs_f64()
    );
    Ok(folder)
}

/// Why the programs cannot be had here, when they are not there yet.
pub fn cannot_build() -> Option<String> {
    if folder().is_dir() {
        return None;
    }
    sh::find("apt-get").is_none().then(|| {
        "kubernetes is built from a Debian source package, and there is no apt-get".to_owned()
    })
}

/// Downloads, unpacks and compiles; returns the folder with the programs.
fn build(work: &Path) -> Result<PathBuf> {
    let description = download(work).context(Unobtainable)?;
    let tree = work.join("src");
    let mut unpack = Command::new("dpkg-source");
    sh::output(unpack.arg("-x").arg(&description).arg(&tree))?;
    repair(&tree)?;
    compile(work, &tree).with_context(|| format!("build kubernetes {VERSION}"))?;
    Ok(tree.join("_output/local/bin/linux/amd64"))
}

/// The file that names the parts of the source package.
fn download(work: &Path) -> Result<PathBuf> {
    let apt = Apt::new(&work.join("apt"), Archive::Sources(SUITE))?;
    sh::output(apt.command("apt-get").args(["update", "-q"]))?;
    let listed = sh::output(apt.command("apt-cache").args(["showsrc", "kubernetes"]))?;
    let revision = revision(&listed)
        .with_context(|| format!("Debian {SUITE} has no source package of kubernetes {VERSION}"))?;
    sh::output(
        apt.command("apt-get")
            .args([
                "source",
                "--download-only",
                &format!("kubernetes={revision}"),
            ])
            .current_dir(work),
    )?;
    find(work, "dsc")
}

/// The first version of the listed source packages that is ours. Debian writes `NEWER+really1.20.2-1` when it has to
/// step back.
fn revision(showsrc: &str) -> Option<&str> {
    let versions = showsrc
        .lines()
        .filter_map(|line| line.strip_prefix("Version: "));
    versions.into_iter().find(|version| {
        let upstream = version.rsplit("+really").next();
        let rest = upstream.and_then(|upstream| upstream.strip_prefix(VERSION));
        rest.is_some_and(|rest| rest.starts_with(['-', '+', '~']))
    })
}

fn repair(tree: &Path) -> Result<()> {
    let [from, to] = REPAIRED;
    let to = tree.join(to);
    fs::remove_dir_all(&to).with_context(|| format!("remove {}", to.display()))?;
    sh::output(Command::new("cp").arg("-r").arg(from).arg(&to)).map(drop)
}

fn compile(work: &Path, tree: &Path) -> Result<()> {
    // Its own scripts read these from git, which a source package does not have.
    let parts: Vec<_> = VERSION.split('.').collect();
    let version = format!(
        "KUBE_GIT_COMMIT=debian\nKUBE_GIT_TREE_STATE=clean\nKUBE_GIT_VERSION=v{VERSION}\nKUBE_GIT_MAJOR={}\nKUBE_GIT_MINOR={}\n",
        parts[0], parts[1]
    );
    let file = work.join("version");
    fs::write(&file, version).with_context(|| format!("write {}", file.display()))?;
    // The tree must stand where a workspace of old expects it.
    let gopath = tree.join(".go");
    let place = gopath.join("src/k8s.io");
    fs::create_dir_all(&place).with_context(|| format!("create {}", place.display()))?;
    std::os::unix::fs::symlink("../../..", place.join("kubernetes"))
        .with_context(|| format!("link the tree into {}", place.display()))?;
    let path = std::env::var("PATH").unwrap_or_default();
    let what: Vec<_> = PROGRAMS
        .iter()
        .map(|program| format!("cmd/{program}"))
        .collect();
    let mut make = Command::new("make");
    make.arg(format!("WHAT={}", what.join(" ")));
    make.current_dir(tree)
        .env("PATH", format!("{GO}:{path}"))
        .env("CGO_ENABLED", "0")
        .env("GOPATH", &gopath)
        .env("GOCACHE", work.join("objects"))
        .env("GOPROXY", "off")
        .env("KUBE_GIT_VERSION_FILE", &file)
        .env("KUBE_BUILD_PLATFORMS", "linux/amd64")
        // Set for this workspace's own builds, they would be taken for its own.
        .env_remove("MAKEFLAGS")
        .env_remove("MFLAGS");
    sh::output(&mut make).map(drop)
}

/// Only a complete folder gets the final name. Somebody else may have been faster: then theirs is as good.
fn keep(output: &Path, work: &Path, folder: &Path) -> Result<()> {
    let complete = work.join("complete");
    fs::create_dir_all(&complete).with_context(|| format!("create {}", complete.display()))?;
    for program in PROGRAMS {
        let built = output.join(program);
        fs::rename(&built, complete.join(program))
            .with_context(|| format!("the build left no {}", built.display()))?;
    }
    match fs::rename(&complete, folder) {
        Err(_)
            if PROGRAMS
                .iter()
                .all(|program| folder.join(program).is_file()) =>
        {
            Ok(())
        }
        renamed => renamed
            .with_context(|| format!("rename {} to {}", complete.display(), folder.display())),
    }
}

fn find(folder: &Path, extension: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
    let paths = entries.flatten().map(|entry| entry.path());
    match paths
        .into_iter()
        .find(|path| path.extension().is_some_and(|found| found == extension))
    {
        Some(path) => Ok(path),
        None => bail!("no .{extension} file in {}", folder.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::revision;

    #[test]
    fn only_a_revision_of_our_version_is_taken() {
        let listed = "Package: kubernetes\nVersion: 1.36.4+ds-1\n\n\
                      Package: kubernetes\nVersion: 1.20.21-1\n\n\
                      Package: kubernetes\nVersion: 1.20.5+really1.20.2-1.1+deb12u1\n";
        assert_eq!(revision(listed), Some("1.20.5+really1.20.2-1.1+deb12u1"));
        assert_eq!(revision("Version: 1.20.2-2\n"), Some("1.20.2-2"));
        assert_eq!(revision("Version: 1.32.3+ds-1\n"), None);
    }
}
