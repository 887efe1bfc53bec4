//! Translation: missing, unwanted, back to the sender, of two pods that look alike.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Result;

use super::held::{self, Held};
use super::{Case, at, broken, firewall};
use crate::plan::{Family, Topology};
use crate::server::{Server, port};
use crate::topology::{nft_tool, service_port};

fn nat(case: &Case, rule: &str) -> Result<()> {
    case.node
        .run(&format!("{} -w -t nat -I {rule}", nft_tool(case.family)))
        .map(drop)
}

/// One destination is exempt from masquerade by mistake; nobody out there knows a way back to the pods.
pub fn exempt(case: &Case) -> Result<()> {
    let (pods, to) = (&case.addresses().pods, case.healthy());
    nat(
        case,
        &format!(
            "POSTROUTING -s {pods} -d {to} -p tcp --dport {} -j RETURN",
            broken::TCP
        ),
    )
}

/// What goes through the local Service is masqueraded, though both ends are pods.
pub fn between_pods(case: &Case) -> Result<()> {
    let (pod, vip) = (case.local(), case.addresses().vip_local);
    nat(
        case,
        &format!("POSTROUTING -d {pod} -m conntrack --ctorigdst {vip} -j MASQUERADE"),
    )
}

/// A Service whose only backend is the pod that uses it.
pub fn hairpin(case: &Case) -> Result<()> {
    let (pod, vip) = (case.addresses().pod[0], case.addresses().vip_local);
    let target = SocketAddr::new(pod, port::TCP[2]);
    let server = Server::start(case.node.pod(), &[pod])?;
    case.node.keep(server);
    if case.plan.topology == Topology::Bridge {
        // Through br_netfilter a translated frame is bridged on, here to the port it came from.
        case.node.run(&format!(
            "bridge link set dev {} hairpin on",
            case.node.veth()
        ))?;
    }
    nat(
        case,
        &format!(
            "PREROUTING -d {vip} -p tcp --dport {} -j DNAT --to-destination {target}",
            service_port(port::TCP[2])
        ),
    )?;
    nat(
        case,
        &format!("POSTROUTING -s {pod} -d {pod} -j MASQUERADE"),
    )
}

/// The source port both pods use.
pub const SAME_PORT: u16 = 41_000;

/// The second pod talks to the healthy address all the time, from the port the traced pod will use.
pub fn twin(case: &Case) -> Result<()> {
    let from = at(case.local(), SAME_PORT);
    held::hold(
        case.node,
        Held {
            pod: 1,
            from,
            to: at(case.healthy(), port::TCP[0]),
            busy: true,
        },
    )
}

/// The traced pod's own rules lead what it says to the external host to a server of its own, as a mesh's do.
pub fn sidecar(case: &Case) -> Result<()> {
    let itself = match case.family {
        Family::V4 => IpAddr::from(Ipv4Addr::LOCALHOST),
        Family::V6 => IpAddr::from(Ipv6Addr::LOCALHOST),
    };
    let server = Server::start(case.node.pod(), &[itself])?;
    case.node.keep(server);
    let rule = format!(
        "{} -w -t nat -A OUTPUT -p tcp -d {} --dport {} -j REDIRECT --to-ports {}",
        nft_tool(case.family),
        case.healthy(),
        broken::TCP,
        port::TCP[0]
    );
    case.node.pod().sh(&rule).map(drop)
}

/// A connection of the traced pod that speaks when it is told to.
fn old(case: &Case, to: SocketAddr) -> Result<()> {
    let held = Held {
        pod: 0,
        from: at(case.addresses().pod[0], 0),
        to,
        busy: false,
    };
    held::hold(case.node, held)
}

/// The traced pod has had a connection through the Service for a while.
pub fn old_connection(case: &Case) -> Result<()> {
    let vip = case.addresses().vip_external;
    old(case, at(vip, service_port(port::TCP[0])))
}

/// The traced pod has had a connection to the slow server for a while.
pub fn old_slow_connection(case: &Case) -> Result<()> {
    old(case, at(case.healthy(), port::SLOW))
}

/// The traced pod has had a connection for a while when the far end falls silent.
pub fn old_silent_connection(case: &Case) -> Result<()> {
    old(case, at(case.healthy(), broken::TCP))?;
    firewall::external_silence(case)
}

/// The traced pod's TCP to the external host is translated without connection tracking, address for address, as an
/// appliance or a hand-written ruleset does it. Healthy, but no conntrack entry joins the two sides.
pub fn stateless(case: &Case) -> Result<()> {
    let (pod, node, to) = (
        case.addresses().pod[0],
        case.addresses().node,
        case.healthy(),
    );
    let ip = case.family.nft();
    for line in [
        "add table inet stateless".to_owned(),
        "add chain inet stateless arrive { type filter hook prerouting priority raw; }".to_owned(),
        "add chain inet stateless leave { type filter hook postrouting priority mangle; }"
            .to_owned(),
        format!(
            "add rule inet stateless arrive {ip} saddr {pod} {ip} daddr {to} meta l4proto tcp notrack"
        ),
        format!(
            "add rule inet stateless arrive {ip} saddr {to} {ip} daddr {node} meta l4proto tcp notrack {ip} daddr set {pod}"
        ),
        format!(
            "add rule inet stateless leave {ip} saddr {pod} {ip} daddr {to} meta l4proto tcp {ip} saddr set {node}"
        ),
    ] {
        case.node.netns.run("nft", &[line.as_str()])?;
    }
    Ok(())
}
