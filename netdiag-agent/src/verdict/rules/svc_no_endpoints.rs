//! `SVC_NO_ENDPOINTS`: the Service has nobody behind it.

use super::{Page, Rule, death};
use crate::verdict::case::{Case, Finding};
use crate::verdict::firewall;
use crate::verdict::types::Cause;

#[derive(Debug)]
pub struct SvcNoEndpoints;

impl Rule for SvcNoEndpoints {
    fn cause(&self) -> Cause {
        Cause("SVC_NO_ENDPOINTS")
    }

    fn page(&self) -> Page {
        Page {
            what_happened: "The Service has no ready endpoint, so kube-proxy rejects (or, for policy Local, drops) what is sent to it.",
            how_we_know: "The packet met the rule or map element that kube-proxy writes for a Service without endpoints; its comment names the Service.",
            what_else: "The selector matches no pod, the pods are not Ready, or with externalTrafficPolicy Local none of them is on this node.",
            what_to_do: "Compare the Service's selector with the pods' labels, and look at their readiness.",
        }
    }

    fn judge(&self, case: &Case<'_>) -> Option<Finding> {
        let dropped = firewall::dropped(case)?;
        let service = dropped.service()?;
        let mut component = dropped.component(case.flow.tuple.is_ipv6());
        component.name = Some(service);
        let finding = death(self.cause(), dropped.death).component(component);
        let undo = dropped.undo()?;
        Some(dropped.tell(finding).remedy(undo.summary, undo.commands))
    }
}
