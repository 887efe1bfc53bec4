//! Label sets: names and values from closed sets, or bounded by `Capped`.

use prometheus_client::encoding::EncodeLabelSet;
use serde::Serialize;

use super::capped::Overflow;
use crate::export::record::{Endpoint, FlowVerdict, Hop, L4, Outcome};

const OTHER: &str = "other";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct FlowLabels {
    outcome: String,
    cause: String,
    confidence: String,
    direction: String,
}

impl FlowLabels {
    pub fn of(verdict: &FlowVerdict) -> Self {
        Self {
            outcome: word(verdict.outcome),
            cause: verdict.cause.clone().unwrap_or_default(),
            confidence: word(verdict.confidence),
            direction: verdict.traffic_direction.map(word).unwrap_or_default(),
        }
    }
}

impl Overflow for FlowLabels {
    fn other() -> Self {
        Self {
            outcome: OTHER.to_owned(),
            cause: OTHER.to_owned(),
            confidence: OTHER.to_owned(),
            direction: OTHER.to_owned(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DropLabels {
    hop: String,
    cause: String,
    reason: String,
    namespace: String,
    workload: String,
}

impl DropLabels {
    pub fn of(verdict: &FlowVerdict, hop: &Hop) -> Self {
        let (namespace, workload) = owner(&verdict.source);
        Self {
            hop: word(hop.name),
            cause: verdict.cause.clone().unwrap_or_default(),
            reason: verdict.drop_reason_desc.clone().unwrap_or_default(),
            namespace,
            workload,
        }
    }
}

impl Overflow for DropLabels {
    fn other() -> Self {
        Self {
            hop: OTHER.to_owned(),
            cause: OTHER.to_owned(),
            reason: OTHER.to_owned(),
            namespace: OTHER.to_owned(),
            workload: OTHER.to_owned(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SynLabels {
    namespace: String,
    workload: String,
    /// `external`, `service`, `node` or `pod`.
    dst_class: String,
}

impl SynLabels {
    /// `None` for everything but an unanswered TCP connection attempt.
    pub fn of(verdict: &FlowVerdict) -> Option<Self> {
        let tcp = matches!(verdict.l4, Some(L4::Tcp(_)));
        if !tcp || verdict.outcome != Outcome::LeftNodeNoAnswer {
            return None;
        }
        let (namespace, workload) = owner(&verdict.source);
        let destination = &verdict.destination;
        let machine = destination.node_name.is_some() && destination.pod_name.is_none();
        let class = if destination.external {
            "external"
        } else if destination.service.is_some() {
            "service"
        } else if destination.host || machine {
            "node"
        } else {
            "pod"
        };
        Some(Self {
            namespace,
            workload,
            dst_class: class.to_owned(),
        })
    }
}

impl Overflow for SynLabels {
    fn other() -> Self {
        Self {
            namespace: OTHER.to_owned(),
            workload: OTHER.to_owned(),
            dst_class: OTHER.to_owned(),
        }
    }
}

/// Kubernetes namespace and workload of an end; empty where unknown, which Prometheus reads as an absent label.
fn owner(endpoint: &Endpoint) -> (String, String) {
    let workload = endpoint.workloads.first();
    let workload = workload.map(|owner| format!("{}/{}", owner.kind, owner.name));
    (
        endpoint.namespace.clone().unwrap_or_default(),
        workload.unwrap_or_default(),
    )
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Source {
    pub source: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Program {
    pub program: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Metric {
    pub metric: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LevelLabels {
    pub level: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabels {
    pub from: &'static str,
    pub to: &'static str,
    pub reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Build {
    pub version: String,
    pub kernel: String,
}

/// As the JSON spells it.
fn word(word: impl Serialize) -> String {
    match serde_json::to_value(word) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}
