//! Running other programs, with errors that name the program and what it said.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// The root of the workspace.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the workspace")
}

/// The build directory, wherever the user put it.
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => root().join(dir),
        None => root().join("target"),
    }
}

/// Where what took long to get is kept between runs and between clones.
pub fn cache() -> PathBuf {
    let set = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let user = set("XDG_CACHE_HOME").or_else(|| set("HOME").map(|home| home.join(".cache")));
    user.map_or_else(|| target().join("cache"), |cache| cache.join("netdiag"))
}

/// A command of this workspace's cargo, run at the root, without a terminal to ask questions on.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).stdin(Stdio::null());
    command
}

/// Effective user id 0, as the kernel says.
pub fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| {
            status.lines().find_map(|line| {
                line.strip_prefix("Uid:")?
                    .split_whitespace()
                    .nth(1)?
                    .parse()
                    .ok()
            })
        })
        == Some(0u32)
}

/// Where a program is; system folders count even when an ordinary user's PATH leaves them out.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|candidate| candidate.is_file())
}

/// What the dynamic loader would load; nothing for a static program.
pub fn libraries(program: &Path) -> Vec<PathBuf> {
    let said = output(Command::new("ldd").arg(program)).unwrap_or_default();
    said.lines()
        .flat_map(str::split_whitespace)
        .filter(|word| word.starts_with('/'))
        .map(PathBuf::from)
        .collect()
}

/// `program arg arg`, for messages.
pub fn words(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Runs with the terminal's own output; an exit code other than 0 is an error.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("start {}", words(command)))?;
    if !status.success() {
        bail!("{} ended with {status}", words(command));
    }
    Ok(())
}

/// Runs and returns standard output; the error carries what the program said last.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start {}", words(command)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said
            .lines()
            .rev()
            .find(|line| !line.trim().is_empty())
            .unwrap_or("it said nothing");
        bail!("{} ended with {}: {said}", words(command), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Like [`output`], ended when it takes longer than `limit`: a download that hangs must not hang us.
pub fn output_within(command: &mut Command, limit: Duration) -> Result<String> {
    let spawn = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = spawn.with_context(|| format!("start {}", words(command)))?;
    let (stdout, stderr) = (drain(child.stdout.take()), drain(child.stderr.take()));
    let ended = wait_until(&mut child, Instant::now() + limit)?;
    let (stdout, stderr) = (
        stdout.join().unwrap_or_default(),
        stderr.join().unwrap_or_default(),
    );
    let said = || {
        stderr
            .iter()
            .rev()
            .find(|line| !line.trim().is_empty())
            .map_or("it said nothing", String::as_str)
    };
    match ended {
        None => bail!("{} was ended after {} s", words(command), limit.as_secs()),
        Some(status) if !status.success() => {
            bail!("{} ended with {status}: {}", words(command), said())
        }
        Some(_) => Ok(stdout.join("\n")),
    }
}

/// Runs, shows each line of standard output as it comes, and hands it to `see`. Returns success.
pub fn follow(command: &mut Command, mut see: impl FnMut(&str)) -> Result<bool> {
    each_line(command, |line| {
        println!("{line}");
        see(line);
    })
}

/// Runs and hands each line of standard output to `see` as it comes. Returns success.
pub fn each_line(command: &mut Command, mut see: impl FnMut(&str)) -> Result<bool> {
    let spawn = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut child = spawn.with_context(|| format!("start {}", words(command)))?;
    let stdout = child.stdout.take().expect("stdout is piped");
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.with_context(|| format!("read the output of {}", words(command)))?;
        see(&String::from_utf8_lossy(&line));
    }
    Ok(child
        .wait()
        .with_context(|| format!("wait for {}", words(command)))?
        .success())
}

/// Waits for the end; at the deadline the child is killed and `None` returned.
pub fn wait_until(
    child: &mut Child,
    deadline: Instant,
) -> Result<Option<std::process::ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait().context("wait for a child process")? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            child.kill().context("kill a child process")?;
            child.wait().context("wait for a killed child process")?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn drain(
    stream: Option<impl std::io::Read + Send + 'static>,
) -> std::thread::JoinHandle<Vec<String>> {
    std::thread::spawn(move || match stream {
        Some(stream) => BufReader::new(stream)
            .lines()
            .map_while(Result::ok)
            .collect(),
        None => Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_program_is_named_with_what_it_said() {
        let error =
            output(Command::new("sh").args(["-c", "echo first >&2; echo last words >&2; exit 3"]))
                .unwrap_err();
        let text = format!("{error:#}");
        assert!(
            text.contains("sh -c") && text.ends_with("last words"),
            "{text}"
        );
    }

    #[test]
    fn a_program_that_hangs_is_ended() {
        let started = Instant::now();
        let error =
            output_within(Command::new("sleep").arg("60"), Duration::from_millis(100)).unwrap_err();
        assert!(format!("{error:#}").contains("was ended"), "{error:#}");
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn system_folders_are_searched_too() {
        assert!(find("sh").is_some());
        assert!(find("no-such-program-here").is_none());
    }
}
