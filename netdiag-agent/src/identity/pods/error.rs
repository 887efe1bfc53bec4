//! Why the pods asked for cannot be followed. One line each.

use super::cri::RuntimeError;
use crate::identity::kube::client::ClientError;

#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// What was given on the command line cannot be used.
    #[error(transparent)]
    Kubeconfig(#[from] ClientError),
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error("no {what} {place}{}{}", suggestion(.near), because(.unasked))]
    NotFound {
        what: String,
        /// `in namespace shop`, `on this node`.
        place: String,
        /// What may have been meant.
        near: Vec<String>,
        /// Who could not be asked, and why.
        unasked: Vec<String>,
    },
    #[error("{what} runs on {nodes}, not on this node: run netdiag there")]
    Elsewhere { what: String, nodes: String },
    #[error("{what} is {phase}{}: it has no network to follow", on(.node.as_ref()))]
    NotRunning {
        what: String,
        phase: String,
        node: Option<String>,
    },
    #[error("{what} may be {}: give more of the id", .candidates.join(", "))]
    Ambiguous {
        what: String,
        candidates: Vec<String>,
    },
    #[error("cannot find {what}: {}; --netns, --pid and --interface need nobody's answer", .why.join("; "))]
    NobodyToAsk { what: String, why: Vec<String> },
    #[error("{0} ended while it was looked for: try again")]
    Ended(String),
}

fn suggestion(names: &[String]) -> String {
    match names {
        [] => String::new(),
        names => format!("; there is {}", names.join(", ")),
    }
}

fn because(unasked: &[String]) -> String {
    match unasked {
        [] => String::new(),
        why => format!(" (not asked: {})", why.join("; ")),
    }
}

fn on(node: Option<&String>) -> String {
    node.map_or_else(String::new, |node| format!(" on {node}"))
}
