//! The node with everything that hangs on its veths, and what that means to the core.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::net::IpAddr;
use std::sync::Arc;

use nix::sys::utsname::{UtsName, uname};
use nix::time::{ClockId, clock_gettime};

use super::error::IdentityError;
use super::netns::{NetnsHandle, run_in_each};
use super::roles::Surroundings;
use super::target::LinkRef;
use super::view::{Kind, LinkView, Peers, View, is_link_local, name_nsids, netns_at, read_failed};
use crate::event::{IfIndex, Ktime, Netns};
use crate::inventory::{BlindSpot, Delta, Link, Namespace, NamespaceKind, Node, Role};

/// A node with everything behind its veths, as read just now.
pub(super) struct Scene {
    pub(super) node: NetnsHandle,
    pub(super) pods: Vec<NetnsHandle>,
    /// The pods that could not be read, although the node could.
    pub(super) unread: Vec<(Netns, IdentityError)>,
    pub(super) view: View,
    pub(super) peers: Peers,
    peer_views: BTreeMap<Netns, View>,
}

/// The interfaces that lead off the node, where they need not be guessed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Uplinks<'a> {
    Guess,
    /// `--uplink`.
    Typed(&'a [String]),
    /// Found before; those that went are left out. A default route that goes during a trace must not change what
    /// counts as the edge of the node.
    Kept(&'a [LinkRef]),
    /// The same, once typed.
    KeptTyped(&'a [LinkRef]),
}

impl Scene {
    pub(super) fn read(
        node: NetnsHandle,
        pods: Vec<NetnsHandle>,
        candidates: &[NetnsHandle],
    ) -> Result<Self, IdentityError> {
        let (view, peers) = read_node(&node, candidates)?;
        let mut handles: Vec<NetnsHandle> = peers.values().cloned().collect();
        for pod in &pods {
            if handles.iter().all(|handle| handle.netns() != pod.netns()) {
                handles.push(pod.clone());
            }
        }
        let views = run_in_each(&handles, |_| View::read())?;
        // A namespace may end while we look around; the caller decides whether the pod had to be there.
        let (mut peer_views, mut unread) = (BTreeMap::new(), Vec::new());
        for (handle, view) in handles.iter().zip(views) {
            match view.and_then(|view| view.map_err(|cause| read_failed(handle, cause))) {
                Ok(view) => {
                    peer_views.insert(handle.netns(), view);
                }
                Err(error) if pods.iter().any(|pod| pod.netns() == handle.netns()) => {
                    unread.push((handle.netns(), error));
                }
                Err(error) => tracing::debug!(%error, "skipped a namespace"),
            }
        }
        Ok(Self {
            node,
            pods,
            unread,
            view,
            peers,
            peer_views,
        })
    }

    pub(super) fn surroundings(
        &self,
        uplinks: Uplinks<'_>,
    ) -> Result<Surroundings<'_>, IdentityError> {
        let given = match uplinks {
            Uplinks::Guess => None,
            Uplinks::Typed(names) => Some(
                names
                    .iter()
                    .map(|name| self.index_of(name))
                    .collect::<Result<Vec<u32>, _>>()?,
            ),
            Uplinks::Kept(links) | Uplinks::KeptTyped(links) => Some(
                links
                    .iter()
                    .filter_map(|link| self.view.by_name(&link.name))
                    .map(|(index, _)| index)
                    .collect(),
            ),
        };
        Ok(Surroundings {
            node: &self.view,
            peers: &self.peers,
            peer_views: &self.peer_views,
            pods: self.pods.iter().map(NetnsHandle::netns).collect(),
            // With none left, better guess again than be without.
            given: given.filter(|given| !given.is_empty()),
            typed: matches!(uplinks, Uplinks::Typed(_) | Uplinks::KeptTyped(_)),
        })
    }

    pub(super) fn index_of(&self, name: &str) -> Result<u32, IdentityError> {
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

    pub(super) fn picture(
        &self,
        uplinks: Uplinks<'_>,
        own: &NetnsHandle,
    ) -> Result<Picture, IdentityError> {
        let surroundings = self.surroundings(uplinks)?;
        let uplinks = surroundings.uplinks();
        let outside = surroundings.outside(&uplinks);
        let role = |index: u32| surroundings.role(index, &uplinks, &outside);
        let traced = |netns| self.pods.iter().any(|pod| pod.netns() == netns);
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
                Some(peer) if traced(peer.netns()) => {
                    picture.pod_links.push(self.link_ref(*index));
                }
                Some(peer) => drop(others.insert(peer.netns(), peer.clone())),
                None => picture.blind.push(unnamed_pod(&link.name)),
            }
        }
        // In a nested set-up a veth may lead to the machine itself; what happens there did not happen on this node.
        others.retain(|netns, _| *netns != own.netns() && *netns != self.node.netns());
        picture.other_pods = others.into_values().collect();
        picture.deltas = self.deltas(&picture.other_pods, role);
        Ok(picture)
    }

    fn deltas(&self, other_pods: &[NetnsHandle], role: impl Fn(u32) -> Role) -> Vec<Delta> {
        let mut deltas = vec![namespace(
            &self.node,
            NamespaceKind::Node,
            self.pods.is_empty(),
        )];
        deltas.extend(
            self.pods
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
        for pod in self.pods.iter().chain(other_pods) {
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

    pub(super) fn pod_addresses(&self) -> Vec<IpAddr> {
        let links = self
            .pods
            .iter()
            .filter_map(|pod| self.peer_views.get(&pod.netns()))
            .flat_map(|view| view.links.values());
        links
            .filter(|link| link.kind != Kind::Loopback)
            .flat_map(|link| link.addresses.iter().map(|(address, _)| *address))
            .filter(|address| !matches!(address, IpAddr::V6(v6) if is_link_local(*v6)))
            .collect()
    }

    /// Interfaces whose packets reach the wire without passing a veth of the node.
    fn blind(&self) -> Vec<BlindSpot> {
        if self.pods.is_empty() {
            let links = self.view.links.values();
            let slices = links.filter(|link| link.sits_in().is_some());
            return slices.map(|link| no_veth(None, link)).collect();
        }
        let views = self
            .pods
            .iter()
            .filter_map(|pod| Some((pod, self.peer_views.get(&pod.netns())?)));
        views
            .flat_map(|(pod, view)| {
                let links = view.links.values();
                // A card of the pod's own: SR-IOV, or moved in whole.
                let apart = |link: &&LinkView| {
                    link.sits_in().is_some() || (link.kind == Kind::Device && link.up)
                };
                links.filter(apart).map(|link| no_veth(Some(pod), link))
            })
            .collect()
    }

    pub(super) fn link_ref(&self, index: u32) -> LinkRef {
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

/// What a node knows of itself, and who is at the other ends of its pairs.
pub(super) fn read_node(
    node: &NetnsHandle,
    candidates: &[NetnsHandle],
) -> Result<(View, Peers), IdentityError> {
    let view = View::read_of(node)?;
    let nsids = view
        .links
        .values()
        .filter_map(LinkView::leads_to)
        .map(|(nsid, _)| nsid);
    let peers = name_nsids(node, nsids, candidates)?;
    Ok((view, peers))
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

fn no_veth(pod: Option<&NetnsHandle>, link: &LinkView) -> BlindSpot {
    let whose = pod.map_or_else(String::new, |pod| format!(" of {}", pod.label()));
    let what = if link.kind == Kind::Slice {
        "a macvlan or ipvlan"
    } else {
        "a network card of the pod's own"
    };
    BlindSpot {
        what: "pod veth".to_owned(),
        why: format!(
            "{}{whose} is {what}: its packets pass no veth of the node, so POD_VETH is NOT_OBSERVABLE",
            link.name
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

/// Name and kernel release of this machine; empty where the kernel does not tell.
pub fn machine() -> (String, String) {
    let names = uname().ok();
    let text = |field: fn(&UtsName) -> &OsStr| {
        names
            .as_ref()
            .map(|names| field(names).to_string_lossy().into_owned())
            .unwrap_or_default()
    };
    (text(UtsName::nodename), text(UtsName::release))
}

/// `tier` and `hooks` are the attach plan's to fill in.
pub(super) fn node_facts(netns: Netns) -> Node {
    let (name, kernel) = machine();
    Node {
        name,
        netns,
        wall_offset: wall_offset(),
        kernel,
        tier: 0,
        hooks: Vec::new(),
    }
}

/// Now, on the clock the kernel stamps events with.
pub(super) fn now() -> Ktime {
    Ktime(nanos_of(ClockId::CLOCK_MONOTONIC) as u64)
}

pub(super) fn wall_offset() -> i64 {
    nanos_of(ClockId::CLOCK_REALTIME) - nanos_of(ClockId::CLOCK_MONOTONIC)
}

fn nanos_of(clock: ClockId) -> i64 {
    clock_gettime(clock).map_or(0, |time| time.tv_sec() * 1_000_000_000 + time.tv_nsec())
}
