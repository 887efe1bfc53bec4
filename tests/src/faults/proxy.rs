//! kube-proxy's rules, laid out as it does in either mode, for one Service: `shop/web:http`.

use std::net::{IpAddr, SocketAddr};

use anyhow::Result;

use super::Case;
use crate::plan::Family;
use crate::topology::nft_tool;

/// Of the Service kube-proxy knows.
pub const PORT: u16 = 8880;
/// A Service port the cluster defines, and kube-proxy knows nothing of.
pub const UNKNOWN_PORT: u16 = 5432;
/// Neither defines it.
pub const UNDEFINED_PORT: u16 = 8881;

/// Mode iptables, sending the Service to this port of the second pod. The stranger's address is its load balancer's.
fn iptables(case: &Case, target: u16) -> Result<()> {
    let (vip, backend) = ends(case, target);
    let host = |address: IpAddr| format!("{address}/{}", case.family.bits());
    let (vip, pod) = (host(vip), host(backend.ip()));
    let outer = host(case.addresses().stranger);
    let script = format!(
        "\
*nat
:KUBE-EXT-W2MG5QGTIKJQQCFN - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-SEP-4EWGBKGQZGMKMJPJ - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-W2MG5QGTIKJQQCFN - [0:0]
-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING
-A KUBE-EXT-W2MG5QGTIKJQQCFN -m comment --comment \"masquerade traffic for shop/web:http external destinations\" -j KUBE-MARK-MASQ
-A KUBE-EXT-W2MG5QGTIKJQQCFN -j KUBE-SVC-W2MG5QGTIKJQQCFN
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -m comment --comment \"kubernetes service traffic requiring SNAT\" -j MASQUERADE
-A KUBE-SEP-4EWGBKGQZGMKMJPJ -s {pod} -m comment --comment \"shop/web:http\" -j KUBE-MARK-MASQ
-A KUBE-SEP-4EWGBKGQZGMKMJPJ -p tcp -m comment --comment \"shop/web:http\" -m tcp -j DNAT --to-destination {backend}
-A KUBE-SERVICES -d {vip} -p tcp -m comment --comment \"shop/web:http cluster IP\" -m tcp --dport {PORT} -j KUBE-SVC-W2MG5QGTIKJQQCFN
-A KUBE-SERVICES -d {outer} -p tcp -m comment --comment \"shop/web:http loadbalancer IP\" -m tcp --dport {PORT} -j KUBE-EXT-W2MG5QGTIKJQQCFN
-A KUBE-SERVICES -m comment --comment \"kubernetes service nodeports; NOTE: this must be the last rule in this chain\" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
-A KUBE-SVC-W2MG5QGTIKJQQCFN -m comment --comment \"shop/web:http\" -j KUBE-SEP-4EWGBKGQZGMKMJPJ
COMMIT
"
    );
    let restore = format!("{}-restore", nft_tool(case.family));
    case.node
        .netns
        .feed(&restore, &["-w", "--noflush"], &script)
        .map(drop)
}

/// Mode nftables; what asks the Service's address for another port is rejected.
fn nftables(case: &Case, target: u16, checked: bool) -> Result<()> {
    let (vip, backend) = ends(case, target);
    let (family, kind) = match case.family {
        Family::V4 => ("ip", "ipv4_addr"),
        Family::V6 => ("ip6", "ipv6_addr"),
    };
    let pod = backend.ip();
    let check = if checked {
        format!(
            "
  set cluster-ips {{
    type {kind}
    comment \"Active ClusterIPs\"
    elements = {{ {vip} }}
  }}
  chain reject-chain {{
    comment \"helper for @no-endpoint-services / @no-endpoint-nodeports\"
    reject
  }}
  chain cluster-ips-check {{
    {family} daddr @cluster-ips reject comment \"Reject traffic to invalid ports of ClusterIPs\"
  }}
  chain filter-forward {{
    type filter hook forward priority filter; policy accept;
    ct state new jump cluster-ips-check
  }}"
        )
    } else {
        String::new()
    };
    let script = format!(
        "table {family} kube-proxy {{
  comment \"rules for kube-proxy\"
  map service-ips {{
    type {kind} . inet_proto . inet_service : verdict
    comment \"ClusterIP, ExternalIP and LoadBalancer IP traffic\"
    elements = {{ {vip} . tcp . {PORT} : goto service-4AT6LBPK-shop/web/tcp/http }}
  }}
  chain services {{
    {family} daddr . meta l4proto . th dport vmap @service-ips
  }}
  chain service-4AT6LBPK-shop/web/tcp/http {{
    meta l4proto tcp dnat {family} to numgen random mod 1 map {{ 0 : {pod} . {target} }}
  }}
  chain nat-prerouting {{
    type nat hook prerouting priority dstnat; policy accept;
    jump services
  }}{check}
}}
"
    );
    case.node.netns.feed("nft", &["-f", "-"], &script).map(drop)
}

fn ends(case: &Case, target: u16) -> (IpAddr, SocketAddr) {
    let backend = SocketAddr::new(case.local(), target);
    (case.addresses().vip_local, backend)
}

/// All is well, iptables.
pub fn healthy(case: &Case) -> Result<()> {
    iptables(case, 8080)
}

/// All is well, nftables.
pub fn healthy_nft(case: &Case) -> Result<()> {
    nftables(case, 8080, false)
}

/// All is well, and other ports are rejected.
pub fn checked_nft(case: &Case) -> Result<()> {
    nftables(case, 8080, true)
}

/// The Service's target port is one nobody serves.
pub fn mismatched(case: &Case) -> Result<()> {
    iptables(case, crate::server::port::CLOSED)
}
