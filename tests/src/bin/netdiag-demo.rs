//! The demo: a node with healthy and broken paths, traced for real; the verdicts as a table, as JSON lines, and marked
//! right or wrong against what was broken. `--replay` shows the checked-in recording of the same run instead.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use netdiag_tests::plan::{Family, Plan, Topology};
use netdiag_tests::runner::{self, Options, variant};
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

/// Builds the node, breaks it, traces it.
fn live() -> Result<usize> {
    let demo = scenario::find("demo").context("the table has no scenario called demo")?;
    let scratch = tempfile::tempdir().context("make a temporary folder")?;
    println!(
        "a node, two pods, a Service, an external host; broken: {}\n",
        demo.about
    );
    let options = Options {
        record_dir: Some(scratch.path().to_owned()),
        ..Options::default()
    };
    let ran = runner::run(demo, Topology::Bridge, Family::V4, &options);
    let folder = scratch
        .path()
        .join(variant(demo, Topology::Bridge, Family::V4));
    if !folder.join(replay::RECORDING).is_file() {
        return ran.map(|_| 0);
    }
    let wrong = show(&folder)?;
    ran.map(|_| wrong)
}

/// For machines without root or without what a live run needs.
fn recorded() -> Result<usize> {
    let folder = replay::folder().join("demo_bridge_v4");
    if !folder.join(replay::RECORDING).is_file() {
        bail!("{} has no recording", folder.display());
    }
    show(&folder)
}

/// Prints a recording three times: for eyes, for programs, and against the truth. Returns how many verdicts are wrong.
fn show(folder: &Path) -> Result<usize> {
    let recording = folder.join(replay::RECORDING);
    print(&recording, "table")?;
    println!("\nThe same as JSON lines (-o jsonl):\n");
    print(&recording, "jsonl")?;
    println!("\nAgainst what was broken:\n");
    marks(folder)
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

fn marks(folder: &Path) -> Result<usize> {
    let demo = scenario::find("demo").context("the table has no scenario called demo")?;
    let verdicts = replay::verdicts(folder)?;
    let plan = Plan::of(Topology::Bridge);
    let mut wrong = 0;
    for attempt in scenario::attempts(demo, &plan, Family::V4) {
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
    println!("\n{} verdicts checked, {wrong} wrong", verdicts.len());
    Ok(wrong)
}
