//! The Debian packages whose programs the lab, the virtual machines and the demo run.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::say;
use crate::sh;

const STEP: &str = "packages";

/// One package, known by a program (or, with a whole path, a file) it brings.
pub struct Package {
    pub name: &'static str,
    pub program: &'static str,
    pub needed_by: Ring,
}

/// Who runs the program.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ring {
    Lab,
    Vm,
    Bench,
    Cluster,
}

const fn package(name: &'static str, program: &'static str, needed_by: Ring) -> Package {
    Package {
        name,
        program,
        needed_by,
    }
}

pub const PACKAGES: &[Package] = &[
    package("iproute2", "ip", Ring::Lab),
    package("iptables", "iptables-legacy", Ring::Lab),
    package("nftables", "nft", Ring::Lab),
    package("conntrack", "conntrack", Ring::Lab),
    package("iputils-ping", "ping", Ring::Lab),
    package("netcat-openbsd", "nc.openbsd", Ring::Lab),
    package("socat", "socat", Ring::Lab),
    package("dnsutils", "dig", Ring::Lab),
    package("tcpdump", "tcpdump", Ring::Lab),
    package("tshark", "tshark", Ring::Lab),
    package("procps", "sysctl", Ring::Lab),
    package("bpftool", "bpftool", Ring::Bench),
    package("qemu-system-x86", "qemu-system-x86_64", Ring::Vm),
    package("busybox-static", "busybox", Ring::Vm),
    package("xz-utils", "xz", Ring::Vm),
    package("zstd", "zstd", Ring::Vm),
    package("containerd", "containerd", Ring::Cluster),
    package("runc", "runc", Ring::Cluster),
    package(
        "containernetworking-plugins",
        "/usr/lib/cni/bridge",
        Ring::Cluster,
    ),
    package("etcd-server", "etcd", Ring::Cluster),
    package("kubernetes-client", "kubectl", Ring::Cluster),
    package("dnsmasq-base", "dnsmasq", Ring::Cluster),
    package("ipset", "ipset", Ring::Cluster),
    package("openssl", "openssl", Ring::Cluster),
    package("util-linux", "nsenter", Ring::Cluster),
    // Kubernetes is built once from its Debian source package.
    package("golang-1.19-go", "/usr/lib/go-1.19/bin/go", Ring::Cluster),
    package(
        "golang-1.19-src",
        "/usr/share/go-1.19/src/builtin/builtin.go",
        Ring::Cluster,
    ),
    package(
        "golang-github-modern-go-reflect2-dev",
        "/usr/share/gocode/src/github.com/modern-go/reflect2/go_above_118.go",
        Ring::Cluster,
    ),
    package("dpkg-dev", "dpkg-source", Ring::Cluster),
    package("make", "make", Ring::Cluster),
    package("rsync", "rsync", Ring::Cluster),
];

/// Packages of this ring whose program is not on this machine.
pub fn missing(needed_by: impl Fn(Ring) -> bool) -> Vec<&'static str> {
    PACKAGES
        .iter()
        .filter(|package| needed_by(package.needed_by) && sh::find(package.program).is_none())
        .map(|package| package.name)
        .collect()
}

/// Installs what is missing when we may; tells an ordinary user what to ask for.
pub fn ensure() -> Result<()> {
    let missing = missing(|_| true);
    if missing.is_empty() {
        say(STEP, "ok, already there");
        return Ok(());
    }
    if sh::find("apt-get").is_none() {
        say(
            STEP,
            format_args!(
                "no apt-get here; the lab, the VMs, the cluster and the demo need: {}",
                programs(&missing)
            ),
        );
        return Ok(());
    }
    let missing: Vec<String> = missing.into_iter().map(str::to_owned).collect();
    if !sh::is_root() {
        let names = missing.join(" ");
        say(
            STEP,
            format_args!(
                "for the lab, the VMs, the cluster and the live demo, as root: apt-get install {names}"
            ),
        );
        return Ok(());
    }
    say(STEP, format_args!("installing {}", missing.join(" ")));
    install(&missing)?;
    say(STEP, "done");
    Ok(())
}

fn programs(packages: &[&str]) -> String {
    let wanted = PACKAGES
        .iter()
        .filter(|package| packages.contains(&package.name));
    wanted
        .map(|package| package.program)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Which of these packages, with all they depend on, are not installed; asked of apt without changing anything.
pub fn not_installed(packages: &[&str]) -> Result<Vec<String>> {
    if sh::find("apt-get").is_none() {
        bail!("no apt-get on this machine");
    }
    let simulate = || {
        sh::output(
            apt_get()
                .args(["install", "--simulate", "--no-install-recommends"])
                .args(packages),
        )
    };
    let plan = simulate().or_else(|first| {
        // Package lists can only be fetched by root; an ordinary user gets apt's own complaint.
        if sh::is_root() {
            update().and_then(|()| simulate())
        } else {
            Err(first)
        }
    })?;
    Ok(plan
        .lines()
        .filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next())
        .map(str::to_owned)
        .collect())
}

/// As root. The package lists are fetched only when the first try fails: they may be absent or old.
pub fn install(packages: &[String]) -> Result<()> {
    let run = || {
        sh::output(
            apt_get()
                .args(["install", "-y", "-q", "--no-install-recommends"])
                .args(packages),
        )
        .map(drop)
    };
    run().or_else(|_| update().and_then(|()| run()))
}

fn update() -> Result<()> {
    say(STEP, "fetching the package lists");
    sh::output(apt_get().args(["update", "-q"])).map(drop)
}

/// Without root: the packages and the dependencies this machine lacks, unpacked below `prefix`.
pub fn unpack(packages: &[&str], prefix: &Path) -> Result<()> {
    let downloads = prefix.with_extension("downloads");
    for folder in [prefix, &downloads] {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    let mut wanted = not_installed(packages)?;
    wanted.extend(packages.iter().map(|&name| name.to_owned()));
    wanted.sort();
    wanted.dedup();
    sh::output(
        apt_get()
            .arg("download")
            .args(&wanted)
            .current_dir(&downloads),
    )?;
    for archive in fs::read_dir(&downloads)
        .with_context(|| format!("list {}", downloads.display()))?
        .flatten()
    {
        sh::output(
            Command::new("dpkg-deb")
                .arg("-x")
                .arg(archive.path())
                .arg(prefix),
        )?;
    }
    fs::remove_dir_all(&downloads).with_context(|| format!("remove {}", downloads.display()))
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_package_is_listed_once() {
        for (at, package) in PACKAGES.iter().enumerate() {
            assert!(
                PACKAGES[..at]
                    .iter()
                    .all(|other| other.name != package.name),
                "{} twice",
                package.name
            );
        }
    }
}
