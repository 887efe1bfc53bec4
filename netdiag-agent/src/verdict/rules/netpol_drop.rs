//! `NETPOL_DROP`: a chain or table of a network policy engine dropped the packet.

use super::{Page, Rule, death};
use crate::verdict::case::{Case, Finding};
use crate::verdict::firewall;
use crate::verdict::types::Cause;

#[derive(Debug)]
pub struct NetpolDrop;

impl Rule for NetpolDrop {
    fn cause(&self) -> Cause {
        Cause("NETPOL_DROP")
    }

    fn page(&self) -> Page {
        Page {
            what_happened: "A network policy forbids this traffic: a rule written by the policy engine (Calico, kube-router, Azure NPM …) dropped the packet.",
            how_we_know: "The kernel freed the packet in a netfilter hook, and of that hook's rules only one in a chain or table of a policy engine is left that drops it.",
            what_else: "Chains of an engine that was removed, or of a policy that was deleted, can stay behind.",
            what_to_do: "Read the policies that select the pod (`kubectl get networkpolicy -A`), in both directions, and allow this peer and port. Do not delete the rule: the engine writes it again.",
        }
    }

    fn judge(&self, case: &Case<'_>) -> Option<Finding> {
        let dropped = firewall::dropped(case)?;
        if !dropped.is_policy() || dropped.service().is_some() {
            return None;
        }
        let finding = death(self.cause(), dropped.death)
            .component(dropped.component(case.flow.tuple.is_ipv6()));
        let undo = dropped.undo()?;
        Some(dropped.tell(finding).remedy(undo.summary, undo.commands))
    }
}
