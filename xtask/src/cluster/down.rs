//! Removes the node. In order while it answers; without it when it does not. Nothing is remembered in a file: what
//! belongs to the node is found by its name, after a crash as well.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use super::component::{self, wait};
use super::components::{STOPPED_FIRST, STOPPED_LAST};
use super::node::{Node, processes};
use super::place::Place;
use super::{cgroup, node};
use crate::sh;

/// Everything, logs and credentials too.
pub fn down(place: &Place) -> Result<()> {
    stop(place)?;
    let root = place.root();
    if root.exists() {
        fs::remove_dir_all(root).with_context(|| format!("remove {}", root.display()))?;
    }
    Ok(())
}

/// Processes, sandboxes, mounts, namespaces and cgroups; the folder stays.
pub fn stop(place: &Place) -> Result<()> {
    if let Some(node) = Node::find(Place::own()?)?
        && let Err(error) = in_order(&node)
    {
        println!("{error:#}; ending the node's first process instead");
    }
    end(place)?;
    cgroup::remove(&place.name())
}

fn in_order(node: &Node) -> Result<()> {
    for name in STOPPED_FIRST {
        component::stop(node, name)?;
    }
    // The tasks end with the first process below; asked for now, the runtime unmounts what it mounted for them.
    node.script(
        "test -S /run/containerd/containerd.sock || exit 0
         for task in $(ctr -n k8s.io tasks list -q); do
           ctr -n k8s.io tasks delete --force $task >/dev/null 2>&1 || true
         done",
    )
    .context("end the containers")?;
    for name in STOPPED_LAST {
        component::stop(node, name)?;
    }
    Ok(())
}

/// With process 1 of a process namespace the kernel ends all others in it; with the last of them the node's mounts and
/// network go.
fn end(place: &Place) -> Result<()> {
    let kill = |process: &node::Process| {
        // Already gone is what we want.
        let _ = sh::output(Command::new("kill").args(["-9", &process.pid.to_string()]));
    };
    let (first, others): (Vec<_>, Vec<_>) =
        processes(place)?.into_iter().partition(|one| one.first);
    first.iter().for_each(kill);
    // The `unshare` that waits for it ends by itself, unless it never got that far.
    others.iter().filter(|_| first.is_empty()).for_each(kill);
    wait("the end of the node's processes", || {
        Ok(processes(place)?.is_empty())
    })
}
