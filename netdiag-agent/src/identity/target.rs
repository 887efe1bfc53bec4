//! From what the user typed to the pod, the node that carries it, and the interfaces between them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use nix::time::{ClockId, clock_gettime};

use super::error::IdentityError;
use super::netns::{self, NetnsHandle, run_in_each};
use super::roles::Surroundings;
use super::view::{Kind, LinkView, Peers, View, is_link_local, name_nsids, netns_at};
use crate::event::{IfIndex, Netns};
use crate::inventory::{BlindSpot, Delta, Link, Namespace, NamespaceKind, Node, Role};

/// What the user typed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// Name below /run/netns, or path.
    pub netns: Option<String>,
    pub pid: Option<u32>,
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
#[derive(Clone, Debug)]
pub struct Target {
    pub node: NetnsHandle,
    /// `None`: the node itself is traced.
    pub pod: Option<NetnsHandle>,
    /// Without link-local IPv6 addresses, which mean nothing outside their link.
    pub pod_addresses: Vec<IpAddr>,
    /// Node-side ends of the pod's veths; in host mode the interface the user named, if it is no uplink.
    pub pod_links: Vec<LinkRef>,
    pub uplinks: Vec<LinkRef>,
    /// Namespaces behind the node's other veths. Never one behind an uplink: its drops did not happen on this node.
    pub other_pods: Vec<NetnsHandle>,
    pub deltas: Vec<Delta>,
    pub blind: Vec<BlindSpot>,
}

pub fn resolve(selector: &Selector) -> Result<Target, IdentityError> {
    let own = NetnsHandle::own()?;
    let selected = match (&selector.netns, selector.pid) {
        (Some(_), Some(_)) => return Err(IdentityError::TwoSelectors),
        (Some(what), None) => NetnsHandle::find(what)?,
        (None, Some(pid)) => NetnsHandle::by_pid(pid)?,
        (None, None) => own.clone(),
    };
    let candidates = candidates(&own)?;
    let (node, pod) = match &selector.interface {
        Some(interface) => (
            selected.clone(),
            pod_behind(&selected, interface, selector, &candidates)?,
        ),
        None => match node_of(&selected, &own, &candidates)? {
            Some(node) => (node, Some(selected)),
            None => (selected, None),
        },
    };
    let scene = Scene::read(node, pod, &candidates)?;
    scene.target(selector, &own)
}

/// All namespaces, ours first: it is the node in all but nested set-ups.
fn candidates(own: &NetnsHandle) -> Result<Vec<NetnsHandle>, IdentityError> {
    let mut all = netns::all()?;
    all.retain(|other| other.netns() != own.netns());
    all.insert(0, own.clone());
    Ok(all)
}

/// The namespace that holds the other end of the pod's veth; `None` when `selected` is traced as a node.
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
    let scene = Scene::read(selected.clone(), None, candidates)?;
    if scene.peers.values().any(|peer| peer.netns() == own.netns()) {
        return Ok(Some(own.clone()));
    }
    if scene.surroundings(Vec::new()).is_a_node() {
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
    Ok(links
        .into_iter()
        .find_map(|(_, link)| scene.peers.get(&link.leads_to()?.0))
        .cloned())
}

/// The pod behind a node-side interface; `None` when there is none or the interface leads off the node.
fn pod_behind(
    node: &NetnsHandle,
    interface: &str,
    selector: &Selector,
    candidates: &[NetnsHandle],
) -> Result<Option<NetnsHandle>, IdentityError> {
    let scene = Scene::read(node.clone(), None, candidates)?;
    let index = scene.index_of(interface)?;
    let named = scene.named(&selector.uplinks)?;
    let surroundings = scene.surroundings(named);
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

/// A node with everything behind its veths, as read just now.
pub(super) struct Scene {
    pub(super) node: NetnsHandle,
    pub(super) pod: Option<NetnsHandle>,
    view: View,
    peers: Peers,
    peer_views: BTreeMap<Netns, View>,
}

impl Scene {
    fn read(
        node: NetnsHandle,
        pod: Option<NetnsHandle>,
        candidates: &[NetnsHandle],
    ) -> Result<Self, IdentityError> {
        let view = View::read_of(&node)?;
        let nsids = view
            .links
            .values()
            .filter_map(LinkView::leads_to)
            .map(|(nsid, _)| nsid);
        let peers = name_nsids(&node, nsids, candidates)?;
        let mut handles: Vec<NetnsHandle> = peers.values().cloned().collect();
        if let Some(pod) = &pod {
            if handles.iter().all(|handle| handle.netns() != pod.netns()) {
                handles.push(pod.clone());
            }
        }
        let views = run_in_each(&handles, |_| View::read())?;
        // A namespace may end while we look around; only the traced one must be there.
        let mut peer_views = BTreeMap::new();
        for (handle, view) in handles.iter().zip(views) {
            match view
                .and_then(|view| view.map_err(|cause| super::view::read_failed(handle, cause)))
            {
                Ok(view) => {
                    peer_views.insert(handle.netns(), view);
                }
                Err(error)
                    if pod
                        .as_ref()
                        .is_some_and(|pod| pod.netns() == handle.netns()) =>
                {
                    return Err(error);
                }
                Err(error) => tracing::debug!(%error, "skipped a namespace"),
            }
        }
        Ok(Self {
            node,
            pod,
            view,
            peers,
            peer_views,
        })
    }

    /// Looks again at the same node and pod.
    pub(super) fn reread(
        node: &NetnsHandle,
        pod: Option<&NetnsHandle>,
    ) -> Result<Self, IdentityError> {
        Self::read(
            node.clone(),
            pod.cloned(),
            &candidates(&NetnsHandle::own()?)?,
        )
    }

    fn surroundings(&self, named: Vec<u32>) -> Surroundings<'_> {
        Surroundings {
            node: &self.view,
            peers: &self.peers,
            peer_views: &self.peer_views,
            pod: self.pod.as_ref().map(NetnsHandle::netns),
            named,
        }
    }

    fn index_of(&self, name: &str) -> Result<u32, IdentityError> {
        self.view
            .by_name(name)
            .map(|(index, _)| index)
            .ok_or_else(|| {
                let existing: Vec<&str> = self
                    .view
                    .links
                    .values()
                    .map(|link| link.name.as_str())
                    .collect();
                IdentityError::NoSuchInterface {
                    name: name.to_owned(),
                    namespace: self
                        .node
                        .name()
                        .map_or_else(|| "this namespace".to_owned(), str::to_owned),
                    existing: existing.join(", "),
                }
            })
    }

    fn named(&self, uplinks: &[String]) -> Result<Vec<u32>, IdentityError> {
        uplinks.iter().map(|name| self.index_of(name)).collect()
    }

    fn target(self, selector: &Selector, own: &NetnsHandle) -> Result<Target, IdentityError> {
        let mut picture = self.picture(self.named(&selector.uplinks)?, own);
        let mut pod_links = std::mem::take(&mut picture.pod_links);
        if let (Some(interface), None) = (&selector.interface, &self.pod) {
            let chosen = self.link_ref(self.index_of(interface)?);
            if !picture.uplinks.contains(&chosen) {
                pod_links.push(chosen);
            }
        }
        let mut deltas = vec![Delta::Node(node_facts(self.node.netns()))];
        deltas.append(&mut picture.deltas);
        deltas.extend(picture.blind.iter().cloned().map(Delta::Blind));
        Ok(Target {
            pod_addresses: self.pod_addresses(),
            pod_links,
            uplinks: picture.uplinks,
            other_pods: picture.other_pods,
            deltas,
            blind: picture.blind,
            node: self.node,
            pod: self.pod,
        })
    }

    pub(super) fn picture(&self, named: Vec<u32>, own: &NetnsHandle) -> Picture {
        let surroundings = self.surroundings(named);
        let uplinks = surroundings.uplinks();
        let outside = surroundings.outside(&uplinks);
        let role = |index: u32| surroundings.role(index, &uplinks, &outside);
        let pod = self.pod.as_ref().map(NetnsHandle::netns);
        let mut picture = Picture {
            uplinks: uplinks.iter().map(|index| self.link_ref(*index)).collect(),
            blind: self.blind(),
            ..Picture::default()
        };
        let mut others: BTreeMap<Netns, NetnsHandle> = BTreeMap::new();
        for (index, link) in &self.view.links {
            if role(*index) != Role::PodVeth {
                continue;
            }
            match link.leads_to().and_then(|(nsid, _)| self.peers.get(&nsid)) {
                Some(peer) if Some(peer.netns()) == pod => {
                    picture.pod_links.push(self.link_ref(*index))
                }
                Some(peer) => drop(others.insert(peer.netns(), peer.clone())),
                None => picture.blind.push(unnamed_pod(&link.name)),
            }
        }
        // In a nested set-up a veth may lead to the machine itself; what happens there did not happen on this node.
        others.retain(|netns, _| *netns != own.netns() && *netns != self.node.netns());
        picture.other_pods = others.into_values().collect();
        picture.deltas = self.deltas(&picture.other_pods, role);
        picture
    }

    fn deltas(&self, other_pods: &[NetnsHandle], role: impl Fn(u32) -> Role) -> Vec<Delta> {
        let mut deltas = vec![namespace(
            &self.node,
            NamespaceKind::Node,
            self.pod.is_none(),
        )];
        deltas.extend(
            self.pod
                .iter()
                .map(|pod| namespace(pod, NamespaceKind::Pod, true)),
        );
        deltas.extend(
            other_pods
                .iter()
                .map(|pod| namespace(pod, NamespaceKind::Pod, false)),
        );
        let mut other_ends = BTreeMap::new();
        for (index, link) in &self.view.links {
            let peer = netns_at(&self.peers, link)
                .zip(link.lower)
                .map(|(netns, end)| (netns, IfIndex(end)));
            if let Some(peer) = peer {
                other_ends.insert(peer, (self.node.netns(), IfIndex(*index)));
            }
            deltas.push(Delta::Link(link_fact(
                self.node.netns(),
                *index,
                link,
                role(*index),
                peer,
            )));
        }
        for pod in self.pod.iter().chain(other_pods) {
            let Some(view) = self.peer_views.get(&pod.netns()) else {
                continue;
            };
            for (index, link) in &view.links {
                let role = if link.kind == Kind::Loopback {
                    Role::Loopback
                } else {
                    Role::PodInterface
                };
                let peer = other_ends.get(&(pod.netns(), IfIndex(*index))).copied();
                deltas.push(Delta::Link(link_fact(
                    pod.netns(),
                    *index,
                    link,
                    role,
                    peer,
                )));
            }
        }
        deltas
    }

    fn pod_addresses(&self) -> Vec<IpAddr> {
        let view = self
            .pod
            .as_ref()
            .and_then(|pod| self.peer_views.get(&pod.netns()));
        let links = view.into_iter().flat_map(|view| view.links.values());
        links
            .filter(|link| link.kind != Kind::Loopback)
            .flat_map(|link| link.addresses.iter().map(|(address, _)| *address))
            .filter(|address| !matches!(address, IpAddr::V6(v6) if is_link_local(*v6)))
            .collect()
    }

    /// Interfaces whose packets reach the wire without passing a veth of the node.
    fn blind(&self) -> Vec<BlindSpot> {
        let traced = match &self.pod {
            Some(pod) => self.peer_views.get(&pod.netns()),
            None => Some(&self.view),
        };
        let links = traced.into_iter().flat_map(|view| view.links.values());
        links
            .filter(|link| link.kind == Kind::Slice && link.lower_nsid.is_some())
            .map(|link| BlindSpot {
                what: "pod veth".to_owned(),
                why: format!(
                    "{} is a macvlan or ipvlan: its packets pass no veth of the node, so POD_VETH is NOT_OBSERVABLE",
                    link.name
                ),
            })
            .collect()
    }

    fn link_ref(&self, index: u32) -> LinkRef {
        let name = self
            .view
            .links
            .get(&index)
            .map_or("", |link| link.name.as_str());
        LinkRef {
            ifindex: IfIndex(index),
            name: Arc::from(name),
        }
    }
}

/// What a [`Scene`] means.
#[derive(Debug, Default)]
pub(super) struct Picture {
    pub(super) pod_links: Vec<LinkRef>,
    pub(super) uplinks: Vec<LinkRef>,
    pub(super) other_pods: Vec<NetnsHandle>,
    pub(super) blind: Vec<BlindSpot>,
    pub(super) deltas: Vec<Delta>,
}

fn unnamed_pod(veth: &str) -> BlindSpot {
    BlindSpot {
        what: "pod namespace".to_owned(),
        why: format!(
            "the namespace behind {veth} has neither a process nor a name below /run/netns: what happens in it is not seen"
        ),
    }
}

fn namespace(handle: &NetnsHandle, kind: NamespaceKind, target: bool) -> Delta {
    Delta::Namespace(Namespace {
        netns: handle.netns(),
        kind,
        name: handle.name().map(str::to_owned),
        target,
    })
}

fn link_fact(
    netns: Netns,
    index: u32,
    link: &LinkView,
    role: Role,
    peer: Option<(Netns, IfIndex)>,
) -> Link {
    Link {
        netns,
        ifindex: IfIndex(index),
        name: Arc::from(link.name.as_str()),
        role,
        peer,
        up: link.up,
        mtu: link.mtu,
        addresses: link.addresses.iter().map(|(address, _)| *address).collect(),
    }
}

/// `tier` and `hooks` are the attach plan's to fill in.
fn node_facts(netns: Netns) -> Node {
    let uname = nix::sys::utsname::uname();
    let text = |field: Result<&std::ffi::OsStr, nix::Error>| {
        field
            .map(|text| text.to_string_lossy().into_owned())
            .unwrap_or_default()
    };
    Node {
        name: text(
            uname
                .as_ref()
                .map(|names| names.nodename())
                .map_err(|errno| *errno),
        ),
        netns,
        wall_offset: wall_offset(),
        kernel: text(
            uname
                .as_ref()
                .map(|names| names.release())
                .map_err(|errno| *errno),
        ),
        tier: 0,
        hooks: Vec::new(),
    }
}

fn wall_offset() -> i64 {
    let nanos = |clock| {
        clock_gettime(clock).map_or(0, |time| time.tv_sec() * 1_000_000_000 + time.tv_nsec())
    };
    nanos(ClockId::CLOCK_REALTIME) - nanos(ClockId::CLOCK_MONOTONIC)
}

#[cfg(test)]
#[path = "target_tests.rs"]
mod tests;
