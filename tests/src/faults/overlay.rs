//! An overlay: a second node's pod is reached through VXLAN. The external host plays the second node, the stranger's
//! address is its pod.

use anyhow::Result;

use super::{Case, broken, firewall};
use crate::netns::Netns;

const HERE: &str = "02:00:00:00:0a:01";
const THERE: &str = "02:00:00:00:0a:02";
const NETWORK: u32 = 42;

/// As flannel lays it: one device per node, neighbours written down, nothing learnt.
pub fn vxlan(case: &Case) -> Result<()> {
    let a = case.addresses();
    let device = |netns: &Netns, mac: &str, local, remote| {
        netns.sh(&format!(
            "ip link add vx42 address {mac} type vxlan id {NETWORK} dstport {} local {local} remote {remote} nolearning",
            broken::VXLAN,
        ))?;
        netns.sh("ip link set vx42 up")
    };
    let (node, far, pod) = (&case.node.netns, &case.node.external, a.stranger);
    device(node, HERE, a.node, a.upstream)?;
    device(far, THERE, a.upstream, a.node)?;
    node.sh(&format!("ip route add {pod} dev vx42"))?;
    node.sh(&format!(
        "ip neigh replace {pod} lladdr {THERE} dev vx42 nud permanent"
    ))?;
    far.sh(&format!("ip addr add {pod} dev lo nodad"))?;
    far.sh(&format!("ip route add {} dev vx42 src {pod}", a.pods))?;
    for traced in a.pod {
        far.sh(&format!(
            "ip neigh replace {traced} lladdr {HERE} dev vx42 nud permanent"
        ))?;
    }
    Ok(())
}

/// The second node drops tcp/8081 in silence.
pub fn silent(case: &Case) -> Result<()> {
    vxlan(case)?;
    firewall::external_silence(case)
}
