use super::*;
use crate::ruleset::{iptables, nft};

/// As kube-proxy 1.20 writes them.
const IPTABLES: &str = "\
*nat
:PREROUTING ACCEPT [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-SEP-SSNRUPB5VEXLH7IU - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-CDGGSHYLG3RE2FKL - [0:0]
:KUBE-SVC-NPX46M4PTMTKRN6Y - [0:0]
[0:0] -A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
[0:0] -A KUBE-SEP-SSNRUPB5VEXLH7IU -s 10.244.1.4/32 -m comment --comment \"default/web:http\" -j KUBE-MARK-MASQ
[0:0] -A KUBE-SEP-SSNRUPB5VEXLH7IU -p tcp -m comment --comment \"default/web:http\" -m tcp -j DNAT --to-destination 10.244.1.4:8000
[0:0] -A KUBE-SERVICES ! -s 10.244.0.0/16 -d 10.96.10.10/32 -p tcp -m comment --comment \"default/web:http cluster IP\" -m tcp --dport 80 -j KUBE-MARK-MASQ
[0:0] -A KUBE-SERVICES -d 10.96.10.10/32 -p tcp -m comment --comment \"default/web:http cluster IP\" -m tcp --dport 80 -j KUBE-SVC-CDGGSHYLG3RE2FKL
[0:0] -A KUBE-SERVICES ! -s 10.244.0.0/16 -d 10.96.0.1/32 -p tcp -m comment --comment \"default/kubernetes:https cluster IP\" -m tcp --dport 443 -j KUBE-MARK-MASQ
[0:0] -A KUBE-SERVICES -d 10.96.0.1/32 -p tcp -m comment --comment \"default/kubernetes:https cluster IP\" -m tcp --dport 443 -j KUBE-SVC-NPX46M4PTMTKRN6Y
[0:0] -A KUBE-SERVICES -m comment --comment \"kubernetes service nodeports; NOTE: this must be the last rule in this chain\" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
[0:0] -A KUBE-SVC-CDGGSHYLG3RE2FKL -m comment --comment \"default/web:http\" -j KUBE-SEP-SSNRUPB5VEXLH7IU
COMMIT
";

fn in_iptables(text: &str, service: &str) -> Coverage {
    let ruleset = Ruleset {
        tables: iptables::parse(text, Backend::IptablesNft, Family::Ip).tables,
        ..Ruleset::default()
    };
    coverage(&ruleset, Proto::TCP, service.parse().unwrap())
}

#[test]
fn iptables_rules_are_found_by_address_and_port() {
    let mode = Mode::Iptables;
    assert_eq!(
        in_iptables(IPTABLES, "10.96.10.10:80"),
        Coverage::Translated(mode)
    );
    assert_eq!(
        in_iptables(IPTABLES, "10.96.10.10:81"),
        Coverage::Missing(mode)
    );
    assert_eq!(
        in_iptables(IPTABLES, "10.96.10.11:80"),
        Coverage::Missing(mode)
    );
    let hollow = Coverage::Hollow(mode, "KUBE-SVC-NPX46M4PTMTKRN6Y".to_owned());
    assert_eq!(in_iptables(IPTABLES, "10.96.0.1:443"), hollow);
    assert_eq!(in_iptables(IPTABLES, "[fd00::1]:80"), Coverage::NoProxy);
    assert_eq!(
        in_iptables("*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n", "10.96.0.1:443"),
        Coverage::NoProxy
    );
}

/// As kube-proxy 1.36 writes it.
const NFTABLES: &str = r#"{"nftables": [
  {"table": {"family": "ip", "name": "kube-proxy", "handle": 1}},
  {"chain": {"family": "ip", "table": "kube-proxy", "name": "service-2QRHZV4L-default/web/tcp/http", "handle": 5}},
  {"chain": {"family": "ip", "table": "kube-proxy", "name": "service-HOLLOW-default/old/tcp/", "handle": 6}},
  {"map": {"family": "ip", "name": "service-ips", "table": "kube-proxy", "type": ["ipv4_addr", "inet_proto", "inet_service"],
    "handle": 3, "map": "verdict", "elem": [
      [{"concat": ["10.96.10.10", "tcp", 80]}, {"goto": {"target": "service-2QRHZV4L-default/web/tcp/http"}}],
      [{"concat": ["10.96.10.12", "tcp", 80]}, {"goto": {"target": "service-HOLLOW-default/old/tcp/"}}]
    ]}},
  {"rule": {"family": "ip", "table": "kube-proxy", "chain": "service-2QRHZV4L-default/web/tcp/http", "handle": 9, "expr": [
    {"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": "tcp"}},
    {"dnat": {"family": "ip", "addr": {"map": {"key": {"numgen": {"mode": "random", "mod": 1, "offset": 0}},
      "data": {"set": [[0, {"concat": ["10.244.1.4", 8000]}]]}}}}}
  ]}}
]}"#;

#[test]
fn nftables_elements_are_found_by_address_and_port() {
    let ruleset = Ruleset {
        tables: nft::parse(NFTABLES).unwrap().tables,
        ..Ruleset::default()
    };
    let found = |service: &str| coverage(&ruleset, Proto::TCP, service.parse().unwrap());
    let mode = Mode::Nftables;
    assert_eq!(found("10.96.10.10:80"), Coverage::Translated(mode));
    assert_eq!(found("10.96.10.10:443"), Coverage::Missing(mode));
    let hollow = Coverage::Hollow(mode, "service-HOLLOW-default/old/tcp/".to_owned());
    assert_eq!(found("10.96.10.12:80"), hollow);
    let udp = coverage(&ruleset, Proto::UDP, "10.96.10.10:80".parse().unwrap());
    assert_eq!(udp, Coverage::Missing(mode));
}
