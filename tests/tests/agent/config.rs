//! Its configuration: when it takes effect, and what of it is refused.

use std::fs;

use netdiag_tests::faults::broken;
use netdiag_tests::process::Running;
use nix::sys::signal::Signal;

use crate::lab::{is_drop, lab, terminate, until, with_outcome};

#[test]
fn a_bad_configuration_changes_nothing_and_a_good_one_takes_effect() {
    let Some(lab) = lab() else { return };
    lab.configure("failing", &lab.trace(""));
    let agent = lab.start();
    fs::write(lab.path("agent.yaml"), "store: {keep: nonsense}\n").expect("write nonsense");
    agent.signal(Signal::SIGHUP).expect("it runs");
    lab.connect(8080);
    lab.connect(broken::TCP);
    let stored = lab.wait_for("a verdict", |stored| !stored.is_empty());
    assert!(stored.iter().all(is_drop), "{stored:#?}");
    lab.configure("all", &lab.trace(""));
    agent.signal(Signal::SIGHUP).expect("it runs on");
    until("a healthy flow is stored", || {
        lab.connect(8080);
        let stored = lab.stored();
        (!with_outcome(&stored, "DELIVERED").is_empty()).then_some(())
    });
    let ended = terminate(agent);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    let complaints = ended
        .stderr
        .lines()
        .filter(|line| line.contains("keeping the configuration"));
    let complaints: Vec<_> = complaints.collect();
    assert!(
        complaints.len() == 1 && complaints[0].contains("keep"),
        "{ended:#?}"
    );
}

#[test]
fn what_must_not_be_served_is_refused_at_the_start() {
    let Some(lab) = lab() else { return };
    let public = "listen: [{tcp: '0.0.0.0:9471'}]";
    let certificate = "listen: [{tcp: '0.0.0.0:9471', tls: {certificate: /no/cert, key: /no/key}, auth: kubernetes}]\nkubeconfig: /no/kubeconfig";
    for (text, about) in [
        (public, "needs tls"),
        (certificate, "/no/kubeconfig"),
        (
            "listen: [{unix: /proc/nowhere/socket}]",
            "/proc/nowhere/socket",
        ),
        ("store: {dir: /proc/nowhere}\nlisten: []", "/proc/nowhere"),
        ("colour: red", "colour"),
    ] {
        fs::write(lab.path("agent.yaml"), text).expect("write the configuration");
        let running = Running::start(lab.agent()).expect("start the agent");
        let ended = running.end().expect("it ends");
        let errors = ended
            .stderr
            .lines()
            .filter(|line| line.starts_with("error: "));
        let errors: Vec<_> = errors.collect();
        assert_eq!(
            (ended.code, errors.len()),
            (Some(2), 1),
            "{text}: {ended:#?}"
        );
        assert!(errors[0].contains(about), "{text}: {ended:#?}");
    }
    lab.configure("failing", &lab.trace(""));
    let agent = lab.start();
    let second = Running::start(lab.agent())
        .expect("start another")
        .end()
        .expect("it ends");
    assert_eq!(second.code, Some(2), "{second:#?}");
    assert!(second.stderr.contains("in use by another"), "{second:#?}");
    assert_eq!(terminate(agent).code, Some(0));
}
