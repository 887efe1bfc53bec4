use netdiag_apiserver::{ApiServer, Fault};
use serde_json::{Value, json};

use super::*;
use crate::identity::kube::client::{Places, connect};

fn recorded(name: &str) -> Value {
    let path = format!(
        "{}/../tests/apiserver/recorded/{name}.json",
        env!("CARGO_MANIFEST_DIR")
    );
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

async fn client(server: &ApiServer) -> Client {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config");
    std::fs::write(&path, server.kubeconfig()).unwrap();
    let places = Places {
        given: Some(path),
        ..Places::default()
    };
    connect(&places).await.unwrap().client
}

/// A server with what a real one of version 1.20 has said of a small cluster.
fn cluster() -> ApiServer {
    let server = ApiServer::start().unwrap();
    server.do_not_serve("apis/discovery.k8s.io/v1");
    for list in ["pods", "services", "endpointslices", "endpoints"] {
        server.put_list(&recorded(list));
    }
    server
}

fn texts(places: Result<Vec<Place>, String>) -> Vec<String> {
    let places = places.unwrap().into_iter();
    let mut texts: Vec<String> = places
        .map(|(address, port)| {
            let port = port.map_or("*".to_owned(), |port| port.to_string());
            format!("{address}:{port}")
        })
        .collect();
    texts.sort();
    texts
}

/// Addresses of the pods behind a Service of the recording.
fn endpoints(service: &str) -> Vec<String> {
    let list = recorded("endpoints");
    let items = list["items"].as_array().unwrap().clone();
    let object = items
        .into_iter()
        .find(|item| item["metadata"]["name"] == service)
        .unwrap();
    let addresses = object["subsets"][0]["addresses"]
        .as_array()
        .unwrap()
        .clone();
    let ips = addresses
        .iter()
        .map(|one| one["ip"].as_str().unwrap().to_owned());
    ips.collect()
}

#[tokio::test]
async fn a_service_is_its_own_address_and_its_endpoints() {
    let server = cluster();
    let client = client(&server).await;
    let behind = endpoints("web");
    assert!(!behind.is_empty());
    let expected = |vip: &str, port: u16| {
        let mut all: Vec<String> = behind.iter().map(|ip| format!("{ip}:{port}")).collect();
        all.push(vip.to_owned());
        all.sort();
        all
    };
    let http = texts(service(&client, "web", "shop", Port::Number(80)).await);
    assert_eq!(http, expected("10.96.10.10:80", 8000));
    let named = texts(service(&client, "web.shop", "default", Port::Named("echo")).await);
    assert_eq!(named, expected("10.96.10.10:7", 8080));
    let undefined = texts(service(&client, "web", "shop", Port::Number(81)).await);
    assert_eq!(undefined, ["10.96.10.10:81"]);
    let all = texts(service(&client, "web", "shop", Port::Any).await);
    assert_eq!(all.len(), 1 + 2 * behind.len(), "{all:?}");

    server.do_not_serve("apis/discovery.k8s.io/v1beta1");
    let by_endpoints = texts(service(&client, "web", "shop", Port::Number(7)).await);
    assert_eq!(by_endpoints, expected("10.96.10.10:7", 8080));
}

#[tokio::test]
async fn a_pod_is_its_addresses() {
    let server = cluster();
    let client = client(&server).await;
    let ip = recorded("pods")["items"]
        .as_array()
        .unwrap()
        .iter()
        .find(|pod| pod["metadata"]["name"] == "client")
        .map(|pod| pod["status"]["podIP"].as_str().unwrap().to_owned())
        .unwrap();
    let by_dot = texts(pod(&client, "client.shop", "default", Port::Number(9)).await);
    assert_eq!(by_dot, [format!("{ip}:9")]);
    let plain = texts(pod(&client, "client", "shop", Port::Any).await);
    assert_eq!(plain, [format!("{ip}:*")]);
}

#[tokio::test]
async fn what_is_not_there_is_said_in_one_line_with_what_is() {
    let server = cluster();
    let client = client(&server).await;
    server.put(json!({
        "kind": "Service", "apiVersion": "v1", "metadata": {"name": "out", "namespace": "shop"},
        "spec": {"type": "ExternalName", "externalName": "example.com"}
    }));
    let fault = |result: Result<Vec<Place>, String>| {
        let fault = result.unwrap_err();
        assert!(!fault.contains('\n'), "{fault}");
        fault
    };
    let missing = fault(service(&client, "wed", "shop", Port::Any).await);
    assert!(
        missing.contains("no Service wed in namespace shop; there are: web, "),
        "{missing}"
    );
    let port = fault(service(&client, "web", "shop", Port::Named("https")).await);
    assert_eq!(port, "it has no port https; there are: http, echo");
    let alias = fault(service(&client, "out", "shop", Port::Any).await);
    assert_eq!(alias, "it is an alias of example.com: give that name");
    let nobody = fault(pod(&client, "nobody.shop", "default", Port::Any).await);
    assert!(
        nobody.contains("no pod nobody in namespace shop"),
        "{nobody}"
    );
    server.fail("/services", Fault::Status(403));
    let refused = fault(service(&client, "web", "shop", Port::Any).await);
    assert!(refused.contains("forbidden"), "{refused}");
}
