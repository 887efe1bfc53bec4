//! The leg from a pod to a Service and on to the pod behind it.

use anyhow::Result;

use super::{FORWARD, ghost, tcp, web};
use crate::cluster::Scenario;
use crate::cluster::judge::{Try, judge};
use crate::cluster::stage::{NAMESPACE, SERVICE_PORT, Stage};
use crate::cluster::trace::Trace;
use crate::scenario::Expect;
use crate::step::Answer;

pub const HEALTHY: Scenario = Scenario {
    name: "service",
    about: "pod to Service to pod: nothing is wrong, and everybody has a name",
    run: |stage| {
        let web = web(stage)?
            .named("/destination/service/port_name", "echo")
            .named("/nat/0/kind", "DNAT");
        traced(stage, "web", web)
    },
};

pub const NO_ENDPOINTS: Scenario = Scenario {
    name: "no_endpoints",
    about: "the selector of a Service has a typing mistake",
    run: |stage| {
        let ghost = ghost(stage)?.for_service(NAMESPACE, "ghost");
        // What it selects, and the labels that are nearly so.
        traced(stage, "ghost", ghost.says("app=wbe").says("app=web"))
    },
};

pub const NOT_READY: Scenario = Scenario {
    name: "not_ready",
    about: "the only backend of a Service never gets ready",
    run: |stage| {
        let to = stage.service(NAMESPACE, "sleepy")?;
        let expect = Expect::dropped(&["SVC_BACKENDS_NOT_READY"], FORWARD);
        let sleepy = tcp(to, &[Answer::Refused], expect).by_client();
        let sleepy = sleepy.for_service(NAMESPACE, "sleepy");
        traced(stage, "sleepy", sleepy)
    },
};

pub const WRONG_TARGET_PORT: Scenario = Scenario {
    name: "wrong_target_port",
    about: "a Service points to a port nobody listens on",
    run: |stage| {
        let to = stage.service(NAMESPACE, "misaimed")?;
        let expect = Expect::refused(&["TARGET_PORT_MISMATCH"], &["SOCKET"]);
        let misaimed = tcp(to, &[Answer::Refused], expect).by_client();
        let misaimed = misaimed.for_service(NAMESPACE, "misaimed");
        // What it wants, and what does listen.
        traced(stage, "misaimed", misaimed.says("8081").says("8080"))
    },
};

pub const UNDEFINED_PORT: Scenario = Scenario {
    name: "undefined_port",
    about: "a port the Service does not have: no rule translates it, so it leaves the node",
    run: |stage| {
        let mut to = stage.service(NAMESPACE, "web")?;
        to.set_port(81);
        let mut expect = Expect::no_answer(&["SVC_PORT_UNDEFINED"]);
        // What the Service's ports are is no inference; what becomes of the packet beyond is.
        expect.confidences = &["PROVEN", "INFERRED"];
        expect.present = &["evidence", "remediation"];
        let undefined = tcp(to, &[Answer::Timeout], expect).by_client();
        let to = format!("--to svc/web.{NAMESPACE}:81");
        let done = Trace::of_client(stage)
            .option(&to)
            .run(std::slice::from_ref(&undefined))?;
        judge(&done, &[undefined])
    },
};

/// Traces the client on its way to a Service named as an operator names it.
fn traced(stage: &Stage, service: &str, attempt: Try) -> Result<()> {
    let to = format!("--to svc/{service}.{NAMESPACE}:{SERVICE_PORT}");
    let attempts = [attempt];
    let done = Trace::of_client(stage).option(&to).run(&attempts)?;
    judge(&done, &attempts)
}
