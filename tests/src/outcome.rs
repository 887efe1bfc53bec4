//! One line per cause a scenario asked for: what the docs' table of kernels and tiers is made of.

use std::fmt;

use serde_json::Value;

use crate::check;
use crate::scenario::Attempt;

/// What such a line begins with.
pub const PREFIX: &str = "result";

/// What was said where a cause was due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub cause: String,
    /// `PROVEN`, `INFERRED`, or `-` when another cause was named, or none.
    pub said: String,
    /// The one rule is named; `-` where no rule was to be named.
    pub rule: &'static str,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\t{}\t{}", self.cause, self.said, self.rule)
    }
}

/// Of each attempt that should name a cause, by the strongest expectation there is.
pub fn outcomes(attempts: &[Attempt], verdicts: &[Value]) -> Vec<Outcome> {
    attempts
        .iter()
        .filter_map(|attempt| outcome(attempt, verdicts))
        .collect()
}

fn outcome(attempt: &Attempt, verdicts: &[Value]) -> Option<Outcome> {
    // Where no cause will do as well, or only that none is known, there is nothing to prove.
    let cause = *attempt.expect.causes.first()?;
    if matches!(cause, "" | "UNKNOWN") {
        return None;
    }
    let verdict = check::about(attempt, verdicts)?;
    let named = check::text(verdict, "/cause") == cause;
    let confidence = check::text(verdict, "/confidence");
    let known = named && confidence != "UNKNOWN";
    Some(Outcome {
        cause: cause.to_owned(),
        said: if known { confidence } else { "-" }.to_owned(),
        rule: rule(attempt, verdict),
    })
}

/// Causes whose verdict should name a rule of a packet filter.
const OF_RULES: &[&str] = &["HOST_FIREWALL_DROP", "NETPOL_DROP", "SVC_NO_ENDPOINTS"];

fn rule(attempt: &Attempt, verdict: &Value) -> &'static str {
    if !attempt
        .expect
        .causes
        .iter()
        .any(|cause| OF_RULES.contains(cause))
    {
        return "-";
    }
    let hops = verdict["hops"].as_array().map_or(&[][..], Vec::as_slice);
    let named = hops.iter().any(|hop| {
        let kind = check::text(hop, "/component/kind");
        kind.ends_with("_rule") || kind.ends_with("_policy")
    });
    if named { "yes" } else { "no" }
}
