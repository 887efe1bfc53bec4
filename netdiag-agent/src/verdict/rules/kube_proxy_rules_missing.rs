//! `KUBE_PROXY_RULES_MISSING`: the cluster knows endpoints for the Service, this node's rules do not.

use super::{Page, Rule, service};
use crate::inventory::Rules;
use crate::ruleset::proxy::{Coverage, coverage};
use crate::verdict::case::Case;
use crate::verdict::finding::Finding;
use crate::verdict::types::{Cause, Component, Confidence};

#[derive(Debug)]
pub struct KubeProxyRulesMissing;

impl Rule for KubeProxyRulesMissing {
    fn cause(&self) -> Cause {
        Cause("KUBE_PROXY_RULES_MISSING")
    }

    fn page(&self) -> Page {
        Page {
            what_happened: "The Service has ready endpoints, but this node's rules do not send its address to any of them: kube-proxy is not running here, cannot reach the API, or its rules were removed.",
            how_we_know: "The cluster's EndpointSlices hold ready endpoints for the port, the node's nat rules (chain KUBE-SERVICES, or map service-ips of table kube-proxy) have no entry for the address and port, and the packet went on under the Service's own address.",
            what_else: "Where an eBPF data plane or IPVS replaces these rules nothing is said: such nodes are left out.",
            what_to_do: "Look at kube-proxy on this node: does it run, and what does it log? A restart writes all rules anew.",
        }
    }

    fn judge(&self, case: &Case<'_>) -> Option<Finding> {
        let asked = service::asked(case).filter(|asked| asked.service.proxied)?;
        let backends = service::backends(case, asked.service, asked.port?)?;
        if backends.ready.is_empty() || replaced(case) {
            return None;
        }
        let node = case.inventory.node_netns()?;
        let rules = case.inventory.rules(node)?;
        let (missing, sure) = missing(case, rules)?;
        let confidence = if sure {
            Confidence::Proven
        } else {
            Confidence::Inferred
        };
        let finding = service::failure(case, self.cause(), confidence)?;
        let dst = case.flow.tuple.dst;
        let (mode, what) = match missing {
            Coverage::Hollow(mode, chain) => (
                Some(mode),
                format!("chain {chain} leads {dst} to no endpoint"),
            ),
            Coverage::Missing(mode) => (Some(mode), format!("no rule for {dst}")),
            Coverage::NoProxy | Coverage::Translated(_) => {
                (None, "no chain or table of kube-proxy".to_owned())
            }
        };
        let component = Component {
            kind: "kube_proxy".to_owned(),
            backend: mode.map(|mode| mode.name().to_owned()),
            text: Some(what.clone()),
            ..asked.component(case)
        };
        let ready: Vec<String> = backends
            .ready
            .iter()
            .map(|one| one.address.to_string())
            .collect();
        let some = ready[..ready.len().min(3)].join(", ");
        let machine = service::machine(case).unwrap_or_else(|| "NODE".into());
        Some(
            service::untranslated(finding, case)
                .component(component)
                .evidence("endpointslice", None, format!("{} ready: {some}", ready.len()))
                .evidence("rules", None, format!("{what} among this node's rules"))
                .remedy(
                    format!(
                        "{} has {} ready endpoint(s), but {what} on this node: restart kube-proxy here",
                        asked.name(case),
                        ready.len()
                    ),
                    [
                        format!("kubectl -n kube-system get pods -l k8s-app=kube-proxy --field-selector spec.nodeName={machine}"),
                        format!("kubectl -n kube-system delete pod -l k8s-app=kube-proxy --field-selector spec.nodeName={machine}"),
                    ],
                ),
        )
    }
}

/// What the rules lack, and whether both readings, the one before the flow and the one after it, agree on it.
fn missing(case: &Case<'_>, rules: &Rules) -> Option<(Coverage, bool)> {
    let tuple = case.flow.tuple;
    let of = |reading: &crate::ruleset::Reading| coverage(&reading.ruleset, tuple.proto, tuple.dst);
    let (before, after) = (of(&rules.before), of(&rules.after));
    let lacks = |coverage: &Coverage| !matches!(coverage, Coverage::Translated(_));
    let sure = lacks(&before) && lacks(&after);
    let missing = [after, before].into_iter().find(lacks)?;
    Some((missing, sure))
}

/// Something else sends Services to their endpoints here: IPVS, or an eBPF data plane.
fn replaced(case: &Case<'_>) -> bool {
    let node = case.inventory.node_netns();
    let mut links = case.inventory.links();
    links.any(|link| {
        Some(link.netns) == node
            && (&*link.name == "kube-ipvs0" || link.name.starts_with("cilium_"))
    })
}
