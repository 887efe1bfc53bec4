//! A node with a real containerd: mount, network and process namespaces of its own, gone with their first process.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use netdiag::identity::pods::cri;
use netdiag::identity::pods::cri::generated::runtime_service_client::RuntimeServiceClient;
use netdiag::identity::pods::cri::generated::{
    ContainerConfig, ContainerMetadata, CreateContainerRequest, ImageSpec, LinuxPodSandboxConfig,
    LinuxSandboxSecurityContext, NamespaceMode, NamespaceOption, PodSandboxConfig,
    PodSandboxMetadata, RemovePodSandboxRequest, RunPodSandboxRequest, StartContainerRequest,
    StopPodSandboxRequest,
};
use netdiag_tests::process::{Ended, Running};
use netdiag_tests::{programs, sys};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::Signal;
use tonic::transport::{Channel, Endpoint};

use crate::image::{self, IMAGE};

const INIT: &str = include_str!("init.sh");

const PATIENCE: Duration = Duration::from_mins(1);

/// Of our own requests, which make pods: those take longer on a busy machine than netdiag waits for an answer.
type Client = RuntimeServiceClient<Channel>;

pub struct Node {
    /// Shared with the machine.
    folder: tempfile::TempDir,
    unshare: Child,
    /// The node's first process, as this machine numbers it.
    init: u32,
    containerd: Option<Child>,
    /// Of CRI requests.
    tokio: tokio::runtime::Runtime,
    runtime: Option<Client>,
    pods: u32,
}

/// A pod that was run.
#[derive(Clone, Debug)]
pub struct Pod {
    pub sandbox: String,
    pub uid: String,
    config: PodSandboxConfig,
}

/// Why there can be no node here.
pub fn lacking() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("namespaces need root".to_owned());
    }
    let programs = ["containerd", "ctr", "runc", "busybox", "nc.openbsd"];
    let path = std::env::var("PATH").unwrap_or_default();
    let found = |name: &&str| {
        path.split(':')
            .any(|folder| Path::new(folder).join(name).is_file())
    };
    let absent: Vec<_> = programs.iter().filter(|name| !found(name)).collect();
    let plugins = Path::new("/usr/lib/cni/bridge").is_file();
    (!absent.is_empty() || !plugins)
        .then(|| format!("no {absent:?} or no CNI plugins (cargo xtask setup installs them)"))
}

impl Node {
    pub fn start() -> Result<Self> {
        let folder = tempfile::tempdir().context("make a folder")?;
        let mut command = Command::new("unshare");
        command.args(["--mount", "--net", "--pid", "--fork", "--mount-proc"]);
        // With the first process of a process namespace all others in it end.
        command.args(["--kill-child=SIGKILL", "sh", "-c", INIT, "init"]);
        command.arg(folder.path()).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        sys::die_with_parent(&mut command, Signal::SIGKILL);
        let unshare = command.spawn().context("start unshare")?;
        let mut node = Self {
            init: 0,
            containerd: None,
            tokio: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?,
            runtime: None,
            pods: 0,
            folder,
            unshare,
        };
        let ready = node.folder.path().join("ready");
        until("the node's first process", || Ok(ready.exists()))?;
        let pid = node.unshare.id();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        node.init = children.trim().parse().context("find the first process")?;
        node.configure()?;
        node.start_containerd()?;
        let archive = image::archive(node.folder.path())?;
        let mut import = node.command("ctr");
        import.args(["-n", "k8s.io", "images", "import"]);
        image::run(import.arg(archive))?;
        Ok(node)
    }

    fn configure(&self) -> Result<()> {
        let folder = self.folder.path();
        let (cni, config) = (folder.join("cni"), folder.join("containerd.toml"));
        fs::create_dir_all(&cni)?;
        let plugins = r#"{"cniVersion": "0.4.0", "name": "lab", "plugins": [{"type": "bridge", "bridge": "cni0",
            "isGateway": true, "ipMasq": true, "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.1.0/24"}]],
            "routes": [{"dst": "0.0.0.0/0"}]}}]}"#;
        fs::write(cni.join("10-lab.conflist"), plugins)?;
        // Lowering a process's oom score takes a capability that containers of ours may lack.
        let text = format!(
            r#"version = 2
root = "/tmp/netdiag-pods/root"
state = "/run/containerd"
[plugins."io.containerd.internal.v1.opt"]
path = "/tmp/netdiag-pods/opt"
[plugins."io.containerd.grpc.v1.cri"]
restrict_oom_score_adj = true
sandbox_image = "{IMAGE}"
cni = {{ bin_dir = "/usr/lib/cni", conf_dir = "{}" }}
"#,
            cni.display()
        );
        fs::write(config, text).context("write the runtime's configuration")
    }

    /// Also after [`Node::kill_containerd`]; pods live on.
    pub fn start_containerd(&mut self) -> Result<()> {
        let log = File::create(self.folder.path().join("containerd.log"))?;
        let mut command = self.command("containerd");
        command
            .arg("-c")
            .arg(self.folder.path().join("containerd.toml"));
        self.containerd = Some(command.stdout(Stdio::null()).stderr(log).spawn()?);
        let (socket, root) = (format!("unix://{}", self.socket().display()), self.root());
        let started = Instant::now();
        loop {
            match self.tokio.block_on(cri::connect(Some(&socket), &root)) {
                Ok(_) => break,
                Err(error) if started.elapsed() > PATIENCE => bail!("{error}: {}", self.log()),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
        let endpoint = Endpoint::from_shared(socket)?.timeout(PATIENCE);
        let channel = self.tokio.block_on(endpoint.connect())?;
        self.runtime = Some(Client::new(channel));
        Ok(())
    }

    pub fn kill_containerd(&mut self) -> Result<()> {
        self.runtime = None;
        // `nsenter` forks into the process namespace: what it started is what must die.
        let pids = image::run(self.command("pidof").arg("containerd"))?;
        image::run(self.command("kill").arg("-9").args(pids.split_whitespace()))?;
        if let Some(mut child) = self.containerd.take() {
            child.wait()?;
        }
        Ok(())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("containerd.log")).unwrap_or_default()
    }

    /// The node's files, as this machine sees them.
    pub fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.init))
    }

    fn socket(&self) -> PathBuf {
        self.root().join("run/containerd/containerd.sock")
    }

    /// A file the node sees too.
    pub fn share(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.folder.path().join(name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }

    /// Runs on the node.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args([
            "--mount",
            "--net",
            "--pid",
            "--target",
            &self.init.to_string(),
            "--",
        ]);
        command.arg(program).stdin(Stdio::null());
        // Whatever this machine has of its own.
        for variable in ["KUBECONFIG", "KUBERNETES_SERVICE_HOST"] {
            command.env_remove(variable);
        }
        command.env("HOME", "/nonexistent").env("NO_COLOR", "1");
        command
    }

    pub fn trace(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(programs::netdiag().expect("netdiag is built"));
        command.args(["trace", "--uplink", "up0", "-o", "jsonl"]);
        command.args(arguments);
        command
    }

    /// Runs a trace to its end.
    pub fn traced(&self, arguments: &[&str]) -> Result<Ended> {
        Running::start(self.trace(arguments)).and_then(Running::end)
    }

    /// Bound in the node's network.
    pub fn listen(&self) -> Result<TcpListener> {
        let netns = File::open(format!("/proc/{}/ns/net", self.init))?;
        let inside = std::thread::spawn(move || -> Result<TcpListener> {
            setns(&netns, CloneFlags::CLONE_NEWNET)?;
            Ok(TcpListener::bind("127.0.0.1:0")?)
        });
        inside.join().expect("the thread binds a socket")
    }

    /// A pod in a namespace, with these labels.
    pub fn run_pod(&mut self, namespace: &str, name: &str, labels: &[(&str, &str)]) -> Result<Pod> {
        self.run(namespace, name, labels, NamespaceMode::Pod)
    }

    pub fn run_host_pod(&mut self, namespace: &str, name: &str) -> Result<Pod> {
        self.run(namespace, name, &[], NamespaceMode::Node)
    }

    fn run(
        &mut self,
        namespace: &str,
        name: &str,
        labels: &[(&str, &str)],
        network: NamespaceMode,
    ) -> Result<Pod> {
        self.pods += 1;
        let uid = format!("8c2f0ad2-4a3c-4f36-9a2e-{:012x}", self.pods);
        let mut config = PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: name.to_owned(),
                uid: uid.clone(),
                namespace: namespace.to_owned(),
                attempt: 0,
            }),
            // A pod of the host network has the node's.
            hostname: match network {
                NamespaceMode::Node => String::new(),
                _ => name.to_owned(),
            },
            log_directory: "/tmp/netdiag-pods/log".to_owned(),
            labels: BTreeMap::from([
                ("io.kubernetes.pod.name".to_owned(), name.to_owned()),
                (
                    "io.kubernetes.pod.namespace".to_owned(),
                    namespace.to_owned(),
                ),
                ("io.kubernetes.pod.uid".to_owned(), uid.clone()),
            ]),
            annotations: BTreeMap::new(),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: format!("{}/kubepods/besteffort/pod{uid}", self.cgroup()),
                security_context: Some(LinuxSandboxSecurityContext {
                    namespace_options: Some(NamespaceOption {
                        network: network.into(),
                        pid: NamespaceMode::Container.into(),
                        ipc: NamespaceMode::Pod.into(),
                    }),
                }),
            }),
        };
        let own = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        config.labels.extend(own);
        self.sandbox(config, uid)
    }

    /// A new sandbox for the same pod, as the kubelet makes one when the old one died.
    pub fn restart(&mut self, pod: &Pod) -> Result<Pod> {
        let mut config = pod.config.clone();
        if let Some(metadata) = &mut config.metadata {
            metadata.attempt += 1;
        }
        self.sandbox(config, pod.uid.clone())
    }

    /// The pods' own group in every hierarchy; tests end at different times.
    fn cgroup(&self) -> String {
        format!("/netdiag-pods-{}", self.unshare.id())
    }

    fn sandbox(&mut self, config: PodSandboxConfig, uid: String) -> Result<Pod> {
        let request = RunPodSandboxRequest {
            config: Some(config.clone()),
        };
        let answer = self
            .tokio
            .block_on(client(&mut self.runtime)?.run_pod_sandbox(request));
        let answer = answer.map_err(|status| anyhow::anyhow!("run a pod: {}", status.message()))?;
        Ok(Pod {
            sandbox: answer.into_inner().pod_sandbox_id,
            uid,
            config,
        })
    }

    /// The sandbox dies, and stays listed.
    pub fn stop(&mut self, pod: &Pod) -> Result<()> {
        let request = StopPodSandboxRequest {
            pod_sandbox_id: pod.sandbox.clone(),
        };
        let answer = self
            .tokio
            .block_on(client(&mut self.runtime)?.stop_pod_sandbox(request));
        answer.map(drop).context("stop a pod")
    }

    pub fn remove(&mut self, pod: &Pod) -> Result<()> {
        let request = RemovePodSandboxRequest {
            pod_sandbox_id: pod.sandbox.clone(),
        };
        let answer = self
            .tokio
            .block_on(client(&mut self.runtime)?.remove_pod_sandbox(request));
        answer.map(drop).context("remove a pod")
    }

    /// A container that sleeps; its id.
    pub fn run_container(&mut self, pod: &Pod, name: &str) -> Result<String> {
        let request = CreateContainerRequest {
            pod_sandbox_id: pod.sandbox.clone(),
            config: Some(ContainerConfig {
                metadata: Some(ContainerMetadata {
                    name: name.to_owned(),
                    attempt: 0,
                }),
                image: Some(ImageSpec {
                    image: IMAGE.to_owned(),
                }),
                log_path: format!("{name}.log"),
                ..ContainerConfig::default()
            }),
            sandbox_config: Some(pod.config.clone()),
        };
        let client = client(&mut self.runtime)?;
        self.tokio.block_on(async {
            let created = client.create_container(request).await?.into_inner();
            let start = StartContainerRequest {
                container_id: created.container_id.clone(),
            };
            client.start_container(start).await?;
            Ok(created.container_id)
        })
    }

    /// Shell commands, one after the other until one fails.
    pub fn script(&self, text: &str) -> Result<String> {
        image::run(self.command("sh").args(["-euc", text]))
    }

    /// Ctrl-C for every netdiag on the node.
    pub fn interrupt(&self) -> Result<()> {
        self.script("kill -INT $(pidof netdiag)").map(drop)
    }

    /// Name of the pod's namespace below the node's /run/netns.
    pub fn netns_name(&self, pod: &Pod) -> Result<String> {
        let interfaces = self.interfaces(pod)?;
        let paths = interfaces.iter().filter_map(|one| one["sandbox"].as_str());
        let path = paths.into_iter().find(|path| !path.is_empty());
        let name = path.and_then(|path| path.rsplit('/').next());
        name.map(str::to_owned).context("a namespace in the result")
    }

    /// The node-side end of the pod's veth, from what the network plugin wrote.
    pub fn veth(&self, pod: &Pod) -> Result<String> {
        let interfaces = self.interfaces(pod)?;
        let mut names = interfaces.iter().filter_map(|one| one["name"].as_str());
        let veth = names.find(|name| name.starts_with("veth"));
        veth.map(str::to_owned).context("a veth in the result")
    }

    fn interfaces(&self, pod: &Pod) -> Result<Vec<serde_json::Value>> {
        let file = format!("var/lib/cni/results/lab-{}-eth0", pod.sandbox);
        let text =
            fs::read_to_string(self.root().join(&file)).with_context(|| format!("read {file}"))?;
        let value: serde_json::Value = serde_json::from_str(&text)?;
        let interfaces = value["result"]["interfaces"].as_array();
        interfaces.cloned().context("interfaces in the result")
    }
}

fn client(runtime: &mut Option<Client>) -> Result<&mut Client> {
    runtime.as_mut().context("containerd runs")
}

/// Waits for what happens in another process.
pub fn until(what: &str, mut happened: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !happened()? {
        ensure!(Instant::now() < deadline, "{what} did not come");
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

impl Drop for Node {
    fn drop(&mut self) {
        self.runtime = None;
        // `--kill-child` takes the first process along, and that all others.
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
        if let Some(mut containerd) = self.containerd.take() {
            let _ = containerd.wait();
        }
        remove_cgroups(&self.cgroup());
    }
}

/// Only folders can be removed, from the innermost out; the kernel may take a moment to notice that they are empty.
fn remove_cgroups(name: &str) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let hierarchies = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (point, kind) = (words.next()?, words.next()?);
        kind.starts_with("cgroup").then(|| PathBuf::from(point))
    });
    for hierarchy in hierarchies {
        let group = hierarchy.join(name.trim_start_matches('/'));
        for _ in 0..200 {
            remove_folders(&group);
            if !group.exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn remove_folders(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_folders(&entry.path());
        }
    }
    let _ = fs::remove_dir(folder);
}
