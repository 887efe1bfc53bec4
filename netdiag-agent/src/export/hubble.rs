//! `-o hubble`: the part of a verdict Hubble's tools understand, in Hubble's envelope, one JSON object per line.
//!
//! Our outcome and cause stand in `Summary`, which those tools print. The kernel's drop reason is left out: Hubble's
//! `drop_reason_desc` is a closed enum of Cilium's own reasons.

use std::io;

use serde::Serialize;

use super::record::{self, FlowVerdict, HubbleVerdict, Ip, L4, Time, TrafficDirection};
use super::{Context, Exporter, Format, Output, write_line};
use crate::verdict::Verdict;

pub(super) const FORMAT: Format = Format {
    name: "hubble",
    help: "flows as Hubble's tools read them, one JSON object per line",
    make: |output, _| Box::new(Hubble { output }),
};

struct Hubble {
    output: Output,
}

#[derive(Serialize)]
struct Envelope {
    flow: Flow,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_name: Option<String>,
    time: Time,
}

#[derive(Serialize)]
struct Flow {
    time: Time,
    uuid: String,
    verdict: HubbleVerdict,
    #[serde(rename = "IP")]
    ip: Ip,
    #[serde(skip_serializing_if = "Option::is_none")]
    l4: Option<L4>,
    source: Endpoint,
    destination: Endpoint,
    #[serde(rename = "Type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination_service: Option<Service>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traffic_direction: Option<TrafficDirection>,
    is_reply: bool,
    #[serde(rename = "Summary")]
    summary: String,
}

/// Hubble knows the node and the world by reserved identities.
#[derive(Serialize)]
struct Endpoint {
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    labels: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod_name: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    workloads: Vec<record::Workload>,
}

#[derive(Serialize)]
struct Service {
    name: String,
    namespace: String,
}

impl From<&record::Endpoint> for Endpoint {
    fn from(endpoint: &record::Endpoint) -> Self {
        let reserved = |identity, label: &str| (Some(identity), vec![label.to_owned()]);
        let (identity, labels) = if endpoint.host {
            reserved(1, "reserved:host")
        } else if endpoint.external {
            reserved(2, "reserved:world")
        } else {
            let labels = endpoint.labels.iter();
            // Hubble says where a label is from.
            (None, labels.map(|label| format!("k8s:{label}")).collect())
        };
        Self {
            identity,
            namespace: endpoint.namespace.clone(),
            labels,
            pod_name: endpoint.pod_name.clone(),
            workloads: endpoint.workloads.clone(),
        }
    }
}

impl From<(FlowVerdict, String)> for Envelope {
    fn from((verdict, summary): (FlowVerdict, String)) -> Self {
        let service = verdict.destination.service.as_ref();
        let destination_service = service.map(|service| Service {
            name: service.name.clone(),
            namespace: service.namespace.clone(),
        });
        Self {
            node_name: verdict.node_name.clone(),
            time: verdict.time.clone(),
            flow: Flow {
                source: (&verdict.source).into(),
                destination: (&verdict.destination).into(),
                time: verdict.time,
                uuid: verdict.uuid,
                verdict: verdict.verdict,
                ip: verdict.ip,
                l4: verdict.l4,
                kind: "L3_L4",
                node_name: verdict.node_name,
                destination_service,
                traffic_direction: verdict.traffic_direction,
                is_reply: verdict.is_reply,
                summary,
            },
        }
    }
}

impl Exporter for Hubble {
    fn verdict(&mut self, verdict: &Verdict, context: &Context) -> io::Result<()> {
        let summary = super::words::summary(verdict);
        write_line(
            &mut self.output,
            &Envelope::from((FlowVerdict::from((verdict, context)), summary)),
        )
    }

    fn finish(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}
