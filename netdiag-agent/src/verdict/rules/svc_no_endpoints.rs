//! `SVC_NO_ENDPOINTS`: the Service has nobody behind it.

use std::sync::Arc;

use super::{Page, Rule, death, service};
use crate::inventory::cluster::{Labels, Pod, Service};
use crate::verdict::case::Case;
use crate::verdict::finding::Finding;
use crate::verdict::firewall;
use crate::verdict::types::{Cause, Confidence};

#[derive(Debug)]
pub struct SvcNoEndpoints;

impl Rule for SvcNoEndpoints {
    fn cause(&self) -> Cause {
        Cause("SVC_NO_ENDPOINTS")
    }

    fn page(&self) -> Page {
        Page {
            what_happened: "The Service has no ready endpoint, so kube-proxy rejects (or, for policy Local, drops) what is sent to it.",
            how_we_know: "The packet met the rule or map element that kube-proxy writes for a Service without endpoints; its comment names the Service. Where no such rule was met, the cluster's EndpointSlices are empty and the packet went on untranslated: that is inferred.",
            what_else: "The selector matches no pod, the pods are not Ready, or with externalTrafficPolicy Local none of them is on this node.",
            what_to_do: "Compare the Service's selector with the pods' labels, and look at their readiness.",
        }
    }

    fn judge(&self, case: &Case<'_>) -> Option<Finding> {
        self.by_rule(case).or_else(|| self.by_objects(case))
    }
}

impl SvcNoEndpoints {
    fn by_rule(&self, case: &Case<'_>) -> Option<Finding> {
        let dropped = firewall::dropped(case)?;
        let service = dropped.service()?;
        let mut component = dropped.component(case.flow.tuple.is_ipv6());
        component.name = Some(service);
        let finding = death(self.cause(), dropped.death).component(component);
        let undo = dropped.undo()?;
        let finding = dropped.tell(finding).remedy(undo.summary, undo.commands);
        Some(match service::asked(case) {
            Some(asked) => selector(finding, case, asked.service),
            None => finding,
        })
    }

    fn by_objects(&self, case: &Case<'_>) -> Option<Finding> {
        let asked = service::asked(case)?;
        let backends = service::backends(case, asked.service, asked.port?)?;
        let nobody = backends.ready.is_empty() && backends.waiting.is_empty();
        if !nobody || backends.portless > 0 {
            return None;
        }
        let finding = service::failure(case, self.cause(), Confidence::Inferred)?;
        let name = &asked.service.name;
        let finding = service::untranslated(finding, case)
            .component(asked.component(case))
            .evidence("endpointslice", None, format!("{name} has no endpoint"))
            .remedy(
                format!("Service {name} has no endpoints: make a pod it selects ready"),
                [format!(
                    "kubectl -n {} get endpointslices -l kubernetes.io/service-name={}",
                    name.namespace, name.name
                )],
            );
        Some(selector(finding, case, asked.service))
    }
}

/// What the selector asks for, the pods that come nearest, and the change that would select them.
fn selector(mut finding: Finding, case: &Case<'_>, service: &Service) -> Finding {
    let name = &service.name;
    let wanted = spelled(&service.selector);
    if service.selector.is_empty() {
        return finding.evidence(
            "service",
            None,
            format!("{name} has no selector: its endpoints are written by somebody else"),
        );
    }
    let Some((pod, missing)) = nearest(case, service) else {
        let told = format!("the selector of {name} is {wanted}; its namespace has no pods");
        return finding.evidence("service", None, told);
    };
    let has = missing.iter().map(|key| match pod.labels.get(key) {
        Some(value) => format!("{key}={value}"),
        None => format!("no {key}"),
    });
    let has: Vec<String> = has.collect();
    let told = if missing.is_empty() {
        format!(
            "the selector of {name} is {wanted}, which selects {}",
            pod.name.name
        )
    } else {
        format!(
            "the selector of {name} is {wanted}; nearest is pod {} with {}",
            pod.name.name,
            has.join(", ")
        )
    };
    finding = finding.evidence("service", None, told);
    // Only values that differ can be put right in the selector; a label that is missing has to be set on the pods.
    let values = missing.iter().map(|key| Some((key, pod.labels.get(key)?)));
    let values: Option<Vec<_>> = values.collect();
    if let (Some(remedy), Some(values)) = (&mut finding.remediation, values)
        && !values.is_empty()
    {
        let pairs: Vec<String> = values
            .iter()
            .map(|(key, value)| format!("\"{key}\":\"{value}\""))
            .collect();
        remedy.summary = format!(
            "{}; its selector {wanted} matches no pod, {} has {}",
            remedy.summary,
            pod.name.name,
            has.join(", ")
        );
        remedy.commands.push(format!(
            "kubectl -n {} patch service {} -p '{{\"spec\":{{\"selector\":{{{}}}}}}}' # if those are the pods that are meant",
            name.namespace,
            name.name,
            pairs.join(",")
        ));
    }
    finding
}

/// The pod of the namespace that meets most of the selector, and keys it does not meet; of equals the one whose
/// values look most alike.
fn nearest<'a>(case: &Case<'a>, service: &Service) -> Option<(&'a Arc<Pod>, Vec<Arc<str>>)> {
    let pods = case.inventory.cluster.pods();
    let here = pods.filter(|pod| pod.name.namespace == service.name.namespace && !pod.over);
    let judged = here.map(|pod| {
        let missing: Vec<Arc<str>> = service
            .selector
            .iter()
            .filter(|(key, value)| pod.labels.get(*key) != Some(value))
            .map(|(key, _)| Arc::clone(key))
            .collect();
        let alike: usize = missing
            .iter()
            .map(
                |key| match (pod.labels.get(key), service.selector.get(key)) {
                    (Some(have), Some(want)) => distance(have, want),
                    _ => 64,
                },
            )
            .sum();
        (pod, missing, alike)
    });
    let best = judged.min_by_key(|(pod, missing, alike)| (missing.len(), *alike, pod.name.clone()));
    best.map(|(pod, missing, _)| (pod, missing))
}

/// Letters to change, add or take away (Levenshtein), of values a label may have: at most 63 letters.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, letter) in one.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, wanted) in other.iter().enumerate() {
            let change = diagonal + usize::from(letter != *wanted);
            diagonal = row[column + 1];
            row[column + 1] = change.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

/// As `kubectl -l` takes it.
pub(super) fn spelled(labels: &Labels) -> String {
    let pairs = labels.iter().map(|(key, value)| format!("{key}={value}"));
    pairs.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::distance;

    #[test]
    fn distances_are_those_of_letters() {
        assert_eq!(distance("web", "web"), 0);
        assert_eq!(distance("wbe", "web"), 2);
        assert_eq!(distance("", "web"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
