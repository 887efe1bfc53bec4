//! Scenario folders: a recording, and what must come out of it.
//!
//! `expect.json` is a subset of the verdicts: what it does not name may change freely (times, wording, counts).

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use netdiag::export::record::{Context as VerdictContext, FlowVerdict};
use netdiag::recording::{Limits, Reader};
use serde_json::{Map, Value, json};

use crate::check;

pub const RECORDING: &str = "recording.ndjson";
pub const EXPECT: &str = "expect.json";

/// Members of a verdict that a replay must reproduce.
const STABLE: [&str; 13] = [
    "uuid",
    "outcome",
    "cause",
    "confidence",
    "verdict",
    "drop_reason_desc",
    "traffic_direction",
    "is_reply",
    "IP",
    "l4",
    "died_between",
    "nat",
    "conntrack",
];
/// Members of a hop that a replay must reproduce.
const STABLE_HOP: [&str; 5] = ["name", "action", "reply", "interface", "component"];

/// The checked-in scenario folders.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

/// Every scenario folder, in order of name.
pub fn folders() -> Result<Vec<PathBuf>> {
    let root = folder();
    let entries = fs::read_dir(&root).with_context(|| format!("read {}", root.display()))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut folders: Vec<_> = paths.collect::<std::io::Result<_>>()?;
    folders.retain(|path| path.join(RECORDING).is_file());
    folders.sort();
    Ok(folders)
}

/// The last revision of each verdict a recording yields, as JSON.
pub fn verdicts(folder: &Path) -> Result<Vec<Value>> {
    let path = folder.join(RECORDING);
    let mut lines = Vec::new();
    let mut failed = None;
    let reader = Reader::open(&path, Limits::default())?;
    netdiag::replay::replay(reader, |verdict, inventory| {
        let record = FlowVerdict::from((verdict, &VerdictContext::from(inventory)));
        match serde_json::to_value(record) {
            Ok(line) => lines.push(line),
            Err(error) => failed = Some(error),
        }
    })?;
    match failed {
        Some(error) => Err(error).context("write a verdict as JSON"),
        None => Ok(check::last_revisions(lines)),
    }
}

/// Replays a folder and says where it differs from its expectation.
pub fn differences(folder: &Path) -> Result<Vec<String>> {
    let path = folder.join(EXPECT);
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let expected: Value =
        serde_json::from_str(&text).with_context(|| format!("parse {}", path.display()))?;
    Ok(missing(
        &expected,
        &json!({ "verdicts": verdicts(folder)? }),
    ))
}

/// Leaves a scenario folder: the recording of a run and what was said in it.
pub fn save(folder: &Path, recording: &Path, verdicts: &[Value]) -> Result<()> {
    let act = || format!("write {}", folder.display());
    fs::create_dir_all(folder).with_context(act)?;
    fs::copy(recording, folder.join(RECORDING)).with_context(act)?;
    write_expectation(folder, verdicts).with_context(act)
}

/// Writes the stable part of the verdicts as what is expected from now on.
pub fn write_expectation(folder: &Path, verdicts: &[Value]) -> Result<()> {
    let stable: Vec<_> = verdicts.iter().map(stable).collect();
    let text = serde_json::to_string_pretty(&json!({ "verdicts": stable }))?;
    Ok(fs::write(folder.join(EXPECT), text + "\n")?)
}

fn stable(verdict: &Value) -> Value {
    let mut kept = pick(verdict, &STABLE);
    let hops = verdict["hops"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let hops = hops
        .iter()
        .map(|hop| Value::Object(pick(hop, &STABLE_HOP)))
        .collect();
    kept.insert("hops".to_owned(), Value::Array(hops));
    Value::Object(kept)
}

fn pick(value: &Value, members: &[&str]) -> Map<String, Value> {
    let present = members
        .iter()
        .filter_map(|key| Some((*key, value.get(key)?)));
    present
        .map(|(key, value)| (key.to_owned(), value.clone()))
        .collect()
}

/// Where `actual` lacks something `expected` has; objects may have more members, arrays must be as long.
pub fn missing(expected: &Value, actual: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare(expected, actual, "", &mut found);
    found
}

fn compare(expected: &Value, actual: &Value, at: &str, found: &mut Vec<String>) {
    match (expected, actual) {
        (Value::Object(expected), Value::Object(actual)) => {
            for (key, value) in expected {
                let at = format!("{at}/{key}");
                match actual.get(key) {
                    Some(actual) => compare(value, actual, &at, found),
                    None => found.push(format!("{at}: missing, expected {value}")),
                }
            }
        }
        (Value::Array(expected), Value::Array(actual)) if expected.len() == actual.len() => {
            for (index, (expected, actual)) in expected.iter().zip(actual).enumerate() {
                compare(expected, actual, &format!("{at}/{index}"), found);
            }
        }
        _ if expected == actual => {}
        _ => found.push(format!("{at}: {actual}, expected {expected}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_is_allowed_less_and_other_is_not() {
        let expected = json!({"a": 1, "b": [{"c": "x"}]});
        assert_eq!(
            missing(
                &expected,
                &json!({"a": 1, "b": [{"c": "x", "d": 2}], "e": 3})
            ),
            [""; 0]
        );
        assert_eq!(missing(&expected, &json!({"b": [{"c": "y"}]})).len(), 2);
        assert_eq!(missing(&expected, &json!({"a": 1, "b": []})).len(), 1);
    }

    #[test]
    fn only_stable_members_are_kept() {
        let verdict = json!({"time": "now", "outcome": "DELIVERED", "hops": [{"name": "FIB", "time": "now"}]});
        assert_eq!(
            stable(&verdict),
            json!({"outcome": "DELIVERED", "hops": [{"name": "FIB"}]})
        );
    }
}
