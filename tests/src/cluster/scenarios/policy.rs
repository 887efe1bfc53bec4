//! A NetworkPolicy, enforced by the rules of a policy engine.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{FORWARD, tcp};
use crate::check::text;
use crate::cluster::Scenario;
use crate::cluster::judge::{Try, judge};
use crate::cluster::stage::{LOCKED, Stage};
use crate::cluster::trace::{Done, Trace};
use crate::scenario::{Attempt, Expect};
use crate::step::{Answer, Kind};

pub const SCENARIO: Scenario = Scenario {
    name: "policy",
    about: "a policy admits the auditor to the vault and nobody else; what is advised would change that",
    run,
};

fn run(stage: &Stage) -> Result<()> {
    let vault = stage.service("locked", "vault")?;
    let expect = Expect::dropped(&["NETPOL_DROP"], FORWARD).component(&[
        ("owner", "calico"),
        ("table", "filter"),
        ("verdict", "DROP"),
    ]);
    let shut_out = tcp(vault, &[Answer::Timeout], expect)
        .by_client()
        .for_service("locked", "vault");
    let attempts = [shut_out.clone().says("locked/auditors-only")];
    let done = Trace::of_client(stage).run(&attempts)?;
    judge(&done, &attempts)?;
    let admitted = [Try::new(Attempt::healthy(Kind::Tcp, vault))
        .named("/source/pod_name", "auditor")
        .for_service("locked", "vault")];
    let auditor = Trace::of(stage, "pod/auditor -n locked").run(&admitted)?;
    judge(&auditor, &admitted)?;
    let advised = follow_advice(stage, &done).and_then(|()| {
        // The rules of this engine never change, so the packet still dies; but no policy is to blame any more.
        let attempts = [shut_out.says("the NetworkPolicies of the cluster allow this")];
        judge(&Trace::of_client(stage).run(&attempts)?, &attempts)
    });
    stage.kubectl.apply(LOCKED)?;
    advised
}

/// Runs the advised patch as an operator would paste it.
fn follow_advice(stage: &Stage, done: &Done) -> Result<()> {
    let verdict = done
        .verdicts
        .iter()
        .find(|one| text(one, "/cause") == "NETPOL_DROP");
    let commands = verdict.and_then(|one| one.pointer("/remediation/commands")?.as_array());
    let mut commands = commands
        .into_iter()
        .flatten()
        .filter_map(|one| one.as_str());
    let patch = commands.find(|command| command.contains(" patch networkpolicy "));
    let patch = patch.context("no patch is advised")?;
    let output = Command::new("sh")
        .args(["-c", patch])
        .env("KUBECONFIG", stage.kubeconfig())
        .output()
        .context("run sh")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{patch}: {said}");
    Ok(())
}
