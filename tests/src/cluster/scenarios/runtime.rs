//! The container runtime restarts under the trace.

use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::{delivered, web};
use crate::check::text;
use crate::cluster::Scenario;
use crate::cluster::judge::judge;
use crate::cluster::stage::{CLIENT, NAMESPACE, POD_PORT, Stage};
use crate::cluster::trace::Trace;

pub const SCENARIO: Scenario = Scenario {
    name: "runtime_restarted",
    about: "containerd is killed and started again mid-trace: pods and verdicts live on",
    run,
};

fn run(stage: &Stage) -> Result<()> {
    let replicas = stage
        .kubectl
        .get(&format!("pods -n {NAMESPACE} -l app=web"))?;
    let replicas = replicas["items"].as_array().context("no list of pods")?;
    let mut attempts = vec![web(stage)?];
    for replica in replicas {
        let address = text(replica, "/status/podIP").parse()?;
        let to = (std::net::IpAddr::V4(address), POD_PORT).into();
        let name = text(replica, "/metadata/name");
        attempts.push(delivered(to).named("/destination/pod_name", name));
    }
    let mut following = Trace::of_client(stage).follow()?;
    let pid = stage.pid(NAMESPACE, CLIENT)?;
    following.send_from(pid, &attempts[..1])?;
    let killed = stage.kill("containerd")?;
    following.send_from(pid, &attempts[1..2])?;
    killed.start(|| {
        let mut ctr = Command::new("ctr");
        ctr.arg("version")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        ctr.status().is_ok_and(|status| status.success())
    })?;
    following.send_from(pid, &attempts[2..])?;
    judge(&following.stop()?, &attempts)?;
    // Who asks it now finds the same pods.
    let attempts = [web(stage)?];
    judge(&Trace::of_client(stage).run(&attempts)?, &attempts)
}
