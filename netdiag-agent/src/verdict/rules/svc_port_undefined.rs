//! `SVC_PORT_UNDEFINED`: the Service has no such port.

use super::{Page, Rule, service};
use crate::event::Proto;
use crate::inventory::cluster::ServicePort;
use crate::verdict::case::Case;
use crate::verdict::finding::Finding;
use crate::verdict::types::{Cause, Confidence};

#[derive(Debug)]
pub struct SvcPortUndefined;

impl Rule for SvcPortUndefined {
    fn cause(&self) -> Cause {
        Cause("SVC_PORT_UNDEFINED")
    }

    fn page(&self) -> Page {
        Page {
            what_happened: "The request asked a Service's address for a port the Service does not define, so no rule translates it to an endpoint.",
            how_we_know: "The address is the Service's, the port is none of its spec.ports with this protocol, and the packet was rejected by kube-proxy or went on under the Service's own address.",
            what_else: "The Service may have been changed moments before; its definition at the time of the packet is what counts here.",
            what_to_do: "Ask for a port the Service defines, or add this one to spec.ports.",
        }
    }

    fn judge(&self, case: &Case<'_>) -> Option<Finding> {
        let asked = service::asked(case).filter(|asked| asked.port.is_none())?;
        // Echo requests and the like have no port to be undefined.
        if !matches!(case.flow.tuple.proto, Proto::TCP | Proto::UDP | Proto(132)) {
            return None;
        }
        let finding = service::failure(case, self.cause(), Confidence::Proven)?;
        let tuple = case.flow.tuple;
        let (name, proto, port) = (&asked.service.name, tuple.proto, tuple.dst.port());
        let defined: Vec<String> = asked.service.ports.iter().map(spelled).collect();
        let defined = if defined.is_empty() {
            "none".to_owned()
        } else {
            defined.join(", ")
        };
        let finding = service::untranslated(finding, case)
            .component(asked.component(case))
            .evidence(
                "service",
                None,
                format!("{name} defines {defined}; asked for was {proto}/{port}"),
            );
        let upper = proto.to_string().to_uppercase();
        let patch = format!(
            "kubectl -n {} patch service {} --type=json -p '[{{\"op\":\"add\",\"path\":\"/spec/ports/-\",\"value\":{{\"name\":\"p{port}\",\"port\":{port},\"protocol\":\"{upper}\"}}}}]'",
            name.namespace, name.name
        );
        Some(finding.remedy(
            format!(
                "Service {name} has no port {proto}/{port}: ask for one of {defined}, or add it"
            ),
            [
                format!(
                    "kubectl -n {} get service {} -o wide",
                    name.namespace, name.name
                ),
                patch,
            ],
        ))
    }
}

/// `tcp/80 (http)`
fn spelled(port: &ServicePort) -> String {
    let name = port
        .name
        .as_ref()
        .map_or_else(String::new, |name| format!(" ({name})"));
    format!("{}/{}{name}", port.proto, port.port)
}
