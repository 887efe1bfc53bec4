//! Pods.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod as Api};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Pruner, address, name, port, proto};
use crate::event::Ktime;
use crate::inventory::cluster::{Change, ContainerPort, Labels, Pod, Workload};

pub fn pod(pruner: &mut Pruner, object: &Api) -> Option<(Arc<str>, Change)> {
    let meta = &object.metadata;
    let uid: Arc<str> = meta.uid.as_deref()?.into();
    let mut pod = Pod::named(Arc::clone(&uid), name(pruner, meta)?);
    pod.labels = pruner.interner.labels(meta.labels.as_ref());
    pod.workload = workload(pruner, meta, &pod.labels);
    if let Some(spec) = &object.spec {
        pod.node = spec
            .node_name
            .as_deref()
            .map(|node| pruner.interner.text(node));
        pod.host_network = spec.host_network.unwrap_or(false);
        let containers = spec.containers.iter();
        // Init containers that go on running serve as well.
        let sidecars = spec.init_containers.iter().flatten();
        pod.ports = containers
            .chain(sidecars)
            .flat_map(|container| ports(pruner, container))
            .collect();
    }
    if let Some(status) = &object.status {
        pod.over = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        let started = status.start_time.as_ref();
        pod.started = started.map(|time| ktime(time.0.as_nanosecond(), pruner.wall_offset));
        let conditions = status.conditions.iter().flatten();
        pod.ready = conditions
            .into_iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True");
        // The status of a pod that is over still has its address, which is somebody else's by now.
        if !pod.over {
            let many = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
            pod.addresses = many.filter_map(address).collect();
            if pod.addresses.is_empty() {
                pod.addresses
                    .extend(status.pod_ip.as_deref().and_then(address));
            }
        }
    }
    Some((uid, Change::Pod(Arc::new(pod))))
}

fn ports(pruner: &mut Pruner, container: &Container) -> Vec<ContainerPort> {
    let ports = container.ports.iter().flatten();
    ports
        .filter_map(|one| {
            Some(ContainerPort {
                name: one.name.as_deref().map(|name| pruner.interner.text(name)),
                proto: proto(one.protocol.as_deref()),
                port: port(one.container_port)?,
            })
        })
        .collect()
}

/// A Deployment names its ReplicaSets after itself and the hash that its pods carry as a label.
fn workload(pruner: &mut Pruner, meta: &ObjectMeta, labels: &Labels) -> Option<Workload> {
    let owners = meta.owner_references.iter().flatten();
    let owner = owners
        .into_iter()
        .find(|one| one.controller == Some(true))?;
    let hash = labels.get("pod-template-hash");
    let deployment = hash
        .filter(|_| owner.kind == "ReplicaSet")
        .and_then(|hash| owner.name.strip_suffix(&**hash)?.strip_suffix('-'));
    Some(match deployment {
        Some(deployment) => Workload {
            kind: pruner.interner.text("Deployment"),
            name: pruner.interner.text(deployment),
        },
        None => Workload {
            kind: pruner.interner.text(&owner.kind),
            name: pruner.interner.text(&owner.name),
        },
    })
}

/// What was before the clock of the packets began is its beginning.
fn ktime(unix: i128, wall_offset: i64) -> Ktime {
    let since = unix - i128::from(wall_offset);
    Ktime(u64::try_from(since.max(0)).unwrap_or(u64::MAX))
}
