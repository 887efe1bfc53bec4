//! What Kubernetes and the container runtime say: pods, Services, endpoints, policies; and who had an address when.

mod dated;
mod objects;
mod select;
mod tenants;

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use dated::Dated;
use tenants::Tenants;

pub use objects::{
    ContainerPort, Endpoint, Machine, Name, Origin, Peer, Pod, Policy, PolicyPort, PolicyRule,
    Service, ServicePort, Slice, SlicePort, TargetPort, Workload,
};
pub use select::{Expression, Labels, Network, Operator, Selector};

use crate::event::{Ktime, Netns, Proto};

/// Objects that are gone and still remembered, over all kinds.
const GRAVES: usize = 4096;

/// One object changed, or went.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Replaces the pod of this UID; what one origin does not know is kept from the other.
    Pod(Arc<Pod>),
    /// Gone for this origin. The runtime's word takes the namespace of a pod the API still has, and no more.
    PodGone(Arc<str>, Origin),
    Service(Arc<Service>),
    ServiceGone(Name),
    /// Replaces the slice of this name; an `Endpoints` object counts as one slice.
    Slice(Arc<Slice>),
    SliceGone(Name),
    Policy(Arc<Policy>),
    PolicyGone(Name),
    /// A namespace and its labels.
    Namespace(Arc<str>, Labels),
    NamespaceGone(Arc<str>),
    Machine(Arc<Machine>),
    MachineGone(Arc<str>),
    /// Networks that the node's masquerade agent is told to leave alone; `None`: it has no configuration there.
    NonMasquerade(Option<Vec<Network>>),
    /// A full list of this kind has been applied.
    Synced(Kind),
    /// From now on this kind cannot be seen, and why; until it is synced again.
    Unseen(Kind, Arc<str>),
}

/// What is listed and watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Pods of this node.
    OwnPods,
    /// Pods of all other nodes.
    Pods,
    Services,
    Slices,
    Policies,
    Namespaces,
    Machines,
    MasqueradeConfig,
}

impl Kind {
    /// Every kind, with its name in messages.
    pub const NAMES: &'static [(Self, &'static str)] = &[
        (Self::OwnPods, "pods of this node"),
        (Self::Pods, "pods of other nodes"),
        (Self::Services, "Services"),
        (Self::Slices, "EndpointSlices"),
        (Self::Policies, "NetworkPolicies"),
        (Self::Namespaces, "Namespaces"),
        (Self::Machines, "Nodes"),
        (Self::MasqueradeConfig, "the ip-masq-agent ConfigMap"),
    ];

    pub fn name(self) -> &'static str {
        let named = Self::NAMES.iter().find(|(kind, _)| *kind == self);
        named.map_or("", |(_, name)| name)
    }
}

/// The sum of all changes so far.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    pods: BTreeMap<Arc<str>, Arc<Pod>>,
    services: BTreeMap<Name, Dated<Service>>,
    slices: BTreeMap<Name, Dated<Slice>>,
    policies: BTreeMap<Name, Dated<Policy>>,
    namespaces: BTreeMap<Arc<str>, Labels>,
    machines: BTreeMap<Arc<str>, Arc<Machine>>,
    non_masquerade: Option<Vec<Network>>,
    synced: Vec<Kind>,
    unseen: BTreeMap<Kind, Arc<str>>,
    tenants: Tenants,
    service_addresses: BTreeMap<IpAddr, Name>,
    by_netns: BTreeMap<Netns, Arc<str>>,
    graves: VecDeque<Grave>,
}

/// What is gone, oldest first.
#[derive(Clone, Debug)]
enum Grave {
    Address(IpAddr),
    Service(Name),
    Slice(Name),
    Policy(Name),
}

impl Cluster {
    /// `at`: when the news arrived, on the clock of the packets.
    pub fn apply(&mut self, at: Ktime, change: Change) {
        match change {
            Change::Pod(pod) => self.pod(at, pod),
            Change::PodGone(uid, origin) => self.pod_gone(at, &uid, origin),
            Change::Service(service) => {
                for address in service.addresses() {
                    self.service_addresses.insert(address, service.name.clone());
                }
                let from = self.since(at, Kind::Services);
                set(&mut self.services, &service.name.clone(), from, service);
            }
            Change::ServiceGone(name) => {
                end(&mut self.services, &name, at);
                self.bury(Grave::Service(name));
            }
            Change::Slice(slice) => {
                let from = self.since(at, Kind::Slices);
                set(&mut self.slices, &slice.name.clone(), from, slice);
            }
            Change::SliceGone(name) => {
                end(&mut self.slices, &name, at);
                self.bury(Grave::Slice(name));
            }
            Change::Policy(policy) => {
                let from = self.since(at, Kind::Policies);
                set(&mut self.policies, &policy.name.clone(), from, policy);
            }
            Change::PolicyGone(name) => {
                end(&mut self.policies, &name, at);
                self.bury(Grave::Policy(name));
            }
            Change::Namespace(name, labels) => {
                self.namespaces.insert(name, labels);
            }
            Change::NamespaceGone(name) => {
                self.namespaces.remove(&name);
            }
            Change::Machine(machine) => {
                self.machines.insert(Arc::clone(&machine.name), machine);
            }
            Change::MachineGone(name) => {
                self.machines.remove(&name);
            }
            Change::NonMasquerade(networks) => self.non_masquerade = networks,
            Change::Synced(kind) => {
                self.unseen.remove(&kind);
                if !self.synced.contains(&kind) {
                    self.synced.push(kind);
                }
            }
            Change::Unseen(kind, why) => {
                self.unseen.insert(kind, why);
            }
        }
    }

    /// What is heard before the first full list has been there all along.
    fn since(&self, at: Ktime, kind: Kind) -> Ktime {
        if self.synced.contains(&kind) {
            at
        } else {
            Ktime(0)
        }
    }

    fn pod(&mut self, at: Ktime, pod: Arc<Pod>) {
        let before = self.pods.get(&pod.uid).cloned();
        let pod = match &before {
            Some(before) => pod.merged(before),
            None => pod,
        };
        let had = before.map_or_else(Vec::new, |before| {
            self.vacate(at, &before, &pod.addresses);
            before.addresses.clone()
        });
        // Pods of the host network share the machine's namespace and addresses: these name the machine.
        if !pod.host_network {
            if let Some(netns) = pod.netns {
                self.by_netns.insert(netns, Arc::clone(&pod.uid));
            }
            for address in &pod.addresses {
                if had.contains(address) {
                    self.tenants.update(*address, &pod);
                } else {
                    self.tenants.move_in(at, *address, &pod);
                }
            }
        }
        self.pods.insert(Arc::clone(&pod.uid), pod);
    }

    fn pod_gone(&mut self, at: Ktime, uid: &Arc<str>, origin: Origin) {
        let Some(pod) = self.pods.remove(uid) else {
            return;
        };
        if let Some(netns) = pod.netns
            && self.by_netns.get(&netns) == Some(uid)
        {
            self.by_netns.remove(&netns);
        }
        if pod.origin == Origin::Api && origin == Origin::Runtime {
            let mut pod = Pod::clone(&pod);
            pod.netns = None;
            self.pods.insert(Arc::clone(uid), Arc::new(pod));
        } else {
            self.vacate(at, &pod, &[]);
        }
    }

    /// The pod no longer has its addresses, but those in `kept`.
    fn vacate(&mut self, at: Ktime, pod: &Pod, kept: &[IpAddr]) {
        for address in pod.addresses.iter().filter(|one| !kept.contains(one)) {
            self.tenants.move_out(at, *address, &pod.uid);
            self.bury(Grave::Address(*address));
        }
    }

    /// Remembers what is gone, and forgets what has been gone longest.
    fn bury(&mut self, grave: Grave) {
        self.graves.push_back(grave);
        if self.graves.len() <= GRAVES {
            return;
        }
        match self.graves.pop_front() {
            Some(Grave::Address(address)) => self.tenants.bury(address),
            Some(Grave::Service(name)) if forget(&mut self.services, &name) => {
                self.service_addresses.retain(|_, owner| *owner != name);
            }
            Some(Grave::Slice(name)) => drop(forget(&mut self.slices, &name)),
            Some(Grave::Policy(name)) => drop(forget(&mut self.policies, &name)),
            Some(Grave::Service(_)) | None => {}
        }
    }

    /// Nothing has been heard of any cluster.
    pub fn is_empty(&self) -> bool {
        self.pods.is_empty() && self.services.is_empty() && self.synced.is_empty()
    }

    /// Whether all objects of a kind are known: only then may a rule say that one does not exist.
    pub fn synced(&self, kind: Kind) -> bool {
        self.synced.contains(&kind) && !self.unseen.contains_key(&kind)
    }

    /// Kinds that cannot be seen now, and why.
    pub fn unseen(&self) -> impl Iterator<Item = (Kind, &Arc<str>)> {
        self.unseen.iter().map(|(kind, why)| (*kind, why))
    }

    pub fn pods(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.pods.values()
    }

    /// The pod that had this address then; the last one that had it when nobody did.
    pub fn pod_at(&self, address: IpAddr, at: Ktime) -> Option<&Arc<Pod>> {
        self.tenants.at(address, at)
    }

    /// The pod of this namespace on this node, where it has one of its own.
    pub fn pod_in(&self, netns: Netns) -> Option<&Arc<Pod>> {
        self.pods.get(self.by_netns.get(&netns)?)
    }

    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values().filter_map(Dated::now)
    }

    pub fn service(&self, name: &Name, at: Ktime) -> Option<&Arc<Service>> {
        self.services.get(name)?.at(at)
    }

    /// The Service that answered on this address then.
    pub fn service_at(&self, address: IpAddr, at: Ktime) -> Option<&Arc<Service>> {
        let service = self.service(self.service_addresses.get(&address)?, at)?;
        service
            .addresses()
            .any(|one| one == address)
            .then_some(service)
    }

    /// The Service whose port is open on every machine by this number.
    pub fn node_port(&self, proto: Proto, port: u16) -> Option<(&Arc<Service>, &ServicePort)> {
        self.services().find_map(|service| {
            let mut ports = service.ports.iter();
            let found = ports.find(|one| one.proto == proto && one.node_port == Some(port));
            found.map(|port| (service, port))
        })
    }

    pub fn slices_of<'a>(
        &'a self,
        service: &'a Name,
        at: Ktime,
    ) -> impl Iterator<Item = &'a Arc<Slice>> {
        let slices = self.slices.values().filter_map(move |slice| slice.at(at));
        slices.filter(|slice| {
            slice.name.namespace == service.namespace && slice.service == service.name
        })
    }

    pub fn policies(&self, at: Ktime) -> impl Iterator<Item = &Arc<Policy>> {
        self.policies
            .values()
            .filter_map(move |policy| policy.at(at))
    }

    pub fn namespace(&self, name: &str) -> Option<&Labels> {
        self.namespaces.get(name)
    }

    pub fn machine_at(&self, address: IpAddr) -> Option<&Arc<Machine>> {
        let mut machines = self.machines.values();
        machines.find(|machine| machine.addresses.contains(&address))
    }

    /// The machine among whose pods' networks the address is.
    pub fn machine_of_pods_at(&self, address: IpAddr) -> Option<&Arc<Machine>> {
        let mut machines = self.machines.values();
        machines.find(|machine| machine.pod_networks.iter().any(|net| net.contains(address)))
    }

    /// What the masquerade agent is told to leave alone; `None`: nothing is known of such an agent.
    pub fn non_masquerade(&self) -> Option<&[Network]> {
        self.non_masquerade.as_deref()
    }
}

fn set<T: PartialEq>(all: &mut BTreeMap<Name, Dated<T>>, name: &Name, from: Ktime, object: Arc<T>) {
    let versions = all.entry(name.clone()).or_insert_with(Dated::new);
    versions.set(from, Some(object));
}

fn end<T: PartialEq>(all: &mut BTreeMap<Name, Dated<T>>, name: &Name, at: Ktime) {
    if let Some(versions) = all.get_mut(name) {
        versions.set(at, None);
    }
}

/// Whether it was still gone, and is now forgotten.
fn forget<T: PartialEq>(all: &mut BTreeMap<Name, Dated<T>>, name: &Name) -> bool {
    let gone = all.get(name).is_some_and(|one| one.now().is_none());
    if gone {
        all.remove(name);
    }
    gone
}

#[cfg(test)]
mod tests;
