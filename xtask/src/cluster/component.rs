//! One long-lived process of the node: a start script, a file with its number, a log.
//!
//! The script is a file so that a test can start again what it has killed.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::node::Node;
use crate::sh;

pub struct Component {
    pub name: &'static str,
    /// Program and arguments.
    pub command: Vec<String>,
    /// A shell command that succeeds once it serves; empty when nothing waits for it.
    pub serves: String,
}

/// How long a component may take to serve, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

impl Component {
    /// Starts it and waits until it serves.
    pub fn start(&self, node: &Node) -> Result<()> {
        let name = self.name;
        let script = node.place.file(&format!("start/{name}"));
        fs::write(&script, self.script(node))
            .with_context(|| format!("write {}", script.display()))?;
        sh::output(node.command("sh").arg(&script)).with_context(|| format!("start {name}"))?;
        if self.serves.is_empty() {
            return Ok(());
        }
        wait(name, || self.look(node)).map_err(|error| {
            let log = fs::read_to_string(node.place.file(&format!("log/{name}.log")));
            let log = log.unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            error.context(lines[lines.len().saturating_sub(8)..].join("\n"))
        })
    }

    /// Whether it serves; an error when it has ended.
    fn look(&self, node: &Node) -> Result<bool> {
        if node.script(&self.serves).is_ok() {
            return Ok(true);
        }
        let name = self.name;
        if node
            .script(&format!("kill -0 $(cat /run/{name}.pid)"))
            .is_err()
        {
            bail!("{name} has ended");
        }
        Ok(false)
    }

    /// Run by `sh` on the node.
    fn script(&self, node: &Node) -> String {
        let name = self.name;
        let words: Vec<_> = self.command.iter().map(|word| quoted(word)).collect();
        let log = quoted(&node.place.text(&format!("log/{name}.log")));
        format!(
            "setsid {} </dev/null >>{log} 2>&1 &\necho $! >/run/{name}.pid\n",
            words.join(" ")
        )
    }
}

/// Ends a component, in order if it will; no error when there is none.
pub fn stop(node: &Node, name: &str) -> Result<()> {
    let script = format!(
        "test -s /run/{name}.pid || exit 0
         pid=$(cat /run/{name}.pid)
         kill $pid 2>/dev/null || exit 0
         for turn in $(seq 50); do kill -0 $pid 2>/dev/null || exit 0; sleep 0.1; done
         kill -9 $pid 2>/dev/null || true"
    );
    node.script(&script)
        .with_context(|| format!("stop {name}"))
        .map(drop)
}

/// Waits until `done`, with patience.
pub fn wait(what: &str, mut done: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !done()? {
        if Instant::now() > deadline {
            bail!("{what} was not ready after {} s", PATIENCE.as_secs());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// As one word of a shell command.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_quote_cannot_leave_its_word() {
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
