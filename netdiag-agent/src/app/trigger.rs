//! `trace … -- COMMAND`: runs the command in the traced pod's network namespace.
//!
//! Only the network is the pod's: the command's files are the node's, so a pod without a shell can be made to speak.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::Path;
use std::process::Stdio;

use nix::sched::{CloneFlags, setns};
use tokio::process::{Child, Command};

use super::Error;

/// Starts the command. Its standard output goes to our standard error: standard output is for verdicts.
pub(super) fn spawn(command: &[OsString], netns: Option<&Path>) -> Result<Child, Error> {
    let (program, args) = command.split_first().ok_or_else(|| Error::Command {
        program: "COMMAND".to_owned(),
        source: io::Error::new(io::ErrorKind::InvalidInput, "is missing after --"),
    })?;
    let fault = |source| Error::Command {
        program: program.to_string_lossy().into_owned(),
        source,
    };
    let mut child = Command::new(program);
    child
        .args(args)
        .stdin(Stdio::null())
        .stdout(io::stderr())
        .kill_on_drop(true);
    if let Some(path) = netns {
        let file = File::open(path).map_err(fault)?;
        // SAFETY: between fork and exec the closure makes one system call and allocates nothing.
        unsafe {
            child.pre_exec(move || setns(&file, CloneFlags::CLONE_NEWNET).map_err(io::Error::from));
        }
    }
    child.spawn().map_err(fault)
}
