//! One node with many faults at once: what `cargo xtask demo` traces. Each conversation meets one of them.

use anyhow::Result;

use super::controls::{self, NO_NEIGHBOUR, step};
use super::socket::RESET_UNREPORTED;
use crate::faults::{Case, Place, at, conntrack, firewall, kube, routing};
use crate::scenario::{Attempt, Expect, Scenario};
use crate::server::port;
use crate::step::{Answer, Kind, Step};

pub const SCENARIOS: &[Scenario] = &[Scenario::new(
    "demo",
    "twelve faults at once: three rule back ends, a lost reply, an empty Service, SNAT ports, routes, neighbours, silence",
    break_everything,
    attempts,
)
.only_v4()
.only_bridge()];

const FORWARD: &[&str] = &["NF_FORWARD"];

fn break_everything(case: &Case) -> Result<()> {
    let node = &case.node.netns;
    firewall::forward_rule(case)?;
    node.sh("iptables-legacy -I FORWARD -p udp --dport 9001 -j DROP")?;
    node.sh("nft add table inet corpfw")?;
    node.sh("nft add chain inet corpfw egress { type filter hook forward priority -10 ; }")?;
    node.sh(
        "nft add rule inet corpfw egress tcp dport 8082 counter reject comment \"no-legacy-api\"",
    )?;
    node.sh("iptables -I FORWARD -p udp --sport 9002 -j DROP")?;
    routing::blackhole_route(case)?;
    conntrack::drop_invalid(case)?;
    kube::no_endpoints(case)?;
    conntrack::two_snat_ports_to(case, port::SLOW)?;
    let silent = format!("iptables -I INPUT -p tcp --dport {} -j DROP", port::MUTE);
    case.node.external.sh(&silent).map(drop)
}

fn attempts(place: &Place) -> Vec<Attempt> {
    let external = place.healthy();
    let (timeout, refused) = (&[Answer::Timeout] as &[_], &[Answer::Refused] as &[_]);
    let unreachable: &[_] = &[Answer::Unreachable, Answer::Timeout];
    let try_ = |kind, to, port| Step::new(kind, at(to, port));
    let nft = Expect::firewall(FORWARD).component(&[("table", "corpfw"), ("verdict", "REJECT")]);
    let legacy = Expect::firewall(FORWARD).component(&[("backend", "legacy"), ("rule", "1")]);
    let reply = Expect::reply_lost(&["HOST_FIREWALL_DROP"], FORWARD);
    let nobody =
        Step::new(Kind::Tcp, at(place.addresses().nobody, port::TCP[0])).timeout(NO_NEIGHBOUR);
    let broken = vec![
        Attempt::new(
            step(Kind::Tcp, external),
            timeout,
            Expect::firewall(FORWARD).component(&[("backend", "nft")]),
        ),
        Attempt::new(try_(Kind::Udp, external, port::UDP[1]), timeout, legacy),
        Attempt::new(try_(Kind::Tcp, external, port::TCP[2]), refused, nft),
        Attempt::new(try_(Kind::Udp, external, port::UDP[2]), timeout, reply),
        Attempt::new(
            try_(Kind::Tcp, place.broken(), port::TCP[0]),
            unreachable,
            Expect::dropped(&["BLACKHOLE_ROUTE"], &["FIB"]),
        ),
        Attempt::new(
            try_(Kind::RawSyn, external, port::TCP[0]).bad_checksum(),
            &[Answer::Sent],
            Expect::dropped(&["CONNTRACK_INVALID"], FORWARD),
        ),
        Attempt::new(try_(Kind::Tcp, place.local(), port::CLOSED), refused, {
            Expect::refused(&["PORT_NOT_LISTENING"], &["SOCKET"]).weaker(&[RESET_UNREPORTED])
        }),
        Attempt::new(try_(Kind::Tcp, external, port::CLOSED), refused, {
            Expect::refused(&["PEER_REFUSED"], &["FABRIC", "NIC_INGRESS"])
        }),
        Attempt::new(
            nobody,
            unreachable,
            Expect::dropped(&["NEIGH_FAILED"], &["NIC_EGRESS", "NF_POSTROUTING"]),
        ),
        Attempt::new(
            try_(Kind::Tcp, external, port::SLOW),
            timeout,
            Expect::dropped(&["SNAT_PORTS_EXHAUSTED"], &["NF_POSTROUTING"]),
        ),
        Attempt::new(
            try_(Kind::Tcp, place.addresses().vip_local, kube::EMPTY_PORT),
            refused,
            Expect::dropped(&["SVC_NO_ENDPOINTS"], FORWARD)
                .component(&[("owner", "kube-proxy"), ("name", kube::EMPTY_SERVICE)]),
        ),
        Attempt::new(
            try_(Kind::Tcp, external, port::MUTE),
            timeout,
            Expect::no_answer(&["NO_ANSWER"]),
        ),
    ];
    [
        broken,
        controls::services(place),
        vec![controls::icmp(external), controls::dns(external)],
    ]
    .concat()
}
