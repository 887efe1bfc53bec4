//! kube-proxy is gone, and its rules with it.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::tcp;
use crate::cluster::Scenario;
use crate::cluster::judge::{fail, of};
use crate::cluster::stage::{NAMESPACE, Stage};
use crate::cluster::trace::Trace;
use crate::scenario::Expect;
use crate::step::Answer;

pub const SCENARIO: Scenario = Scenario {
    name: "proxy_dead",
    about: "kube-proxy is dead and a Service's rules are gone: its packets leave the node untranslated",
    run,
};

fn run(stage: &Stage) -> Result<()> {
    let to = stage.service(NAMESPACE, "web")?;
    let killed = stage.kill("kube-proxy")?;
    let flushed = Command::new("iptables")
        .args(["-w", "-t", "nat", "-F", "KUBE-SERVICES"])
        .status();
    ensure!(
        flushed.context("run iptables")?.success(),
        "flush KUBE-SERVICES"
    );
    let mut expect = Expect::no_answer(&["KUBE_PROXY_RULES_MISSING"]);
    // That the rules are missing is no inference; what becomes of the packet beyond is.
    expect.confidences = &["PROVEN", "INFERRED"];
    expect.present = &["evidence", "remediation"];
    let attempts = [tcp(to, &[Answer::Timeout], expect)
        .by_client()
        .for_service(NAMESPACE, "web")];
    let done = Trace::of_client(stage).run(&attempts)?;
    let rule = format!("{NAMESPACE}/web:echo");
    killed.start(|| {
        let rules = Command::new("iptables-save").args(["-t", "nat"]).output();
        rules.is_ok_and(|rules| {
            let rules = String::from_utf8_lossy(&rules.stdout).into_owned();
            let mut dispatch = rules
                .lines()
                .filter(|line| line.starts_with("-A KUBE-SERVICES"));
            dispatch.any(|line| line.contains(&rule))
        })
    })?;
    let mut complaints = of(&done, &attempts);
    if done.ended.code != Some(1) {
        complaints.push(format!("exit code {:?}, 1 was due", done.ended.code));
    }
    fail(&done, &complaints)
}
