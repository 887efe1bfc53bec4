//! What a real API server (1.20) has said, read.

use k8s_openapi::api::core::v1::{Endpoints, Namespace, Node, Pod, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::core::DynamicObject;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::event::Ktime;
use crate::inventory::cluster::{Cluster, Kind, Name, Peer};

fn read<K: DeserializeOwned>(name: &str, read: Read<K>) -> Vec<Change> {
    let path = format!(
        "{}/../tests/apiserver/recorded/{name}.json",
        env!("CARGO_MANIFEST_DIR")
    );
    let list: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut pruner = Pruner::default();
    let kind = list["kind"].as_str().unwrap().strip_suffix("List").unwrap();
    let items = list["items"].as_array().unwrap().iter();
    items
        .map(|item| {
            let mut item = item.clone();
            item["kind"] = kind.into();
            item["apiVersion"] = list["apiVersion"].clone();
            let object: K = serde_json::from_value(item.clone()).unwrap();
            read(&mut pruner, &object)
                .unwrap_or_else(|| panic!("{item}"))
                .1
        })
        .collect()
}

#[test]
fn a_recorded_cluster_is_read() {
    let mut cluster = Cluster::default();
    let changes = [
        read::<Pod>("pods", pod),
        read::<Service>("services", service),
        read::<DynamicObject>("endpointslices", beta_slice),
        read::<NetworkPolicy>("networkpolicies", policy),
        read::<Node>("nodes", machine),
        read::<Namespace>("namespaces", namespace),
    ];
    for change in changes.concat() {
        cluster.apply(Ktime(1), change);
    }
    cluster.apply(Ktime(1), Change::Synced(Kind::Services));
    let at = Ktime(u64::MAX);
    let web = cluster.pod_at("10.244.1.4".parse().unwrap(), at).unwrap();
    assert_eq!(web.name, Name::new("shop", "web-86888d876-m6tlz"));
    let owner = web.workload.as_ref().unwrap();
    assert_eq!((&*owner.kind, &*owner.name), ("Deployment", "web"));
    let ports: Vec<_> = web
        .ports
        .iter()
        .map(|port| (port.name.as_deref(), port.port))
        .collect();
    assert!(ports.contains(&(Some("http"), 8000)), "{ports:?}");
    let sleepy = cluster.pod_at("10.244.1.3".parse().unwrap(), at).unwrap();
    assert!(web.ready && !sleepy.ready);

    let service = cluster
        .service_at("10.96.10.10".parse().unwrap(), at)
        .unwrap();
    assert_eq!(service.name, Name::new("shop", "web"));
    let ready = |name: &str| {
        let name = Name::new("shop", name);
        let slices: Vec<_> = cluster.slices_of(&name, at).cloned().collect();
        let all = slices.iter().flat_map(|slice| &slice.endpoints);
        let mut counts = (0, 0);
        all.for_each(|one| {
            if one.ready {
                counts.0 += 1
            } else {
                counts.1 += 1
            }
        });
        counts
    };
    assert_eq!(
        (ready("web"), ready("sleepy"), ready("ghost")),
        ((2, 0), (0, 1), (0, 0))
    );

    let policy = cluster.policies(at).next().unwrap();
    assert_eq!(policy.name, Name::new("locked", "auditors-only"));
    let ingress = policy.ingress.as_ref().unwrap();
    assert!(policy.egress.is_none());
    assert_eq!(
        ingress[0].ports[0].port,
        Some(TargetPort::Named("echo".into()))
    );
    let Peer::Pods { namespaces, pods } = &ingress[0].peers[0] else {
        panic!("{ingress:?}");
    };
    assert_eq!(namespaces.as_ref().unwrap().to_string(), "team=back");
    assert_eq!(pods.as_ref().unwrap().to_string(), "role=auditor");
    assert_eq!(&*cluster.namespace("locked").unwrap()["team"], "back");
}

#[test]
fn slices_and_endpoints_say_the_same() {
    let slices = read::<DynamicObject>("endpointslices", beta_slice);
    let objects = read::<Endpoints>("endpoints", endpoints);
    let of = |changes: &[Change], service: &str| {
        let mut found: Vec<_> = changes
            .iter()
            .filter_map(|change| match change {
                Change::Slice(slice) if &*slice.service == service => Some(slice),
                _ => None,
            })
            .flat_map(|slice| slice.endpoints.clone())
            .map(|one| (one.address, one.ready, one.pod, one.node))
            .collect();
        found.sort();
        found
    };
    for service in ["web", "sleepy", "ghost", "kube-dns", "vault"] {
        assert_eq!(of(&slices, service), of(&objects, service), "{service}");
    }
}

fn policy_of(spec: &Value) -> crate::inventory::cluster::Policy {
    let object = json!({"metadata": {"name": "p", "namespace": "shop"}, "spec": spec});
    let object: NetworkPolicy = serde_json::from_value(object).unwrap();
    match policy(&mut Pruner::default(), &object) {
        Some((_, Change::Policy(policy))) => policy.as_ref().clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_types_of_a_policy_have_their_defaults() {
    let types = |spec: Value| {
        let policy = policy_of(&spec);
        (policy.ingress.is_some(), policy.egress.is_some())
    };
    assert_eq!(types(json!({"podSelector": {}})), (true, false));
    assert_eq!(
        types(json!({"podSelector": {}, "egress": [{}]})),
        (true, true)
    );
    assert_eq!(
        types(json!({"podSelector": {}, "egress": []})),
        (true, false)
    );
    assert_eq!(
        types(json!({"podSelector": {}, "policyTypes": ["Egress"]})),
        (false, true)
    );
    let both = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"], "ingress": [{}]});
    assert_eq!(types(both.clone()), (true, true));
    let policy = policy_of(&both);
    assert_eq!(policy.ingress.unwrap().len(), 1);
    assert!(policy.egress.unwrap().is_empty());
}

#[test]
fn what_makes_no_sense_selects_nobody() {
    let policy = policy_of(&json!({
        "podSelector": {}, "ingress": [{
            "from": [
                {"ipBlock": {"cidr": "10.0.0.0"}},
                {"podSelector": {"matchExpressions": [{"key": "a", "operator": "Like", "values": ["b"]}]}}
            ]
        }]
    }));
    let rules = policy.ingress.unwrap();
    for peer in &rules[0].peers {
        let Peer::Pods {
            pods: Some(pods), ..
        } = peer
        else {
            panic!("{peer:?}");
        };
        assert!(!pods.selects(&crate::inventory::cluster::Labels::new()));
    }
}

#[test]
fn services_of_all_kinds_are_read() {
    let service = |spec: Value| {
        let object = json!({"metadata": {"name": "s", "namespace": "shop"}, "spec": spec,
            "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.9"}, {"hostname": "x"}]}}});
        let object: Service = serde_json::from_value(object).unwrap();
        match service(&mut Pruner::default(), &object) {
            Some((_, Change::Service(service))) => service.as_ref().clone(),
            other => panic!("{other:?}"),
        }
    };
    let headless = service(json!({"clusterIP": "None", "clusterIPs": ["None"]}));
    assert!(headless.cluster_addresses.is_empty() && !headless.proxied);
    let dual = service(json!({
        "clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5", "fd00::5"], "externalIPs": ["192.0.2.9"],
        "internalTrafficPolicy": "Local", "externalTrafficPolicy": "Local",
        "ports": [{"port": 80}, {"port": 53, "protocol": "UDP", "targetPort": 5353, "nodePort": 30053}]
    }));
    let all: Vec<_> = dual.addresses().map(|ip| ip.to_string()).collect();
    assert_eq!(all, ["10.96.0.5", "fd00::5", "192.0.2.9", "203.0.113.9"]);
    assert!(dual.proxied && dual.local_only && dual.outer_local_only);
    assert_eq!(dual.ports[0].target, TargetPort::Number(80));
    assert_eq!(
        (dual.ports[1].proto, dual.ports[1].node_port),
        (Proto::UDP, Some(30053))
    );
}
