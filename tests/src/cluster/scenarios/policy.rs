//! A NetworkPolicy, enforced by the rules of a policy engine.

use super::{FORWARD, tcp};
use crate::cluster::Scenario;
use crate::cluster::judge::{Try, judge};
use crate::cluster::trace::Trace;
use crate::scenario::{Attempt, Expect};
use crate::step::{Answer, Kind};

pub const SCENARIO: Scenario = Scenario {
    name: "policy",
    about: "a policy admits the auditor to the vault and nobody else",
    run: |stage| {
        let vault = stage.service("locked", "vault")?;
        let expect = Expect::dropped(&["NETPOL_DROP"], FORWARD).component(&[
            ("owner", "calico"),
            ("table", "filter"),
            ("verdict", "DROP"),
        ]);
        let shut_out = [tcp(vault, &[Answer::Timeout], expect)
            .by_client()
            .for_service("locked", "vault")
            .says("locked/auditors-only")];
        let done = Trace::of_client(stage).run(&shut_out)?;
        judge(&done, &shut_out)?;
        let admitted = [Try::new(Attempt::healthy(Kind::Tcp, vault))
            .named("/source/pod_name", "auditor")
            .for_service("locked", "vault")];
        let done = Trace::of(stage, "pod/auditor -n locked").run(&admitted)?;
        judge(&done, &admitted)
    },
};
