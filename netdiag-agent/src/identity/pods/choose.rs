//! Which of the pods that live here are meant. Pure but for what it has to ask the cluster and the runtime.

use std::collections::{BTreeMap, BTreeSet};

use kube::core::{Expression, Selector, SelectorExt};

use super::api::Known;
use super::cluster::Cluster;
use super::error::FindError;
use super::local::{Listing, Local};
use super::near::nearest;
use super::pattern;
use super::query::{Wanted, WorkloadKind};
use crate::inventory::BlindSpot;

/// What a pod must be to belong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    Name(String),
    Uids(BTreeSet<String>),
    Labels(Selector),
    /// Only where the API could not say what selects its pods.
    Workload(WorkloadKind, String),
}

impl Rule {
    /// `None`: this node does not know enough about the pod.
    pub fn admits(&self, namespace: &str, pod: &Local) -> Option<bool> {
        if let Self::Uids(uids) = self {
            return Some(uids.iter().any(|uid| pod.has_uid(uid)));
        }
        let (own, name) = pod.name.as_ref()?;
        Some(
            own == namespace
                && match self {
                    Self::Name(wanted) => name == wanted,
                    Self::Labels(selector) => selector.matches(pod.labels.as_ref()?),
                    Self::Workload(kind, workload) => {
                        pattern::belongs(*kind, workload, name, pod.labels.as_ref())
                    }
                    Self::Uids(_) => false,
                },
        )
    }
}

/// One look for the pods of a query.
pub struct Choice<'a> {
    pub wanted: &'a Wanted,
    pub namespace: &'a str,
    pub cluster: &'a mut Cluster,
    pub listing: &'a mut Listing,
}

impl Choice<'_> {
    /// At least one pod, and what made it one of those meant.
    pub async fn make(&mut self) -> Result<(Rule, Vec<Local>), FindError> {
        match self.wanted.clone() {
            Wanted::Pod(name) => self.pod(name).await,
            Wanted::Labels(selector) => self.labels(selector).await,
            Wanted::Workload(kind, name) => self.workload(kind, name).await,
            Wanted::Container(id) => self.container(&id).await,
        }
    }

    /// What lives here settles it: a runtime knows its pods by name.
    async fn pod(&mut self, name: String) -> Result<(Rule, Vec<Local>), FindError> {
        let pods = &self.listing.pods;
        // The newest comes first: an older one of that name is on its way out.
        if let Some(pod) = pods.iter().find(|pod| pod.is(self.namespace, &name)) {
            return Ok((Rule::Name(name), vec![pod.clone()]));
        }
        if let Some(pod) = pods.iter().find(|pod| pod.has_uid(&name)) {
            return Ok((Rule::Uids(BTreeSet::from([name])), vec![pod.clone()]));
        }
        match self.cluster.pod(self.namespace, &name).await? {
            Ok(Some(known)) => self.here(Rule::Name(name), &[known]),
            Ok(None) => {
                let mut near = self.namesakes(&name);
                let pods = self.cluster.pods(self.namespace).await;
                near.extend(nearest(&name, pods.into_iter().map(|pod| pod.name)));
                Err(self.not_found(near, Vec::new()))
            }
            Err(why) if self.names_are_known() => {
                let mut near = self.namesakes(&name);
                let own = self.listing.pods.iter().filter_map(|pod| pod.name.as_ref());
                let own = own.filter(|(namespace, _)| namespace == self.namespace);
                near.extend(nearest(&name, own.map(|(_, name)| name.clone())));
                Err(self.not_found(near, vec![why]))
            }
            Err(why) => Err(self.nobody(why)),
        }
    }

    async fn labels(&mut self, selector: Selector) -> Result<(Rule, Vec<Local>), FindError> {
        match self.cluster.selected(self.namespace, &selector).await? {
            Ok(known) if known.is_empty() => {
                let pods = self.cluster.pods(self.namespace).await;
                Err(self.not_found(near_labels(&selector, &pods), Vec::new()))
            }
            Ok(known) => self.here(Rule::Labels(selector), &known),
            Err(why) => {
                let cost = "labels are those the pods were started with";
                self.without_cluster(Rule::Labels(selector), why, cost)
            }
        }
    }

    async fn workload(
        &mut self,
        kind: WorkloadKind,
        name: String,
    ) -> Result<(Rule, Vec<Local>), FindError> {
        let selector = self.cluster.selector(kind, self.namespace, &name).await?;
        let why = match selector {
            Ok(Some(selector)) => match self.cluster.selected(self.namespace, &selector).await? {
                Ok(known) if known.is_empty() => return Err(self.not_found(Vec::new(), Vec::new())),
                Ok(known) => return self.here(Rule::Labels(selector), &known),
                Err(why) => why,
            },
            Ok(None) => {
                let names = self.cluster.workloads(kind, self.namespace).await;
                let near = nearest(&name, names);
                return Err(FindError::NotFound {
                    what: format!("{} {name}", kind.name().to_lowercase()),
                    place: format!("in namespace {}", self.namespace),
                    near,
                    unasked: Vec::new(),
                });
            }
            Err(why) => why,
        };
        let cost = "its pods are told by their names and labels";
        self.without_cluster(Rule::Workload(kind, name), why, cost)
    }

    async fn container(&mut self, id: &str) -> Result<(Rule, Vec<Local>), FindError> {
        let mut found: BTreeMap<String, (String, Local)> = BTreeMap::new();
        if let Some(runtime) = &mut self.listing.runtime {
            for container in runtime.containers().await? {
                let same = |pod: &&Local| pod.sandbox.as_ref() == Some(&container.sandbox);
                if container.id.starts_with(id)
                    && let Some(pod) = self.listing.pods.iter().find(same)
                {
                    found.insert(container.id, (container.name, pod.clone()));
                }
            }
        }
        for pod in &self.listing.pods {
            let own = pod.containers.iter().chain(&pod.sandbox);
            for container in own.filter(|own| own.starts_with(id)) {
                let unnamed = || ("container".to_owned(), pod.clone());
                found.entry(container.clone()).or_insert_with(unnamed);
            }
        }
        let lives: BTreeSet<String> = found.values().map(|(_, pod)| pod.life()).collect();
        match (lives.len(), found.values().next()) {
            (1, Some((_, pod))) => {
                let uid = pod.uid.iter().map(ToString::to_string);
                Ok((Rule::Uids(uid.collect()), vec![pod.clone()]))
            }
            (0, _) | (_, None) => Err(FindError::NotFound {
                what: format!("running {}", self.wanted),
                place: "on this node".to_owned(),
                near: Vec::new(),
                unasked: self.blind(),
            }),
            _ => Err(FindError::Ambiguous {
                what: self.wanted.to_string(),
                candidates: found
                    .iter()
                    .map(|(id, (name, pod))| {
                        format!("{} ({name} of {})", &id[..id.len().min(12)], pod.label())
                    })
                    .collect(),
            }),
        }
    }

    /// Of the pods the cluster names, those that live here.
    fn here(&self, rule: Rule, known: &[Known]) -> Result<(Rule, Vec<Local>), FindError> {
        let pods = named(&self.listing.pods, known);
        if pods.is_empty() {
            return Err(absent(self.wanted, known));
        }
        Ok((rule, pods))
    }

    /// By what this node knows alone.
    fn without_cluster(
        &mut self,
        rule: Rule,
        why: String,
        cost: &str,
    ) -> Result<(Rule, Vec<Local>), FindError> {
        let known = |pod: &Local| rule.admits(self.namespace, pod);
        // A runtime knows its pods by name; without one it takes somebody who does.
        let blank = self.listing.pods.iter().all(|pod| known(pod).is_none());
        if blank && self.listing.runtime.is_none() {
            return Err(self.nobody(why));
        }
        let own = self
            .listing
            .pods
            .iter()
            .filter(|pod| known(pod) == Some(true));
        let pods: Vec<Local> = own.cloned().collect();
        if pods.is_empty() {
            return Err(self.not_found(Vec::new(), vec![why]));
        }
        self.listing.blind.push(BlindSpot {
            what: "Kubernetes API".to_owned(),
            why: format!("{why}: {cost}"),
        });
        Ok((rule, pods))
    }

    fn names_are_known(&self) -> bool {
        self.listing.runtime.is_some() || self.listing.pods.iter().any(|pod| pod.name.is_some())
    }

    /// Pods of that very name in other namespaces: what is forgotten most is `-n`.
    fn namesakes(&self, name: &str) -> Vec<String> {
        let names = self.listing.pods.iter().filter_map(|pod| pod.name.as_ref());
        names
            .filter(|(_, own)| own == name)
            .map(|(namespace, name)| format!("{name} in namespace {namespace} (-n {namespace})"))
            .collect()
    }

    fn blind(&self) -> Vec<String> {
        let spots = self.listing.blind.iter();
        spots.map(|spot| spot.why.clone()).collect()
    }

    fn not_found(&self, near: Vec<String>, unasked: Vec<String>) -> FindError {
        let here = if unasked.is_empty() {
            ""
        } else {
            " on this node"
        };
        FindError::NotFound {
            what: self.wanted.to_string(),
            place: format!("in namespace {}{here}", self.namespace),
            near,
            unasked,
        }
    }

    fn nobody(&self, why: String) -> FindError {
        let mut reasons = self.blind();
        reasons.push(why);
        FindError::NobodyToAsk {
            what: self.wanted.to_string(),
            why: reasons,
        }
    }
}

/// Those of the pods here that the cluster names, under the cluster's names and with its labels.
pub fn named(pods: &[Local], known: &[Known]) -> Vec<Local> {
    let named = |pod: &Local| {
        let known = known.iter().find(|known| is(pod, known))?;
        let mut pod = pod.clone();
        pod.name = Some((known.namespace.clone(), known.name.clone()));
        pod.labels = Some(known.labels.clone());
        Some(pod)
    };
    pods.iter().filter_map(named).collect()
}

fn is(pod: &Local, known: &Known) -> bool {
    match &pod.uid {
        Some(_) => known.uids.iter().any(|uid| pod.has_uid(uid)),
        None => pod.is(&known.namespace, &known.name),
    }
}

/// The cluster knows them, this node does not.
fn absent(wanted: &Wanted, known: &[Known]) -> FindError {
    let mut nodes: BTreeMap<&str, usize> = BTreeMap::new();
    for pod in known.iter().filter(|pod| pod.phase == "Running") {
        *nodes.entry(pod.node.as_deref().unwrap_or("?")).or_default() += 1;
    }
    match (nodes.is_empty(), known) {
        (true, [one, ..]) => FindError::NotRunning {
            what: wanted.to_string(),
            phase: one.phase.clone(),
            node: one.node.clone(),
        },
        _ => FindError::Elsewhere {
            what: wanted.to_string(),
            nodes: match nodes.len() {
                1 => nodes.into_keys().collect(),
                _ => nodes
                    .into_iter()
                    .map(|(node, count)| format!("{node} ({count})"))
                    .collect::<Vec<_>>()
                    .join(", "),
            },
        },
    }
}

/// For each `KEY=VALUE` that nobody has, the nearest values of that key.
fn near_labels(selector: &Selector, pods: &[Known]) -> Vec<String> {
    let wanted = selector.clone().into_iter();
    let equal = wanted.filter_map(|term| match term {
        Expression::Equal(key, value) => Some((key, value)),
        _ => None,
    });
    equal
        .flat_map(|(key, value)| {
            let values: BTreeSet<&String> =
                pods.iter().filter_map(|pod| pod.labels.get(&key)).collect();
            let found = if values.contains(&value) {
                Vec::new()
            } else {
                nearest(&value, values.into_iter().cloned())
            };
            found.into_iter().map(move |value| format!("{key}={value}"))
        })
        .collect()
}
