//! The chart's objects before a real API server, and the agent with no more rights than the chart gives it.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::ghost;
use super::rbac::token_kubeconfig;
use crate::cluster::Scenario;
use crate::cluster::kubectl::until;
use crate::cluster::stage::{CLIENT, NAMESPACE, Stage};
use crate::cluster::trace::send_once;
use crate::process::Running;
use crate::programs;

/// The chart with its own values.
pub(super) const MANIFESTS: &str = include_str!("../../../../deploy/rendered.yaml");
/// With everything on; without the PodMonitor, whose kind is the Prometheus operator's.
const EVERYTHING: &str = include_str!("../everything.yaml");

pub const MANIFEST: Scenario = Scenario {
    name: "deploy_manifests",
    about: "the API server takes every object of the chart",
    run: |stage| {
        for manifests in [MANIFESTS, EVERYTHING] {
            let said = stage.kubectl.apply_with("--dry-run=server", manifests)?;
            let taken = said
                .lines()
                .filter(|line| line.contains("(server dry run)"))
                .count();
            ensure!(
                taken == manifests.matches("\nkind: ").count(),
                "not all were taken:\n{said}"
            );
        }
        Ok(())
    },
};

pub const RIGHTS: Scenario = Scenario {
    name: "agent_rights",
    about: "the agent, as the chart's service account: everything has its name, and nothing is forbidden",
    run,
};

fn run(stage: &Stage) -> Result<()> {
    // Its image is nowhere to be pulled from: all but the pods.
    let objects = MANIFESTS
        .split("\n---\n")
        .filter(|object| !object.contains("kind: DaemonSet"));
    stage
        .kubectl
        .apply(&objects.collect::<Vec<_>>().join("\n---\n"))?;
    let folder = tempfile::tempdir().context("make a temporary folder")?;
    let file = folder.path().join("agent.conf");
    token_kubeconfig(stage, "kube-system", "netdiag", &file)?;
    let store = folder.path().join("store");
    let config = folder.path().join("agent.yaml");
    let text = format!(
        "store: {{dir: {}}}\nlisten: []\nkubeconfig: {}\ntrace: {{namespaces: [shop]}}\n",
        store.display(),
        file.display()
    );
    std::fs::write(&config, text).context("write the agent's configuration")?;
    let mut command = Command::new(programs::netdiag()?);
    command
        .args(["agent", "--config"])
        .arg(&config)
        .env_remove("KUBECONFIG");
    let agent = Running::ready(command)?;
    let sent = send_once(stage.pid(NAMESPACE, CLIENT)?, &[ghost(stage)?]);
    let seen = until("a verdict is stored", || !stored(&store).is_empty());
    agent.signal(Signal::SIGTERM)?;
    let ended = agent.end()?;
    sent?;
    seen.with_context(|| ended.stderr.clone())?;
    let verdicts = stored(&store);
    let missing = missing(&verdicts);
    ensure!(missing.is_empty(), "{missing:?} is nowhere: {verdicts:#?}");
    let said = ended.stderr.to_lowercase();
    ensure!(
        !said.contains("403") && !said.contains("forbidden"),
        "{}",
        ended.stderr
    );
    ensure!(
        ended.code == Some(0),
        "exit code {:?}, 0 was due",
        ended.code
    );
    Ok(())
}

/// What no verdict says of the client's attempt to reach a Service without endpoints.
pub(super) fn missing(verdicts: &[Value]) -> Vec<(&'static str, &'static str)> {
    let wanted = [
        ("/source/namespace", NAMESPACE),
        ("/source/pod_name", CLIENT),
        ("/destination/service/name", "ghost"),
        ("/cause", "SVC_NO_ENDPOINTS"),
    ];
    let unsaid = wanted.into_iter().filter(|(pointer, wanted)| {
        let says = |verdict: &Value| verdict.pointer(pointer) == Some(&Value::from(*wanted));
        !verdicts.iter().any(says)
    });
    unsaid.collect()
}

fn stored(store: &Path) -> Vec<Value> {
    verdicts(&["--store", &store.to_string_lossy()])
}

/// What `netdiag verdicts` finds; nothing when there is nobody to ask.
pub(super) fn verdicts(from: &[&str]) -> Vec<Value> {
    let Ok(netdiag) = programs::netdiag() else {
        return Vec::new();
    };
    let mut command = Command::new(netdiag);
    command.args(["verdicts", "-o", "jsonl"]).args(from);
    let Ok(output) = command.output() else {
        return Vec::new();
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}
