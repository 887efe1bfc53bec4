//! Out of the cluster.

use super::delivered;
use crate::cluster::Scenario;
use crate::cluster::judge::judge;
use crate::cluster::stage::{BEYOND, POD_PORT};
use crate::cluster::trace::Trace;

pub const SCENARIO: Scenario = Scenario {
    name: "egress",
    about: "to a host beyond the node's router: the node's address stands for the pod's",
    run: |stage| {
        let attempts = [delivered((BEYOND, POD_PORT).into())
            .named("/destination/external", "true")
            .named("/nat/0/kind", "SNAT")];
        let done = Trace::of_client(stage).run(&attempts)?;
        judge(&done, &attempts)
    },
};
