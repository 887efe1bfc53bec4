//! Debian kernels: found by name in any suite this machine's own package sources reach, unpacked into a cache.
//!
//! apt gets a private configuration, so that neither the machine's package lists nor its sources change and no
//! root is needed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{Kernel, cache};
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
    let folder = cache().join("kernels").join(kernel.name);
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
    let apt = Apt::new(&work.join("apt"), suite)?;
    sh::output(apt.command("apt-get").args(["update", "-q"]))?;
    let packages = apt.kernel_packages()?;
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

/// apt with its own sources, lists and cache.
struct Apt {
    folder: PathBuf,
}

impl Apt {
    fn new(folder: &Path, suite: &str) -> Result<Self> {
        for part in ["etc", "lists/partial", "cache/archives/partial"] {
            let part = folder.join(part);
            fs::create_dir_all(&part).with_context(|| format!("create {}", part.display()))?;
        }
        for (name, text) in sources(suite)? {
            let file = folder.join("etc").join(name);
            fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
        }
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    fn command(&self, program: &str) -> Command {
        let folder = self.folder.display();
        let mut command = Command::new(program);
        command.env("LC_ALL", "C");
        for option in [
            "Dir::Etc::sourcelist=/dev/null".to_owned(),
            format!("Dir::Etc::sourceparts={folder}/etc"),
            format!("Dir::State::Lists={folder}/lists"),
            format!("Dir::Cache={folder}/cache"),
            // apt's own user could not read a cache below somebody's home.
            "APT::Sandbox::User=root".to_owned(),
            "Acquire::Languages=none".to_owned(),
        ] {
            command.arg("-o").arg(option);
        }
        command
    }

    /// Follows the dependencies of the meta package as far as they are parts of the kernel.
    fn kernel_packages(&self) -> Result<Vec<String>> {
        let mut packages = vec![META.to_owned()];
        let mut next = 0;
        while let Some(package) = packages.get(next).cloned() {
            let said =
                sh::output(
                    self.command("apt-cache")
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

/// The machine's own sources of the Debian archive, turned to another suite.
fn sources(suite: &str) -> Result<Vec<(String, String)>> {
    let release = fs::read_to_string("/etc/os-release").context("read /etc/os-release")?;
    let own = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .context("no VERSION_CODENAME in /etc/os-release")?;
    let own = own.trim_matches('"');
    let parts = fs::read_dir("/etc/apt/sources.list.d")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let mut turned = Vec::new();
    for file in parts.chain([PathBuf::from("/etc/apt/sources.list")]) {
        let Ok(text) = fs::read_to_string(&file) else {
            continue;
        };
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("sources") => turned.extend(
                turn_deb822(&text, own, suite).map(|text| ("main.sources".to_owned(), text)),
            ),
            Some("list") => turned
                .extend(turn_list(&text, own, suite).map(|text| ("main.list".to_owned(), text))),
            _ => {}
        }
    }
    if turned.is_empty() {
        bail!("this machine's package sources have no Debian archive for {own}");
    }
    turned.truncate(1);
    Ok(turned)
}

/// The first enabled stanza for our own suite.
fn turn_deb822(text: &str, own: &str, suite: &str) -> Option<String> {
    let field = |stanza: &str, name: &str| -> Option<String> {
        stanza.lines().find_map(|line| {
            line.strip_prefix(name)?
                .strip_prefix(':')
                .map(|value| value.trim().to_owned())
        })
    };
    let is_archive = |stanza: &&str| {
        let has = |name, word: &str| {
            field(stanza, name).is_some_and(|value| value.split_whitespace().any(|w| w == word))
        };
        has("Types", "deb") && has("Suites", own) && !has("Enabled", "no")
    };
    let stanza = text.split("\n\n").find(is_archive)?;
    let turned = stanza.lines().map(|line| match line.split_once(':') {
        Some(("Types", _)) => "Types: deb".to_owned(),
        Some(("Suites", _)) => format!("Suites: {suite}"),
        Some(("Components", _)) => "Components: main".to_owned(),
        _ => line.to_owned(),
    });
    Some(turned.collect::<Vec<_>>().join("\n") + "\n")
}

/// `deb [options] URI suite components…`
fn turn_list(text: &str, own: &str, suite: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (before, components) = line
            .trim()
            .strip_prefix("deb ")?
            .split_once(&format!(" {own} "))?;
        components
            .split_whitespace()
            .any(|word| word == "main")
            .then(|| format!("deb {before} {suite} main\n"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_stanza_is_turned_and_the_others_are_left() {
        let text = "Types: deb\nURIs: proto:x-security\nSuites: bookworm-security\nComponents: main\n\n\
                    Types: deb deb-src\nURIs: proto:x\nSuites: bookworm bookworm-updates\nComponents: main contrib\nSigned-By: /k\n";
        let turned = turn_deb822(text, "bookworm", "sid").unwrap();
        assert_eq!(
            turned,
            "Types: deb\nURIs: proto:x\nSuites: sid\nComponents: main\nSigned-By: /k\n"
        );
        assert!(turn_deb822(text, "trixie", "sid").is_none());
    }

    #[test]
    fn one_line_sources_are_turned() {
        let text = "# c\ndeb proto:s bookworm-security main\ndeb [signed-by=/k] proto:x bookworm main contrib\n";
        assert_eq!(
            turn_list(text, "bookworm", "bullseye").unwrap(),
            "deb [signed-by=/k] proto:x bullseye main\n"
        );
    }

    #[test]
    fn only_parts_of_the_kernel_are_followed() {
        let said = "linux-image-7\n  PreDepends: linux-base\n  Depends: linux-base-7\n  Depends: linux-binary-7\n  Depends: kmod\n  Depends: linux-modules-7\n";
        assert_eq!(
            kernel_dependencies(said),
            ["linux-binary-7", "linux-modules-7"]
        );
    }
}
