//! Nodes and Namespaces.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Node};

use super::{Pruner, address};
use crate::inventory::cluster::{Change, Machine, Network};

pub fn machine(pruner: &mut Pruner, object: &Node) -> Option<(Arc<str>, Change)> {
    let name = pruner.interner.text(object.metadata.name.as_deref()?);
    let addresses = object.status.iter();
    let addresses = addresses.flat_map(|status| status.addresses.iter().flatten());
    let spec = object.spec.as_ref();
    let many = spec.and_then(|spec| spec.pod_cidrs.as_ref());
    let mut pod_networks: Vec<_> = many
        .into_iter()
        .flatten()
        .filter_map(|cidr| cidr.parse().ok())
        .collect();
    if pod_networks.is_empty() {
        let one = spec.and_then(|spec| spec.pod_cidr.as_deref());
        pod_networks.extend(one.and_then(|cidr| cidr.parse::<Network>().ok()));
    }
    let machine = Machine {
        name: Arc::clone(&name),
        // Host names stand among them.
        addresses: addresses.filter_map(|one| address(&one.address)).collect(),
        pod_networks,
    };
    Some((name, Change::Machine(Arc::new(machine))))
}

pub fn namespace(pruner: &mut Pruner, object: &Namespace) -> Option<(Arc<str>, Change)> {
    let name = pruner.interner.text(object.metadata.name.as_deref()?);
    let labels = pruner.interner.labels(object.metadata.labels.as_ref());
    Some((Arc::clone(&name), Change::Namespace(name, labels)))
}
