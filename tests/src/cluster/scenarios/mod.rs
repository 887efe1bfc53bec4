//! One file each, and what several of them try.

pub mod agent;
pub mod apiserver;
pub mod daemonset;
pub mod deleted;
pub mod egress;
pub mod policy;
pub mod proxy;
pub mod rbac;
pub mod resolver;
pub mod runtime;
pub mod selectors;
pub mod service;

use std::net::SocketAddr;

use anyhow::Result;

use super::judge::Try;
use super::stage::{NAMESPACE, Stage};
use crate::scenario::{Attempt, Expect};
use crate::step::{Answer, Kind, Step};

const FORWARD: &[&str] = &["NF_FORWARD"];

/// The healthy Service, which must be named.
fn web(stage: &Stage) -> Result<Try> {
    let to = stage.service(NAMESPACE, "web")?;
    Ok(delivered(to).for_service(NAMESPACE, "web"))
}

/// An echo from there, from the client.
fn delivered(to: SocketAddr) -> Try {
    Try::new(Attempt::healthy(Kind::Tcp, to)).by_client()
}

/// The Service without endpoints: its REJECT is the node's, whatever else is dead.
fn ghost(stage: &Stage) -> Result<Try> {
    let to = stage.service(NAMESPACE, "ghost")?;
    let expect = Expect::dropped(&["SVC_NO_ENDPOINTS"], FORWARD);
    let expect = expect.component(&[("owner", "kube-proxy"), ("name", "shop/ghost:echo")]);
    Ok(tcp(to, &[Answer::Refused], expect).by_client())
}

fn tcp(to: SocketAddr, answers: &'static [Answer], expect: Expect) -> Try {
    Try::new(Attempt::new(Step::new(Kind::Tcp, to), answers, expect))
}
