//! Every process of the node, in the order in which they start.

use std::path::Path;

use super::component::Component;
use super::config;
use super::network::{NODE, PODS, SERVICES};
use super::place::Place;

/// The reverse of the start, but for the runtime: while it is up its sandboxes can be removed.
pub const STOPPED_FIRST: &[&str] = &[
    "kubelet",
    "kube-proxy",
    "kube-controller-manager",
    "kube-scheduler",
];
pub const STOPPED_LAST: &[&str] = &["containerd", "kube-apiserver", "etcd"];

pub fn containerd() -> Component {
    Component {
        name: "containerd",
        command: words(&["containerd", "--config", config::CONTAINERD]),
        serves: "ctr version".to_owned(),
    }
}

/// The control plane and the node's own agents; `programs` is the folder of the built ones.
pub fn kubernetes(place: &Place, programs: &Path) -> Vec<Component> {
    let program = |name: &str| programs.join(name).to_string_lossy().into_owned();
    let kubectl = format!("kubectl --kubeconfig {} ", place.text("admin.conf"));
    vec![
        Component {
            name: "etcd",
            command: etcd(),
            serves: String::new(),
        },
        Component {
            name: "kube-apiserver",
            command: apiserver(place, program("kube-apiserver")),
            serves: format!("{kubectl} get --raw /readyz"),
        },
        Component {
            name: "kube-controller-manager",
            command: vec![
                program("kube-controller-manager"),
                kubeconfig(place, "kube-controller-manager"),
                format!("--root-ca-file={}", place.text("pki/ca.crt")),
                format!(
                    "--service-account-private-key-file={}",
                    place.text("pki/sa.key")
                ),
                "--use-service-account-credentials=true".to_owned(),
                format!("--cluster-cidr={PODS}"),
                "--leader-elect=false".to_owned(),
            ],
            serves: String::new(),
        },
        Component {
            name: "kube-scheduler",
            command: vec![
                program("kube-scheduler"),
                kubeconfig(place, "kube-scheduler"),
                "--leader-elect=false".to_owned(),
            ],
            serves: String::new(),
        },
        Component {
            name: "kube-proxy",
            command: vec![program("kube-proxy"), format!("--config={}", config::PROXY)],
            serves: String::new(),
        },
        Component {
            name: "kubelet",
            command: kubelet(place, program("kubelet")),
            serves: format!(
                "{kubectl} wait --for=condition=Ready --timeout=5s node/{}",
                place.name()
            ),
        },
    ]
}

fn etcd() -> Vec<String> {
    words(&[
        "etcd",
        "--data-dir=/var/lib/etcd",
        "--listen-client-urls=http://127.0.0.1:2379",
        "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380",
    ])
}

fn apiserver(place: &Place, program: String) -> Vec<String> {
    let file = |flag: &str, name: &str| format!("--{flag}={}", place.text(name));
    vec![
        program,
        "--etcd-servers=http://127.0.0.1:2379".to_owned(),
        "--secure-port=6443".to_owned(),
        format!("--advertise-address={NODE}"),
        file("tls-cert-file", "pki/apiserver.crt"),
        file("tls-private-key-file", "pki/apiserver.key"),
        file("kubelet-client-certificate", "pki/kubelet-client.crt"),
        file("kubelet-client-key", "pki/kubelet-client.key"),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        file("token-auth-file", "tokens.csv"),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        file("service-account-key-file", "pki/sa.pub"),
        file("service-account-signing-key-file", "pki/sa.key"),
        format!("--service-cluster-ip-range={SERVICES}"),
        "--allow-privileged".to_owned(),
    ]
}

fn kubelet(place: &Place, program: String) -> Vec<String> {
    let mut command = vec![program, format!("--config={}", config::KUBELET)];
    command.push(format!("--kubeconfig={}", config::KUBELET_KUBECONFIG));
    command.extend(words(&[
        "--root-dir=/var/lib/kubelet",
        "--cert-dir=/var/lib/kubelet/pki",
        "--container-runtime=remote",
    ]));
    command.push(format!(
        "--container-runtime-endpoint={}",
        config::CRI_SOCKET
    ));
    command.push(format!("--hostname-override={}", place.name()));
    command.push(format!("--node-ip={NODE}"));
    command
}

fn kubeconfig(place: &Place, name: &str) -> String {
    format!("--kubeconfig={}", place.text(&format!("{name}.conf")))
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}
