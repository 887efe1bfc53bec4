//! `netdiag doctor`: what can be seen on this machine, what cannot, what is lost by it and what to do.

use std::fmt::Write;

use serde::Serialize;

use super::Style;
use super::style::{Mark, Tone, wrap};
use super::words::clean;

/// One thing netdiag would like to have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub name: String,
    pub present: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// What cannot be seen or done without it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub loses: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub todo: String,
}

/// The machine, in the words of the heading.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Machine {
    pub node_name: String,
    pub kernel: String,
    /// See DESIGN §4; absent when not even the lowest can be reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<u8>,
}

#[derive(Serialize)]
struct Report<'a> {
    schema: &'static str,
    #[serde(flatten)]
    machine: &'a Machine,
    capabilities: &'a [Finding],
}

/// One JSON object.
pub fn json(machine: &Machine, findings: &[Finding]) -> serde_json::Result<String> {
    serde_json::to_string_pretty(&Report {
        schema: "netdiag.doctor/v1",
        machine,
        capabilities: findings,
    })
}

/// What is missing first: that is what the reader came for.
pub fn table(machine: &Machine, findings: &[Finding], style: Style) -> String {
    let missing = findings.iter().filter(|finding| !finding.present);
    let present = findings.iter().filter(|finding| finding.present);
    let width = findings
        .iter()
        .map(|finding| finding.name.chars().count())
        .max()
        .unwrap_or(0);
    let mut text = heading(machine, missing.clone().count(), style);
    for finding in missing {
        text += &row(finding, width, style);
        for (label, words) in [("lost", &finding.loses), ("do", &finding.todo)] {
            text += &prose(label, words, style);
        }
    }
    for finding in present {
        text += &row(finding, width, style);
    }
    text
}

fn heading(machine: &Machine, missing: usize, style: Style) -> String {
    let Machine {
        node_name,
        kernel,
        tier,
    } = machine;
    let (mark, state) = match (tier, missing) {
        (None, _) => (Mark::Bad, "nothing can be observed".to_owned()),
        (Some(tier), 0) => (Mark::Good, format!("tier {tier}, nothing missing")),
        (Some(tier), missing) => (Mark::Good, format!("tier {tier}, {missing} missing")),
    };
    let text = clean(&format!("{node_name}, kernel {kernel}: {state}"), style);
    format!(
        "{} {}\n\n",
        style.painted_mark(mark),
        style.paint(Tone::Strong, &text)
    )
}

fn row(finding: &Finding, width: usize, style: Style) -> String {
    let mark = if finding.present {
        Mark::Good
    } else {
        Mark::Bad
    };
    let name = clean(&finding.name, style);
    let line = format!(
        "  {} {name:width$}  {}",
        style.painted_mark(mark),
        clean(&finding.detail, style)
    );
    format!("{}\n", line.trim_end())
}

fn prose(label: &str, words: &str, style: Style) -> String {
    const INDENT: usize = 12;
    let mut label = format!("{label:6}");
    let mut text = String::new();
    for line in wrap(&clean(words, style), style.width, INDENT) {
        let _ = writeln!(text, "      {}{line}", style.paint(Tone::Dim, &label));
        label = " ".repeat(6);
    }
    text
}
