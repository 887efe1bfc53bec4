//! Who has had an address, and when: addresses of pods are used again.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use super::Pod;
use crate::event::Ktime;

/// Tenants remembered of each address.
const TENANTS: usize = 4;

#[derive(Clone, Debug, Default)]
pub(super) struct Tenants(BTreeMap<IpAddr, VecDeque<Tenancy>>);

#[derive(Clone, Debug)]
struct Tenancy {
    pod: Arc<Pod>,
    from: Ktime,
    until: Option<Ktime>,
}

impl Tenants {
    /// News of a pod that has had the address: who took it over since keeps it.
    pub fn update(&mut self, address: IpAddr, pod: &Arc<Pod>) {
        let tenants = self.0.get_mut(&address);
        let own = tenants.and_then(|all| all.iter_mut().rev().find(|one| one.pod.uid == pod.uid));
        if let Some(own) = own {
            own.pod = Arc::clone(pod);
        }
    }

    pub fn move_in(&mut self, at: Ktime, address: IpAddr, pod: &Arc<Pod>) {
        let tenants = self.0.entry(address).or_default();
        // News is late: the pod has had the address since some time after it was started.
        let first = tenants.is_empty();
        let from = pod.started.map_or(at, |started| started.min(at));
        if let Some(last) = tenants.back_mut()
            && last.until.is_none()
        {
            last.until = Some(from);
        }
        tenants.push_back(Tenancy {
            pod: Arc::clone(pod),
            // The first name that is heard of an address also holds for what came before.
            from: if first { Ktime(0) } else { from },
            until: None,
        });
        if tenants.len() > TENANTS {
            tenants.pop_front();
        }
    }

    /// The pod no longer has the address.
    pub fn move_out(&mut self, at: Ktime, address: IpAddr, uid: &str) {
        let tenants = self.0.get_mut(&address);
        if let Some(last) = tenants.and_then(VecDeque::back_mut)
            && &*last.pod.uid == uid
            && last.until.is_none()
        {
            last.until = Some(at);
        }
    }

    /// The pod that had this address then; the last one that had it when nobody did.
    pub fn at(&self, address: IpAddr, at: Ktime) -> Option<&Arc<Pod>> {
        let tenants = self.0.get(&address)?;
        let then = tenants.iter().rev().find(|one| one.from <= at);
        then.or_else(|| tenants.front()).map(|one| &one.pod)
    }

    /// Forgets an address that nobody has.
    pub fn bury(&mut self, address: IpAddr) {
        let empty = |tenants: &VecDeque<Tenancy>| tenants.iter().all(|one| one.until.is_some());
        if self.0.get(&address).is_some_and(empty) {
            self.0.remove(&address);
        }
    }
}
