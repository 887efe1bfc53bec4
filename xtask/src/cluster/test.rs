//! `cargo xtask cluster test`: the scenarios on the real cluster.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;

use super::kubernetes::Unobtainable;
use super::node::Node;
use super::place::Place;
use super::{down, images, up};
use crate::sh;
use crate::tally::{self, Tally};
use crate::test;

#[derive(Default, clap::Args)]
pub struct Args {
    /// Leave the node up afterwards
    #[arg(long)]
    keep: bool,
    /// Only these scenarios
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    sh::run(&mut test::build())?;
    let tally = match scenarios(args) {
        Err(error) if error.is::<Unobtainable>() => return Ok(left_out(&format!("{error:#}"))),
        tally => tally?,
    };
    Ok(if tally.failed == 0 && tally.passed > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The closing line where the scenarios cannot run: neither passed nor failed.
pub fn left_out(why: &str) -> ExitCode {
    println!("cluster: left out: {why}");
    ExitCode::SUCCESS
}

/// Brings the node up if it is not, and runs the scenarios there.
fn scenarios(args: &Args) -> Result<Tally> {
    let started = Instant::now();
    let was_up = Node::find(Place::own()?)?.is_some();
    let node = up::up()?;
    let tally = on(&node, &args.names);
    if !args.keep && !was_up {
        down::down(&node.place)?;
    }
    println!(
        "up, test and down took {:.1} s",
        started.elapsed().as_secs_f64()
    );
    tally
}

fn on(node: &Node, names: &[String]) -> Result<Tally> {
    let programs = sh::target().join("debug");
    images::import_agent(node, &programs.join("netdiag"))?;
    let mut command = node.command(programs.join("netdiag-cluster"));
    command
        .arg("--kubeconfig")
        .arg(node.place.file("admin.conf"));
    command.arg("--start-scripts").arg(node.place.file("start"));
    command.args(names);
    let mut tally = Tally::default();
    let success = sh::follow(&mut command, |line| {
        if line.starts_with("cluster: ") {
            tally.passed = tally::count(line, "passed");
            tally.failed = tally::count(line, "failed");
        }
    })?;
    Ok(tally.failed_at_least_once(success))
}
