//! Scenarios on a real Kubernetes node, run on that node (`cargo xtask cluster test`).
//!
//! - `kubectl` asks the API server, `component` kills and starts the node's processes
//! - `stage` is what stands on the cluster meanwhile · `calico` a policy engine's rules for it
//! - `trace` runs netdiag on it, `judge` says what is wrong with the answer, `scenarios` one file each · `run` all of them

mod calico;
mod component;
mod judge;
mod kubectl;
pub mod run;
mod scenarios;
mod stage;
mod trace;

use anyhow::Result;

use stage::Stage;

/// One thing that is tried on the cluster. What it breaks it mends again.
pub struct Scenario {
    pub name: &'static str,
    /// What is tried, for a human.
    pub about: &'static str,
    /// The error tells everything a human needs to see what was wrong.
    run: fn(&Stage) -> Result<()>,
}

pub const SCENARIOS: &[Scenario] = &[
    scenarios::service::HEALTHY,
    scenarios::service::NO_ENDPOINTS,
    scenarios::service::NOT_READY,
    scenarios::service::WRONG_TARGET_PORT,
    scenarios::service::UNDEFINED_PORT,
    scenarios::resolver::SCENARIO,
    scenarios::egress::SCENARIO,
    scenarios::policy::SCENARIO,
    scenarios::selectors::BY_LABELS,
    scenarios::selectors::BY_WORKLOAD,
    scenarios::selectors::BY_CONTAINER,
    scenarios::selectors::BY_NETNS,
    scenarios::selectors::UNKNOWN,
    scenarios::rbac::SCENARIO,
    scenarios::agent::MANIFEST,
    scenarios::agent::RIGHTS,
    scenarios::daemonset::SCENARIO,
    scenarios::proxy::SCENARIO,
    scenarios::deleted::PEER,
    scenarios::deleted::TRACED,
    scenarios::apiserver::KILLED,
    scenarios::apiserver::DEAD,
    scenarios::runtime::SCENARIO,
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique() {
        let names: BTreeSet<_> = super::SCENARIOS.iter().map(|one| one.name).collect();
        assert_eq!(names.len(), super::SCENARIOS.len());
    }
}
