//! `cargo xtask cluster`: one node of a real Kubernetes on this machine, in namespaces of its own.
//!
//! - `kubernetes` the programs, built once · `place` where everything lies · `node` the namespaces that are the node
//! - `config`, `pki` the files · `images` the container images · `component` one process of the node, `components` all
//! - `up`, `down` in order · `test` runs the scenarios there
//!
//! The node sees this machine's files, but what it writes to /etc, /var and /run is in its own memory. Its processes
//! form a process tree of their own, so that nothing survives the end of the first of them.

mod cgroup;
mod component;
mod components;
mod config;
mod down;
mod images;
mod kubernetes;
mod network;
mod node;
mod pki;
mod place;
pub mod test;
mod up;

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::setup::packages::{self, Ring};
use crate::{setup, sh};

#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    act: Act,
}

#[derive(clap::Subcommand)]
enum Act {
    /// Start the node; say how to reach it
    Up,
    /// Run the scenarios on it; a node that was not up before is taken down afterwards. Where no node can be, says why
    Test(test::Args),
    /// Remove everything the node has and is, whatever state it is in
    Down,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    if !matches!(args.act, Act::Down) {
        if let Err(error) = packages::ensure() {
            println!("{error:#}");
        }
        match (cannot_run(), &args.act) {
            (None, _) => {}
            (Some(why), Act::Test(_)) => return Ok(test::left_out(&why)),
            (Some(why), _) => bail!("no cluster here: {why}"),
        }
    }
    match &args.act {
        Act::Up => {
            let node = up::up()?;
            node.how_to_reach();
            Ok(ExitCode::SUCCESS)
        }
        Act::Test(args) => {
            setup::build_tools()?;
            test::run(args)
        }
        Act::Down => {
            down::down(&place::Place::own()?)?;
            println!("the cluster is down");
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Why no cluster can run on this machine.
pub fn cannot_run() -> Option<String> {
    if !sh::is_root() {
        return Some("needs root: containers and network namespaces".to_owned());
    }
    let missing = packages::missing(|ring| matches!(ring, Ring::Lab | Ring::Cluster));
    if !missing.is_empty() {
        return Some(format!("packages are missing: {}", missing.join(" ")));
    }
    if cgroup::hierarchies().is_empty() {
        return Some("no cgroup hierarchy is mounted below /sys/fs/cgroup".to_owned());
    }
    kubernetes::cannot_build()
}
