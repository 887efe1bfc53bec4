//! What the names of a large cluster cost: 10,000 pods and 2,000 Services of the shape a real API server gives them.
//!
//! `cargo run --release -p netdiag-agent --example names_memory [PODS SERVICES]`
//!
//! The server runs here, the names in a process of their own, so that its memory is theirs alone. Ends with 1 where
//! they take more than 150 MiB.

use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use netdiag::event::Ktime;
use netdiag::identity::kube::names::{Names, Roll, Wanted};
use netdiag::inventory::cluster::Cluster;
use netdiag_apiserver::ApiServer;
use serde_json::{Value, json};

/// In KiB.
const LIMIT: u64 = 150 << 10;

const NODES: usize = 200;
const NAMESPACES: usize = 100;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, kubeconfig] = arguments.as_slice()
        && flag == "--names"
    {
        return names(Path::new(kubeconfig));
    }
    let number = |at: usize, default| {
        let typed = arguments.get(at).and_then(|text| text.parse().ok());
        typed.unwrap_or(default)
    };
    let (pods, services) = (number(0, 10_000), number(1, 2_000));
    let server = ApiServer::start().expect("a server");
    fill(&server, pods, services);
    let mut kubeconfig = tempfile::NamedTempFile::new().expect("a temporary file");
    kubeconfig
        .write_all(server.kubeconfig().as_bytes())
        .expect("write a kubeconfig");
    let own = std::env::current_exe().expect("our own path");
    let status = Command::new(own)
        .arg("--names")
        .arg(kubeconfig.path())
        .status()
        .expect("run ourselves");
    ExitCode::from(u8::from(!status.success()))
}

/// Takes all names, and says what they took.
#[expect(clippy::disallowed_methods, reason = "measuring takes a clock")]
fn names(kubeconfig: &Path) -> ExitCode {
    let before = memory("VmRSS");
    let started = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let cluster = runtime.block_on(async {
        let mut names = Names::start(Wanted::of_process(Some(kubeconfig))).expect("a cluster");
        let mut cluster = Cluster::default();
        let mut roll = Roll::default();
        while !roll.is_full() {
            let mut news = Vec::new();
            assert!(names.next(&mut news, 256).await, "the names have ended");
            for change in news {
                roll.take(&change);
                cluster.apply(Ktime(1), change);
            }
        }
        for (kind, why) in cluster.unseen() {
            println!("not seen: {}: {why}", kind.name());
        }
        cluster
    });
    let (peak, after) = (memory("VmHWM"), memory("VmRSS"));
    println!(
        "{} pods and {} Services in {:.1} s: {} MiB resident ({} MiB before), {} MiB at most",
        cluster.pods().count(),
        cluster.services().count(),
        started.elapsed().as_secs_f64(),
        after >> 10,
        before >> 10,
        peak >> 10,
    );
    ExitCode::from(u8::from(peak > LIMIT))
}

/// Of this process, in KiB.
fn memory(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(field));
    let number = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    number.unwrap_or(0)
}

/// Objects as a real server has given them, many times over.
fn fill(server: &ApiServer, pods: usize, services: usize) {
    let recorded = |name: &str, kind: &str, version: &str| {
        let path = format!(
            "{}/../tests/apiserver/recorded/{name}.json",
            env!("CARGO_MANIFEST_DIR")
        );
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let list: Value = serde_json::from_str(&text).expect("a list");
        let items = list["items"].as_array().expect("items").iter();
        let longest = items.max_by_key(|item| item.to_string().len());
        let mut object = longest.expect("an item").clone();
        object["kind"] = kind.into();
        object["apiVersion"] = version.into();
        object["metadata"]["uid"] = Value::Null;
        object
    };
    let pod = recorded("pods", "Pod", "v1");
    let service = recorded("services", "Service", "v1");
    let node = recorded("nodes", "Node", "v1");
    let namespace = |number: usize| format!("team-{}", number % NAMESPACES);
    for number in 0..NODES {
        let mut node = node.clone();
        node["metadata"]["name"] = format!("node-{number}").into();
        server.put(node);
    }
    for number in 0..NAMESPACES {
        server.put(json!({
            "kind": "Namespace", "apiVersion": "v1",
            "metadata": {"name": namespace(number), "labels": {"kubernetes.io/metadata.name": namespace(number)}}
        }));
    }
    let address = |number: usize| std::net::Ipv4Addr::from(0x0a80_0000 + number as u32).to_string();
    let app = |number: usize| format!("app-{}", number % services.max(1));
    for number in 0..pods {
        let mut pod = pod.clone();
        pod["metadata"]["name"] = format!("{}-6bb6f5cdf4-{number:05}", app(number)).into();
        pod["metadata"]["namespace"] = namespace(number).into();
        pod["metadata"]["labels"] = json!({
            "app": app(number), "app.kubernetes.io/name": app(number), "app.kubernetes.io/instance": "main",
            "pod-template-hash": "6bb6f5cdf4", "team": namespace(number)
        });
        pod["spec"]["nodeName"] = format!("node-{}", number % NODES).into();
        pod["status"]["podIP"] = address(number).into();
        pod["status"]["podIPs"] = json!([{"ip": address(number)}]);
        server.put(pod);
    }
    for number in 0..services {
        let mut service = service.clone();
        let ip = std::net::Ipv4Addr::from(0x0a60_0000 + number as u32).to_string();
        service["metadata"]["name"] = app(number).into();
        service["metadata"]["namespace"] = namespace(number).into();
        service["spec"]["clusterIP"] = ip.clone().into();
        service["spec"]["clusterIPs"] = json!([ip]);
        service["spec"]["selector"] = json!({"app": app(number)});
        server.put(service);
        let endpoints = (number..pods).step_by(services.max(1)).map(|pod| {
            json!({
                "addresses": [address(pod)], "nodeName": format!("node-{}", pod % NODES),
                "conditions": {"ready": true, "serving": true, "terminating": false},
                "targetRef": {"kind": "Pod", "name": format!("{}-6bb6f5cdf4-{pod:05}", app(pod)), "namespace": namespace(pod)}
            })
        });
        server.put(json!({
            "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "addressType": "IPv4",
            "metadata": {
                "name": format!("{}-abcde", app(number)), "namespace": namespace(number),
                "labels": {"kubernetes.io/service-name": app(number)}
            },
            "endpoints": endpoints.collect::<Vec<_>>(),
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]
        }));
    }
}
