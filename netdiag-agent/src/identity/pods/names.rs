//! What this node says of the pods that were found: names and labels for when the API has none.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::find::Pod;
use crate::event::{Ktime, Netns};
use crate::inventory::Delta;
use crate::inventory::cluster::{self, Change, Name, Origin};

/// One change per pod that has a name. Its addresses are those of the interfaces that `surroundings` tell of; one that
/// uses the network of `node` has none of its own.
pub fn names(at: Ktime, pods: &[Pod], node: Netns, surroundings: &[Delta]) -> Vec<Delta> {
    let change = |pod: &Pod| {
        let (namespace, name) = pod.name.as_ref()?;
        let name = Name::new(namespace.as_str(), name.as_str());
        // Without a UID nothing the API says can be about the same pod.
        let uid: Arc<str> = match &pod.uid {
            Some(uid) => uid.as_str().into(),
            None => name.to_string().into(),
        };
        let own = Some(pod.netns.netns()).filter(|netns| *netns != node);
        let labels = pod.labels.iter();
        Some(Change::Pod(Arc::new(cluster::Pod {
            origin: Origin::Runtime,
            labels: labels
                .map(|(key, value)| (key.as_str().into(), value.as_str().into()))
                .collect(),
            addresses: own.map_or_else(Vec::new, |netns| addresses(netns, surroundings)),
            host_network: own.is_none(),
            netns: own,
            ..cluster::Pod::named(uid, name)
        })))
    };
    let changes = pods.iter().filter_map(change);
    changes
        .map(|change| Delta::Cluster { at, change })
        .collect()
}

/// Those by which others know the namespace.
fn addresses(netns: Netns, surroundings: &[Delta]) -> Vec<IpAddr> {
    let links = surroundings.iter().filter_map(|delta| match delta {
        Delta::Link(link) if link.netns == netns => Some(&link.addresses),
        _ => None,
    });
    let local = |address: &IpAddr| match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local(),
    };
    let known: BTreeSet<IpAddr> = links.flatten().copied().collect();
    known.into_iter().filter(|one| !local(one)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::IfIndex;
    use crate::identity::NetnsHandle;
    use crate::identity::pods::Uid;
    use crate::inventory::{Link, Role};

    fn pod(netns: &NetnsHandle, name: Option<(&str, &str)>) -> Pod {
        Pod {
            uid: Uid::parse("a0d0a8b6-32c4-4a19-9b0a-6d2f1a4c1c11"),
            name: name.map(|(namespace, name)| (namespace.to_owned(), name.to_owned())),
            labels: [("app".to_owned(), "web".to_owned())].into(),
            netns: netns.clone(),
        }
    }

    fn link(netns: Netns, addresses: &[&str]) -> Delta {
        Delta::Link(Link {
            netns,
            ifindex: IfIndex(2),
            name: "eth0".into(),
            role: Role::PodInterface,
            peer: None,
            up: true,
            mtu: 1500,
            addresses: addresses.iter().map(|one| one.parse().unwrap()).collect(),
        })
    }

    fn told(delta: &Delta) -> &cluster::Pod {
        match delta {
            Delta::Cluster {
                change: Change::Pod(pod),
                ..
            } => pod,
            other => panic!("no pod: {other:?}"),
        }
    }

    #[test]
    fn a_pod_is_known_by_its_namespace_and_the_addresses_in_it() {
        let here = NetnsHandle::own().unwrap();
        let elsewhere = Netns(here.netns().0 + 1);
        let links = [
            link(
                here.netns(),
                &["10.244.1.7", "127.0.0.1", "fe80::1", "fd00::7"],
            ),
            link(elsewhere, &["10.244.1.8"]),
        ];
        let pods = [pod(&here, Some(("shop", "web"))), pod(&here, None)];
        let changes = names(Ktime(5), &pods, elsewhere, &links);
        assert_eq!(changes.len(), 1, "one without a name says nothing");
        let told = told(&changes[0]);
        assert_eq!(told.name.to_string(), "shop/web");
        assert_eq!(told.origin, Origin::Runtime);
        assert_eq!(told.netns, Some(here.netns()));
        let expected: Vec<IpAddr> = vec!["10.244.1.7".parse().unwrap(), "fd00::7".parse().unwrap()];
        assert_eq!(told.addresses, expected);
        assert_eq!(told.labels["app"].as_ref(), "web");
    }

    #[test]
    fn a_pod_of_the_host_network_does_not_give_the_node_its_name() {
        let here = NetnsHandle::own().unwrap();
        let links = [link(here.netns(), &["10.99.0.1"])];
        let changes = names(
            Ktime(5),
            &[pod(&here, Some(("kube-system", "proxy")))],
            here.netns(),
            &links,
        );
        let told = told(&changes[0]);
        assert!(told.host_network && told.netns.is_none() && told.addresses.is_empty());
    }
}
