//! `MASQ_UNEXPECTED`: a pod is seen under a translated source where it should not be.

use super::{Page, Remark, Rule};
use crate::inventory::NamespaceKind;
use crate::ruleset::Owner;
use crate::verdict::case::Case;
use crate::verdict::finding::Finding;
use crate::verdict::masquerade::Masquerade;
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
            how_we_know: "Both ends are pods of this node, and the connection's conntrack entry has a translated source; the NAT rules it meets name the one that did it. Pods are meant to reach each other without SNAT; a pod that reaches itself through a Service is the one exception.",
            what_else: "kube-proxy with --masquerade-all does this on purpose. Of a destination beyond this node it is said only where ip-masq-agent's configuration is known and exempts it.",
            what_to_do: "Exempt the pod network from MASQUERADE: nonMasqueradeCIDRs of ip-masq-agent, --cluster-cidr of kube-proxy, or the CNI plugin's own setting.",
        }
    }

    /// It is no failure.
    fn judge(&self, _: &Case<'_>) -> Option<Finding> {
        None
    }

    fn remark(&self, case: &Case<'_>) -> Option<Remark> {
        let nat = case.flow.nat.iter().find(|nat| nat.kind == NatKind::Snat)?;
        let from = case.initiator()?;
        if from.kind != NamespaceKind::Pod || nat.before.ip() == nat.after.ip() {
            return None;
        }
        let (before, after) = (nat.before.ip(), nat.after.ip());
        // A node port is reached under the node's own address on purpose: the answer has to pass the node again.
        let asked = case.inventory.owner_of(case.flow.tuple.dst.ip());
        if asked.is_some_and(|owner| owner.kind == NamespaceKind::Node) {
            return None;
        }
        let masquerade = Masquerade::of(case);
        if masquerade.as_ref().is_some_and(Masquerade::is_of_service) {
            return None;
        }
        let to = case.responder_address();
        let caveat = match case.responder() {
            Some(responder)
                if responder.kind == NamespaceKind::Pod && responder.netns != from.netns =>
            {
                format!(
                    "the other pod sees {after} instead of {before}: SNAT between two pods of this node"
                )
            }
            None => {
                let config = case.inventory.masquerade_config()?;
                config.exempts(to).then(|| {
                    format!(
                        "{to} sees {after} instead of {before}, although {} exempts it",
                        config.file
                    )
                })?
            }
            Some(_) => return None,
        };
        let rule = masquerade.and_then(|masquerade| masquerade.translated());
        let tool = if before.is_ipv6() {
            "ip6tables"
        } else {
            "iptables"
        };
        let exempt = format!(
            "exempt {to} and its network from the SNAT that makes {before} appear as {after}"
        );
        let how = match &rule {
            Some(rule) if rule.owner == Owner::IpMasqAgent => {
                format!(
                    "{}: {exempt}, in nonMasqueradeCIDRs of ip-masq-agent",
                    rule.place
                )
            }
            Some(rule) => format!("{}: {exempt}", rule.place),
            None => exempt,
        };
        Some(Remark {
            cause: self.cause(),
            caveat,
            component: rule.map(|rule| rule.component),
            summary: how,
            commands: vec![format!("{tool} -t nat -nvL POSTROUTING --line-numbers")],
        })
    }
}
