//! The replay ring: every recorded scenario gives the verdicts it gave when it was recorded. No root, no kernel.
//!
//! `UPDATE_EXPECT=1` rewrites the expectations; `netdiag-lab run --record-dir tests/scenarios` makes new folders.

use std::collections::BTreeSet;
use std::path::Path;

use libtest_mimic::{Arguments, Failed, Trial};
use netdiag::verdict::RULES;
use netdiag_tests::{replay, scenario};

fn main() {
    let arguments = Arguments::from_args();
    let folders = replay::folders().unwrap_or_default();
    let mut trials = vec![
        Trial::test("every_cause_has_a_scenario", every_cause_has_a_scenario),
        Trial::test("every_cause_has_a_recording", every_cause_has_a_recording),
    ];
    for folder in folders {
        let name = folder
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        trials.push(Trial::test(name, move || replayed(&folder)));
    }
    libtest_mimic::run(&arguments, trials).exit();
}

fn replayed(folder: &Path) -> Result<(), Failed> {
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        replay::write_expectation(folder, &replay::verdicts(folder)?)?;
    }
    let differences = replay::differences(folder)?;
    if differences.is_empty() {
        return Ok(());
    }
    let differences: Vec<_> = differences
        .iter()
        .map(|line| format!("  ✘ {line}"))
        .collect();
    let verdicts: Vec<_> = replay::verdicts(folder)?
        .iter()
        .map(ToString::to_string)
        .collect();
    let (wrong, all) = (differences.join("\n"), verdicts.join("\n"));
    Err(format!("{}\n{wrong}\nverdicts:\n{all}", folder.display()).into())
}

fn rules() -> BTreeSet<&'static str> {
    RULES.iter().map(|rule| rule.cause().0).collect()
}

fn every_cause_has_a_scenario() -> Result<(), Failed> {
    let expected = scenario::causes();
    none_of(
        rules()
            .into_iter()
            .filter(|cause| !expected.contains(cause)),
    )
}

fn every_cause_has_a_recording() -> Result<(), Failed> {
    let mut recorded = BTreeSet::new();
    for folder in replay::folders()? {
        let text = std::fs::read_to_string(folder.join(replay::EXPECT))?;
        let expected: serde_json::Value = serde_json::from_str(&text)?;
        let verdicts = expected["verdicts"].as_array().cloned().unwrap_or_default();
        recorded.extend(
            verdicts
                .iter()
                .filter_map(|v| Some(v["cause"].as_str()?.to_owned())),
        );
    }
    none_of(
        rules()
            .into_iter()
            .filter(|cause| !recorded.contains(*cause)),
    )
}

fn none_of(left: impl Iterator<Item = &'static str>) -> Result<(), Failed> {
    let left: Vec<_> = left.collect();
    if left.is_empty() {
        Ok(())
    } else {
        Err(format!("missing: {}", left.join(", ")).into())
    }
}
