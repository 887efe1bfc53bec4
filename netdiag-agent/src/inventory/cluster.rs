//! What Kubernetes and the container runtime say: pods, Services, endpoints, policies; and who had an address when.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use crate::event::{Ktime, Netns, Proto};

/// Names of objects that are gone are kept for this many of each address: packets in flight still need them.
const TOMBSTONES: usize = 4;

/// Names and labels, as in `metadata.labels` or `matchLabels`.
pub type Labels = BTreeMap<Arc<str>, Arc<str>>;

/// One object changed, or went.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Replaces the pod of this UID.
    Pod(Arc<Pod>),
    PodGone(Arc<str>),
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
    /// Networks that the node's masquerade agent is told to leave alone.
    NonMasquerade(Vec<Network>),
    /// The first full list of this kind has been applied.
    Synced(Kind),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Pods,
    Services,
    Slices,
    Policies,
    Namespaces,
    Machines,
}

/// What every namespaced object is found by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    pub uid: Arc<str>,
    pub name: Name,
    pub labels: Labels,
    /// The machine it runs on.
    pub node: Option<Arc<str>>,
    /// `status.podIPs`; empty until the sandbox has its network.
    pub addresses: Vec<IpAddr>,
    /// Uses the machine's own namespace and addresses.
    pub host_network: bool,
    /// What owns it, with the ReplicaSet of a Deployment skipped.
    pub workload: Option<Workload>,
    pub ports: Vec<ContainerPort>,
    /// Condition `Ready`.
    pub ready: bool,
    /// Its namespace on this node, where that was found.
    pub netns: Option<Netns>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Workload {
    /// `Deployment`, `DaemonSet` …
    pub kind: Arc<str>,
    pub name: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerPort {
    pub name: Option<Arc<str>>,
    pub proto: Proto,
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub name: Name,
    /// All cluster, external and load balancer addresses it answers on; empty when headless.
    pub addresses: Vec<IpAddr>,
    /// Empty: somebody else writes its endpoints.
    pub selector: Labels,
    pub ports: Vec<ServicePort>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    pub name: Option<Arc<str>>,
    pub proto: Proto,
    pub port: u16,
    pub target: TargetPort,
    pub node_port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPort {
    Number(u16),
    /// A name in the pod's `ports`.
    Named(Arc<str>),
}

/// Part of a Service's endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Its own name, not the Service's.
    pub name: Name,
    /// In the slice's namespace.
    pub service: Arc<str>,
    pub ports: Vec<SlicePort>,
    pub endpoints: Vec<Endpoint>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicePort {
    /// The Service port's name.
    pub name: Option<Arc<str>>,
    pub proto: Proto,
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub address: IpAddr,
    pub ready: bool,
    /// In the slice's namespace, where it is one.
    pub pod: Option<Arc<str>>,
}

/// A NetworkPolicy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    pub name: Name,
    pub pods: Selector,
    /// `None`: says nothing about this direction; `Some` of nothing: denies all.
    pub ingress: Option<Vec<PolicyRule>>,
    pub egress: Option<Vec<PolicyRule>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyRule {
    /// Empty: anybody.
    pub peers: Vec<Peer>,
    /// Empty: any port.
    pub ports: Vec<PolicyPort>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    Block {
        network: Network,
        except: Vec<Network>,
    },
    /// `namespaces: None` is the policy's own namespace, `pods: None` is every pod there.
    Pods {
        namespaces: Option<Selector>,
        pods: Option<Selector>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyPort {
    pub proto: Proto,
    /// `None`: any.
    pub port: Option<TargetPort>,
    /// With a numbered port: up to and including this one.
    pub end: Option<u16>,
}

/// A label selector; all of it must hold, so an empty one selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    pub labels: Labels,
    pub expressions: Vec<Expression>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expression {
    pub key: Arc<str>,
    pub operator: Operator,
    pub values: Vec<Arc<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

/// A CIDR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    pub address: IpAddr,
    pub prefix: u8,
}

/// A node object of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    pub name: Arc<str>,
    pub addresses: Vec<IpAddr>,
    pub pod_networks: Vec<Network>,
}

/// The sum of all changes so far.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    pods: BTreeMap<Arc<str>, Arc<Pod>>,
    services: BTreeMap<Name, Arc<Service>>,
    slices: BTreeMap<Name, Arc<Slice>>,
    policies: BTreeMap<Name, Arc<Policy>>,
    namespaces: BTreeMap<Arc<str>, Labels>,
    machines: BTreeMap<Arc<str>, Arc<Machine>>,
    pub non_masquerade: Vec<Network>,
    synced: Vec<Kind>,
    /// Who has had an address, oldest first.
    tenants: BTreeMap<IpAddr, VecDeque<Tenancy>>,
    service_addresses: BTreeMap<IpAddr, Name>,
}

#[derive(Clone, Debug)]
struct Tenancy {
    pod: Arc<Pod>,
    from: Ktime,
    until: Option<Ktime>,
}

impl Selector {
    pub fn selects(&self, labels: &Labels) -> bool {
        let equal = |(key, value): (&Arc<str>, &Arc<str>)| labels.get(key) == Some(value);
        self.labels.iter().all(equal) && self.expressions.iter().all(|one| one.holds(labels))
    }
}

impl Expression {
    fn holds(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            Operator::In => value.is_some_and(|value| self.values.contains(value)),
            // A pod without the label is not in the set.
            Operator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

impl Network {
    pub fn contains(&self, address: IpAddr) -> bool {
        let bits = |address| match address {
            IpAddr::V4(v4) => (u128::from(u32::from(v4)) << 96, 32_u8),
            IpAddr::V6(v6) => (u128::from(v6), 128),
        };
        let ((own, width), (other, other_width)) = (bits(self.address), bits(address));
        let shift = 128 - u32::from(self.prefix.min(width));
        width == other_width && (shift == 128 || own >> shift == other >> shift)
    }
}

impl Cluster {
    /// `at`: when the news arrived, on the clock of the packets.
    pub fn apply(&mut self, at: Ktime, change: Change) {
        match change {
            Change::Pod(pod) => self.pod(at, pod),
            Change::PodGone(uid) => {
                if let Some(pod) = self.pods.remove(&uid) {
                    self.vacate(at, &pod, &[]);
                }
            }
            Change::Service(service) => {
                self.forget_service(&service.name);
                for address in &service.addresses {
                    self.service_addresses
                        .insert(*address, service.name.clone());
                }
                self.services.insert(service.name.clone(), service);
            }
            Change::ServiceGone(name) => self.forget_service(&name),
            Change::Slice(slice) => {
                self.slices.insert(slice.name.clone(), slice);
            }
            Change::SliceGone(name) => {
                self.slices.remove(&name);
            }
            Change::Policy(policy) => {
                self.policies.insert(policy.name.clone(), policy);
            }
            Change::PolicyGone(name) => {
                self.policies.remove(&name);
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
                if !self.synced.contains(&kind) {
                    self.synced.push(kind);
                }
            }
        }
    }

    fn pod(&mut self, at: Ktime, pod: Arc<Pod>) {
        if let Some(before) = self.pods.insert(Arc::clone(&pod.uid), Arc::clone(&pod)) {
            self.vacate(at, &before, &pod.addresses);
        }
        // Pods of the host network share the machine's addresses: these name the machine.
        if pod.host_network {
            return;
        }
        for address in &pod.addresses {
            let tenants = self.tenants.entry(*address).or_default();
            if let Some(last) = tenants.back_mut()
                && last.until.is_none()
            {
                if last.pod.uid == pod.uid {
                    last.pod = Arc::clone(&pod);
                    continue;
                }
                last.until = Some(at);
            }
            // The first name that is heard of an address also holds for what came before.
            let from = if tenants.is_empty() { Ktime(0) } else { at };
            tenants.push_back(Tenancy {
                pod: Arc::clone(&pod),
                from,
                until: None,
            });
            if tenants.len() > TOMBSTONES {
                tenants.pop_front();
            }
        }
    }

    /// The pod no longer has its addresses, but those in `kept`.
    fn vacate(&mut self, at: Ktime, pod: &Pod, kept: &[IpAddr]) {
        for address in pod.addresses.iter().filter(|one| !kept.contains(one)) {
            let tenants = self.tenants.get_mut(address);
            if let Some(last) = tenants.and_then(VecDeque::back_mut)
                && last.pod.uid == pod.uid
                && last.until.is_none()
            {
                last.until = Some(at);
            }
        }
    }

    fn forget_service(&mut self, name: &Name) {
        let Some(before) = self.services.remove(name) else {
            return;
        };
        for address in &before.addresses {
            if self.service_addresses.get(address) == Some(name) {
                self.service_addresses.remove(address);
            }
        }
    }

    /// Nothing has been heard of any cluster.
    pub fn is_empty(&self) -> bool {
        self.pods.is_empty() && self.services.is_empty() && self.synced.is_empty()
    }

    /// Whether all objects of a kind are known: only then may a rule say that one does not exist.
    pub fn synced(&self, kind: Kind) -> bool {
        self.synced.contains(&kind)
    }

    pub fn pods(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.pods.values()
    }

    /// The pod that had this address then; the last one that had it when nobody did.
    pub fn pod_at(&self, address: IpAddr, at: Ktime) -> Option<&Arc<Pod>> {
        let tenants = self.tenants.get(&address)?;
        let then = tenants.iter().rev().find(|one| one.from <= at);
        then.or_else(|| tenants.front()).map(|one| &one.pod)
    }

    /// The pod of this namespace on this node, where it has one of its own.
    pub fn pod_in(&self, netns: Netns) -> Option<&Arc<Pod>> {
        let own = |pod: &&Arc<Pod>| !pod.host_network && pod.netns == Some(netns);
        self.pods.values().find(own)
    }

    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values()
    }

    pub fn service(&self, name: &Name) -> Option<&Arc<Service>> {
        self.services.get(name)
    }

    pub fn service_at(&self, address: IpAddr) -> Option<&Arc<Service>> {
        self.services.get(self.service_addresses.get(&address)?)
    }

    pub fn slices_of<'a>(&'a self, service: &'a Name) -> impl Iterator<Item = &'a Arc<Slice>> {
        self.slices.values().filter(|slice| {
            slice.name.namespace == service.namespace && slice.service == service.name
        })
    }

    pub fn policies(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.policies.values()
    }

    pub fn namespace(&self, name: &str) -> Option<&Labels> {
        self.namespaces.get(name)
    }

    pub fn machine_at(&self, address: IpAddr) -> Option<&Arc<Machine>> {
        let mut machines = self.machines.values();
        machines.find(|machine| machine.addresses.contains(&address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(uid: &str, address: &str) -> Arc<Pod> {
        Arc::new(Pod {
            uid: uid.into(),
            name: Name {
                namespace: "default".into(),
                name: uid.into(),
            },
            labels: Labels::new(),
            node: None,
            addresses: vec![address.parse().unwrap()],
            host_network: false,
            workload: None,
            ports: Vec::new(),
            ready: true,
            netns: None,
        })
    }

    #[test]
    fn an_address_has_the_name_it_had_at_the_time() {
        let mut cluster = Cluster::default();
        let address = "10.0.0.1".parse().unwrap();
        let name = |cluster: &Cluster, at| {
            let pod = cluster.pod_at(address, Ktime(at)).unwrap();
            pod.uid.to_string()
        };
        cluster.apply(Ktime(10), Change::Pod(pod("a", "10.0.0.1")));
        cluster.apply(Ktime(20), Change::PodGone("a".into()));
        cluster.apply(Ktime(30), Change::Pod(pod("b", "10.0.0.1")));
        let told: Vec<_> = [5, 15, 25, 35].map(|at| name(&cluster, at)).into();
        assert_eq!(told, ["a", "a", "a", "b"]);
    }

    #[test]
    fn an_address_taken_over_before_the_old_owner_is_reported_gone() {
        let mut cluster = Cluster::default();
        let address = "10.0.0.1".parse().unwrap();
        cluster.apply(Ktime(10), Change::Pod(pod("a", "10.0.0.1")));
        cluster.apply(Ktime(20), Change::Pod(pod("b", "10.0.0.1")));
        cluster.apply(Ktime(30), Change::PodGone("a".into()));
        assert_eq!(&*cluster.pod_at(address, Ktime(15)).unwrap().uid, "a");
        assert_eq!(&*cluster.pod_at(address, Ktime(40)).unwrap().uid, "b");
    }

    #[test]
    fn networks_contain_their_own_family_only() {
        let network = |address: &str, prefix| Network {
            address: address.parse().unwrap(),
            prefix,
        };
        let within = |network: Network, address: &str| network.contains(address.parse().unwrap());
        assert!(within(network("10.1.0.0", 16), "10.1.255.1"));
        assert!(!within(network("10.1.0.0", 16), "10.2.0.1"));
        assert!(within(network("0.0.0.0", 0), "203.0.113.9"));
        assert!(!within(network("0.0.0.0", 0), "2001:db8::1"));
        assert!(within(network("2001:db8::", 32), "2001:db8:1::1"));
        assert!(within(network("192.0.2.1", 32), "192.0.2.1"));
    }

    #[test]
    fn a_missing_label_is_not_in_a_set() {
        let expression = |operator, values: &[&str]| Selector {
            labels: Labels::new(),
            expressions: vec![Expression {
                key: "app".into(),
                operator,
                values: values.iter().map(|value| (*value).into()).collect(),
            }],
        };
        let none = Labels::new();
        let web = Labels::from([("app".into(), "web".into())]);
        assert!(expression(Operator::NotIn, &["web"]).selects(&none));
        assert!(!expression(Operator::NotIn, &["web"]).selects(&web));
        assert!(expression(Operator::In, &["db", "web"]).selects(&web));
        assert!(!expression(Operator::Exists, &[]).selects(&none));
        assert!(expression(Operator::DoesNotExist, &[]).selects(&none));
        assert!(Selector::default().selects(&none));
    }
}
