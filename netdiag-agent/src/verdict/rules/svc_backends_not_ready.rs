//! `SVC_BACKENDS_NOT_READY`: the Service selects pods, and none of them is ready.

use super::{Page, Rule, service};
use crate::verdict::case::Case;
use crate::verdict::finding::Finding;
use crate::verdict::types::{Cause, Confidence};

/// Names told one by one.
const NAMED: usize = 5;

#[derive(Debug)]
pub struct SvcBackendsNotReady;

impl Rule for SvcBackendsNotReady {
    fn cause(&self) -> Cause {
        Cause("SVC_BACKENDS_NOT_READY")
    }

    fn page(&self) -> Page {
        Page {
            what_happened: "The Service's selector does select pods, but none of them is ready, so kube-proxy has nobody to send the request to.",
            how_we_know: "The EndpointSlices at the time of the packet hold only endpoints that are not ready (or the selected pods have no address yet), and the packet was rejected by kube-proxy or went on under the Service's own address.",
            what_else: "A readiness probe that fails because of the network itself: trace from the node to the pod's probe port.",
            what_to_do: "Find out why the pods are not ready: their readiness probe, their events, their containers' logs.",
        }
    }

    fn judge(&self, case: &Case<'_>) -> Option<Finding> {
        let asked = service::asked(case)?;
        let backends = service::backends(case, asked.service, asked.port?)?;
        if !backends.ready.is_empty() || backends.portless > 0 || backends.waiting.is_empty() {
            return None;
        }
        let confidence = if service::proxy_says_so(case) {
            Confidence::Proven
        } else {
            Confidence::Inferred
        };
        let finding = service::failure(case, self.cause(), confidence)?;
        let name = &asked.service.name;
        let count = backends.waiting.len();
        let mut named = backends.waiting[..count.min(NAMED)].join(", ");
        if count > NAMED {
            named += ", …";
        }
        let selector = super::svc_no_endpoints::spelled(&asked.service.selector);
        let namespace = &name.namespace;
        let first = &backends.waiting[0];
        Some(
            finding
                .component(asked.component(case))
                .evidence("endpointslice", None, format!("0 of {count} ready; not ready: {named}"))
                .remedy(
                    format!("Service {name} selects {count} pod(s), and none is ready: {named}"),
                    [
                        format!("kubectl -n {namespace} get pods -l {selector} -o wide"),
                        format!("kubectl -n {namespace} describe pod {first} # readiness probe and events"),
                    ],
                ),
        )
    }
}
