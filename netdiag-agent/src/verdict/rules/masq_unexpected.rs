//! `MASQ_UNEXPECTED`: one pod of this node reaches another under a translated source.

use super::{Page, Remark, Rule};
use crate::inventory::NamespaceKind;
use crate::verdict::case::{Case, Finding};
use crate::verdict::types::{Cause, NatKind};

#[derive(Debug)]
pub struct MasqUnexpected;

impl Rule for MasqUnexpected {
    fn cause(&self) -> Cause {
        Cause("MASQ_UNEXPECTED")
    }

    fn page(&self) -> Page {
        Page {
            what_happened: "The connection works, but the other pod sees an address of the node instead of the pod's: network policies and access logs take it for the node.",
            how_we_know: "Both ends are pods of this node, and the connection's conntrack entry has a translated source. Pods are meant to reach each other without SNAT; a pod that reaches itself through a Service is the one exception.",
            what_else: "kube-proxy with --masquerade-all does this on purpose. Whether a destination beyond this node should have been exempt is not known from packets and is not claimed.",
            what_to_do: "Exempt the pod network from MASQUERADE: nonMasqueradeCIDRs of ip-masq-agent, --cluster-cidr of kube-proxy, or the CNI plugin's own setting.",
        }
    }

    /// It is no failure.
    fn judge(&self, _: &Case<'_>) -> Option<Finding> {
        None
    }

    fn remark(&self, case: &Case<'_>) -> Option<Remark> {
        let nat = case.flow.nat.iter().find(|nat| nat.kind == NatKind::Snat)?;
        let (from, to) = (case.initiator()?, case.responder()?);
        let pods = from.kind == NamespaceKind::Pod && to.kind == NamespaceKind::Pod;
        if !pods || from.netns == to.netns || nat.before.ip() == nat.after.ip() {
            return None;
        }
        let (before, after) = (nat.before.ip(), nat.after.ip());
        let tool = if before.is_ipv6() {
            "ip6tables"
        } else {
            "iptables"
        };
        Some(Remark {
            cause: self.cause(),
            caveat: format!(
                "the other pod sees {after} instead of {before}: SNAT between two pods of this node"
            ),
            summary: format!(
                "exempt the pod network from the SNAT that makes {before} appear as {after}"
            ),
            commands: vec![format!("{tool} -t nat -nvL POSTROUTING --line-numbers")],
        })
    }
}
