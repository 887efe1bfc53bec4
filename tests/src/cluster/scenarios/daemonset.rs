//! The chart's DaemonSet as it is: its pod, its image, its capabilities, its account.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::agent::{MANIFESTS, missing, verdicts};
use super::ghost;
use crate::check::text;
use crate::cluster::Scenario;
use crate::cluster::kubectl::until;
use crate::cluster::stage::{CLIENT, NAMESPACE, Stage};
use crate::cluster::trace::send_once;

pub const SCENARIO: Scenario = Scenario {
    name: "agent_daemonset",
    about: "the chart's DaemonSet: its pod gets ready with what it is allowed, and names what dies on the node",
    run,
};

/// BPF, PERFMON, SYSLOG, `SYS_PTRACE`, `NET_ADMIN`, as bits of the sets in /proc/PID/status.
const ALLOWED: u64 = 1 << 39 | 1 << 38 | 1 << 34 | 1 << 19 | 1 << 12;
const SOCKET: &str = "unix:/run/netdiag/agent.sock";

fn run(stage: &Stage) -> Result<()> {
    stage.kubectl.apply(MANIFESTS)?;
    let watched = watch(stage);
    let said = stage
        .kubectl
        .run("logs -n kube-system daemonset/netdiag --tail=20");
    stage
        .kubectl
        .run("delete daemonset netdiag -n kube-system --wait=false")?;
    watched.with_context(|| said.unwrap_or_else(|why| format!("{why:#}")))?;
    until("the agent's pod is gone", || agent(stage).is_err())
}

fn watch(stage: &Stage) -> Result<()> {
    stage
        .kubectl
        .run("rollout status daemonset/netdiag -n kube-system --timeout=60s")?;
    let (pod, pid) = agent(stage)?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("read its status")?;
    for (set, held) in [
        ("CapEff", ALLOWED),
        ("CapPrm", ALLOWED),
        ("CapBnd", ALLOWED),
    ] {
        let line = status.lines().find_map(|line| line.strip_prefix(set));
        let line = line.with_context(|| format!("no {set}"))?;
        let found = u64::from_str_radix(line.trim_start_matches(':').trim(), 16);
        ensure!(found == Ok(held), "{set} is {line}, {held:x} was due");
    }
    send_once(stage.pid(NAMESPACE, CLIENT)?, &[ghost(stage)?])?;
    let asked = || verdicts(&["--api", SOCKET]);
    until("the agent tells of it", || missing(&asked()).is_empty()).with_context(|| {
        let found = asked();
        format!("{:?} of {found:#?}", missing(&found))
    })?;
    let restarts = pod.pointer("/status/containerStatuses/0/restartCount");
    ensure!(restarts == Some(&Value::from(0)), "it restarted: {pod:#}");
    Ok(())
}

/// The agent's pod, and its process as this node numbers it.
fn agent(stage: &Stage) -> Result<(Value, u32)> {
    let pod = stage.pod("kube-system", "-l app.kubernetes.io/name=netdiag")?;
    let uid = format!("pod{}/", text(&pod, "/metadata/uid"));
    let entries = fs::read_dir("/proc").context("list /proc")?.flatten();
    let mut pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_agent = |pid: &u32| {
        let read = |file| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        read("cgroup").contains(&uid) && read("comm").trim() == "netdiag"
    };
    let pid = pids.find(is_agent).context("the agent has no process")?;
    Ok((pod, pid))
}
