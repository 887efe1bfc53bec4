//! The one image of the tests: busybox, made of this machine's own. Nothing is pulled.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// In full: a shorter name would be looked for on the network.
pub const IMAGE: &str = "docker.io/netdiag/busybox:1";

/// An archive as `docker save` writes it: the layer, the configuration with the layer's hash, and the list of both.
pub fn archive(folder: &Path) -> Result<PathBuf> {
    let root = folder.join("root");
    for inside in ["bin", "etc", "tmp", "proc", "sys", "dev"] {
        fs::create_dir_all(root.join(inside)).context("make the image's folders")?;
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).context("copy busybox")?;
    for applet in ["sh", "sleep", "nc", "wget"] {
        symlink("busybox", root.join("bin").join(applet)).context("link busybox")?;
    }
    tar(&root, &folder.join("layer.tar"), ".")?;
    let hash = run(Command::new("sha256sum").arg(folder.join("layer.tar")))?;
    let hash = hash.split(' ').next().unwrap_or_default();
    let config = serde_json::json!({
        "architecture": std::env::consts::ARCH.replace("x86_64", "amd64").replace("aarch64", "arm64"),
        "os": "linux",
        "config": { "Env": ["PATH=/bin"], "Cmd": ["/bin/sleep", "2147483647"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{hash}")] },
    });
    let manifest = serde_json::json!([
        { "Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"] }
    ]);
    for (name, value) in [("config.json", config), ("manifest.json", manifest)] {
        fs::write(folder.join(name), value.to_string()).with_context(|| format!("write {name}"))?;
    }
    let archive = folder.join("image.tar");
    let mut all = Command::new("tar");
    all.arg("-C").arg(folder).arg("-cf").arg(&archive);
    run(all.args(["manifest.json", "config.json", "layer.tar"]))?;
    Ok(archive)
}

fn tar(folder: &Path, archive: &Path, what: &str) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args(["--owner=0", "--group=0", "-C"])
        .arg(folder)
        .arg("-cf");
    run(tar.arg(archive).arg(what)).map(drop)
}

/// What it printed; its complaint when it fails.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("run {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{command:?}: {}: {}",
        output.status,
        said.trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
