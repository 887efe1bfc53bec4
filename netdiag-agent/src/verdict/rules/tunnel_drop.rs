//! `TUNNEL_DROP`: an overlay device refused the packet.

use super::{Page, Rule, death};
use crate::flow::drops::DropKind;
use crate::verdict::case::Case;
use crate::verdict::finding::Finding;
use crate::verdict::types::{Cause, Component};

#[derive(Debug)]
pub struct TunnelDrop;

impl Rule for TunnelDrop {
    fn cause(&self) -> Cause {
        Cause("TUNNEL_DROP")
    }

    fn page(&self) -> Page {
        Page {
            what_happened: "A tunnel device (VXLAN, Geneve, IPIP …) of this node dropped the packet: unknown VNI, no entry for the remote node, or a header it does not accept.",
            how_we_know: "The kernel freed it with a reason of the tunnel driver, VXLAN_VNI_NOT_FOUND for example.",
            what_else: "Two nodes with different VNIs, a stale forwarding entry for a node that is gone.",
            what_to_do: "Compare VNI and port on both nodes (`ip -d link show type vxlan`) and look for the remote in `bridge fdb show`.",
        }
    }

    fn judge(&self, case: &Case<'_>) -> Option<Finding> {
        let found = case.death_of(|kind| kind == DropKind::Tunnel)?;
        let device = found.group.ifname.as_deref().unwrap_or("DEVICE");
        let component = Component {
            kind: "tunnel".to_owned(),
            name: Some(device.to_owned()),
            ..Component::default()
        };
        let reason = found
            .group
            .drop
            .reason
            .as_deref()
            .unwrap_or("no reason given");
        let commands = [
            "ip -d link show type vxlan".to_owned(),
            format!("bridge fdb show dev {device}"),
        ];
        let summary = format!("the tunnel refuses the packet at {device}: {reason}");
        Some(
            death(self.cause(), found)
                .component(component)
                .remedy(summary, commands),
        )
    }
}
