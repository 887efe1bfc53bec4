//! Pods that go while they are traced, or while they are spoken to.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{delivered, tcp, web};
use crate::cluster::Scenario;
use crate::cluster::judge::{Try, fail, judge, of};
use crate::cluster::kubectl::until;
use crate::cluster::stage::{CLIENT, NAMESPACE, Stage};
use crate::cluster::trace::Trace;
use crate::scenario::{Attempt, Expect};
use crate::step::{Answer, Kind};

/// Echoes on two ports, so that before and after are told apart.
const MANIFEST: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: NAME, namespace: shop, labels: {app: NAME}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: echo
    image: docker.io/netdiag/busybox:1
    command: [sh, -c, "nc -ll -p 8081 -e cat & exec nc -ll -p 8080 -e cat"]
    readinessProbe: {tcpSocket: {port: 8081}, periodSeconds: 1}
"#;

pub const PEER: Scenario = Scenario {
    name: "peer_deleted",
    about: "the other pod is deleted mid-trace: it keeps its name, and its absence is the node's knowledge",
    run: peer,
};

fn peer(stage: &Stage) -> Result<()> {
    let address = make(stage, "victim")?;
    let alive = delivered((address, 8080).into()).named("/destination/pod_name", "victim");
    // Nobody answers for the address any more: the kernel gives up and says so after three seconds.
    let expect = Expect::dropped(&["NEIGH_FAILED"], &[]);
    let mut gone = tcp((address, 8081).into(), &[Answer::Unreachable], expect).by_client();
    gone.attempt.step = gone.attempt.step.timeout(std::time::Duration::from_secs(8));
    let gone = gone.named("/destination/pod_name", "victim");
    let attempts = [alive, gone];
    let mut following = Trace::of_client(stage).follow()?;
    following.send(CLIENT, &attempts[..1])?;
    delete(stage, "victim")?;
    forget(stage, address)?;
    following.send(CLIENT, &attempts[1..])?;
    judge(&following.stop()?, &attempts)
}

pub const TRACED: Scenario = Scenario {
    name: "traced_deleted",
    about: "the traced pod itself is deleted mid-trace: what it said before is still told",
    run: traced,
};

fn traced(stage: &Stage) -> Result<()> {
    make(stage, "shortlived")?;
    let to = stage.service(NAMESPACE, "web")?;
    let attempts = [Try::new(Attempt::healthy(Kind::Tcp, to))
        .named("/source/pod_name", "shortlived")
        .for_service(NAMESPACE, "web")];
    let mut following = Trace::of(stage, &format!("pod/shortlived -n {NAMESPACE}")).follow()?;
    following.send("shortlived", &attempts)?;
    delete(stage, "shortlived")?;
    let done = following.stop()?;
    let mut complaints = of(&done, &attempts);
    // It may end by itself, saying that there is nothing left to observe, or when it is told to.
    if !matches!(done.ended.code, Some(0 | 3)) {
        complaints.push(format!("exit code {:?}, 0 or 3 was due", done.ended.code));
    }
    fail(&done, &complaints)?;
    // A trace of another pod is none the wiser.
    let attempts = [web(stage)?];
    judge(&Trace::of_client(stage).run(&attempts)?, &attempts)
}

/// Makes the client forget the pod's link address now, as it would by itself within a minute: until then it sends to
/// where nobody is, and waits.
fn forget(stage: &Stage, address: std::net::IpAddr) -> Result<()> {
    let pid = stage.pid(NAMESPACE, CLIENT)?;
    let mut nsenter = Command::new("nsenter");
    nsenter.arg(format!("--net=/proc/{pid}/ns/net"));
    nsenter.args(["ip", "neigh", "del", &address.to_string(), "dev", "eth0"]);
    let status = nsenter.status().context("run nsenter")?;
    ensure!(status.success(), "ip neigh del {address}: {status}");
    Ok(())
}

fn make(stage: &Stage, name: &str) -> Result<std::net::IpAddr> {
    stage.kubectl.apply(&MANIFEST.replace("NAME", name))?;
    stage
        .kubectl
        .wait(&format!("--for=condition=Ready pod/{name} -n {NAMESPACE}"))?;
    stage.pod_ip(NAMESPACE, name)
}

/// Deletes it and waits until its address is nobody's.
fn delete(stage: &Stage, name: &str) -> Result<()> {
    let pid = stage.pid(NAMESPACE, name)?;
    stage
        .kubectl
        .run(&format!("delete pod {name} -n {NAMESPACE} --wait=false"))?;
    until(&format!("pod {name} has no process"), || {
        !std::path::Path::new("/proc").join(pid.to_string()).exists()
    })?;
    until(&format!("pod {name} is forgotten"), || {
        stage.pod(NAMESPACE, name).is_err()
    })
}
