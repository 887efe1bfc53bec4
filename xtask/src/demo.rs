//! `cargo xtask demo`: a node with healthy and broken paths, traced for real, each verdict marked right or wrong.

use std::process::{Command, ExitCode};

use anyhow::Result;

use crate::{setup, sh, test};

#[derive(clap::Args)]
pub struct Args {
    /// Show the checked-in recording even where a live run is possible
    #[arg(long)]
    replay: bool,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    setup::build_tools()?;
    if let Err(error) = setup::packages::ensure() {
        println!("{error:#}");
    }
    println!("building");
    sh::run(&mut test::build())?;
    let mut demo = Command::new(sh::target().join("debug/netdiag-demo"));
    match test::no_lab_here() {
        _ if args.replay => drop(demo.arg("--replay")),
        Some(why) => {
            println!("no live run here: {why}; replaying a recording of the same run");
            demo.arg("--replay");
        }
        None => {}
    }
    let status = demo.current_dir(sh::root()).status();
    let status = anyhow::Context::with_context(status, || format!("start {}", sh::words(&demo)))?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
