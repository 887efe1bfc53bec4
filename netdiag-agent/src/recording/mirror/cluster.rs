//! News of the cluster, mirrored.

mod convert;

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::super::spell::Text;
use super::is_false;
use crate::event::Proto;
use crate::inventory::cluster as core;

type Labels = BTreeMap<String, String>;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(
    clippy::large_enum_variant,
    reason = "one at a time, on its way to or from a line of text"
)]
pub(in crate::recording) enum Change {
    Pod(Pod),
    PodGone {
        uid: String,
        origin: Text<core::Origin>,
    },
    Service(Service),
    ServiceGone(Name),
    Slice(Slice),
    SliceGone(Name),
    Policy(Policy),
    PolicyGone(Name),
    Namespace {
        name: String,
        labels: Labels,
    },
    NamespaceGone(String),
    Machine(Machine),
    MachineGone(String),
    NonMasquerade(Option<Vec<Text<core::Network>>>),
    Synced(Text<core::Kind>),
    Unseen {
        kind: Text<core::Kind>,
        why: String,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub(in crate::recording) struct Name {
    namespace: String,
    name: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(in crate::recording) struct Pod {
    uid: String,
    namespace: String,
    name: String,
    origin: Text<core::Origin>,
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    labels: Labels,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    addresses: Vec<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    started: Option<u64>,
    #[serde(default, skip_serializing_if = "is_false")]
    host_network: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    workload: Option<Workload>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ports: Vec<Port>,
    #[serde(default, skip_serializing_if = "is_false")]
    ready: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    over: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    netns: Option<u32>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Workload {
    kind: String,
    name: String,
}

/// Of a container or of a slice.
#[derive(Debug, Serialize, Deserialize)]
struct Port {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    proto: Text<Proto>,
    port: u16,
}

#[derive(Debug, Serialize, Deserialize)]
pub(in crate::recording) struct Service {
    #[serde(flatten)]
    name: Name,
    cluster_addresses: Vec<IpAddr>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    outer_addresses: Vec<IpAddr>,
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    selector: Labels,
    ports: Vec<ServicePort>,
    #[serde(default, skip_serializing_if = "is_false")]
    proxied: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    local_only: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    outer_local_only: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct ServicePort {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    proto: Text<Proto>,
    port: u16,
    target: TargetPort,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node_port: Option<u16>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum TargetPort {
    Number(u16),
    Named(String),
}

#[derive(Debug, Serialize, Deserialize)]
pub(in crate::recording) struct Slice {
    #[serde(flatten)]
    name: Name,
    service: String,
    ports: Vec<Port>,
    endpoints: Vec<Endpoint>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Endpoint {
    address: IpAddr,
    #[serde(default, skip_serializing_if = "is_false")]
    ready: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    draining: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pod: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(in crate::recording) struct Policy {
    #[serde(flatten)]
    name: Name,
    pods: Selector,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ingress: Option<Vec<PolicyRule>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    egress: Option<Vec<PolicyRule>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct PolicyRule {
    peers: Vec<Peer>,
    ports: Vec<PolicyPort>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Peer {
    Block {
        network: Text<core::Network>,
        except: Vec<Text<core::Network>>,
    },
    Pods {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        namespaces: Option<Selector>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pods: Option<Selector>,
    },
}

#[derive(Debug, Serialize, Deserialize)]
struct PolicyPort {
    proto: Text<Proto>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    port: Option<TargetPort>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end: Option<u16>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Selector {
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    labels: Labels,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    expressions: Vec<Expression>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Expression {
    key: String,
    operator: Text<core::Operator>,
    values: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(in crate::recording) struct Machine {
    name: String,
    addresses: Vec<IpAddr>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pod_networks: Vec<Text<core::Network>>,
}
