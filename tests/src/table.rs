//! Every scenario there is, by theme.

mod conntrack;
mod controls;
mod demo;
mod explain;
mod firewall;
mod healthy;
mod kube;
mod masquerade;
mod nat;
mod program;
mod routing;
mod services;
mod socket;

use crate::scenario::Scenario;

/// All of them.
pub const SCENARIOS: &[&[Scenario]] = &[
    healthy::SCENARIOS,
    firewall::SCENARIOS,
    routing::SCENARIOS,
    socket::SCENARIOS,
    kube::SCENARIOS,
    services::SCENARIOS,
    program::SCENARIOS,
    demo::SCENARIOS,
    conntrack::SCENARIOS,
    nat::SCENARIOS,
    explain::SCENARIOS,
    masquerade::SCENARIOS,
];
