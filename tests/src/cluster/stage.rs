//! What stands on the cluster while the scenarios run, and where.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use super::calico;
use super::component::{self, Killed};
use super::kubectl::{Kubectl, until};
use crate::check::text;
use crate::sys;

/// Who is traced.
pub const NAMESPACE: &str = "shop";
pub const CLIENT: &str = "client";
/// TCP echo of every Service of ours, and of the pods behind them.
pub const SERVICE_PORT: u16 = 7;
pub const POD_PORT: u16 = 8080;
/// The host beyond the node's router.
pub const BEYOND: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 10));

/// A namespace whose pods have routed interfaces, as Calico and some clouds make them, in a bridged cluster.
const POINT_TO_POINT: &str = r#"{"cniVersion": "0.4.0", "name": "netdiag", "plugins": [
  {"type": "ptp", "ipMasq": true, "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.1.0/24"}]],
   "routes": [{"dst": "0.0.0.0/0"}]}}]}"#;
/// Before the cluster's own in the order of names, which decides.
const POINT_TO_POINT_FILE: &str = "/etc/cni/net.d/05-point-to-point.conflist";

/// The namespace under a policy, and what lives there.
pub const LOCKED: &str = include_str!("locked.yaml");

pub struct Stage {
    pub kubectl: Kubectl,
    start_scripts: PathBuf,
    /// Echoes beyond the router; ends with us.
    beyond: Child,
}

impl Stage {
    /// Makes everything and waits until it works.
    pub fn build(kubeconfig: PathBuf, start_scripts: PathBuf) -> Result<Self> {
        let kubectl = Kubectl::new(kubeconfig);
        kubectl.apply(include_str!("stage.yaml"))?;
        kubectl.wait("--for=condition=Available deployment/web -n shop")?;
        kubectl.wait("--for=condition=Available deployment/resolver -n kube-system")?;
        kubectl.wait("--for=condition=Ready pod/client -n shop")?;
        let stage = Self {
            kubectl,
            start_scripts,
            beyond: echo_beyond()?,
        };
        stage.locked().context("put a namespace under a policy")?;
        until("kube-proxy has written the rules of every Service", || {
            let rules = Command::new("iptables-save").output();
            let rules = rules.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
            // Of every endpoint: until there is one, its Service's rule refuses.
            let sent = |service: &str, rules: &str| {
                let mut lines = rules
                    .lines()
                    .filter(|line| line.starts_with("-A KUBE-SEP-"));
                lines.any(|line| line.contains(service))
            };
            rules.is_ok_and(|rules| {
                [
                    "locked/vault:echo",
                    "shop/web:echo",
                    "shop/misaimed:echo",
                    "kube-system/kube-dns:dns",
                ]
                .iter()
                .all(|service| sent(service, &rules))
                    && rules.contains("shop/ghost:echo has no endpoints")
                    && rules.contains("shop/sleepy:echo has no endpoints")
            })
        })?;
        Ok(stage)
    }

    fn locked(&self) -> Result<()> {
        fs::write(POINT_TO_POINT_FILE, POINT_TO_POINT)
            .with_context(|| format!("write {POINT_TO_POINT_FILE}"))?;
        self.kubectl.apply(LOCKED)?;
        self.kubectl
            .wait("--for=condition=Available deployment/vault -n locked")?;
        self.kubectl
            .wait("--for=condition=Ready pod/auditor -n locked")?;
        fs::remove_file(POINT_TO_POINT_FILE)
            .with_context(|| format!("remove {POINT_TO_POINT_FILE}"))?;
        let vault = self.pod_ip("locked", "-l app=vault")?;
        let auditor = self.pod_ip("locked", "auditor")?;
        calico::protect(vault, POD_PORT, auditor)
    }

    /// The cluster address of a Service.
    pub fn service(&self, namespace: &str, name: &str) -> Result<SocketAddr> {
        let service = self
            .kubectl
            .get(&format!("service {name} -n {namespace}"))?;
        let address = text(&service, "/spec/clusterIP");
        let address: IpAddr = address
            .parse()
            .with_context(|| format!("service {name} has the address {address}"))?;
        Ok((address, SERVICE_PORT).into())
    }

    /// The address of a pod, by its name or as the first one of a selector.
    pub fn pod_ip(&self, namespace: &str, pod: &str) -> Result<IpAddr> {
        let pod = self.pod(namespace, pod)?;
        let address = text(&pod, "/status/podIP");
        address
            .parse()
            .with_context(|| format!("a pod has the address {address:?}"))
    }

    pub fn pod(&self, namespace: &str, pod: &str) -> Result<serde_json::Value> {
        let found = self.kubectl.get(&format!("pod {pod} -n {namespace}"))?;
        match found.get("items") {
            None => Ok(found),
            Some(items) => items.get(0).cloned().context("no such pod"),
        }
    }

    /// A process of the pod, found as the kernel knows it: by the name of its control group.
    pub fn pid(&self, namespace: &str, pod: &str) -> Result<u32> {
        let found = self.pod(namespace, pod)?;
        let uid = format!("pod{}/", text(&found, "/metadata/uid"));
        let entries = fs::read_dir("/proc").context("list /proc")?.flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.into_iter()
            .find(|pid: &u32| {
                let groups = fs::read_to_string(format!("/proc/{pid}/cgroup"));
                groups.is_ok_and(|groups| groups.contains(&uid))
            })
            .with_context(|| format!("pod {pod} has no process"))
    }

    /// Kills a process of the node.
    pub fn kill(&self, name: &'static str) -> Result<Killed> {
        component::kill_hard(name, self.start_scripts.join(name))
    }

    pub fn kubeconfig(&self) -> &Path {
        self.kubectl.kubeconfig()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = self.beyond.kill();
        let _ = self.beyond.wait();
    }
}

fn echo_beyond() -> Result<Child> {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", "outside", "busybox", "nc", "-ll"]);
    command.args(["-p", &POD_PORT.to_string(), "-e", "busybox", "cat"]);
    command.stdin(Stdio::null());
    sys::die_with_parent(&mut command, Signal::SIGKILL);
    command.spawn().context("start a server beyond the router")
}
