//! Boots a guest and reads its answer from the serial line.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::sh;
use crate::tally::{Tally, count};

/// A guest that has not answered by then hangs. A run of the whole choice takes a tenth of that on an idle machine.
const LIMIT: Duration = Duration::from_mins(45);
/// The guest's init ends with this line.
const ANSWER: &str = "netdiag-vm: ";
/// After one of these nothing good will follow.
const PANICS: &[&str] = &[
    "Kernel panic",
    "Oops:",
    "BUG: ",
    "general protection fault",
    "watchdog: BUG",
];

/// KVM is not used even where it exists: nested, it may hang. Without `-cx16` QEMU's emulation corrupts the flags
/// around `cmpxchg16b`, which kills some kernels at random. `erms` makes the kernel copy and clear memory by `rep movsb`,
/// which is emulated byte by byte: without it the lab needs a third less time.
const ARGS: &[&str] = &[
    "-accel",
    "tcg,thread=multi",
    "-cpu",
    "max,-cx16,-erms,-fsrm",
    "-smp",
    "2",
    "-m",
    "1024",
    "-nographic",
    "-no-reboot",
    "-nodefaults",
    "-serial",
    "stdio",
    "-append",
    COMMAND_LINE,
];

/// Guards that a guest of one afternoon does without, and grace periods that do not wait: a quarter of the time.
const COMMAND_LINE: &str = "console=ttyS0 quiet panic=-1 rdinit=/init mitigations=off init_on_alloc=0 \
     kfence.sample_interval=0 hardened_usercopy=off randomize_kstack_offset=off audit=0 lsm= rcupdate.rcu_expedited=1";

/// Runs the guest to its end, showing what it prints and keeping it in `log`.
pub fn run(vmlinuz: &Path, initrd: &Path, log: &Path) -> Result<Tally> {
    // Our own end by a signal runs no destructor; the guest must end with us all the same.
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "qemu-system-x86_64"])
        .args(ARGS)
        .arg("-kernel")
        .arg(vmlinuz)
        .arg("-initrd")
        .arg(initrd);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    let mut guest = Guest(
        command
            .spawn()
            .with_context(|| format!("start {}", sh::words(&command)))?,
    );
    let lines = lines(guest.0.stdout.take().expect("stdout is piped"));
    let mut log_file = File::create(log).with_context(|| format!("create {}", log.display()))?;
    let deadline = Instant::now() + LIMIT;
    let mut tally = Tally::default();
    loop {
        let line = match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => bail!(
                "the guest did not answer within {} s, see {}",
                LIMIT.as_secs(),
                log.display()
            ),
            Err(RecvTimeoutError::Disconnected) => {
                bail!("the guest ended without an answer, see {}", log.display())
            }
        };
        writeln!(log_file, "{line}").with_context(|| format!("write {}", log.display()))?;
        println!("  | {line}");
        if let Some(answer) = line.split_once(ANSWER).map(|(_, answer)| answer) {
            sh::wait_until(&mut guest.0, Instant::now() + Duration::from_secs(5))?;
            tally.passed = count(answer, "passed");
            tally.failed = count(answer, "failed");
            return Ok(tally);
        }
        tally.see(&line);
        if PANICS.iter().any(|panic| line.contains(panic)) {
            for line in std::iter::from_fn(|| lines.recv_timeout(Duration::from_secs(1)).ok()) {
                writeln!(log_file, "{line}").with_context(|| format!("write {}", log.display()))?;
            }
            bail!("the guest's kernel died: {line}, see {}", log.display());
        }
    }
}

/// Whatever happens here, no virtual machine stays behind.
struct Guest(Child);

impl Drop for Guest {
    fn drop(&mut self) {
        // Both fail only when the guest has ended, which is what we want.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn lines(serial: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(serial).split(b'\n').map_while(Result::ok) {
            let line = plain(&String::from_utf8_lossy(&line));
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// Without the terminal commands that the firmware sends before the kernel runs.
fn plain(line: &str) -> String {
    let mut parts = line.trim_end().split('\u{1b}');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let command = part.find(|letter: char| letter.is_ascii_alphabetic());
        text.push_str(command.map_or("", |end| &part[end + 1..]));
    }
    text.replace(|letter: char| letter.is_control() && letter != '\t', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_commands_are_removed() {
        assert_eq!(
            plain("\u{1b}c\u{1b}[?7l\u{1b}[2J\u{1b}[0mSeaBIOS\r"),
            "SeaBIOS"
        );
        assert_eq!(plain("a\tb"), "a\tb");
    }

    #[test]
    fn a_program_that_gives_no_answer_is_an_error() {
        let silent = lines(&b"booting\n"[..]);
        assert_eq!(silent.recv().as_deref(), Ok("booting"));
        assert!(silent.recv().is_err());
    }
}
