//! `BRIDGE_DROP`: the bridge does not forward the frame.

use super::{Page, Rule, death};
use crate::flow::drops::DropKind;
use crate::verdict::case::Case;
use crate::verdict::finding::Finding;
use crate::verdict::types::{Cause, Component};

#[derive(Debug)]
pub struct BridgeDrop;

impl Rule for BridgeDrop {
    fn cause(&self) -> Cause {
        Cause("BRIDGE_DROP")
    }

    fn page(&self) -> Page {
        Page {
            what_happened: "A Linux bridge on this node dropped the frame: the port is isolated, blocked by spanning tree, not a member of the VLAN, or locked.",
            how_we_know: "The kernel freed it in the bridge's own code, outside any netfilter hook.",
            what_else: "ebtables and nftables rules of family bridge are netfilter drops and reported as such.",
            what_to_do: "`bridge -d link show` and `bridge vlan show` tell the port's state, isolation and VLANs.",
        }
    }

    fn judge(&self, case: &Case<'_>) -> Option<Finding> {
        let found = case.death_of(|kind| kind == DropKind::Bridge)?;
        let port = found.group.ifname.as_deref().unwrap_or("PORT");
        let component = Component {
            kind: "bridge_port".to_owned(),
            name: Some(port.to_owned()),
            ..Component::default()
        };
        let commands = [
            format!("bridge -d link show dev {port}"),
            format!("bridge vlan show dev {port}"),
        ];
        let summary = format!("the bridge does not forward what comes in by port {port}");
        Some(
            death(self.cause(), found)
                .component(component)
                .remedy(summary, commands),
        )
    }
}
