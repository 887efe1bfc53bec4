//! One look, by what the node alone knows.

use crate::{SHORT, blind, node, ready, refusal, sources};

#[test]
fn every_name_leads_to_the_pod() {
    let Some(mut node) = node() else { return };
    let labels = [("app", "web"), ("pod-template-hash", "7f9c4d")];
    let web = node.run_pod("shop", "web-7f9c4d-x2x9k", &labels).unwrap();
    let container = node.run_container(&web, "server").unwrap();
    let veth = node.veth(&web).unwrap();
    let uid = format!("pod/{}", web.uid);
    let id = format!("container/{}", &container[..12]);
    let sandbox = format!("container/containerd://{}", web.sandbox);
    for query in [
        vec!["pod/web-7f9c4d-x2x9k", "-n", "shop"],
        vec![&uid],
        vec!["-l", "app=web,!canary", "-n", "shop"],
        vec!["deployment/web", "-n", "shop"],
        vec!["rs/web-7f9c4d", "-n", "shop"],
        vec![&id],
        vec![&sandbox],
    ] {
        let ended = node.traced(&[&query[..], &SHORT].concat()).unwrap();
        let expected = format!("shop/web-7f9c4d-x2x9k to anywhere, watching {veth} and uplink up0");
        assert_eq!(ready(&ended), expected, "{query:?}: {ended:#?}");
        assert_eq!(ended.code, Some(0), "{ended:#?}");
    }
}

#[test]
fn what_is_not_there_is_refused_with_what_may_be_meant() {
    let Some(mut node) = node() else { return };
    let web = node.run_pod("shop", "web-0", &[("app", "web")]).unwrap();
    let other = node.run_pod("shop", "web-1", &[("app", "web")]).unwrap();
    for pod in [&web, &other] {
        node.run_container(pod, "server").unwrap();
    }
    // Two ids that begin the same are hard to come by; one digit is the start of enough.
    let ids = [web.sandbox.as_str(), &other.sandbox];
    let same = ids[0][..1] == ids[1][..1];
    for (query, parts) in [
        (
            vec!["pod/web-0"],
            vec!["no pod web-0 in namespace default", "(-n shop)"],
        ),
        (vec!["pod/wbe-0", "-n", "shop"], vec!["there is web-0"]),
        (
            vec!["-l", "app=db", "-n", "shop"],
            vec!["app=db", "in namespace shop"],
        ),
        (vec!["ds/web", "-n", "shop"], vec!["daemonset web"]),
        (
            vec!["container/0123456789abcdef"],
            vec!["no running container"],
        ),
        (
            vec![
                "pod/web-0",
                "-n",
                "shop",
                "--runtime-endpoint",
                "unix:///no/such",
            ],
            vec!["/no/such"],
        ),
        (
            vec!["pod/web-0", "--kubeconfig", "/no/such"],
            vec!["--kubeconfig /no/such"],
        ),
    ] {
        let ended = node.traced(&query).unwrap();
        let line = refusal(&ended);
        assert!(
            parts.iter().all(|part| line.contains(part)),
            "{query:?}: {line}"
        );
    }
    if same {
        let ended = node
            .traced(&[&format!("container/{}", &ids[0][..1])])
            .unwrap();
        assert!(
            refusal(&ended).contains("give more of the id"),
            "{ended:#?}"
        );
    }
}

#[test]
fn a_dead_sandbox_is_never_taken_for_a_live_one() {
    let Some(mut node) = node() else { return };
    let old = node.run_pod("shop", "db-0", &[("app", "db")]).unwrap();
    node.stop(&old).unwrap();
    for query in [
        vec!["pod/db-0", "-n", "shop"],
        vec!["-l", "app=db", "-n", "shop"],
    ] {
        let ended = node.traced(&query).unwrap();
        assert!(refusal(&ended).starts_with("no pod "), "{ended:#?}");
    }
    let id = format!("container/{}", old.sandbox);
    assert!(refusal(&node.traced(&[&id]).unwrap()).contains("no running"));
    // The dead one is still listed beside the one that replaced it.
    let new = node.restart(&old).unwrap();
    let ended = node
        .traced(&[&["pod/db-0", "-n", "shop"][..], &SHORT].concat())
        .unwrap();
    let veth = node.veth(&new).unwrap();
    assert!(
        ready(&ended).contains(&format!("watching {veth} ")),
        "{ended:#?}"
    );
    node.remove(&old).unwrap();
}

#[test]
fn without_a_runtime_cgroups_and_plugin_files_find_the_pod() {
    let Some(mut node) = node() else { return };
    let web = node.run_pod("shop", "web-0", &[("app", "web")]).unwrap();
    let container = node.run_container(&web, "server").unwrap();
    let veth = node.veth(&web).unwrap();
    let (uid, id) = (format!("pod/{}", web.uid), format!("container/{container}"));
    node.kill_containerd().unwrap();
    for query in [
        vec!["pod/web-0", "-n", "shop"],
        vec!["sts/web", "-n", "shop"],
        vec![&uid],
        vec![&id],
    ] {
        let ended = node.traced(&[&query[..], &SHORT].concat()).unwrap();
        let expected = format!("shop/web-0 to anywhere, watching {veth} and uplink up0");
        assert_eq!(ready(&ended), expected, "{query:?}: {ended:#?}");
        let spots = blind(&ended);
        assert!(
            spots
                .iter()
                .any(|spot| spot.starts_with("container runtime")),
            "{spots:?}"
        );
    }
    let labels = node.traced(&["-l", "app=web", "-n", "shop"]).unwrap();
    assert!(
        refusal(&labels).starts_with("cannot find pod with app=web"),
        "{labels:#?}"
    );

    std::fs::remove_dir_all(node.root().join("var/lib/cni/results")).unwrap();
    let ended = node
        .traced(&[&[uid.as_str()][..], &SHORT].concat())
        .unwrap();
    assert!(ready(&ended).starts_with(&web.uid), "{ended:#?}");
    let ended = node.traced(&["pod/web-0", "-n", "shop"]).unwrap();
    assert!(
        refusal(&ended).starts_with("cannot find pod web-0"),
        "{ended:#?}"
    );
}

#[test]
fn a_pod_of_the_host_network_is_the_node_and_that_is_said() {
    let Some(mut node) = node() else { return };
    node.run_host_pod("kube-system", "proxy").unwrap();
    let ended = node
        .traced(&[&["pod/proxy", "-n", "kube-system"][..], &SHORT].concat())
        .unwrap();
    assert!(
        ready(&ended).starts_with("the node to anywhere"),
        "{ended:#?}"
    );
    let spots = blind(&ended);
    let said = |spot: &&str| spot.starts_with("pod kube-system/proxy: it uses the node's network");
    assert_eq!(
        spots.iter().filter(|spot| said(spot)).count(),
        1,
        "{spots:?}"
    );
}

#[test]
fn a_pod_on_a_macvlan_has_a_veth_that_cannot_be_seen() {
    let Some(mut node) = node() else { return };
    let pod = node.run_pod("shop", "fast-0", &[]).unwrap();
    // The plugin's veth makes room for a device that sits on the uplink.
    let netns = node.netns_name(&pod).unwrap();
    node.script(&format!(
        "ip -n {netns} link del eth0
         ip link add eth0 link up0 netns {netns} type macvlan mode bridge
         ip -n {netns} addr add 192.0.2.7/24 dev eth0
         ip -n {netns} link set eth0 up"
    ))
    .unwrap();
    let ended = node
        .traced(&[&["pod/fast-0", "-n", "shop"][..], &SHORT].concat())
        .unwrap();
    assert!(
        ready(&ended).starts_with("shop/fast-0 to anywhere"),
        "{ended:#?}"
    );
    let spots = blind(&ended);
    let said = |spot: &&str| {
        spot.contains("eth0 of shop/fast-0 is a macvlan") && spot.contains("NOT_OBSERVABLE")
    };
    assert_eq!(
        spots.iter().filter(|spot| said(spot)).count(),
        1,
        "{spots:?}"
    );
}

#[test]
fn a_name_nobody_resolves_is_seen_in_the_pods_dns() {
    let Some(mut node) = node() else { return };
    node.run_pod("shop", "web-0", &[]).unwrap();
    // Nothing listens for DNS there, and the host says so.
    let ended = node
        .traced(&[
            "pod/web-0",
            "-n",
            "shop",
            "--to",
            "nobody.invalid:80",
            "--",
            "dig",
            "+tries=1",
            "+time=1",
            "@198.51.100.10",
            "nobody.invalid",
        ])
        .unwrap();
    let spots = blind(&ended);
    assert!(
        spots.iter().any(|spot| spot.contains("nobody.invalid")),
        "{spots:?}"
    );
    assert_eq!(sources(&ended), ["shop/web-0"], "{ended:#?}");
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    assert!(
        ended.stdout.contains(r#""destination_port":53"#),
        "{ended:#?}"
    );
}
