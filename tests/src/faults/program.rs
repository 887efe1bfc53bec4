//! What drops on an interface: BPF programs of somebody else, a bridge port, a queue, a tunnel.

use anyhow::Result;

use super::{Case, at, broken};
use crate::bpf::{Attach, Side, attach_dropper};
use crate::plan::Family;
use crate::send;
use crate::server::port;
use crate::step::{Kind, Step};

fn on(case: &Case, interface: &str, attach: Attach) -> Result<()> {
    let held = attach_dropper(
        &case.node.netns,
        interface,
        attach,
        case.family,
        broken::TCP,
    )?;
    case.node.keep(held);
    Ok(())
}

/// A tc filter as the packet leaves by the uplink.
pub fn filter_on_uplink(case: &Case) -> Result<()> {
    on(case, case.node.uplink(), Attach::Filter(Side::Egress))
}

/// A tc filter as the packet enters from the pod.
pub fn filter_on_veth(case: &Case) -> Result<()> {
    on(case, case.node.veth(), Attach::Filter(Side::Ingress))
}

/// A tcx link on the uplink.
pub fn tcx_on_uplink(case: &Case) -> Result<()> {
    on(case, case.node.uplink(), Attach::Tcx(Side::Egress))
}

/// A tcx link on the pod's veth.
pub fn tcx_on_veth(case: &Case) -> Result<()> {
    on(case, case.node.veth(), Attach::Tcx(Side::Ingress))
}

/// XDP on the pod's veth.
pub fn xdp_on_veth(case: &Case) -> Result<()> {
    on(case, case.node.veth(), Attach::Xdp)
}

/// A classic BPF filter that tc assembles itself: it drops, yet has no program name or id.
pub fn classic_on_uplink(case: &Case) -> Result<()> {
    let uplink = case.node.uplink();
    let offset = match case.family {
        Family::V4 => 14 + 20 + 2,
        Family::V6 => 14 + 40 + 2,
    };
    // ldh [offset]; jeq #port, drop, pass; ret TC_ACT_SHOT; ret TC_ACT_UNSPEC
    let code = format!(
        "4,40 0 0 {offset},21 0 1 {},6 0 0 2,6 0 0 4294967295",
        broken::TCP
    );
    case.node
        .run(&format!("tc qdisc add dev {uplink} clsact"))?;
    case.node.netns.run(
        "tc",
        &[
            "filter", "add", "dev", uplink, "egress", "bpf", "da", "bytecode", &code,
        ],
    )?;
    Ok(())
}

/// Both pods' bridge ports are isolated from each other, after the pods got to know each other: a broadcast question
/// between them would be lost as well.
pub fn isolated_ports(case: &Case) -> Result<()> {
    let hello = Step::new(Kind::Tcp, at(case.local(), port::TCP[0]));
    case.node.pod().within(|| send::one(&hello))?;
    for veth in &case.node.plan.names.veths {
        case.node
            .run(&format!("bridge link set dev {veth} isolated on"))?;
    }
    Ok(())
}

/// A class of the uplink's queueing discipline that has no room at all.
pub fn full_queue(case: &Case) -> Result<()> {
    let uplink = case.node.uplink();
    let (protocol, word) = match case.family {
        Family::V4 => ("ip", "ip"),
        Family::V6 => ("ipv6", "ip6"),
    };
    for line in [
        format!("tc qdisc add dev {uplink} root handle 1: htb default 10"),
        format!("tc class add dev {uplink} parent 1: classid 1:10 htb rate 10gbit"),
        format!("tc class add dev {uplink} parent 1: classid 1:20 htb rate 10gbit"),
        format!("tc qdisc add dev {uplink} parent 1:20 pfifo limit 0"),
        format!(
            "tc filter add dev {uplink} parent 1: protocol {protocol} u32 match {word} dport {} 0xffff flowid 1:20",
            broken::TCP
        ),
    ] {
        case.node.run(&line)?;
    }
    Ok(())
}

/// A VXLAN device that knows one network, and gets packets of another.
pub fn vxlan(case: &Case) -> Result<()> {
    case.node.run(&format!(
        "ip link add vx0 type vxlan id 42 dstport {} local {} nolearning",
        broken::VXLAN,
        case.addresses().node
    ))?;
    case.node.run("ip link set vx0 up").map(drop)
}
