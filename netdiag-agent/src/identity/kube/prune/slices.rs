//! Endpoints, in the three forms API servers have given them.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints, ObjectReference};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::core::DynamicObject;
use serde::Deserialize;

use super::{Pruner, address, key, name, port, proto};
use crate::inventory::cluster::{Change, Endpoint, Slice, SlicePort};

const SERVICE: &str = "kubernetes.io/service-name";

/// `discovery.k8s.io/v1`.
pub fn slice(pruner: &mut Pruner, object: &EndpointSlice) -> Option<(Arc<str>, Change)> {
    let name = name(pruner, &object.metadata)?;
    let service = object.metadata.labels.as_ref()?.get(SERVICE)?;
    let ports = object.ports.iter().flatten();
    let ports = ports.filter_map(|one| {
        Some(SlicePort {
            name: port_name(pruner, one.name.as_deref()),
            proto: proto(one.protocol.as_deref()),
            port: port(one.port?)?,
        })
    });
    let ports = ports.collect();
    let endpoints = object.endpoints.iter().filter_map(|one| {
        let conditions = one.conditions.as_ref();
        // Nothing said means ready.
        let ready = conditions.and_then(|all| all.ready).unwrap_or(true);
        let serving = conditions.and_then(|all| all.serving).unwrap_or(ready);
        let terminating = conditions.and_then(|all| all.terminating).unwrap_or(false);
        Some(Endpoint {
            // All addresses of an endpoint are of the same pod; proxies use the first.
            address: address(one.addresses.first()?)?,
            ready,
            draining: serving && terminating,
            pod: pod(one.target_ref.as_ref()),
            node: one
                .node_name
                .as_deref()
                .map(|node| pruner.interner.text(node)),
        })
    });
    let slice = Slice {
        endpoints: endpoints.collect(),
        service: service.as_str().into(),
        ports,
        name,
    };
    Some((key(&slice.name), Change::Slice(Arc::new(slice))))
}

/// `discovery.k8s.io/v1beta1` (Kubernetes 1.17 to 1.24).
pub fn beta_slice(pruner: &mut Pruner, object: &DynamicObject) -> Option<(Arc<str>, Change)> {
    #[derive(Deserialize)]
    struct Beta {
        #[serde(default)]
        endpoints: Option<Vec<BetaEndpoint>>,
        #[serde(default)]
        ports: Option<Vec<BetaPort>>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct BetaEndpoint {
        addresses: Vec<String>,
        #[serde(default)]
        conditions: BetaConditions,
        #[serde(default)]
        target_ref: Option<ObjectReference>,
        #[serde(default)]
        node_name: Option<String>,
        #[serde(default)]
        topology: BTreeMap<String, String>,
    }
    #[derive(Default, Deserialize)]
    struct BetaConditions {
        ready: Option<bool>,
        serving: Option<bool>,
        terminating: Option<bool>,
    }
    #[derive(Deserialize)]
    struct BetaPort {
        name: Option<String>,
        protocol: Option<String>,
        port: Option<i32>,
    }
    let name = name(pruner, &object.metadata)?;
    let service = object.metadata.labels.as_ref()?.get(SERVICE)?;
    let beta = Beta::deserialize(&object.data).ok()?;
    let ports = beta.ports.iter().flatten().filter_map(|one| {
        Some(SlicePort {
            name: port_name(pruner, one.name.as_deref()),
            proto: proto(one.protocol.as_deref()),
            port: port(one.port?)?,
        })
    });
    let ports = ports.collect();
    let endpoints = beta.endpoints.iter().flatten().filter_map(|one| {
        let node = one.node_name.as_deref();
        let node = node.or_else(|| {
            one.topology
                .get("kubernetes.io/hostname")
                .map(String::as_str)
        });
        let ready = one.conditions.ready.unwrap_or(true);
        let serving = one.conditions.serving.unwrap_or(ready);
        Some(Endpoint {
            address: address(one.addresses.first()?)?,
            ready,
            draining: serving && one.conditions.terminating.unwrap_or(false),
            pod: pod(one.target_ref.as_ref()),
            node: node.map(|node| pruner.interner.text(node)),
        })
    });
    let slice = Slice {
        endpoints: endpoints.collect(),
        service: service.as_str().into(),
        ports,
        name,
    };
    Some((key(&slice.name), Change::Slice(Arc::new(slice))))
}

/// `v1` Endpoints: the object has the Service's name. Its subsets have ports of their own, so an address that stands in
/// several is named once for each; a Service port of one subset only is rare enough not to be told apart.
pub fn endpoints(pruner: &mut Pruner, object: &Endpoints) -> Option<(Arc<str>, Change)> {
    let name = name(pruner, &object.metadata)?;
    let subsets = object.subsets.iter().flatten();
    let mut ports: Vec<SlicePort> = Vec::new();
    let mut endpoints = Vec::new();
    for subset in subsets {
        for one in subset.ports.iter().flatten() {
            let port = port(one.port).map(|port| SlicePort {
                name: port_name(pruner, one.name.as_deref()),
                proto: proto(one.protocol.as_deref()),
                port,
            });
            ports.extend(port.filter(|port| !ports.contains(port)));
        }
        endpoints.extend(addresses(pruner, subset));
    }
    let slice = Slice {
        service: Arc::clone(&name.name),
        ports,
        endpoints,
        name,
    };
    Some((key(&slice.name), Change::Slice(Arc::new(slice))))
}

fn addresses(pruner: &mut Pruner, subset: &EndpointSubset) -> Vec<Endpoint> {
    let mut read = |one: &EndpointAddress, ready| {
        Some(Endpoint {
            address: address(&one.ip)?,
            ready,
            draining: false,
            pod: pod(one.target_ref.as_ref()),
            node: one
                .node_name
                .as_deref()
                .map(|node| pruner.interner.text(node)),
        })
    };
    let ready = subset.addresses.iter().flatten();
    let mut all: Vec<Endpoint> = ready.filter_map(|one| read(one, true)).collect();
    let waiting = subset.not_ready_addresses.iter().flatten();
    all.extend(waiting.filter_map(|one| read(one, false)));
    all
}

/// The only port of a Service may have no name, which slices spell as an empty one.
fn port_name(pruner: &mut Pruner, name: Option<&str>) -> Option<Arc<str>> {
    let name = name.filter(|name| !name.is_empty())?;
    Some(pruner.interner.text(name))
}

fn pod(target: Option<&ObjectReference>) -> Option<Arc<str>> {
    let target = target.filter(|target| target.kind.as_deref() == Some("Pod"))?;
    target.name.as_deref().map(Into::into)
}
