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
    /// `PROVEN`, `INFERRED`, or `-` when another cause was named, or none; [`FAILED`] or [`LEFT_OUT`] without a verdict
    /// that counts.
    pub said: String,
    /// The one rule is named; `-` where no rule was to be named.
    pub rule: &'static str,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\t{}\t{}", self.cause, self.said, self.rule)
    }
}

/// The verdict is not what is due on this kernel.
pub const FAILED: &str = "failed";
/// This machine lacks what the scenario breaks.
pub const LEFT_OUT: &str = "left out";

/// For a scenario that has no verdicts to tell of: why, once for each cause that was due.
pub fn without_verdicts(attempts: &[Attempt], why: &str) -> Vec<Outcome> {
    let due = |attempt| {
        Some(Outcome {
            cause: due(attempt)?.to_owned(),
            said: why.to_owned(),
            rule: "-",
        })
    };
    attempts.iter().filter_map(due).collect()
}

/// Of each attempt that should name a cause, by the strongest expectation there is.
pub fn outcomes(attempts: &[Attempt], verdicts: &[Value]) -> Vec<Outcome> {
    attempts
        .iter()
        .filter_map(|attempt| outcome(attempt, verdicts))
        .collect()
}

/// The cause to be proven. Where no cause will do as well, or only that none is known, there is nothing to prove.
fn due(attempt: &Attempt) -> Option<&'static str> {
    let cause = *attempt.expect.causes.first()?;
    (!matches!(cause, "" | "UNKNOWN")).then_some(cause)
}

fn outcome(attempt: &Attempt, verdicts: &[Value]) -> Option<Outcome> {
    let cause = due(attempt)?;
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
