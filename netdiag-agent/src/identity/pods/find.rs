//! From a [`Query`] to the namespaces of the pods it means.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;

use super::cgroup::Uid;
use super::choose::{Choice, Rule, named};
use super::cluster::Cluster;
use super::cri::{Runtime, RuntimeError};
use super::error::FindError;
use super::local::{self, Labels, Local, Roots};
use super::query::{Query, Sources};
use crate::identity::NetnsHandle;
use crate::inventory::BlindSpot;

/// A pod of the query that lives on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    pub uid: Option<Uid>,
    /// Namespace and name.
    pub name: Option<(String, String)>,
    pub labels: Labels,
    /// Goes by the pod's name.
    pub netns: NetnsHandle,
}

#[derive(Clone, Debug)]
pub struct Found {
    /// At least one.
    pub pods: Vec<Pod>,
    /// Who could not be asked, and what that costs.
    pub blind: Vec<BlindSpot>,
}

/// Looks for the pods of one query, once or again and again.
pub struct Finder {
    query: Query,
    runtime: Option<String>,
    roots: Roots,
    cluster: Cluster,
    namespace: String,
    /// Known once the pods were found for the first time.
    rule: Option<Rule>,
    /// Namespaces of pods found before, by their lives: these need not be asked for again.
    seen: BTreeMap<String, NetnsHandle>,
    /// The same pods, whoever tells of them.
    seen_uids: BTreeSet<Uid>,
}

impl Finder {
    pub fn new(query: Query, sources: &Sources, roots: Roots) -> Self {
        Self {
            namespace: query.namespace.clone().unwrap_or_default(),
            query,
            runtime: sources.runtime.clone(),
            roots,
            cluster: Cluster::new(sources.kubeconfig.as_ref()),
            rule: None,
            seen: BTreeMap::new(),
            seen_uids: BTreeSet::new(),
        }
    }

    /// The pods as they are now.
    pub async fn first(&mut self) -> Result<Found, FindError> {
        if self.query.namespace.is_none() {
            self.namespace = self.cluster.namespace().await?;
        }
        let mut listing = local::list(self.runtime.as_deref(), &self.roots).await?;
        let mut choice = Choice {
            wanted: &self.query.wanted,
            namespace: &self.namespace,
            cluster: &mut self.cluster,
            listing: &mut listing,
        };
        let (rule, locals) = choice.make().await?;
        self.rule = Some(rule);
        let pods = self.locate(locals, listing.runtime.as_ref()).await?;
        if pods.is_empty() {
            return Err(FindError::Ended(self.query.wanted.to_string()));
        }
        Ok(Found {
            pods,
            blind: listing.blind,
        })
    }

    /// The pods as they are by now, after [`Finder::first`]; that there are none is no error. A runtime that was given and
    /// does not answer is: then nothing is known of any pod.
    pub async fn again(&mut self) -> Result<Vec<Pod>, FindError> {
        let listing = local::list(self.runtime.as_deref(), &self.roots).await?;
        let Some(rule) = self.rule.clone() else {
            return Ok(Vec::new());
        };
        let (mut own, mut unknown) = (Vec::new(), Vec::new());
        for pod in listing.pods {
            // While a runtime restarts, its pods are told by their processes.
            let known = pod
                .uid
                .as_ref()
                .is_some_and(|uid| self.seen_uids.contains(uid));
            match rule.admits(&self.namespace, &pod) {
                // The runtime does not hear of labels that changed since.
                _ if known => own.push(pod),
                Some(true) => own.push(pod),
                None => unknown.push(pod),
                Some(false) => {}
            }
        }
        // Without a runtime only the API knows what a new pod is called.
        if !unknown.is_empty() {
            own.extend(self.ask_about(&rule, &unknown).await?);
        }
        Ok(self.locate(own, listing.runtime.as_ref()).await?)
    }

    async fn ask_about(&mut self, rule: &Rule, unknown: &[Local]) -> Result<Vec<Local>, FindError> {
        let known = match rule {
            Rule::Name(name) => {
                let pod = self.cluster.pod(&self.namespace, name).await?;
                pod.map(|pod| pod.into_iter().collect())
            }
            Rule::Labels(selector) => self.cluster.selected(&self.namespace, selector).await?,
            Rule::Uids(_) | Rule::Workload(..) => return Ok(Vec::new()),
        };
        Ok(known.map_or_else(|_| Vec::new(), |known| named(unknown, &known)))
    }

    /// Pods with their namespaces; one that ended meanwhile is left out.
    async fn locate(
        &mut self,
        locals: Vec<Local>,
        runtime: Option<&Runtime>,
    ) -> Result<Vec<Pod>, RuntimeError> {
        let look = |pod: Local| {
            let (mut runtime, roots) = (runtime.cloned(), &self.roots);
            let known = self.seen.get(&pod.life()).cloned();
            async move {
                let netns = match known {
                    Some(netns) => Ok(Some(netns)),
                    None => pod.netns(runtime.as_mut(), roots).await,
                };
                (pod, netns)
            }
        };
        let mut found = Vec::new();
        let (mut seen, mut uids) = (BTreeMap::new(), BTreeSet::new());
        for (pod, netns) in join_all(locals.into_iter().map(look)).await {
            let Some(netns) = netns? else { continue };
            seen.insert(pod.life(), netns.clone());
            uids.extend(pod.uid.clone());
            found.push(Pod {
                uid: pod.uid,
                name: pod.name,
                labels: pod.labels.unwrap_or_default(),
                netns,
            });
        }
        (self.seen, self.seen_uids) = (seen, uids);
        Ok(found)
    }
}
