//! The demo: a node with healthy and broken paths, traced for real; the verdicts as a table, as JSON lines, and marked
//! right or wrong against what was broken. `--replay` shows the checked-in recording of the same run instead.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use netdiag_tests::plan::{Family, Plan, Topology};
use netdiag_tests::runner::{self, Options, variant};
use netdiag_tests::scenario::Scenario;
use netdiag_tests::{check, programs, replay, scenario};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let done = match arguments
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        [] => live(),
        ["--replay"] => recorded(),
        _ => Err(anyhow::anyhow!("usage: netdiag-demo [--replay]")),
    };
    match done {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// What is shown, each on a node of its own: a full conntrack table leaves nothing else to see.
const ACTS: [&str; 2] = ["demo", "conntrack_full"];

/// Builds each node, breaks it, traces it. Returns how many verdicts are wrong.
fn live() -> Result<usize> {
    let scratch = tempfile::tempdir().context("make a temporary folder")?;
    let mut wrong = 0;
    for act in acts()? {
        println!(
            "a node, two pods, a Service, an external host; broken: {}\n",
            act.about
        );
        let options = Options {
            record_dir: Some(scratch.path().to_owned()),
            ..Options::default()
        };
        let ran = runner::run(act, Topology::Bridge, Family::V4, &options);
        let folder = scratch
            .path()
            .join(variant(act, Topology::Bridge, Family::V4));
        if folder.join(replay::RECORDING).is_file() {
            wrong += show(act, &folder)?;
        }
        ran?;
    }
    Ok(wrong)
}

/// For machines without root or without what a live run needs.
fn recorded() -> Result<usize> {
    let mut wrong = 0;
    for act in acts()? {
        let folder = replay::folder().join(variant(act, Topology::Bridge, Family::V4));
        if !folder.join(replay::RECORDING).is_file() {
            bail!("{} has no recording", folder.display());
        }
        wrong += show(act, &folder)?;
    }
    Ok(wrong)
}

fn acts() -> Result<Vec<&'static Scenario>> {
    let find = |name| scenario::find(name).with_context(|| format!("no scenario is called {name}"));
    ACTS.into_iter().map(find).collect()
}

/// Prints a recording three times: for eyes, for programs, and against the truth. Returns how many verdicts are wrong.
fn show(act: &Scenario, folder: &Path) -> Result<usize> {
    let recording = folder.join(replay::RECORDING);
    print(&recording, "table")?;
    println!("\nThe same as JSON lines (-o jsonl):\n");
    print(&recording, "jsonl")?;
    println!("\nAgainst what was broken:\n");
    marks(act, folder)
}

fn print(recording: &PathBuf, format: &str) -> Result<()> {
    let mut command = Command::new(programs::netdiag()?);
    command.arg("replay").arg(recording).args(["-o", format]);
    let status = command
        .status()
        .with_context(|| format!("start {command:?}"))?;
    // 1 only says that flows failed: that is what they are here for.
    match status.code() {
        Some(0 | 1) => Ok(()),
        _ => bail!("{command:?} ended with {status}"),
    }
}

fn marks(act: &Scenario, folder: &Path) -> Result<usize> {
    let verdicts = replay::verdicts(folder)?;
    let plan = Plan::of(Topology::Bridge);
    let mut wrong = 0;
    for attempt in scenario::attempts(act, &plan, Family::V4) {
        let complaints = check::attempt(&attempt, &verdicts);
        let said =
            check::about(&attempt, &verdicts).map_or("nothing", |verdict| {
                match check::text(verdict, "/cause") {
                    "" => check::text(verdict, "/outcome"),
                    cause => cause,
                }
            });
        let mark = if complaints.is_empty() {
            "right"
        } else {
            "WRONG"
        };
        println!("  {mark}  {:44} {said}", attempt.step.to_string());
        for complaint in &complaints {
            println!("         {complaint}");
        }
        wrong += usize::from(!complaints.is_empty());
    }
    println!("\n{} verdicts checked, {wrong} wrong\n", verdicts.len());
    Ok(wrong)
}
