//! Does what was said match what is known? Collects every complaint instead of stopping at the first.

use std::fmt::Write;

use anyhow::{Result, bail};
use serde_json::Value;

use super::trace::Done;
use crate::check;
use crate::scenario::Attempt;

/// A conversation, and the names its verdict must give.
#[derive(Clone, Debug)]
pub struct Try {
    pub attempt: Attempt,
    /// JSON pointers and the text there; a list must contain it.
    names: Vec<(&'static str, String)>,
    /// Words the verdict must have somewhere.
    says: Vec<String>,
}

impl Try {
    pub const fn new(attempt: Attempt) -> Self {
        Self {
            attempt,
            names: Vec::new(),
            says: Vec::new(),
        }
    }

    /// The value at a JSON pointer.
    pub fn named(mut self, pointer: &'static str, value: &str) -> Self {
        self.names.push((pointer, value.to_owned()));
        self
    }

    /// Words that stand anywhere in the verdict: in the remediation, a component, a caveat.
    pub fn says(mut self, words: &str) -> Self {
        self.says.push(words.to_owned());
        self
    }

    /// It is the client's.
    pub fn by_client(self) -> Self {
        self.named("/source/namespace", super::stage::NAMESPACE)
            .named("/source/pod_name", super::stage::CLIENT)
            .named("/source/labels", "app=client")
    }

    /// It goes to a Service.
    pub fn for_service(self, namespace: &str, name: &str) -> Self {
        self.named("/destination/service/namespace", namespace)
            .named("/destination/service/name", name)
    }

    fn complaints(&self, verdicts: &[Value]) -> Vec<String> {
        let Some(verdict) = check::about(&self.attempt, verdicts) else {
            // Counted as missing already.
            return Vec::new();
        };
        let step = &self.attempt.step;
        let wrong = self.names.iter().filter(|(pointer, expected)| {
            verdict
                .pointer(pointer)
                .is_none_or(|value| !has(value, expected))
        });
        let mut complaints: Vec<_> = wrong
            .map(|(pointer, expected)| {
                let said = verdict.pointer(pointer).unwrap_or(&Value::Null);
                format!("{step}: {pointer} is {said}, expected {expected:?}")
            })
            .collect();
        let text = verdict.to_string();
        let unsaid = self
            .says
            .iter()
            .filter(|words| !text.contains(words.as_str()));
        complaints.extend(unsaid.map(|words| format!("{step}: nothing says {words:?}")));
        complaints
    }
}

/// The text itself, or a list with it.
fn has(value: &Value, expected: &str) -> bool {
    match value {
        Value::Array(list) => list.iter().any(|one| has(one, expected)),
        Value::String(text) => text == expected,
        other => {
            let text = other.to_string();
            text == expected
        }
    }
}

/// An error with everything that is wrong, and all that was said.
pub fn judge(done: &Done, attempts: &[Try]) -> Result<()> {
    let failing = attempts.iter().any(|one| one.attempt.expect.is_failing());
    let mut complaints = of(done, attempts);
    let due = i32::from(failing);
    if done.ended.code != Some(due) {
        let code = done.ended.code.or(done.ended.signal);
        complaints.push(format!("it ended with {code:?}, exit code {due} was due"));
    }
    fail(done, &complaints)
}

/// The same but for the exit code.
pub fn of(done: &Done, attempts: &[Try]) -> Vec<String> {
    let mut complaints = done.complaints.clone();
    if done.answers.len() != attempts.len() {
        let (made, all) = (done.answers.len(), attempts.len());
        complaints.push(format!("the sender made {made} of {all} attempts"));
    }
    for (one, answer) in attempts.iter().zip(&done.answers) {
        let Attempt { step, answers, .. } = &one.attempt;
        if !answers.contains(answer) {
            complaints.push(format!(
                "{step}: the sender saw {answer}, expected {answers:?}"
            ));
        }
    }
    let plain: Vec<_> = attempts.iter().map(|one| one.attempt.clone()).collect();
    complaints.extend(check::verdicts(&plain, &done.verdicts, &[]));
    complaints.extend(
        attempts
            .iter()
            .flat_map(|one| one.complaints(&done.verdicts)),
    );
    if done.ended.stderr.contains("panicked") {
        complaints.push("it panicked".to_owned());
    }
    complaints
}

pub fn fail(done: &Done, complaints: &[String]) -> Result<()> {
    if complaints.is_empty() {
        return Ok(());
    }
    let mut text = String::new();
    for complaint in complaints {
        writeln!(text, "  ✘ {complaint}")?;
    }
    bail!("{text}{done}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::has;

    #[test]
    fn a_list_must_contain_it_and_anything_else_be_it() {
        assert!(has(&json!(["app=web", "tier=front"]), "app=web"));
        assert!(!has(&json!(["app=web"]), "app"));
        assert!(has(&json!("web"), "web"));
        assert!(has(&json!(53), "53"));
        assert!(!has(&json!(null), "web"));
    }
}
