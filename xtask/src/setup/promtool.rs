//! Prometheus' own checker of metrics, out of Debian's package: the package itself would start a server.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::say;
use crate::sh;

const STEP: &str = "promtool";
const PACKAGE: &str = "prometheus";
const INSIDE: &str = "usr/bin/promtool";

/// Where the tests look for it.
pub fn path() -> PathBuf {
    sh::target().join("tools/promtool")
}

/// Fetches it where it can be had; a test that finds none says so.
pub fn ensure() {
    let path = path();
    if path.is_file() || sh::find("promtool").is_some() {
        say(STEP, "ok, already there");
        return;
    }
    if sh::find("apt-get").is_none() || sh::find("dpkg-deb").is_none() {
        say(
            STEP,
            "no Debian tools here; the metrics are not checked by promtool",
        );
        return;
    }
    match fetch(&path) {
        Ok(()) => say(STEP, format_args!("unpacked to {}", path.display())),
        Err(error) => say(
            STEP,
            format_args!("not to be had, metrics go without its check: {error:#}"),
        ),
    }
}

fn fetch(path: &std::path::Path) -> Result<()> {
    let folder = path
        .parent()
        .context("it is in a folder")?
        .join("promtool.part");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let mut download = Command::new("apt-get");
    download
        .args(["download", "-q", PACKAGE])
        .current_dir(&folder);
    sh::output(&mut download)?;
    let entries = fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))?;
    let packages = entries.flatten().map(|entry| entry.path());
    let Some(package) = packages
        .into_iter()
        .find(|file| file.extension().is_some_and(|end| end == "deb"))
    else {
        bail!("apt-get downloaded nothing");
    };
    sh::output(Command::new("dpkg-deb").arg("-x").arg(package).arg(&folder))?;
    fs::rename(folder.join(INSIDE), path)
        .with_context(|| format!("move promtool to {}", path.display()))?;
    fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))
}
