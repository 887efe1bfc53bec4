//! Container images, made of this machine's own programs: nothing is pulled.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::node::Node;
use crate::sh;

/// An image with one layer.
struct Image {
    /// Registry, repository and tag in full: a shorter name would be looked for on the network.
    reference: &'static str,
    /// What it holds besides busybox, by name or whole path.
    programs: &'static [&'static str],
    /// Copied as they are: what programs load at run time.
    folders: &'static [&'static str],
    entrypoint: &'static [&'static str],
    command: &'static [&'static str],
}

/// Holds the namespaces of a pod.
pub const PAUSE: &str = "docker.io/netdiag/pause:1";

const IMAGES: &[Image] = &[
    Image {
        reference: PAUSE,
        command: &["/bin/sleep", "2147483647"],
        ..BUSYBOX
    },
    BUSYBOX,
    Image {
        reference: "docker.io/netdiag/dnsmasq:1",
        programs: &["dnsmasq"],
        command: &["/bin/dnsmasq", "--no-daemon"],
        ..BUSYBOX
    },
];

const BUSYBOX: Image = Image {
    reference: "docker.io/netdiag/busybox:1",
    programs: &[],
    folders: &[],
    entrypoint: &[],
    command: &["/bin/sh"],
};

/// As deploy/Dockerfile makes it, with the name the chart has for it; `netdiag` itself comes on top.
const AGENT: Image = Image {
    reference: "docker.io/library/netdiag:0.1.0",
    programs: &[
        "nft",
        "ipset",
        "iptables-save",
        "ip6tables-save",
        "iptables-nft-save",
        "ip6tables-nft-save",
        "iptables-legacy-save",
        "ip6tables-legacy-save",
    ],
    folders: &["/usr/lib/x86_64-linux-gnu/xtables"],
    entrypoint: &["/bin/netdiag"],
    command: &[],
};

/// Makes all images and gives them to the node's runtime.
pub fn import(node: &Node) -> Result<()> {
    IMAGES.iter().try_for_each(|image| give(node, image, &[]))
}

/// The image of the chart, with this build of netdiag.
pub fn import_agent(node: &Node, netdiag: &Path) -> Result<()> {
    give(node, &AGENT, &[netdiag])
}

fn give(node: &Node, image: &Image, more: &[&Path]) -> Result<()> {
    let folder = node.place.file("image");
    let archive = archive(image, more, &folder)
        .with_context(|| format!("make the image {}", image.reference))?;
    let mut ctr = node.command("ctr");
    ctr.args(["-n", "k8s.io", "images", "import"]).arg(&archive);
    sh::output(&mut ctr).with_context(|| format!("import the image {}", image.reference))?;
    fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))
}

/// A docker archive: the layer, the configuration that names the layer's hash, the list of both.
fn archive(image: &Image, more: &[&Path], folder: &Path) -> Result<PathBuf> {
    let act = || format!("work in {}", folder.display());
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(act)?;
    }
    let root = folder.join("root");
    fill(&root, image, more)?;
    let layer = folder.join("layer.tar");
    tar(&root, &layer, &["."])?;
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{"Env":["PATH=/bin"],"Entrypoint":{},"Cmd":{}}},"rootfs":{{"type":"layers","diff_ids":["sha256:{}"]}}}}"#,
        list(image.entrypoint),
        list(image.command),
        hash(&layer)?,
    );
    fs::write(folder.join("config.json"), config).with_context(act)?;
    let manifest = format!(
        r#"[{{"Config":"config.json","RepoTags":["{}"],"Layers":["layer.tar"]}}]"#,
        image.reference
    );
    fs::write(folder.join("manifest.json"), manifest).with_context(act)?;
    let archive = folder.join("image.tar");
    tar(
        folder,
        &archive,
        &["manifest.json", "config.json", "layer.tar"],
    )?;
    Ok(archive)
}

/// busybox with all its names, more programs with their libraries, and the few files programs expect.
fn fill(root: &Path, image: &Image, more: &[&Path]) -> Result<()> {
    for folder in ["bin", "etc", "tmp", "proc", "sys", "dev", "run", "var/run"] {
        let folder = root.join(folder);
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    }
    let busybox = sh::find("busybox").context("find busybox")?;
    copy(&busybox, &root.join("bin/busybox"))?;
    for applet in sh::output(Command::new(&busybox).arg("--list"))?.lines() {
        let link = root.join("bin").join(applet);
        if applet != "busybox" {
            symlink("busybox", &link).with_context(|| format!("link {}", link.display()))?;
        }
    }
    for (file, text) in [
        ("etc/passwd", "root:x:0:0:root:/:/bin/sh\n"),
        ("etc/group", "root:x:0:\n"),
    ] {
        fs::write(root.join(file), text).with_context(|| format!("write {file}"))?;
    }
    let more = more.iter().copied();
    for name in image.programs.iter().map(Path::new).chain(more) {
        let shown = name.display();
        let program = name.to_str().and_then(sh::find);
        let program = program.with_context(|| format!("find {shown}"))?;
        let own = program
            .file_name()
            .with_context(|| format!("find {shown}"))?;
        let placed = root.join("bin").join(own);
        let _ = fs::remove_file(&placed);
        copy(&program, &placed)?;
        for library in sh::libraries(&program) {
            copy(&library, &inside(root, &library))?;
        }
    }
    for folder in image.folders.iter().map(Path::new) {
        let entries = fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))?;
        for entry in entries.flatten().map(|entry| entry.path()) {
            copy(&entry, &inside(root, &entry))?;
        }
    }
    Ok(())
}

/// Where a file of this machine lies in the image.
fn inside(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let act = || format!("copy {} to {}", from.display(), to.display());
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).with_context(act)?;
    }
    fs::copy(from, to).with_context(act).map(drop)
}

fn tar(folder: &Path, archive: &Path, names: &[&str]) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--owner=0", "--group=0", "--mtime=@0", "-C"]);
    tar.arg(folder).arg("-cf").arg(archive).args(names);
    sh::output(&mut tar).map(drop)
}

fn hash(file: &Path) -> Result<String> {
    let said = sh::output(Command::new("sha256sum").arg(file))?;
    match said.split_whitespace().next() {
        Some(hash) if hash.len() == 64 => Ok(hash.to_owned()),
        _ => bail!("sha256sum {}: {said}", file.display()),
    }
}

/// Words without quotes in them, as a JSON list.
fn list(words: &[&str]) -> String {
    let quoted: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
    format!("[{}]", quoted.join(","))
}
