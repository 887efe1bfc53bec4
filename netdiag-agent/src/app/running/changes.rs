//! What changes on the node while it is traced: interfaces that come and go, pods that become others.

use std::net::IpAddr;

use super::order::interface;
use super::{Error, Running, Scope, What};
use crate::engine::Input;
use crate::identity::links::Change;
use crate::identity::{LinkRef, NetnsHandle, Target};
use crate::inventory::{BlindSpot, Delta, Role};
use crate::verdict::Verdict;

impl Running {
    pub(super) fn change(&mut self, change: Change) -> Result<(Vec<Verdict>, What), Error> {
        match change {
            Change::Delta(delta) => {
                return Ok((self.feed(Input::Inventory(delta))?, What::Nothing));
            }
            Change::Pods(target) => return self.retarget(target.map(|target| *target)),
            Change::Appeared { link, role, pod } => self.appeared(link, role, pod)?,
            Change::Gone { link, .. } => {
                self.session.unwatch_interface(self.node, link.ifindex);
                self.forget_behind(&link)?;
                let before = self.pod_links.len();
                self.pod_links.retain(|known| *known != link);
                if before > 0 && self.pod_links.is_empty() {
                    return Ok((Vec::new(), What::Gone(link.name.to_string())));
                }
            }
        }
        Ok((Vec::new(), What::Nothing))
    }

    fn appeared(
        &mut self,
        link: LinkRef,
        role: Role,
        pod: Option<NetnsHandle>,
    ) -> Result<(), Error> {
        if self.scope == Scope::AllPods && role == Role::PodVeth {
            let wanted = interface(&self.node_path, &link);
            self.session.watch_interface(&wanted)?;
        }
        if let Some(pod) = pod {
            self.session.add_namespace(pod.netns())?;
            self.behind.insert(link, pod.netns());
            self.news.add(pod);
        }
        Ok(())
    }

    /// The namespace behind an interface that has gone ends soon; a trace without end must not keep them all.
    fn forget_behind(&mut self, link: &LinkRef) -> Result<(), Error> {
        let Some(netns) = self.behind.remove(link) else {
            return Ok(());
        };
        let traced = self.pods.iter().any(|pod| pod.netns() == netns);
        if traced || self.behind.values().any(|other| *other == netns) {
            return Ok(());
        }
        self.news.forget(netns);
        self.session.unfollow([netns], [])?;
        Ok(())
    }

    /// Other pods are traced from now on; none when they are all gone.
    fn retarget(&mut self, target: Option<Target>) -> Result<(Vec<Verdict>, What), Error> {
        let (pods, addresses, links, deltas) = target
            .map(|new| (new.pods, new.pod_addresses, new.pod_links, new.deltas))
            .unwrap_or_default();
        let left = without(&self.pods, &pods);
        let joined = without(&pods, &self.pods);
        self.follow(&left, &joined, &addresses)?;
        let unwatched = self.watch_instead(&links);
        (self.pods, self.pod_addresses, self.pod_links) = (pods, addresses, links);
        let mut verdicts = self.mark()?;
        let surroundings = deltas.into_iter().filter(is_surroundings);
        let news = surroundings.chain(unwatched.into_iter().map(Delta::Blind));
        verdicts.extend(self.feed_all(news.map(Input::Inventory))?);
        let names = |pods: &[NetnsHandle]| pods.iter().map(NetnsHandle::label).collect();
        let what = What::Pods {
            joined: names(&joined),
            left: names(&left),
        };
        Ok((verdicts, what))
    }

    /// `addresses` are those of all pods, also of those that stay.
    fn follow(
        &mut self,
        left: &[NetnsHandle],
        joined: &[NetnsHandle],
        addresses: &[IpAddr],
    ) -> Result<(), Error> {
        let old = self.pod_addresses.iter().copied();
        let gone = old.filter(|one| !addresses.contains(one));
        self.session
            .unfollow(left.iter().map(NetnsHandle::netns), gone)?;
        self.session
            .follow(joined.iter().map(NetnsHandle::netns), addresses)?;
        for pod in joined {
            self.news.add(pod.clone());
        }
        Ok(())
    }

    /// Watches these interfaces of the pods, and no longer the old ones. Those that cannot be watched come back.
    fn watch_instead(&mut self, links: &[LinkRef]) -> Vec<BlindSpot> {
        let mut blind = Vec::new();
        for link in links.iter().filter(|link| !self.pod_links.contains(link)) {
            let interface = interface(&self.node_path, link);
            if let Err(error) = self.session.watch_interface(&interface) {
                blind.push(BlindSpot {
                    what: format!("tc on {}", link.name),
                    why: error.to_string(),
                });
            }
        }
        for link in self.pod_links.iter().filter(|link| !links.contains(link)) {
            self.session.unwatch_interface(self.node, link.ifindex);
        }
        blind
    }
}

/// What surrounds the traced pods; facts about the whole trace stay as they are.
fn is_surroundings(delta: &Delta) -> bool {
    matches!(
        delta,
        Delta::Namespace(_) | Delta::Link(_) | Delta::Blind(_) | Delta::Cluster { .. }
    )
}

/// Those of `pods` that are not among `others`.
fn without(pods: &[NetnsHandle], others: &[NetnsHandle]) -> Vec<NetnsHandle> {
    let other = |pod: &&NetnsHandle| others.iter().all(|other| other.netns() != pod.netns());
    pods.iter().filter(other).cloned().collect()
}
