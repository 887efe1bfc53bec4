//! From nothing to a node that is Ready. What is already up is left alone.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::component::wait;
use super::components;
use super::images;
use super::kubernetes;
use super::network;
use super::node::{Node, processes};
use super::place::Place;
use super::{cgroup, config, down, pki};
use crate::sh;

/// Who speaks to the API server: the name of the kubeconfig, the user, the group.
const USERS: &[(&str, &str, &str)] = &[
    ("admin", "admin", "system:masters"),
    (
        "kube-controller-manager",
        "system:kube-controller-manager",
        "",
    ),
    ("kube-scheduler", "system:kube-scheduler", ""),
    ("kube-proxy", "system:kube-proxy", ""),
];

/// Starts the node, unless it is up and answers; what a broken-off start left is removed first.
pub fn up() -> Result<Node> {
    let place = Place::own()?;
    if let Some(node) = Node::find(Place::own()?)? {
        if is_ready(&node) {
            return Ok(node);
        }
        println!("the cluster is up but does not answer: starting it anew");
    }
    if !processes(&place)?.is_empty() || place.root().exists() {
        down::down(&place)?;
    }
    let programs = kubernetes::programs()?;
    let started = Instant::now();
    match start(place, &programs) {
        Ok(node) => {
            println!(
                "the cluster is up after {:.1} s",
                started.elapsed().as_secs_f64()
            );
            Ok(node)
        }
        Err(error) => {
            // The logs stay: they say why.
            down::stop(&Place::own()?)?;
            Err(error)
        }
    }
}

fn is_ready(node: &Node) -> bool {
    let mut kubectl = node.command("kubectl");
    kubectl.args([
        "--request-timeout=5s",
        "wait",
        "--for=condition=Ready",
        "--timeout=5s",
    ]);
    sh::output(kubectl.arg(format!("node/{}", node.place.name()))).is_ok()
}

fn start(place: Place, programs: &Path) -> Result<Node> {
    for folder in ["", "log", "start"] {
        let folder = place.file(folder);
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    }
    pki::make(&place)?;
    let kubelet = users(&place)?;
    cgroup::make(&place.name())?;
    let node = Node::start(place)?;
    network::make(&node)?;
    files(&node, &kubelet)?;
    components::containerd().start(&node)?;
    images::import(&node)?;
    for component in components::kubernetes(&node.place, programs) {
        component.start(&node)?;
    }
    // Pods are refused until the account they run as is there.
    wait("the default service account", || {
        Ok(node.script("kubectl get serviceaccount default").is_ok())
    })?;
    Ok(node)
}

/// A token for everybody; returns the kubelet's kubeconfig.
fn users(place: &Place) -> Result<String> {
    let mut tokens = Vec::new();
    let mut user = |name: &str, group: &str| -> Result<String> {
        let token = pki::token()?;
        tokens.push(format!("{token},{name},{name},\"{group}\"\n"));
        Ok(config::kubeconfig(place, &token))
    };
    for (file, name, group) in USERS {
        let text = user(name, group)?;
        write(&place.file(&format!("{file}.conf")), &text)?;
    }
    let kubelet = user(&format!("system:node:{}", place.name()), "system:nodes")?;
    write(&place.file("tokens.csv"), &tokens.concat())?;
    Ok(kubelet)
}

/// The files that lie where a node has them.
fn files(node: &Node, kubelet: &str) -> Result<()> {
    let place = &node.place;
    for (path, text) in [
        (config::CONTAINERD, config::containerd(images::PAUSE)),
        (config::CNI, config::cni()),
        (config::KUBELET, config::kubelet(place)),
        (config::KUBELET_KUBECONFIG, kubelet.to_owned()),
        (config::PROXY, config::proxy(place)),
    ] {
        let shared = place.file("file");
        write(&shared, &text)?;
        let mut install = node.command("install");
        install.args(["-D", "-m", "600"]).arg(&shared).arg(path);
        sh::output(&mut install).with_context(|| format!("write {path} on the node"))?;
    }
    let shared = place.file("file");
    fs::remove_file(&shared).with_context(|| format!("remove {}", shared.display()))
}

/// Readable by root only: there are credentials in it.
fn write(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let written = options
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    if let Err(error) = written {
        bail!("write {}: {error}", path.display());
    }
    Ok(())
}
