//! A flow that asked for a Service: which one, who stands behind it, and how the flow failed.

use std::sync::Arc;

use super::no_answer::unanswered;
use crate::event::Proto;
use crate::flow::drops::DropKind;
use crate::flow::record::Direction;
use crate::inventory::cluster::{Endpoint, Kind, Pod, Service, ServicePort};
use crate::ruleset::Owner;
use crate::verdict::case::Case;
use crate::verdict::finding::Finding;
use crate::verdict::firewall;
use crate::verdict::types::{Cause, Component, Confidence, HopName, NatKind, Outcome};

/// A Service whose own address was asked for, and that no rule of this node took the flow away from.
pub(super) struct Asked<'a> {
    pub service: &'a Arc<Service>,
    /// `None`: it has no such port.
    pub port: Option<&'a ServicePort>,
}

/// Who stands behind a Service port.
#[derive(Default)]
pub(super) struct Backends {
    /// Endpoints that proxies send to.
    pub ready: Vec<Endpoint>,
    /// Names of pods that are selected, and not ready.
    pub waiting: Vec<String>,
    /// Ready endpoints that have no such port: its `targetPort` is a name none of their containers has.
    pub portless: usize,
}

/// The Service that was asked for, if the request was not translated to one of its endpoints.
pub(super) fn asked<'a>(case: &Case<'a>) -> Option<Asked<'a>> {
    let tuple = case.flow.tuple;
    if case.flow.nat.iter().any(|nat| nat.kind == NatKind::Dnat) {
        return None;
    }
    let cluster = &case.inventory.cluster;
    let service = cluster.service_at(tuple.dst.ip(), case.flow.first)?;
    let port = service.port(tuple.proto, tuple.dst.port());
    Some(Asked { service, port })
}

impl Asked<'_> {
    /// `shop/web:80`
    pub fn name(&self, case: &Case<'_>) -> String {
        format!("{}:{}", self.service.name, case.flow.tuple.dst.port())
    }

    pub fn component(&self, case: &Case<'_>) -> Component {
        Component {
            kind: "service".to_owned(),
            name: Some(self.name(case)),
            ..Component::default()
        }
    }
}

/// `None`: the endpoints of the cluster are not known.
pub(super) fn backends(case: &Case<'_>, service: &Service, port: &ServicePort) -> Option<Backends> {
    let cluster = &case.inventory.cluster;
    if !cluster.synced(Kind::Slices) {
        return None;
    }
    let here = service.local_only.then(|| machine(case)).flatten();
    let mut found = Backends::default();
    let mut draining = Vec::new();
    for slice in cluster.slices_of(&service.name, case.flow.first) {
        let has_port = slice.ports.iter().any(|one| one.name == port.name);
        for one in &slice.endpoints {
            if here.is_some() && one.node != here {
                continue;
            }
            match (one.ready, has_port) {
                (true, true) => found.ready.push(one.clone()),
                (true, false) => found.portless += 1,
                (false, true) if one.draining => draining.push(one.clone()),
                (false, _) => found.waiting.push(label(one)),
            }
        }
    }
    if found.ready.is_empty() {
        found.ready = draining;
    }
    // An endpoint of two slices, for instance of both families, may have the port in one of them only.
    if !found.ready.is_empty() {
        found.portless = 0;
    }
    if found.ready.is_empty() && found.waiting.is_empty() && found.portless == 0 {
        let pods = selected(case, service);
        found.waiting = pods.map(|pod| pod.name.name.to_string()).collect();
    }
    Some(found)
}

fn label(endpoint: &Endpoint) -> String {
    let pod = endpoint.pod.as_ref().map(ToString::to_string);
    pod.unwrap_or_else(|| endpoint.address.to_string())
}

/// Pods of the Service's namespace that its selector selects, and that are not over.
fn selected<'a>(case: &Case<'a>, service: &Service) -> impl Iterator<Item = &'a Arc<Pod>> {
    let pods = case.inventory.cluster.pods();
    pods.filter(move |pod| {
        let mut selector = service.selector.iter();
        !service.selector.is_empty()
            && !pod.over
            && pod.name.namespace == service.name.namespace
            && selector.all(|(key, value)| pod.labels.get(key) == Some(value))
    })
}

/// This machine by its name in the cluster.
pub(super) fn machine(case: &Case<'_>) -> Option<Arc<str>> {
    let cluster = &case.inventory.cluster;
    let source = case.flow.tuple.src.ip();
    let pod = cluster.pod_at(source, case.flow.first);
    let by_pod = pod.and_then(|pod| pod.node.clone());
    by_pod.or_else(|| Some(case.inventory.node.as_ref()?.name.as_str().into()))
}

/// How the request failed, as the finding of this cause; `None`: it did not, not yet, or by somebody else's rule.
pub(super) fn failure(case: &Case<'_>, blamed: Cause, confidence: Confidence) -> Option<Finding> {
    if case.established() || case.answered() {
        return None;
    }
    if let Some(death) = case.death() {
        let group = death.group;
        let by_other = matches!(group.kind, DropKind::Netfilter(_)) && !by_proxy(case);
        if group.direction != Direction::Original || by_other {
            return None;
        }
        return Some(Finding {
            confidence,
            ..super::death(blamed, death)
        });
    }
    let refused = |at| Finding {
        refused_at: Some(at),
        ..Finding::new(Outcome::Refused, blamed, confidence)
    };
    if let Some(reset) = case.reset() {
        let own = reset.spot.is_none();
        return Some(refused(if own {
            HopName::Socket
        } else {
            HopName::Fabric
        }));
    }
    if case.icmp_refusal().is_some() {
        return Some(refused(HopName::Fabric));
    }
    let unanswered_query = || {
        case.flow.tuple.proto == Proto::UDP
            && case.unanswered_query().is_some()
            && case.left_node()
            && case.deadline_passed()
    };
    if unanswered(case) || unanswered_query() {
        return Some(Finding::new(Outcome::LeftNodeNoAnswer, blamed, confidence));
    }
    None
}

/// A rule of kube-proxy's own dropped it.
fn by_proxy(case: &Case<'_>) -> bool {
    firewall::dropped(case).is_some_and(|dropped| dropped.owner() == Owner::KubeProxy)
}

/// kube-proxy says itself that there are no endpoints.
pub(super) fn proxy_says_so(case: &Case<'_>) -> bool {
    firewall::dropped(case).is_some_and(|dropped| dropped.service().is_some())
}

/// What the packet itself shows: it went its way under the Service's address.
pub(super) fn untranslated(finding: Finding, case: &Case<'_>) -> Finding {
    let dst = case.flow.tuple.dst;
    finding.evidence(
        "packet",
        None,
        format!("the destination was still {dst} when the flow failed: nothing translated it"),
    )
}
