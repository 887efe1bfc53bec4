//! The other ways to say which pod is meant.

use anyhow::{Context, Result};

use super::web;
use crate::check::text;
use crate::cluster::Scenario;
use crate::cluster::judge::{Try, fail, judge};
use crate::cluster::stage::{CLIENT, NAMESPACE, Stage};
use crate::cluster::trace::Trace;
use crate::scenario::Attempt;
use crate::step::Kind;

pub const BY_LABELS: Scenario = Scenario {
    name: "by_labels",
    about: "the pod is found by its labels",
    run: |stage| traced(stage, &format!("-l role=buyer -n {NAMESPACE}")),
};

pub const BY_CONTAINER: Scenario = Scenario {
    name: "by_container",
    about: "the pod is found by the first letters of a container's id",
    run: |stage| {
        let client = stage.pod(NAMESPACE, CLIENT)?;
        let id = text(&client, "/status/containerStatuses/0/containerID");
        let id = id.rsplit('/').next().and_then(|id| id.get(..13));
        let id = id.context("the client has no container")?;
        traced(stage, &format!("container/{id}"))
    },
};

fn traced(stage: &Stage, subject: &str) -> Result<()> {
    let attempts = [web(stage)?];
    let done = Trace::of(stage, subject).run(&attempts)?;
    judge(&done, &attempts)
}

pub const BY_WORKLOAD: Scenario = Scenario {
    name: "by_workload",
    about: "all replicas of a Deployment are followed at once",
    run: |stage| {
        let replicas = stage
            .kubectl
            .get(&format!("pods -n {NAMESPACE} -l app=web"))?;
        let replicas = replicas["items"].as_array().context("no list of pods")?;
        let client = stage.pod_ip(NAMESPACE, CLIENT)?;
        let mut attempts = Vec::new();
        for replica in replicas {
            let address = text(replica, "/status/podIP").parse()?;
            let to = (
                std::net::IpAddr::V4(address),
                crate::cluster::stage::POD_PORT,
            )
                .into();
            let mut attempt = Try::new(Attempt::healthy(Kind::Tcp, to)).by_client();
            // The kubelet asks there too whether they are ready.
            attempt.attempt.step = attempt.attempt.step.from(client);
            let name = text(replica, "/metadata/name");
            let attempt = attempt.named("/destination/pod_name", name);
            attempts.push(attempt.named("/destination/workloads/0/name", "web"));
        }
        let subject = format!("deployment/web -n {NAMESPACE}");
        let mut following = Trace::of(stage, &subject).follow()?;
        following.send(CLIENT, &attempts)?;
        judge(&following.stop()?, &attempts)
    },
};

pub const BY_NETNS: Scenario = Scenario {
    name: "by_netns",
    about: "without any names: by the pod's namespace, with no credentials",
    run: |stage| {
        let pid = stage.pid(NAMESPACE, CLIENT)?;
        let to = stage.service(NAMESPACE, "web")?;
        let attempts = [Try::new(Attempt::healthy(Kind::Tcp, to)).named("/nat/0/kind", "DNAT")];
        let done = Trace::of(stage, &format!("--netns /proc/{pid}/ns/net"))
            .without_kubeconfig()
            .run(&attempts)?;
        judge(&done, &attempts)
    },
};

pub const UNKNOWN: Scenario = Scenario {
    name: "unknown_pod",
    about: "a pod that does not exist: one line, and the nearest name",
    run: |stage| {
        let done = Trace::of(stage, &format!("pod/cleint -n {NAMESPACE}")).run(&[])?;
        let mut complaints = Vec::new();
        if done.ended.code != Some(2) {
            complaints.push(format!("exit code {:?}, 2 was due", done.ended.code));
        }
        let lines: Vec<_> = done.ended.stderr.lines().collect();
        let errors = lines.iter().filter(|line| line.starts_with("error: "));
        let errors: Vec<_> = errors.collect();
        if errors.len() != 1 || !errors[0].contains("cleint") || !errors[0].contains(CLIENT) {
            complaints.push("one error that names the pod and the nearest was due".to_owned());
        }
        fail(&done, &complaints)
    },
};
