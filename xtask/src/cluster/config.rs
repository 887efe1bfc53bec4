//! The configuration files, where a node set up by the usual tools has them.

use super::network::{DNS_SERVICE, NODE, PODS, PODS_HERE};
use super::place::Place;

pub const CONTAINERD: &str = "/etc/containerd/config.toml";
pub const CNI: &str = "/etc/cni/net.d/10-netdiag.conflist";
pub const KUBELET: &str = "/var/lib/kubelet/config.yaml";
pub const KUBELET_KUBECONFIG: &str = "/etc/kubernetes/kubelet.conf";
pub const PROXY: &str = "/var/lib/kube-proxy/config.yaml";
pub const CRI_SOCKET: &str = "unix:///run/containerd/containerd.sock";

/// `restrict_oom_score_adj`: to lower a score takes CAP_SYS_RESOURCE, which a container of ours may lack; runc ends at
/// once then.
pub fn containerd(pause: &str) -> String {
    format!(
        r#"version = 2
[plugins."io.containerd.internal.v1.opt"]
path = "/var/lib/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
restrict_oom_score_adj = true
sandbox_image = "{pause}"
cni = {{ bin_dir = "/usr/lib/cni", conf_dir = "/etc/cni/net.d" }}
"#
    )
}

/// Without the `firewall` plugin: it accepts a pod's packets before kube-proxy can refuse those to a Service without
/// endpoints.
pub fn cni() -> String {
    format!(
        r#"{{"cniVersion": "0.4.0", "name": "netdiag", "plugins": [
  {{"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
   "ipam": {{"type": "host-local", "ranges": [[{{"subnet": "{PODS_HERE}"}}]], "routes": [{{"dst": "0.0.0.0/0"}}]}}}},
  {{"type": "portmap", "capabilities": {{"portMappings": true}}}}
]}}
"#
    )
}

/// The file systems are in memory, of which there may be little: no eviction.
pub fn kubelet(place: &Place) -> String {
    format!(
        r#"apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: {NODE}
authentication: {{anonymous: {{enabled: false}}, webhook: {{enabled: true}}, x509: {{clientCAFile: {ca}}}}}
authorization: {{mode: Webhook}}
cgroupDriver: cgroupfs
cgroupRoot: /{name}
clusterDNS: [{DNS_SERVICE}]
clusterDomain: cluster.local
enforceNodeAllocatable: []
evictionHard: {{memory.available: "0%", nodefs.available: "0%", nodefs.inodesFree: "0%", imagefs.available: "0%"}}
imageGCHighThresholdPercent: 100
failSwapOn: false
oomScoreAdj: 0
volumePluginDir: /var/lib/kubelet/volumeplugins
"#,
        ca = place.text("pki/ca.crt"),
        name = place.name(),
    )
}

/// Zero leaves the machine's own limits of conntrack alone.
pub fn proxy(place: &Place) -> String {
    format!(
        r"apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {{kubeconfig: {kubeconfig}}}
clusterCIDR: {PODS}
mode: iptables
hostnameOverride: {name}
oomScoreAdj: 0
conntrack: {{maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}}
iptables: {{minSyncPeriod: 0s, syncPeriod: 10s}}
",
        kubeconfig = place.text("kube-proxy.conf"),
        name = place.name(),
    )
}

pub fn kubeconfig(place: &Place, token: &str) -> String {
    format!(
        r"apiVersion: v1
kind: Config
clusters: [{{name: netdiag, cluster: {{server: 'https://{NODE}:6443', certificate-authority: '{ca}'}}}}]
users: [{{name: user, user: {{token: {token}}}}}]
contexts: [{{name: netdiag, context: {{cluster: netdiag, user: user}}}}]
current-context: netdiag
",
        ca = place.text("pki/ca.crt"),
    )
}
