//! Runs the scenarios one after the other: some of them take the cluster's parts away.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::stage::Stage;
use super::{SCENARIOS, Scenario};

/// Where the cluster is.
pub struct Cluster {
    /// The administrator's.
    pub kubeconfig: PathBuf,
    /// A file per process of the node, that starts it.
    pub start_scripts: PathBuf,
}

struct Row {
    scenario: &'static Scenario,
    took: Duration,
    passed: bool,
}

/// Runs those named, or all; true when all passed.
pub fn run(cluster: Cluster, names: &[String]) -> Result<bool> {
    let chosen = chosen(names)?;
    let started = Instant::now();
    let stage = Stage::build(cluster.kubeconfig, cluster.start_scripts)?;
    println!(
        "the stage is set after {:.1} s",
        started.elapsed().as_secs_f64()
    );
    let rows: Vec<_> = chosen.into_iter().map(|one| row(one, &stage)).collect();
    println!(
        "\n{:<20} {:<7} {:>7}  what is tried",
        "scenario", "result", "time"
    );
    for Row {
        scenario: Scenario { name, about, .. },
        took,
        passed,
    } in &rows
    {
        let result = if *passed { "ok" } else { "FAILED" };
        println!(
            "{name:<20} {result:<7} {:>5.1} s  {about}",
            took.as_secs_f64()
        );
    }
    let passed = rows.iter().filter(|row| row.passed).count();
    let failed = rows.len() - passed;
    println!("\ncluster: {passed} passed, {failed} failed");
    Ok(failed == 0)
}

fn row(scenario: &'static Scenario, stage: &Stage) -> Row {
    let started = Instant::now();
    let result = (scenario.run)(stage);
    match &result {
        Ok(()) => println!("ok    {}", scenario.name),
        Err(error) => println!("FAIL  {}: {}\n{error:#}", scenario.name, scenario.about),
    }
    Row {
        scenario,
        took: started.elapsed(),
        passed: result.is_ok(),
    }
}

fn chosen(names: &[String]) -> Result<Vec<&'static Scenario>> {
    let find = |name: &String| SCENARIOS.iter().find(|one| one.name == name.as_str());
    if let Some(unknown) = names.iter().find(|name| find(name).is_none()) {
        let known: Vec<_> = SCENARIOS.iter().map(|one| one.name).collect();
        bail!(
            "no scenario is called {unknown}; there are {}",
            known.join(", ")
        );
    }
    let all = || SCENARIOS.iter().collect();
    Ok(if names.is_empty() {
        all()
    } else {
        names.iter().filter_map(find).collect()
    })
}
