//! A named network namespace that is gone when it is dropped.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

use crate::{cleanup, sys};

#[derive(Debug)]
pub struct Netns {
    name: String,
    path: PathBuf,
    file: File,
}

impl Netns {
    /// Makes a namespace and names it below /run/netns, where `ip netns` and `--netns` look for it.
    pub fn create(name: &str) -> Result<Self> {
        cleanup::start();
        fs::create_dir_all(cleanup::NETNS_DIR)
            .with_context(|| format!("create {}", cleanup::NETNS_DIR))?;
        let path = Path::new(cleanup::NETNS_DIR).join(name);
        File::create_new(&path).with_context(|| format!("create {}", path.display()))?;
        cleanup::register(&path);
        let made = std::thread::scope(|scope| scope.spawn(|| bind_new(&path)).join());
        let opened = match made {
            Ok(Ok(())) => File::open(&path).with_context(|| format!("open {}", path.display())),
            Ok(Err(error)) => Err(error),
            Err(_) => bail!("the thread that makes {name} panicked"),
        };
        match opened {
            Ok(file) => {
                let netns = Self {
                    name: name.to_owned(),
                    path,
                    file,
                };
                netns.ip(&["link", "set", "lo", "up"])?;
                Ok(netns)
            }
            Err(error) => {
                cleanup::remove(&path);
                Err(error)
            }
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The number netdiag knows the namespace by.
    pub fn inode(&self) -> Result<u64> {
        Ok(self
            .file
            .metadata()
            .with_context(|| format!("stat {}", self.path.display()))?
            .ino())
    }

    /// Runs `act` on a thread of its own inside the namespace; sockets it returns stay there.
    pub fn within<T: Send>(&self, act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let result = std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&self.file, CloneFlags::CLONE_NEWNET)
                    .with_context(|| format!("enter {}", self.name))?;
                act()
            });
            inside.join()
        });
        result.unwrap_or_else(|_| bail!("a thread inside {} panicked", self.name))
    }

    /// A command that will run inside; the namespace must outlive its start.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.stdin(Stdio::null());
        sys::start_in_netns(&mut command, &self.file);
        command
    }

    /// Runs a program inside and returns what it printed; failure carries its complaint.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let said = || format!("{}: {program} {}", self.name, arguments.join(" "));
        let output = self.output(program, arguments).with_context(said)?;
        succeed(&output).with_context(said)
    }

    /// The same, however it ends.
    pub fn output(&self, program: &str, arguments: &[&str]) -> Result<Output> {
        let child = self.spawn(program, arguments, Stdio::null())?;
        child.wait_with_output().context("wait for its end")
    }

    /// Started by a thread that is inside, not by [`Self::command`]: to enter between fork and exec this whole process
    /// would be copied first, which costs more than the tools do.
    fn spawn(&self, program: &str, arguments: &[&str], stdin: Stdio) -> Result<Child> {
        self.within(|| {
            let mut command = Command::new(program);
            command.args(arguments).stdin(stdin);
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            Ok(command.spawn()?)
        })
    }

    /// One command line, split at blanks.
    pub fn sh(&self, line: &str) -> Result<String> {
        let mut words = line.split_whitespace();
        let program = words.next().context("an empty command line")?;
        self.run(program, &words.collect::<Vec<_>>())
    }

    pub fn ip(&self, arguments: &[&str]) -> Result<String> {
        self.run("ip", arguments)
    }

    /// Feeds a script to a tool that reads one from standard input (`ip -batch -`, `nft -f -`).
    pub fn feed(&self, program: &str, arguments: &[&str], script: &str) -> Result<String> {
        succeed(&self.ask(program, arguments, script)?)
            .with_context(|| self.said(program, arguments, script))
    }

    /// The same, however it ends.
    pub fn ask(&self, program: &str, arguments: &[&str], script: &str) -> Result<Output> {
        let said = || self.said(program, arguments, script);
        let mut child = self
            .spawn(program, arguments, Stdio::piped())
            .with_context(said)?;
        let mut stdin = child
            .stdin
            .take()
            .context("the child's standard input is piped")?;
        let written = stdin.write_all(script.as_bytes());
        drop(stdin);
        let output = child.wait_with_output().with_context(said)?;
        // A program that stopped reading has failed, and says why itself.
        if output.status.success() {
            written.with_context(said)?;
        }
        Ok(output)
    }

    fn said(&self, program: &str, arguments: &[&str], script: &str) -> String {
        let arguments = arguments.join(" ");
        format!("{}: {program} {arguments} <<\n{script}", self.name)
    }

    /// Several `ip` commands by one process.
    pub fn ip_batch(&self, script: &str) -> Result<()> {
        self.feed("ip", &["-batch", "-"], script).map(drop)
    }

    /// Sets values below /proc/sys/net, which shows the namespace of the thread that looks.
    pub fn sysctl(&self, settings: &[(&str, &str)]) -> Result<()> {
        self.within(|| {
            settings.iter().try_for_each(|(key, value)| {
                let path = Path::new("/proc/sys/net").join(key);
                fs::write(&path, value)
                    .with_context(|| format!("write {value} to {}", path.display()))
            })
        })
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        cleanup::remove(&self.path);
    }
}

fn bind_new(path: &Path) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("unshare the network namespace")?;
    mount(
        Some("/proc/thread-self/ns/net"),
        path,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
    .with_context(|| format!("bind the new namespace to {}", path.display()))
}

fn succeed(output: &Output) -> Result<String> {
    if !output.status.success() {
        bail!(
            "{}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
