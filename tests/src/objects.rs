//! Objects of a cluster, as its API server tells them: the first pod is the client, the second serves.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::faults::Place;

/// The lab's node by its name in the cluster.
pub const NODE: &str = "lab-node";
pub const NAMESPACE: &str = "shop";
/// The pods by name; the first belongs to a Deployment.
pub const PODS: [&str; 2] = ["client-7f9c5d-x2k8p", "web-0"];

/// The node, its namespace, and both pods.
pub fn base(place: &Place) -> Vec<Value> {
    let addresses = place.addresses();
    let client = pod(
        PODS[0],
        addresses.pod[0],
        &json!({"app": "client", "pod-template-hash": "7f9c5d"}),
    );
    let web = pod(PODS[1], addresses.pod[1], &json!({"app": "web"}));
    let mut client = client;
    client["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "client-7f9c5d", "uid": "1", "controller": true
    }]);
    vec![
        json!({
            "kind": "Node", "apiVersion": "v1", "metadata": {"name": NODE},
            "status": {"addresses": [{"type": "InternalIP", "address": addresses.node}]}
        }),
        json!({
            "kind": "Namespace", "apiVersion": "v1",
            "metadata": {"name": NAMESPACE, "labels": {"kubernetes.io/metadata.name": NAMESPACE}}
        }),
        client,
        web,
    ]
}

fn pod(name: &str, address: IpAddr, labels: &Value) -> Value {
    json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
        "spec": {"nodeName": NODE, "containers": [{"name": "main", "ports": [
            {"name": "http", "containerPort": 8080, "protocol": "TCP"}
        ]}]},
        "status": {
            "phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": "True"}]
        }
    })
}

/// A Service on the address whose healthy ports lead to the second pod.
pub fn service(place: &Place, name: &str, app: &str, port: u16, target: &Value) -> Value {
    let address = place.addresses().vip_local;
    json!({
        "kind": "Service", "apiVersion": "v1", "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "type": "ClusterIP", "clusterIP": address, "clusterIPs": [address], "selector": {"app": app},
            "ports": [{"name": "http", "protocol": "TCP", "port": port, "targetPort": target}]
        },
        "status": {"loadBalancer": {}}
    })
}

/// The second pod as the Service's endpoint on this port; `None`: the slice is there, and empty.
pub fn slice(place: &Place, service: &str, port: u16, ready: Option<bool>) -> Value {
    let address = place.local();
    let endpoints: Vec<Value> = ready
        .into_iter()
        .map(|ready| {
            json!({
                "addresses": [address], "nodeName": NODE,
                "conditions": {"ready": ready, "serving": ready, "terminating": false},
                "targetRef": {"kind": "Pod", "namespace": NAMESPACE, "name": PODS[1]}
            })
        })
        .collect();
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    json!({
        "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "addressType": family,
        "metadata": {
            "name": format!("{service}-abcde"), "namespace": NAMESPACE,
            "labels": {"kubernetes.io/service-name": service}
        },
        "endpoints": endpoints,
        "ports": [{"name": "http", "protocol": "TCP", "port": port}]
    })
}

/// The client may ask for anything over TCP but this port.
pub fn policy(forbidden: u16) -> Value {
    json!({
        "kind": "NetworkPolicy", "apiVersion": "networking.k8s.io/v1",
        "metadata": {"name": "client-egress", "namespace": NAMESPACE},
        "spec": {
            "podSelector": {"matchLabels": {"app": "client"}}, "policyTypes": ["Egress"],
            "egress": [{"ports": [
                {"protocol": "TCP", "port": 1, "endPort": forbidden - 1},
                {"protocol": "TCP", "port": forbidden + 1, "endPort": 65535},
                {"protocol": "UDP"}
            ]}]
        }
    })
}
