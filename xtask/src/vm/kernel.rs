//! Debian kernels: found by name in any suite this machine's own package sources reach, unpacked into a cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::Kernel;
use crate::apt::{Apt, Archive};
use crate::sh;

/// The package whose dependencies lead to the newest kernel of a suite.
const META: &str = "linux-image-cloud-amd64";

/// A kernel ready to boot.
pub struct Image {
    pub version: String,
    pub vmlinuz: PathBuf,
    /// The folder that holds `kernel/…/*.ko*`.
    pub modules: PathBuf,
}

/// From the cache, else downloaded.
pub fn image(kernel: &Kernel, refresh: bool) -> Result<Image> {
    let folder = sh::cache().join("kernels").join(kernel.name);
    if !refresh && let Some(image) = newest_cached(&folder) {
        return Ok(image);
    }
    println!(
        "kernel {}: fetching Debian's {META} of {}",
        kernel.name, kernel.suite
    );
    let image = fetch(kernel.suite, &folder)
        .with_context(|| format!("get a kernel of Debian {}", kernel.suite))?;
    if !image.version.starts_with(kernel.name) {
        println!(
            "kernel {}: {} now carries {}, taking that",
            kernel.name, kernel.suite, image.version
        );
    }
    Ok(image)
}

/// A folder per package version; only a complete one has its final name.
fn newest_cached(folder: &Path) -> Option<Image> {
    let complete = |path: &PathBuf| {
        path.extension()
            .is_none_or(|extension| extension != "partial")
    };
    let versions = fs::read_dir(folder)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .filter(complete);
    let newest =
        versions.max_by_key(|path| fs::metadata(path).and_then(|meta| meta.modified()).ok())?;
    locate(&newest).ok()
}

fn fetch(suite: &str, folder: &Path) -> Result<Image> {
    let work = folder.join("download.partial");
    if work.exists() {
        fs::remove_dir_all(&work).with_context(|| format!("remove {}", work.display()))?;
    }
    let apt = Apt::new(&work.join("apt"), Archive::Packages(suite))?;
    sh::output(apt.command("apt-get").args(["update", "-q"]))?;
    let packages = kernel_packages(&apt)?;
    let files = work.join("files");
    fs::create_dir_all(&files).with_context(|| format!("create {}", files.display()))?;
    sh::output(
        apt.command("apt-get")
            .arg("download")
            .args(&packages)
            .current_dir(&files),
    )?;
    let root = work.join("root");
    for package in fs::read_dir(&files)
        .with_context(|| format!("list {}", files.display()))?
        .flatten()
    {
        sh::output(
            Command::new("dpkg-deb")
                .arg("-x")
                .arg(package.path())
                .arg(&root),
        )?;
    }
    let found = locate(&root)?;
    let place = folder.join(&found.version);
    if place.exists() {
        fs::remove_dir_all(&place).with_context(|| format!("remove {}", place.display()))?;
    }
    fs::rename(&root, &place)
        .with_context(|| format!("rename {} to {}", root.display(), place.display()))?;
    fs::remove_dir_all(&work).with_context(|| format!("remove {}", work.display()))?;
    locate(&place)
}

/// Before 7.x the kernel lies in boot/, now beside its modules.
fn locate(root: &Path) -> Result<Image> {
    let folders = ["lib/modules", "usr/lib/modules"].map(|folder| root.join(folder));
    let modules = folders
        .iter()
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flat_map(|entries| entries.flatten().map(|entry| entry.path()))
        .find(|path| path.join("kernel").is_dir())
        .with_context(|| format!("no kernel modules in {}", root.display()))?;
    let version = modules
        .file_name()
        .expect("a listed folder has a name")
        .to_string_lossy()
        .into_owned();
    let vmlinuz = [
        root.join("boot").join(format!("vmlinuz-{version}")),
        modules.join("vmlinuz"),
    ]
    .into_iter()
    .find(|path| path.exists())
    .with_context(|| format!("no vmlinuz of {version} in {}", root.display()))?;
    Ok(Image {
        version,
        vmlinuz,
        modules,
    })
}

/// Follows the dependencies of the meta package as far as they are parts of the kernel.
fn kernel_packages(apt: &Apt) -> Result<Vec<String>> {
    let mut packages = vec![META.to_owned()];
    let mut next = 0;
    while let Some(package) = packages.get(next).cloned() {
        let said = sh::output(
            apt.command("apt-cache")
                .args(["depends", "--important", &package]),
        )?;
        for name in kernel_dependencies(&said) {
            if !packages.contains(&name) {
                packages.push(name);
            }
        }
        next += 1;
    }
    packages.remove(0);
    Ok(packages)
}

fn kernel_dependencies(apt_cache_depends: &str) -> Vec<String> {
    let names = apt_cache_depends
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "));
    let parts = ["linux-image-", "linux-binary-", "linux-modules-"];
    names
        .filter(|name| parts.iter().any(|part| name.starts_with(part)))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_parts_of_the_kernel_are_followed() {
        let said = "linux-image-7\n  PreDepends: linux-base\n  Depends: linux-base-7\n  Depends: linux-binary-7\n  Depends: kmod\n  Depends: linux-modules-7\n";
        assert_eq!(
            kernel_dependencies(said),
            ["linux-binary-7", "linux-modules-7"]
        );
    }
}
