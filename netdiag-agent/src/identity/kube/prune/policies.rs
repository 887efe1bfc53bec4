//! Network policies.

use std::sync::Arc;

use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use super::{Pruner, key, name, port, proto, target};
use crate::inventory::cluster::{
    Change, Expression, Operator, Peer, Policy, PolicyPort, PolicyRule, Selector, TargetPort,
};

pub fn policy(pruner: &mut Pruner, object: &NetworkPolicy) -> Option<(Arc<str>, Change)> {
    let name = name(pruner, &object.metadata)?;
    let spec = object.spec.as_ref()?;
    let ingress = spec.ingress.iter().flatten();
    let ingress =
        ingress.map(|rule| self::rule(pruner, rule.from.as_deref(), rule.ports.as_deref()));
    let ingress: Vec<_> = ingress.collect();
    let egress = spec.egress.iter().flatten();
    let egress = egress.map(|rule| self::rule(pruner, rule.to.as_deref(), rule.ports.as_deref()));
    let egress: Vec<_> = egress.collect();
    let policy = Policy {
        pods: selector(pruner, spec.pod_selector.as_ref()),
        ingress: speaks_of(spec, "Ingress").then_some(ingress),
        egress: speaks_of(spec, "Egress").then_some(egress),
        name,
    };
    Some((key(&policy.name), Change::Policy(Arc::new(policy))))
}

/// Without `policyTypes` a policy is about ingress, and about egress if it has such rules.
fn speaks_of(spec: &NetworkPolicySpec, direction: &str) -> bool {
    let typed = spec.policy_types.as_deref().unwrap_or_default();
    if typed.is_empty() {
        direction == "Ingress" || spec.egress.as_ref().is_some_and(|rules| !rules.is_empty())
    } else {
        typed.iter().any(|one| one == direction)
    }
}

/// What cannot be read of a rule must not widen it: a peer or port that makes no sense stands for nobody.
fn rule(
    pruner: &mut Pruner,
    peers: Option<&[NetworkPolicyPeer]>,
    ports: Option<&[NetworkPolicyPort]>,
) -> PolicyRule {
    let peers = peers.unwrap_or_default();
    let ports = ports.unwrap_or_default();
    PolicyRule {
        peers: peers.iter().map(|one| peer(pruner, one)).collect(),
        ports: ports.iter().map(|one| policy_port(pruner, one)).collect(),
    }
}

fn peer(pruner: &mut Pruner, peer: &NetworkPolicyPeer) -> Peer {
    if let Some(block) = &peer.ip_block {
        return self::block(block).unwrap_or_else(nobody);
    }
    let namespaces = peer.namespace_selector.as_ref();
    let pods = peer.pod_selector.as_ref();
    Peer::Pods {
        namespaces: namespaces.map(|one| selector(pruner, Some(one))),
        pods: pods.map(|one| selector(pruner, Some(one))),
    }
}

fn block(block: &IPBlock) -> Option<Peer> {
    let except = block.except.iter().flatten();
    Some(Peer::Block {
        network: block.cidr.parse().ok()?,
        except: except.filter_map(|cidr| cidr.parse().ok()).collect(),
    })
}

/// Selects what cannot be.
fn nobody() -> Peer {
    Peer::Pods {
        namespaces: None,
        pods: Some(Selector {
            labels: crate::inventory::cluster::Labels::new(),
            expressions: vec![never()],
        }),
    }
}

fn never() -> Expression {
    Expression {
        key: "".into(),
        operator: Operator::In,
        values: Vec::new(),
    }
}

fn policy_port(pruner: &mut Pruner, one: &NetworkPolicyPort) -> PolicyPort {
    PolicyPort {
        proto: proto(one.protocol.as_deref()),
        port: one
            .port
            .as_ref()
            .map(|port| target(pruner, port).unwrap_or(TargetPort::Number(0))),
        end: one.end_port.and_then(port),
    }
}

fn selector(pruner: &mut Pruner, selector: Option<&LabelSelector>) -> Selector {
    let Some(selector) = selector else {
        return Selector::default();
    };
    let expressions = selector.match_expressions.iter().flatten();
    Selector {
        labels: pruner.interner.labels(selector.match_labels.as_ref()),
        expressions: expressions.map(|one| expression(pruner, one)).collect(),
    }
}

fn expression(pruner: &mut Pruner, one: &LabelSelectorRequirement) -> Expression {
    let operator = match one.operator.as_str() {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        // An operator of a later version: nothing can be said to meet it.
        _ => return never(),
    };
    let values = one.values.iter().flatten();
    Expression {
        key: pruner.interner.text(&one.key),
        operator,
        values: values.map(|value| pruner.interner.text(value)).collect(),
    }
}
