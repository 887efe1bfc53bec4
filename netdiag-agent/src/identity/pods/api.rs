//! What the Kubernetes API knows of pods: where they run, what they are called, which belong together.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::{Api, ListParams};
use kube::core::{NamespaceResourceScope, Resource, Selector};
use serde::de::DeserializeOwned;

use super::query::WorkloadKind;
use crate::identity::kube::client::{Access, AskError, brief};

/// What the kubelet writes on the API's image of a pod it has from a file. Its runtime knows that pod by this.
const STATIC_UID: [&str; 2] = ["kubernetes.io/config.mirror", "kubernetes.io/config.hash"];

/// A pod of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The API's, and of a pod that comes from a file also the node's.
    pub uids: Vec<String>,
    pub namespace: String,
    pub name: String,
    /// `None`: not scheduled yet.
    pub node: Option<String>,
    /// `Running`, `Pending` …
    pub phase: String,
    pub labels: BTreeMap<String, String>,
}

impl From<Pod> for Known {
    fn from(pod: Pod) -> Self {
        let meta = pod.metadata;
        let annotations = meta.annotations.unwrap_or_default();
        let from_file = STATIC_UID.iter().filter_map(|key| annotations.get(*key));
        Self {
            uids: meta.uid.into_iter().chain(from_file.cloned()).collect(),
            namespace: meta.namespace.unwrap_or_default(),
            name: meta.name.unwrap_or_default(),
            node: pod.spec.and_then(|spec| spec.node_name),
            phase: pod
                .status
                .and_then(|status| status.phase)
                .unwrap_or_default(),
            labels: meta.labels.unwrap_or_default(),
        }
    }
}

/// `None`: there is none.
pub async fn pod(access: &Access, namespace: &str, name: &str) -> Result<Option<Known>, AskError> {
    let api: Api<Pod> = Api::namespaced(access.client.clone(), namespace);
    let found = brief(|| api.get_opt(name)).await?;
    Ok(found.map(Known::from))
}

/// All pods these labels select, on whatever node.
pub async fn selected(
    access: &Access,
    namespace: &str,
    selector: &Selector,
) -> Result<Vec<Known>, AskError> {
    let api: Api<Pod> = Api::namespaced(access.client.clone(), namespace);
    let params = ListParams::default().labels_from(selector);
    let found = brief(|| api.list(&params)).await?;
    Ok(found.items.into_iter().map(Known::from).collect())
}

/// All pods of a namespace: asked for only when something was not found.
pub async fn all(access: &Access, namespace: &str) -> Result<Vec<Known>, AskError> {
    selected(access, namespace, &Selector::default()).await
}

/// What selects a workload's pods. `None`: there is no such workload.
pub async fn selector(
    access: &Access,
    kind: WorkloadKind,
    namespace: &str,
    name: &str,
) -> Result<Option<Selector>, AskError> {
    let found = match kind {
        WorkloadKind::Deployment => get::<Deployment>(access, namespace, name)
            .await?
            .map(|found| found.spec.map(|spec| spec.selector)),
        WorkloadKind::DaemonSet => get::<DaemonSet>(access, namespace, name)
            .await?
            .map(|found| found.spec.map(|spec| spec.selector)),
        WorkloadKind::StatefulSet => get::<StatefulSet>(access, namespace, name)
            .await?
            .map(|found| found.spec.map(|spec| spec.selector)),
        WorkloadKind::ReplicaSet => get::<ReplicaSet>(access, namespace, name)
            .await?
            .map(|found| found.spec.map(|spec| spec.selector)),
    };
    // The server admits no workload without a selector, and none that cannot be read.
    let readable = |selector: LabelSelector| Selector::try_from(selector).ok();
    Ok(found.and_then(|spec| readable(spec?)))
}

/// The names of all workloads of a kind.
pub async fn workloads(
    access: &Access,
    kind: WorkloadKind,
    namespace: &str,
) -> Result<Vec<String>, AskError> {
    match kind {
        WorkloadKind::Deployment => names::<Deployment>(access, namespace).await,
        WorkloadKind::DaemonSet => names::<DaemonSet>(access, namespace).await,
        WorkloadKind::StatefulSet => names::<StatefulSet>(access, namespace).await,
        WorkloadKind::ReplicaSet => names::<ReplicaSet>(access, namespace).await,
    }
}

trait Namespaced:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()>
    + Clone
    + std::fmt::Debug
    + DeserializeOwned
{
}

impl<K> Namespaced for K where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
{
}

async fn get<K: Namespaced>(
    access: &Access,
    namespace: &str,
    name: &str,
) -> Result<Option<K>, AskError> {
    let api: Api<K> = Api::namespaced(access.client.clone(), namespace);
    brief(|| api.get_opt(name)).await
}

async fn names<K: Namespaced>(access: &Access, namespace: &str) -> Result<Vec<String>, AskError> {
    let api: Api<K> = Api::namespaced(access.client.clone(), namespace);
    let params = ListParams::default();
    let found = brief(|| api.list_metadata(&params)).await?;
    Ok(found
        .items
        .into_iter()
        .filter_map(|one| one.metadata.name)
        .collect())
}
