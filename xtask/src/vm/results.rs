//! What each kernel and tier made of each cause: gathered from the lab's own lines, kept in docs/tiers.tsv, shown in
//! docs/tiers.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::sh;

/// What the lab's lines begin with.
const PREFIX: &str = "result\t";

/// One cause of one scenario on one kernel.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    /// Of the kernel: `6.1`.
    version: Version,
    release: String,
    tier: u8,
    scenario: String,
    cause: String,
    /// `PROVEN`, `INFERRED`, or `-`: not seen; `failed`, `left out`.
    said: String,
    /// `yes` or `no`: was the rule named; `-`: there is none.
    rule: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u32, u32);

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl Line {
    fn read(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.trim_end().split('\t').collect();
        let [release, tier, scenario, cause, said, rule] = fields[..] else {
            return None;
        };
        let mut numbers = release.split(['.', '-']).map(str::parse);
        let version = Version(numbers.next()?.ok()?, numbers.next()?.ok()?);
        Some(Self {
            version,
            release: release.to_owned(),
            tier: tier.parse().ok()?,
            scenario: scenario.to_owned(),
            cause: cause.to_owned(),
            said: said.to_owned(),
            rule: rule.to_owned(),
        })
    }

    fn write(&self) -> String {
        [
            &self.release,
            &self.tier.to_string(),
            &self.scenario,
            &self.cause,
            &self.said,
            &self.rule,
        ]
        .map(String::as_str)
        .join("\t")
    }

    /// A new run of the same replaces it.
    fn key(&self) -> (Version, u8, &str) {
        (self.version, self.tier, &self.scenario)
    }
}

/// Results in what the lab printed, behind whatever a serial line puts before them.
pub fn gathered(output: &str) -> Vec<Line> {
    let lines = output
        .lines()
        .filter_map(|line| line.split_once(PREFIX))
        .filter_map(|(_, fields)| Line::read(fields));
    lines.collect()
}

fn file(name: &str) -> PathBuf {
    sh::root().join("docs").join(name)
}

fn known() -> Result<Vec<Line>> {
    let path = file("tiers.tsv");
    let Ok(text) = fs::read_to_string(&path) else {
        return Ok(Vec::new());
    };
    text.lines()
        .enumerate()
        .map(|(number, line)| {
            Line::read(line).with_context(|| {
                format!(
                    "{} line {}: six fields are due: {line}",
                    path.display(),
                    number + 1
                )
            })
        })
        .collect()
}

/// Puts new results in the place of old ones and writes both files anew.
pub fn save(new: &[Line]) -> Result<()> {
    if new.is_empty() {
        bail!("no results to write: nothing that names a cause has passed");
    }
    let lines = merged(known()?, new);
    let text: String = lines.iter().map(|line| line.write() + "\n").collect();
    for (name, text) in [("tiers.tsv", text), ("tiers.md", page(&lines))] {
        let path = file(name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    println!(
        "docs/tiers.md: {} results, {} of them new",
        lines.len(),
        new.len()
    );
    Ok(())
}

fn merged(mut old: Vec<Line>, new: &[Line]) -> Vec<Line> {
    let replaced: BTreeSet<_> = new.iter().map(Line::key).collect();
    old.retain(|line| !replaced.contains(&line.key()));
    let all: BTreeSet<Line> = old.into_iter().chain(new.iter().cloned()).collect();
    all.into_iter().collect()
}

const HEADING: &str = "# What each kernel lets netdiag prove

Generated from runs of the lab inside virtual machines (`cargo xtask vm --all --table`) and on one host (`--merge`);
`docs/tiers.tsv` holds the single results. A cell counts the conversations whose verdict named the cause, by confidence. *Not seen* means that
another cause was named, or none; the test of that scenario then asserts the weaker answer. *Failed* is a scenario whose
verdict was not the one due on that kernel, or whose fault did not come about; *left out* is one that needs what that
kernel lacks. A dash: no scenario of that cause was run there.

Tier 0 is tracepoints and TC, Tier 1 adds kprobes, Tier 2 adds fexit. `netdiag doctor` shows the tier of a machine.
";

/// The page as it must be for these results.
fn page(lines: &[Line]) -> String {
    let mut text = HEADING.to_owned();
    let mut highest: BTreeMap<Version, (u8, &str)> = BTreeMap::new();
    for line in lines {
        let known = highest.entry(line.version).or_default();
        *known = (known.0.max(line.tier), &line.release);
    }
    text += "\n## Every cause, with the highest tier of each kernel\n\n| cause |";
    for (version, (tier, _)) in &highest {
        let _ = write!(text, " {version}, Tier {tier} |");
    }
    text += "\n|---|";
    text += &"---|".repeat(highest.len());
    text.push('\n');
    let causes: BTreeSet<&str> = lines.iter().map(|line| line.cause.as_str()).collect();
    for cause in &causes {
        let _ = write!(text, "| [{cause}](causes/{cause}.md) |");
        for (version, (tier, _)) in &highest {
            let cell = cell(of(lines, *version, *tier).filter(|line| line.cause == **cause));
            let _ = write!(text, " {cell} |");
        }
        text.push('\n');
    }
    text += "\nReleases: ";
    let releases: Vec<_> = highest.values().map(|(_, release)| *release).collect();
    text += &releases.join(", ");
    text += ".\n\n";
    for said in ["failed", "left out"] {
        for version in highest.keys() {
            let of = |line: &&Line| line.version == *version && line.said == said;
            let names: BTreeSet<&str> = lines
                .iter()
                .filter(of)
                .map(|line| line.scenario.as_str())
                .collect();
            if !names.is_empty() {
                let names: Vec<_> = names.into_iter().collect();
                let _ = writeln!(text, "{version}, {said}: {}.\n", names.join(", "));
            }
        }
    }
    text += &added(lines, &highest);
    text
}

/// The same scenarios on the same kernel with and without the upper tiers.
fn added(lines: &[Line], highest: &BTreeMap<Version, (u8, &str)>) -> String {
    let mut text = "## What Tiers 1 and 2 add\n\nScenarios that die in a netfilter hook, run twice: \
                    with everything, and with `--tier 0`. A kernel that is not here was run once only.\n\n| kernel | cause | Tier 0 | highest tier | rule named, Tier 0 | rule named, highest tier |\n\
                    |---|---|---|---|---|---|\n"
        .to_owned();
    for (version, (tier, _)) in highest.iter().filter(|(_, (tier, _))| *tier > 0) {
        let scenarios = |tier| -> BTreeSet<&str> {
            of(lines, *version, tier)
                .map(|line| line.scenario.as_str())
                .collect()
        };
        let twice: BTreeSet<&str> = &scenarios(0) & &scenarios(*tier);
        let both =
            |tier| of(lines, *version, tier).filter(|line| twice.contains(line.scenario.as_str()));
        let causes: BTreeSet<&str> = both(0).map(|line| line.cause.as_str()).collect();
        for cause in causes {
            let (low, high) = (
                || both(0).filter(|line| line.cause == cause),
                || both(*tier).filter(|line| line.cause == cause),
            );
            let _ = writeln!(
                text,
                "| {version} | {cause} | {} | {} (Tier {tier}) | {} | {} |",
                cell(low()),
                cell(high()),
                named(low()),
                named(high()),
            );
        }
    }
    text
}

fn of(lines: &[Line], version: Version, tier: u8) -> impl Iterator<Item = &Line> {
    lines
        .iter()
        .filter(move |line| line.version == version && line.tier == tier)
}

/// `PROVEN 3`, `PROVEN 2, INFERRED 1`, `not seen 1, failed 1`; a dash where nothing was run.
fn cell<'a>(lines: impl Iterator<Item = &'a Line>) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for line in lines {
        let said = if line.said == "-" {
            "not seen"
        } else {
            &line.said
        };
        *counts.entry(said).or_default() += 1;
    }
    let parts: Vec<_> = SAID
        .iter()
        .filter_map(|said| Some(format!("{said} {}", counts.get(said)?)))
        .collect();
    if parts.is_empty() {
        "–".to_owned()
    } else {
        parts.join(", ")
    }
}

/// In this order.
const SAID: &[&str] = &["PROVEN", "INFERRED", "not seen", "failed", "left out"];

/// `12 of 13`; a dash where no rule was to be named.
fn named<'a>(lines: impl Iterator<Item = &'a Line>) -> String {
    let (mut yes, mut all) = (0, 0);
    for line in lines.filter(|line| line.rule != "-") {
        all += 1;
        yes += usize::from(line.rule == "yes");
    }
    if all == 0 {
        "–".to_owned()
    } else {
        format!("{yes} of {all}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_what_the_results_make_it() {
        let found = fs::read_to_string(file("tiers.md")).expect("read docs/tiers.md");
        let lines = known().expect("docs/tiers.tsv is well-formed");
        assert!(!lines.is_empty());
        assert_eq!(
            found,
            page(&lines),
            "docs/tiers.md is out of date: `cargo xtask vm --all --table`"
        );
    }

    #[test]
    fn results_are_found_in_a_log_and_replace_their_predecessors() {
        let log = "  | ok    a_v4 (1.0 s)\r\n  | result\t6.1.0-50-x\t2\ta_v4\tMARTIAN\tINFERRED\t-\r\n  | other\n";
        let new = gathered(log);
        assert_eq!(new.len(), 1);
        let old = vec![
            Line::read("6.1.0-49-x\t2\ta_v4\tMARTIAN\tPROVEN\t-").unwrap(),
            Line::read("6.1.0-49-x\t0\ta_v4\tMARTIAN\tPROVEN\t-").unwrap(),
        ];
        let all = merged(old, &new);
        assert_eq!(all.len(), 2);
        assert_eq!(cell(of(&all, Version(6, 1), 2)), "INFERRED 1");
        assert_eq!(cell(of(&all, Version(6, 1), 0)), "PROVEN 1");
    }

    #[test]
    fn a_line_with_other_fields_is_none() {
        assert_eq!(Line::read("6.1\t2\ta\tb\tPROVEN"), None);
        assert_eq!(Line::read("x.1\t2\ta\tb\tPROVEN\t-"), None);
    }
}
