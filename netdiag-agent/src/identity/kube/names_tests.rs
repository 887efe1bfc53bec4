use std::time::{Duration, Instant};

use netdiag_apiserver::{ApiServer, Fault};
use serde_json::{Value, json};

use super::*;
use crate::event::{Ktime, Proto};
use crate::inventory::cluster::{Cluster, Name, TargetPort};

const LIMIT: Duration = Duration::from_secs(20);

/// Names as they come from a server, and the cluster they make.
struct Seen {
    names: Names,
    cluster: Cluster,
    changes: Vec<Change>,
    _directory: tempfile::TempDir,
}

fn pace() -> Pace {
    Pace {
        patience: Duration::from_millis(400),
        first_pause: Duration::from_millis(20),
        longest_pause: Duration::from_millis(100),
        watch: 60,
    }
}

fn start(server: &ApiServer) -> Seen {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config");
    std::fs::write(&path, server.kubeconfig()).unwrap();
    let wanted = Wanted {
        places: Places {
            given: Some(path),
            ..Places::default()
        },
        node: "n1".to_owned(),
        wall_offset: 0,
        pace: pace(),
    };
    Seen {
        names: Names::start(wanted).unwrap(),
        cluster: Cluster::default(),
        changes: Vec::new(),
        _directory: directory,
    }
}

impl Seen {
    /// Takes news until this holds.
    async fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let started = Instant::now();
        while !holds(self) {
            let mut news = Vec::new();
            let next = tokio::time::timeout(LIMIT, self.names.next(&mut news, 64)).await;
            assert!(
                next == Ok(true) && started.elapsed() < LIMIT,
                "never came to be: {what}; news so far: {:#?}",
                self.changes
            );
            for change in news {
                self.cluster.apply(Ktime(1), change.clone());
                self.changes.push(change);
            }
        }
    }

    async fn all_synced(&mut self) {
        let all = |seen: &Self| {
            Kind::NAMES
                .iter()
                .all(|(kind, _)| seen.cluster.synced(*kind))
        };
        self.until("all kinds are synced", all).await;
    }

    fn unseen(&self, kind: Kind) -> Option<String> {
        let mut unseen = self.cluster.unseen();
        let found = unseen.find(|(one, _)| *one == kind);
        found.map(|(_, why)| why.to_string())
    }

    /// How often a kind was said to be unseen.
    fn outages(&self, kind: Kind) -> usize {
        let outage = |change: &&Change| matches!(change, Change::Unseen(one, _) if *one == kind);
        self.changes.iter().filter(outage).count()
    }

    fn has_pod(&self, name: &str) -> bool {
        self.cluster.pods().any(|pod| &*pod.name.name == name)
    }
}

fn pod(name: &str, node: &str, ip: &str) -> Value {
    json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {
            "name": name, "namespace": "shop",
            "labels": {"app": "web", "pod-template-hash": "7f9c"},
            "managedFields": [{"manager": "kubelet", "fieldsV1": {"f:status": {}}}],
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-7f9c", "uid": "1", "controller": true
            }]
        },
        "spec": {"nodeName": node, "containers": [{"name": "c", "ports": [
            {"name": "http", "containerPort": 8080, "protocol": "TCP"}
        ]}]},
        "status": {
            "phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}], "startTime": "1970-01-01T00:00:02Z",
            "conditions": [{"type": "Ready", "status": "True"}]
        }
    })
}

fn service() -> Value {
    json!({
        "kind": "Service", "apiVersion": "v1", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {
            "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"], "selector": {"app": "web"}, "type": "ClusterIP",
            "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": "http"}]
        },
        "status": {"loadBalancer": {}}
    })
}

fn slice(api_version: &str) -> Value {
    json!({
        "kind": "EndpointSlice", "apiVersion": api_version, "addressType": "IPv4",
        "metadata": {
            "name": "web-abcde", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}
        },
        "endpoints": [
            {"addresses": ["10.244.1.5"], "conditions": {"ready": true},
             "targetRef": {"kind": "Pod", "name": "web-1", "namespace": "shop"},
             "topology": {"kubernetes.io/hostname": "n1"}},
            {"addresses": ["10.244.2.5"], "conditions": {"ready": false}}
        ],
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]
    })
}

fn cluster() -> ApiServer {
    let server = ApiServer::start().unwrap();
    server.put(pod("web-1", "n1", "10.244.1.5"));
    server.put(pod("web-2", "n2", "10.244.2.5"));
    server.put(service());
    server.put(slice("discovery.k8s.io/v1"));
    server.put(json!({
        "kind": "NetworkPolicy", "apiVersion": "networking.k8s.io/v1",
        "metadata": {"name": "deny", "namespace": "shop"}, "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}
    }));
    server.put(json!({
        "kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "shop", "labels": {"team": "a"}}
    }));
    for (name, ip, cidr) in [
        ("n1", "192.0.2.11", "10.244.1.0/24"),
        ("n2", "192.0.2.12", "10.244.2.0/24"),
    ] {
        server.put(json!({
            "kind": "Node", "apiVersion": "v1", "metadata": {"name": name}, "spec": {"podCIDR": cidr},
            "status": {"addresses": [{"type": "InternalIP", "address": ip}, {"type": "Hostname", "address": name}]}
        }));
    }
    server.put(json!({
        "kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "ip-masq-agent", "namespace": "kube-system"},
        "data": {"config": "nonMasqueradeCIDRs: [10.0.0.0/8]\nmasqLinkLocal: true\n"}
    }));
    server
}

#[tokio::test]
async fn every_kind_is_read() {
    let server = cluster();
    let mut seen = start(&server);
    seen.all_synced().await;
    let cluster = &seen.cluster;
    let at = Ktime(5_000_000_000);
    let ip = |text: &str| text.parse().unwrap();

    let pod = cluster.pod_at(ip("10.244.1.5"), at).unwrap();
    assert_eq!(pod.name, Name::new("shop", "web-1"));
    assert!(pod.ready && !pod.host_network && pod.node.as_deref() == Some("n1"));
    assert_eq!(pod.started, Some(Ktime(2_000_000_000)));
    let workload = pod.workload.as_ref().unwrap();
    assert_eq!((&*workload.kind, &*workload.name), ("Deployment", "web"));
    assert_eq!((pod.ports[0].port, pod.ports[0].proto), (8080, Proto::TCP));
    assert_eq!(
        &*cluster.pod_at(ip("10.244.2.5"), at).unwrap().name.name,
        "web-2"
    );

    let service = cluster.service_at(ip("10.96.0.9"), at).unwrap();
    assert_eq!(service.ports[0].target, TargetPort::Named("http".into()));
    assert!(service.proxied);
    let slices: Vec<_> = cluster.slices_of(&service.name, at).collect();
    let endpoints = &slices[0].endpoints;
    assert_eq!(
        (endpoints.len(), endpoints[0].ready, endpoints[1].ready),
        (2, true, false)
    );
    assert_eq!(endpoints[0].pod.as_deref(), Some("web-1"));
    assert_eq!(cluster.policies(at).count(), 1);
    assert_eq!(&*cluster.namespace("shop").unwrap()["team"], "a");
    assert_eq!(&*cluster.machine_at(ip("192.0.2.12")).unwrap().name, "n2");
    assert_eq!(
        &*cluster.machine_of_pods_at(ip("10.244.2.77")).unwrap().name,
        "n2"
    );
    let exempt = cluster.non_masquerade().unwrap();
    assert_eq!(exempt, ["10.0.0.0/8".parse().unwrap()]);

    let asked = server.requests();
    let streaming = asked
        .iter()
        .filter(|asked| asked.contains("sendInitialEvents"));
    assert_eq!(streaming.count(), 0, "lists are not streamed: {asked:#?}");
    let pods = |selector: &str| {
        asked
            .iter()
            .any(|asked| asked.contains("/api/v1/pods") && asked.contains(selector))
    };
    assert!(
        pods("nodeName%3Dn1") && pods("nodeName%21%3Dn1"),
        "{asked:#?}"
    );
}

#[tokio::test]
async fn changes_arrive() {
    let server = cluster();
    let mut seen = start(&server);
    seen.all_synced().await;
    server.put(pod("web-3", "n1", "10.244.1.6"));
    seen.until("a new pod", |seen| seen.has_pod("web-3")).await;
    server.delete("pods", "shop", "web-3");
    seen.until("it is gone", |seen| !seen.has_pod("web-3"))
        .await;
    // An update without a change that matters is no news.
    let before = seen.changes.len();
    let mut same = pod("web-1", "n1", "10.244.1.5");
    same["metadata"]["annotations"] = json!({"seen": "now"});
    server.put(same);
    server.bookmark();
    server.delete("pods", "shop", "web-2");
    seen.until("another is gone", |seen| !seen.has_pod("web-2"))
        .await;
    assert_eq!(
        seen.changes.len(),
        before + 1,
        "{:#?}",
        &seen.changes[before..]
    );
    let mut over = pod("web-1", "n1", "10.244.1.5");
    over["status"]["phase"] = json!("Succeeded");
    server.put(over);
    let vacated = |seen: &Seen| seen.cluster.pods().all(|pod| pod.addresses.is_empty());
    seen.until("a pod that is over has no address", vacated)
        .await;
}

#[tokio::test]
async fn what_may_not_be_read_is_said_once_and_the_rest_is_read() {
    let server = cluster();
    server.fail("/networkpolicies", Fault::Status(403));
    let mut seen = start(&server);
    let rest = |seen: &Seen| {
        let mut kinds = Kind::NAMES
            .iter()
            .filter(|(kind, _)| *kind != Kind::Policies);
        kinds.all(|(kind, _)| seen.cluster.synced(*kind)) && seen.unseen(Kind::Policies).is_some()
    };
    seen.until("the rest is synced", rest).await;
    assert_eq!(
        seen.unseen(Kind::Policies).unwrap(),
        "our credentials may not list and watch them (403)"
    );
    let tries = || {
        server
            .requests()
            .iter()
            .filter(|asked| asked.contains("/networkpolicies"))
            .count()
    };
    let first = tries();
    while tries() < first + 3 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.heal();
    seen.all_synced().await;
    assert_eq!(seen.outages(Kind::Policies), 1);
    assert_eq!(seen.cluster.policies(Ktime(9)).count(), 1);
}

#[tokio::test]
async fn refused_credentials_are_named() {
    let server = cluster();
    server.fail("", Fault::Status(401));
    let mut seen = start(&server);
    let all = |seen: &Seen| {
        Kind::NAMES
            .iter()
            .all(|(kind, _)| seen.unseen(*kind).is_some())
    };
    // Pods are not told apart by node where the node could not be asked for.
    seen.until("all are unseen", |seen| {
        all(seen)
            || (seen.cluster.synced(Kind::OwnPods)
                && seen.cluster.unseen().count() == Kind::NAMES.len() - 1)
    })
    .await;
    let why = seen.unseen(Kind::Services).unwrap();
    assert!(why.contains("credentials (401)"), "{why}");
}

#[tokio::test]
async fn a_server_that_dies_and_comes_back_is_asked_again() {
    let mut server = cluster();
    let mut seen = start(&server);
    seen.all_synced().await;
    server.stop();
    seen.until("an outage", |seen| seen.unseen(Kind::Services).is_some())
        .await;
    let why = seen.unseen(Kind::Services).unwrap();
    assert!(!why.contains('\n') && !why.is_empty(), "{why}");
    // Names that are known stay known.
    assert!(seen.has_pod("web-1"));
    server.delete("pods", "shop", "web-2");
    server.restart().unwrap();
    seen.all_synced().await;
    seen.until("what went meanwhile is gone", |seen| !seen.has_pod("web-2"))
        .await;
    assert_eq!(seen.outages(Kind::Services), 1);
}

#[tokio::test]
async fn a_server_that_is_not_there_yet_is_waited_for() {
    let mut server = cluster();
    server.stop();
    let mut seen = start(&server);
    seen.until("an outage", |seen| seen.unseen(Kind::Services).is_some())
        .await;
    server.restart().unwrap();
    seen.all_synced().await;
    assert!(seen.has_pod("web-1") && seen.has_pod("web-2"));
}

#[tokio::test]
async fn silence_is_an_outage() {
    let server = cluster();
    server.fail("/api/v1/services", Fault::Silence);
    let mut seen = start(&server);
    seen.until("silence is noticed", |seen| {
        seen.unseen(Kind::Services).is_some()
    })
    .await;
    let why = seen.unseen(Kind::Services).unwrap();
    assert_eq!(why, "the API server has not answered for 0.4 s");
    server.heal();
    seen.all_synced().await;
}

#[tokio::test]
async fn a_slow_server_is_waited_for() {
    let server = cluster();
    server.fail("/api/v1/", Fault::Slow(Duration::from_millis(150)));
    let mut seen = start(&server);
    seen.all_synced().await;
    assert_eq!(seen.outages(Kind::Services), 0);
}

#[tokio::test]
async fn a_version_that_is_too_old_makes_a_new_list() {
    let server = cluster();
    let mut seen = start(&server);
    seen.all_synced().await;
    server.delete("pods", "shop", "web-2");
    server.expire();
    seen.until("the new list is without it", |seen| !seen.has_pod("web-2"))
        .await;
    server.put(pod("web-9", "n2", "10.244.2.9"));
    seen.until("and is watched again", |seen| seen.has_pod("web-9"))
        .await;
    assert_eq!(seen.cluster.unseen().count(), 0);
}

#[tokio::test]
async fn a_watch_that_breaks_is_taken_up_again() {
    let server = cluster();
    let mut seen = start(&server);
    seen.all_synced().await;
    for round in 0..3 {
        server.cut_watches();
        let name = format!("after-{round}");
        server.put(pod(&name, "n2", &format!("10.244.2.{}", 20 + round)));
        seen.until("a change after the cut", |seen| seen.has_pod(&name))
            .await;
    }
    let outages: Vec<_> = Kind::NAMES
        .iter()
        .map(|(kind, _)| seen.outages(*kind))
        .collect();
    assert_eq!(outages, [0; 8], "{:#?}", seen.changes);
    let asked = server.requests();
    let lists = asked
        .iter()
        .filter(|asked| asked.contains("/pods?") && !asked.contains("watch=true"));
    assert_eq!(lists.count(), 2, "no new list was needed: {asked:#?}");
}

#[tokio::test]
async fn old_servers_have_older_endpoints() {
    let endpoint = |seen: &Seen| {
        let name = Name::new("shop", "web");
        let slices: Vec<_> = seen.cluster.slices_of(&name, Ktime(9)).cloned().collect();
        let all = slices.iter().flat_map(|slice| slice.endpoints.clone());
        let all: Vec<_> = all
            .map(|one| (one.address.to_string(), one.ready))
            .collect();
        (
            all,
            slices[0].ports[0].port,
            slices[0].endpoints[0].node.clone(),
        )
    };
    let expected = vec![
        ("10.244.1.5".to_owned(), true),
        ("10.244.2.5".to_owned(), false),
    ];

    let server = cluster();
    server.do_not_serve("apis/discovery.k8s.io/v1");
    server.put(slice("discovery.k8s.io/v1beta1"));
    let mut seen = start(&server);
    seen.all_synced().await;
    assert_eq!(endpoint(&seen), (expected.clone(), 8080, Some("n1".into())));

    server.do_not_serve("apis/discovery.k8s.io/v1beta1");
    server.put(json!({
        "kind": "Endpoints", "apiVersion": "v1", "metadata": {"name": "web", "namespace": "shop"},
        "subsets": [{
            "addresses": [{"ip": "10.244.1.5", "nodeName": "n1", "targetRef": {"kind": "Pod", "name": "web-1"}}],
            "notReadyAddresses": [{"ip": "10.244.2.5"}],
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]
        }]
    }));
    let mut seen = start(&server);
    seen.all_synced().await;
    assert_eq!(endpoint(&seen), (expected, 8080, Some("n1".into())));
}

#[tokio::test]
async fn ten_pages_of_pods_arrive_complete() {
    let server = cluster();
    for number in 0..2500_u32 {
        let ip = std::net::Ipv4Addr::from(0x0a80_0000 + number).to_string();
        server.put(pod(&format!("p-{number}"), "n2", &ip));
    }
    let mut seen = start(&server);
    seen.all_synced().await;
    assert_eq!(seen.cluster.pods().count(), 2502);
    let asked = server.requests();
    let pages = asked.iter().filter(|asked| asked.contains("continue="));
    assert!(pages.count() >= 10, "{asked:#?}");
}

#[tokio::test]
async fn without_credentials_nobody_is_asked() {
    let wanted = Wanted {
        places: Places {
            root: "/nonexistent".into(),
            ..Places::default()
        },
        node: "n1".to_owned(),
        wall_offset: 0,
        pace: pace(),
    };
    assert!(Names::start(wanted).is_none());
}
