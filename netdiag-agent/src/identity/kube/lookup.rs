//! Where a Service or a pod is: one question, asked once, before a trace begins.

use std::fmt::Debug;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use super::client::{AskError, brief};
use super::prune::{self, Pruner, Read};
use crate::inventory::cluster::{self, Change, Slice};

/// Which of its ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port<'a> {
    Any,
    Number(u16),
    Named(&'a str),
}

/// An address and a port of it; `None`: every port.
pub type Place = (IpAddr, Option<u16>);

/// Endpoints a trace is told to look for; those of a larger Service are met through its own address.
const MOST: usize = 800;

/// The Service's own addresses, and those of its endpoints, so that what was translated on the way is recognised too.
/// `name` may end in `.NAMESPACE`.
pub async fn service(
    client: &Client,
    name: &str,
    namespace: &str,
    port: Port<'_>,
) -> Result<Vec<Place>, String> {
    let (name, namespace) = name.split_once('.').unwrap_or((name, namespace));
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    let Some(object) = brief(|| services.get_opt(name)).await.map_err(refused)? else {
        return Err(nearest(&services, "Service", name, namespace).await);
    };
    let alias = object
        .spec
        .as_ref()
        .and_then(|spec| spec.external_name.clone());
    if let Some(alias) = alias.filter(|alias| !alias.is_empty()) {
        return Err(format!("it is an alias of {alias}: give that name"));
    }
    let mut pruner = Pruner::default();
    let Some((_, Change::Service(service))) = prune::service(&mut pruner, &object) else {
        return Err("the API server's answer is no Service".to_owned());
    };
    let ports = ports_of(&service, port)?;
    let mut places: Vec<Place> = Vec::new();
    for address in service.addresses() {
        places.extend(ports.iter().map(|port| (address, port.number)));
    }
    let slices = slices(client, name, namespace).await.map_err(refused)?;
    let endpoints = slices.iter().flat_map(|slice| targets(slice, &ports));
    for place in endpoints {
        if places.len() < MOST && !places.contains(&place) {
            places.push(place);
        }
    }
    if places.is_empty() {
        return Err(
            "it is headless and has no endpoints: there is no address to look for".to_owned(),
        );
    }
    Ok(places)
}

/// The pod's addresses. Its name may have dots, so the last part is a namespace only if there is no such pod otherwise.
pub async fn pod(
    client: &Client,
    name: &str,
    namespace: &str,
    port: Port<'_>,
) -> Result<Vec<Place>, String> {
    let tries = std::iter::once((name, namespace)).chain(name.rsplit_once('.'));
    for (name, namespace) in tries {
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let Some(object) = brief(|| pods.get_opt(name)).await.map_err(refused)? else {
            continue;
        };
        let Some((_, Change::Pod(pod))) = prune::pod(&mut Pruner::default(), &object) else {
            return Err("the API server's answer is no pod".to_owned());
        };
        let number = match port {
            Port::Any => None,
            Port::Number(number) => Some(number),
            Port::Named(wanted) => Some(container_port(&pod, wanted)?),
        };
        if pod.addresses.is_empty() {
            return Err(format!("pod {} has no address", pod.name));
        }
        let addresses = pod.addresses.iter();
        return Ok(addresses.map(|address| (*address, number)).collect());
    }
    let (name, namespace) = name.rsplit_once('.').unwrap_or((name, namespace));
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    Err(nearest(&pods, "pod", name, namespace).await)
}

fn container_port(pod: &cluster::Pod, wanted: &str) -> Result<u16, String> {
    let mut ports = pod.ports.iter();
    let found = ports.find(|port| port.name.as_deref() == Some(wanted));
    found.map(|port| port.port).ok_or_else(|| {
        let names = pod.ports.iter().filter_map(|port| port.name.as_deref());
        format!(
            "no container of {} has a port {wanted}{}",
            pod.name,
            known(names)
        )
    })
}

/// A port of the Service: its number, and the name its endpoints know it by.
struct Wanted<'a> {
    number: Option<u16>,
    name: Option<&'a str>,
    /// The Service has it, or every port is meant.
    defined: bool,
}

fn ports_of<'a>(service: &'a cluster::Service, port: Port<'_>) -> Result<Vec<Wanted<'a>>, String> {
    let ports = service.ports.iter();
    let found: Vec<Wanted<'_>> = ports
        .filter(|one| match port {
            Port::Any => false,
            Port::Number(number) => one.port == number,
            Port::Named(name) => one.name.as_deref() == Some(name),
        })
        .map(|one| Wanted {
            number: Some(one.port),
            name: one.name.as_deref(),
            defined: true,
        })
        .collect();
    match (port, found.is_empty()) {
        (_, false) => Ok(found),
        (Port::Any, true) => Ok(vec![Wanted {
            number: None,
            name: None,
            defined: true,
        }]),
        // That the Service has no such port is what the trace is there to say.
        (Port::Number(number), true) => Ok(vec![Wanted {
            number: Some(number),
            name: None,
            defined: false,
        }]),
        (Port::Named(name), true) => {
            let names = service.ports.iter().filter_map(|port| port.name.as_deref());
            Err(format!("it has no port {name}{}", known(names)))
        }
    }
}

fn targets(slice: &Slice, ports: &[Wanted<'_>]) -> Vec<Place> {
    let numbers = slice.ports.iter().filter(|one| {
        let asked = |port: &Wanted<'_>| {
            port.defined && (port.number.is_none() || port.name == one.name.as_deref())
        };
        ports.iter().any(asked)
    });
    let numbers: Vec<u16> = numbers.map(|one| one.port).collect();
    let endpoints = slice.endpoints.iter();
    endpoints
        .flat_map(|one| numbers.iter().map(|port| (one.address, Some(*port))))
        .collect()
}

/// In whichever form this server has them.
async fn slices(client: &Client, name: &str, namespace: &str) -> Result<Vec<Slice>, AskError> {
    let labels = ListParams::default().labels(&format!("kubernetes.io/service-name={name}"));
    let api: Api<EndpointSlice> = Api::namespaced(client.clone(), namespace);
    if let Some(found) = all(&api, &labels, prune::slice).await? {
        return Ok(found);
    }
    let gvk = GroupVersionKind::gvk("discovery.k8s.io", "v1beta1", "EndpointSlice");
    let beta = ApiResource::from_gvk(&gvk);
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &beta);
    if let Some(found) = all(&api, &labels, prune::beta_slice).await? {
        return Ok(found);
    }
    let one = ListParams::default().fields(&format!("metadata.name={name}"));
    let api: Api<Endpoints> = Api::namespaced(client.clone(), namespace);
    Ok(all(&api, &one, prune::endpoints).await?.unwrap_or_default())
}

/// `None`: the server does not serve this version.
async fn all<K>(
    api: &Api<K>,
    params: &ListParams,
    read: Read<K>,
) -> Result<Option<Vec<Slice>>, AskError>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let list = match brief(|| api.list(params)).await {
        Ok(list) => list,
        Err(error) if error.status() == Some(404) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut pruner = Pruner::default();
    let objects = list.items.iter();
    let slices = objects.filter_map(|object| match read(&mut pruner, object)?.1 {
        Change::Slice(slice) => Some(slice.as_ref().clone()),
        _ => None,
    });
    Ok(Some(slices.collect()))
}

/// There is no such object; those that sound like it.
async fn nearest<K>(api: &Api<K>, kind: &str, name: &str, namespace: &str) -> String
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let some = ListParams::default().limit(1000);
    let list = brief(|| api.list_metadata(&some)).await;
    let items = list.map(|list| list.items).unwrap_or_default();
    let mut names: Vec<String> = items
        .into_iter()
        .filter_map(|one| one.metadata.name)
        .collect();
    let common = |other: &str| {
        let letters = other.bytes().zip(name.bytes());
        letters.take_while(|(a, b)| a == b).count()
    };
    names.sort_by_key(|other| std::cmp::Reverse(common(other)));
    names.truncate(5);
    let known = known(names.iter().map(String::as_str));
    format!("there is no {kind} {name} in namespace {namespace}{known}")
}

/// `; there are: a, b`
fn known<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    if names.is_empty() {
        String::new()
    } else {
        format!("; there are: {}", names.join(", "))
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature map_err asks for"
)]
fn refused(error: AskError) -> String {
    format!("the API server cannot tell: {error}")
}

#[cfg(test)]
#[path = "lookup_tests.rs"]
mod tests;
