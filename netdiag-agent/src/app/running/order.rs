//! What is to be traced, and what of the node is watched for it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use crate::engine::Config;
use crate::event::Netns;
use crate::identity::kube::names::Wanted;
use crate::identity::pods::Follower;
use crate::identity::{LinkRef, NetnsHandle, Selector, Target};
use crate::inventory::{Delta, Link, Role};
use crate::kernel::{Watch, WatchInterface};

/// What is to be traced, and how.
pub struct Order {
    pub selector: Selector,
    /// Only flows to one of these; all when empty.
    pub targets: Vec<(Option<IpAddr>, Option<u16>)>,
    pub config: Config,
    /// How much of the node.
    pub scope: Scope,
    /// The first bytes of each packet are wanted.
    pub snap: bool,
    /// Use no more than this tier; `None`: all the kernel has.
    pub max_tier: Option<u8>,
    /// The kernel is to name the rules that drop.
    pub explain_rule: bool,
    /// Whom to ask for names; nobody where there is no cluster.
    pub names: Option<Wanted>,
    /// Knows when the pods become others; these are then traced instead.
    pub follower: Option<Follower>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// The interfaces of the target.
    #[default]
    Target,
    /// Those of all pods, also of later ones.
    AllPods,
    /// None: only where packets die, whosever they are.
    Deaths,
}

impl Order {
    pub(super) fn watch(&self, target: &Target) -> Watch {
        let node = target.node.path();
        let links = self.scope.links(target);
        let interfaces = links.iter().map(|link| interface(node, link));
        Watch {
            node: Some(node.to_owned()),
            interfaces: interfaces.collect(),
            pods: target.pods.iter().map(NetnsHandle::netns).collect(),
            namespaces: target.other_pods.iter().map(NetnsHandle::netns).collect(),
            addresses: target.pod_addresses.clone(),
            any_address: target.pods.is_empty(),
            targets: self.targets.clone(),
            drops_only: self.scope == Scope::Deaths,
            snap: self.snap,
            vxlan_port: target.vxlan_port,
            debug_log: tracing::enabled!(tracing::Level::TRACE),
            max_tier: self.max_tier,
        }
    }
}

impl Scope {
    fn links(self, target: &Target) -> Vec<LinkRef> {
        let own = target.pod_links.iter().chain(&target.uplinks).cloned();
        match self {
            Self::Target => own.collect(),
            Self::Deaths => Vec::new(),
            Self::AllPods => {
                let mut links: Vec<_> = own.chain(pod_veths(target).map(link_ref)).collect();
                links.sort_unstable();
                links.dedup();
                links
            }
        }
    }
}

/// The pods' namespaces by the node's interfaces that lead there.
pub(super) fn behind(target: &Target) -> BTreeMap<LinkRef, Netns> {
    pod_veths(target)
        .filter_map(|link| Some((link_ref(link), link.peer?.0)))
        .collect()
}

/// The node's ends.
fn pod_veths(target: &Target) -> impl Iterator<Item = &Link> {
    let node = target.node.netns();
    target.deltas.iter().filter_map(move |delta| match delta {
        Delta::Link(link) if link.netns == node && link.role == Role::PodVeth => Some(link),
        _ => None,
    })
}

fn link_ref(link: &Link) -> LinkRef {
    LinkRef {
        ifindex: link.ifindex,
        name: Arc::clone(&link.name),
    }
}

pub(super) fn interface(node: &Path, link: &LinkRef) -> WatchInterface {
    WatchInterface {
        netns: Some(node.to_owned()),
        ifindex: link.ifindex,
        name: Arc::clone(&link.name),
    }
}
