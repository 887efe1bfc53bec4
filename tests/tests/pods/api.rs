//! With an API server: what belongs together, and where a pod is that is not here.

use netdiag_apiserver::{ApiServer, Fault};
use serde_json::{Value, json};

use crate::node::Pod;
use crate::{SHORT, blind, node, ready, refusal};

fn object(name: &str, uid: &str, node: Option<&str>, phase: &str, labels: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "shop", "name": name, "uid": uid, "labels": labels},
        "spec": {"nodeName": node, "containers": []},
        "status": {"phase": phase},
    })
}

fn here(name: &str, pod: &Pod, labels: &Value) -> Value {
    object(name, &pod.uid, Some("n1"), "Running", labels)
}

#[test]
fn the_api_says_what_belongs_together_and_where_it_runs() {
    let Some(mut node) = node() else { return };
    // Labels as the runtime knows them are those the pod was started with.
    let web = node
        .run_pod("shop", "web-5d-aaaaa", &[("app", "old")])
        .unwrap();
    let file = node.run_pod("shop", "proxy-n1", &[]).unwrap();
    let server = ApiServer::on(node.listen().unwrap()).unwrap();
    let config = node.share("kubeconfig", &server.kubeconfig()).unwrap();
    let config = config.to_str().unwrap();
    let labels = json!({"app": "web"});
    server.put(here("web-5d-aaaaa", &web, &labels));
    for (name, node, phase) in [
        ("web-5d-bbbbb", Some("n2"), "Running"),
        ("far-0", Some("n2"), "Running"),
        ("late-0", None, "Pending"),
        ("done-0", Some("n1"), "Succeeded"),
    ] {
        server.put(object(
            name,
            &format!("uid-of-{name}"),
            node,
            phase,
            &json!({"job": name}),
        ));
    }
    // A pod from a file on the node: the API has given its image another UID.
    let mut image = object("proxy-n1", "another", Some("n1"), "Running", &json!({}));
    image["metadata"]["annotations"] = json!({"kubernetes.io/config.hash": file.uid});
    server.put(image);
    server.put(json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"namespace": "shop", "name": "web"},
        "spec": {"selector": {"matchLabels": {"app": "web"}}},
    }));
    let ask = |query: &[&str]| {
        let common = ["-n", "shop", "--kubeconfig", config];
        node.traced(&[query, &common, &SHORT].concat()).unwrap()
    };
    for query in [
        &["deploy/web"][..],
        &["-l", "app=web"],
        &["pod/web-5d-aaaaa"],
    ] {
        let ended = ask(query);
        assert!(
            ready(&ended).starts_with("shop/web-5d-aaaaa to anywhere"),
            "{query:?}: {ended:#?}"
        );
    }
    let ended = ask(&["-l", "job notin (x)", "-l", "app"]);
    assert_eq!(ended.code, Some(2), "one selector is due: {ended:#?}");
    for (query, expected) in [
        (
            ["pod/far-0"],
            "pod far-0 runs on n2, not on this node: run netdiag there",
        ),
        (
            ["pod/late-0"],
            "pod late-0 is Pending: it has no network to follow",
        ),
        (
            ["pod/done-0"],
            "pod done-0 is Succeeded on n1: it has no network to follow",
        ),
        (
            ["pod/far-1"],
            "no pod far-1 in namespace shop; there is far-0",
        ),
        (
            ["deploy/wep"],
            "no deployment wep in namespace shop; there is web",
        ),
        (
            ["-lapp=wbe"],
            "no pod with app=wbe in namespace shop; there is app=web",
        ),
        (
            ["-ljob=far-0"],
            "pod with job=far-0 runs on n2, not on this node: run netdiag there",
        ),
    ] {
        assert_eq!(refusal(&ask(&query)), expected);
    }

    // Without a runtime the API is what gives the processes' UIDs their names.
    node.kill_containerd().unwrap();
    std::fs::remove_dir_all(node.root().join("var/lib/cni/results")).unwrap();
    let ask = |query: &[&str]| {
        let common = ["-n", "shop", "--kubeconfig", config];
        node.traced(&[query, &common, &SHORT].concat()).unwrap()
    };
    for (query, name) in [
        ("deploy/web", "web-5d-aaaaa"),
        ("pod/web-5d-aaaaa", "web-5d-aaaaa"),
        ("pod/proxy-n1", "proxy-n1"),
    ] {
        let ended = ask(&[query]);
        assert!(
            ready(&ended).starts_with(&format!("shop/{name} to")),
            "{query}: {ended:#?}"
        );
    }
}

#[test]
fn an_api_that_refuses_or_hangs_costs_names_and_not_the_trace() {
    let Some(mut node) = node() else { return };
    node.run_pod(
        "shop",
        "web-5d-aaaaa",
        &[("app", "web"), ("pod-template-hash", "5d")],
    )
    .unwrap();
    let mut server = ApiServer::on(node.listen().unwrap()).unwrap();
    let config = node.share("kubeconfig", &server.kubeconfig()).unwrap();
    let config = config.to_str().unwrap();
    for fault in [Some(Fault::Status(403)), Some(Fault::Silence), None] {
        server.heal();
        match fault.clone() {
            Some(fault) => server.fail("/", fault),
            None => server.stop(),
        }
        for query in [
            &["deploy/web"][..],
            &["-l", "app=web"],
            &["pod/web-5d-aaaaa"],
        ] {
            let common = ["-n", "shop", "--kubeconfig", config];
            let ended = node.traced(&[query, &common, &SHORT].concat()).unwrap();
            assert!(
                ready(&ended).starts_with("shop/web-5d-aaaaa to"),
                "{fault:?}: {ended:#?}"
            );
            let by_name = query[0].starts_with("pod/");
            let said = blind(&ended)
                .iter()
                .filter(|spot| spot.starts_with("Kubernetes API"))
                .count();
            assert_eq!(
                said,
                usize::from(!by_name),
                "{fault:?} {query:?}: {ended:#?}"
            );
        }
    }
}
