//! From what the user typed to the pod, the node that carries it, and the interfaces between them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::error::IdentityError;
use super::netns::{self, NetnsHandle};
use super::scene::{Scene, Uplinks, node_facts, read_node};
use super::view::{LinkView, Nsid, name_nsids};
use crate::event::IfIndex;
use crate::inventory::{BlindSpot, Delta, Role};

/// What the user typed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// Name below /run/netns, or path.
    pub netns: Option<String>,
    pub pid: Option<u32>,
    /// Pods found by what Kubernetes calls them; they go by these names.
    pub pods: Vec<NetnsHandle>,
    /// A node-side interface of the selected namespace, by default of our own.
    pub interface: Option<String>,
    pub uplinks: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkRef {
    pub ifindex: IfIndex,
    pub name: Arc<str>,
}

/// What is to be traced, and all that is known of its surroundings.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    pub node: NetnsHandle,
    /// Empty: the node itself is traced.
    pub pods: Vec<NetnsHandle>,
    /// Without link-local IPv6 addresses, which mean nothing outside their link.
    pub pod_addresses: Vec<IpAddr>,
    /// Node-side ends of the pods' veths; in host mode the interface the user named, if it is no uplink.
    pub pod_links: Vec<LinkRef>,
    pub uplinks: Vec<LinkRef>,
    /// UDP port of the node's VXLAN device, if it has one; of several the first one's.
    pub vxlan_port: Option<u16>,
    /// Namespaces behind the node's other veths. Never one behind an uplink: its drops did not happen on this node.
    pub other_pods: Vec<NetnsHandle>,
    pub deltas: Vec<Delta>,
    pub blind: Vec<BlindSpot>,
}

pub fn resolve(selector: &Selector) -> Result<Target, IdentityError> {
    let own = NetnsHandle::own()?;
    if !selector.pods.is_empty() {
        return resolve_pods(selector, &own);
    }
    let selected = match (&selector.netns, selector.pid) {
        (Some(_), Some(_)) => return Err(IdentityError::TwoSelectors),
        (Some(what), None) => NetnsHandle::find(what)?,
        (None, Some(pid)) => NetnsHandle::by_pid(pid)?,
        (None, None) => own.clone(),
    };
    let candidates = candidates(&own)?;
    let (node, pods) = match &selector.interface {
        Some(interface) => {
            let pod = pod_behind(&selected, interface, selector, &candidates)?;
            (selected, pod.into_iter().collect())
        }
        None => match node_of(&selected, &own, &candidates)? {
            Some(node) => (node, vec![selected]),
            None => (selected, Vec::new()),
        },
    };
    target(Scene::read(node, pods, &candidates)?, selector, &own)
}

/// Pods that are known to be pods, whatever their interfaces look like.
fn resolve_pods(selector: &Selector, own: &NetnsHandle) -> Result<Target, IdentityError> {
    let candidates = candidates(own)?;
    let (hosts, pods): (Vec<_>, Vec<_>) = selector
        .pods
        .iter()
        .cloned()
        .partition(|pod| pod.netns() == own.netns());
    // One look at the node tells of all pods but those without a veth, and those of nested set-ups.
    let (_, peers) = read_node(own, &candidates)?;
    let here = |pod: &&NetnsHandle| peers.values().any(|peer| peer.netns() == pod.netns());
    let first = pods.iter().find(here);
    let mut node = first.map(|pod| (own.clone(), pod.label()));
    for pod in pods.iter().filter(|pod| !here(pod)) {
        let found = node_of(pod, own, &candidates)?.unwrap_or_else(|| own.clone());
        match &node {
            Some((known, of)) if known.netns() != found.netns() => {
                return Err(IdentityError::TwoNodes {
                    one: of.clone(),
                    other: pod.label(),
                });
            }
            Some(_) => {}
            None => node = Some((found, pod.label())),
        }
    }
    let node = node.map_or_else(|| own.clone(), |(node, _)| node);
    let alone = pods.is_empty();
    let mut target = target(Scene::read(node, pods, &candidates)?, selector, own)?;
    let shared = hosts.iter().map(|pod| shares_the_node(pod, alone));
    target.blind.extend(shared.clone());
    target.deltas.extend(shared.map(Delta::Blind));
    Ok(target)
}

fn shares_the_node(pod: &NetnsHandle, alone: bool) -> BlindSpot {
    let why = if alone {
        "it uses the node's network: the flows of the whole node are followed, whichever process has them (--to narrows them)"
    } else {
        "it uses the node's network and is not followed with pods that have their own: trace it alone"
    };
    BlindSpot {
        what: format!("pod {}", pod.label()),
        why: why.to_owned(),
    }
}

fn target(
    mut scene: Scene,
    selector: &Selector,
    own: &NetnsHandle,
) -> Result<Target, IdentityError> {
    for (netns, error) in std::mem::take(&mut scene.unread) {
        // Of several, some may end while we look.
        if scene.pods.len() == 1 {
            return Err(error);
        }
        tracing::warn!("{error}");
        scene.pods.retain(|pod| pod.netns() != netns);
    }
    let mut picture = scene.picture(selector.uplinks(), own)?;
    if let Some(interface) = &selector.interface
        && scene.pods.is_empty()
    {
        let chosen = scene.link_ref(scene.index_of(interface)?);
        if !picture.uplinks.contains(&chosen) {
            picture.pod_links.push(chosen);
        }
    }
    let mut deltas = vec![Delta::Node(node_facts(scene.node.netns()))];
    deltas.append(&mut picture.deltas);
    deltas.extend(picture.blind.iter().cloned().map(Delta::Blind));
    Ok(Target {
        pod_addresses: scene.pod_addresses(),
        pod_links: picture.pod_links,
        uplinks: picture.uplinks,
        vxlan_port: scene.view.links.values().find_map(|link| link.vxlan_port),
        other_pods: picture.other_pods,
        deltas,
        blind: picture.blind,
        node: scene.node,
        pods: scene.pods,
    })
}

impl Selector {
    pub(super) fn uplinks(&self) -> Uplinks<'_> {
        if self.uplinks.is_empty() {
            Uplinks::Guess
        } else {
            Uplinks::Typed(&self.uplinks)
        }
    }
}

/// All namespaces, ours first: it is the node in all but nested set-ups.
pub(super) fn candidates(own: &NetnsHandle) -> Result<Vec<NetnsHandle>, IdentityError> {
    let mut all = netns::all()?;
    all.retain(|other| other.netns() != own.netns());
    all.insert(0, own.clone());
    Ok(all)
}

/// The namespace that holds the other end of the pod's veth, or the device below its macvlan; `None` when `selected` is
/// traced as a node.
///
/// Interface indices do not decide: two namespaces may well use the same. The kernel's own number for the namespace at
/// the other end does.
fn node_of(
    selected: &NetnsHandle,
    own: &NetnsHandle,
    candidates: &[NetnsHandle],
) -> Result<Option<NetnsHandle>, IdentityError> {
    if selected.netns() == own.netns() {
        return Ok(None);
    }
    let scene = Scene::read(selected.clone(), Vec::new(), candidates)?;
    if scene.peers.values().any(|peer| peer.netns() == own.netns()) {
        return Ok(Some(own.clone()));
    }
    if scene.surroundings(Uplinks::Guess)?.is_a_node() {
        return Ok(None);
    }
    let mut links: Vec<(u32, &LinkView)> = scene
        .view
        .links
        .iter()
        .map(|(index, link)| (*index, link))
        .collect();
    // A pod with several veths belongs to whom it sends what it has for the world.
    let defaults: BTreeSet<u32> = scene.view.default_devices().collect();
    links.sort_by_key(|(index, _)| (!defaults.contains(index), *index));
    let veth = links
        .iter()
        .find_map(|(_, link)| scene.peers.get(&link.leads_to()?.0));
    if let Some(node) = veth {
        return Ok(Some(node.clone()));
    }
    // A macvlan or ipvlan sits on a device of its node.
    let below: Vec<Nsid> = links
        .iter()
        .filter_map(|(_, link)| link.sits_in())
        .collect();
    let nodes = name_nsids(selected, below.iter().copied(), candidates)?;
    Ok(below.iter().find_map(|nsid| nodes.get(nsid)).cloned())
}

/// The pod behind a node-side interface; `None` when there is none or the interface leads off the node.
fn pod_behind(
    node: &NetnsHandle,
    interface: &str,
    selector: &Selector,
    candidates: &[NetnsHandle],
) -> Result<Option<NetnsHandle>, IdentityError> {
    let scene = Scene::read(node.clone(), Vec::new(), candidates)?;
    let index = scene.index_of(interface)?;
    let surroundings = scene.surroundings(selector.uplinks())?;
    let uplinks = surroundings.uplinks();
    let outside = surroundings.outside(&uplinks);
    if surroundings.role(index, &uplinks, &outside) != Role::PodVeth {
        return Ok(None);
    }
    Ok(scene
        .view
        .links
        .get(&index)
        .and_then(|link| scene.peers.get(&link.leads_to()?.0))
        .cloned())
}

#[cfg(test)]
#[path = "target_tests.rs"]
mod tests;
