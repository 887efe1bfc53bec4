//! Without an API server names get poorer, verdicts do not.

use anyhow::Result;

use super::{delivered, ghost, web};
use crate::cluster::Scenario;
use crate::cluster::component::Killed;
use crate::cluster::judge::judge;
use crate::cluster::stage::{CLIENT, NAMESPACE, Stage};
use crate::cluster::trace::Trace;

pub const KILLED: Scenario = Scenario {
    name: "apiserver_killed",
    about: "the API server is killed mid-trace: what was known before is still known",
    run: |stage| {
        let ghost = ghost(stage)?.for_service(NAMESPACE, "ghost");
        let attempts = [web(stage)?, ghost];
        let subject = client(stage)?;
        let mut following = Trace::of_client(stage).follow()?;
        let killed = stage.kill("kube-apiserver")?;
        let sent = following.send_from(subject, &attempts);
        let done = following.stop();
        again(stage, killed)?;
        sent?;
        judge(&done?, &attempts)
    },
};

pub const DEAD: Scenario = Scenario {
    name: "apiserver_dead",
    about: "the API server is dead from the start: the runtime knows the pod, the rules know the Service",
    run: |stage| {
        let attempts = [delivered(stage.service(NAMESPACE, "web")?), ghost(stage)?];
        let killed = stage.kill("kube-apiserver")?;
        let done = Trace::of_client(stage).run(&attempts);
        again(stage, killed)?;
        judge(&done?, &attempts)
    },
};

/// The client's process, asked for while there is somebody to ask.
fn client(stage: &Stage) -> Result<u32> {
    stage.pid(NAMESPACE, CLIENT)
}

fn again(stage: &Stage, killed: Killed) -> Result<()> {
    killed.start(|| stage.kubectl.run("get --raw /readyz").is_ok())
}
