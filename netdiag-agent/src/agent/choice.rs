//! Which of the node's flows the configuration asks for.

use std::collections::BTreeMap;

use kube::core::SelectorExt;

use super::config::Trace;
use crate::export::record::{Endpoint, FlowVerdict};

/// Either end is a pod that was asked for. A flow whose pods nobody could name is kept: a poorer name must not hide it.
pub fn admits(trace: &Trace, verdict: &FlowVerdict) -> bool {
    if trace.namespaces.is_empty() && trace.labels.is_none() {
        return true;
    }
    let ends = [&verdict.source, &verdict.destination];
    let nameless = ends.iter().all(|end| end.namespace.is_none());
    nameless || ends.iter().any(|end| is_asked_for(trace, end))
}

fn is_asked_for(trace: &Trace, end: &Endpoint) -> bool {
    let Some(namespace) = &end.namespace else {
        return false;
    };
    let named = trace.namespaces.is_empty() || trace.namespaces.contains(namespace);
    named
        && trace.labels.as_ref().is_none_or(|wanted| {
            let labels: BTreeMap<String, String> = end
                .labels
                .iter()
                .filter_map(|label| label.split_once('='))
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect();
            wanted.0.matches(&labels)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::config::Config;
    use crate::export::fixtures;

    fn verdict(source: Option<&str>, labels: &[&str]) -> FlowVerdict {
        let mut verdict = FlowVerdict::from((&fixtures::firewall_drop(), &fixtures::context()));
        verdict.source.namespace = source.map(str::to_owned);
        verdict.source.labels = labels.iter().map(|label| (*label).to_owned()).collect();
        verdict.destination = Endpoint::default();
        verdict
    }

    fn admitted(settings: &str, verdict: &FlowVerdict) -> bool {
        let config = Config::parse(&format!("trace: {settings}")).unwrap();
        admits(&config.trace, verdict)
    }

    #[test]
    fn a_pod_is_chosen_by_namespace_and_labels() {
        let web = verdict(Some("shop"), &["app=web", "tier=front"]);
        for (settings, expected) in [
            ("{}", true),
            ("{namespaces: [shop]}", true),
            ("{namespaces: [other, shop]}", true),
            ("{namespaces: [other]}", false),
            ("{labels: app=web}", true),
            ("{labels: 'app in (db, web), !canary'}", true),
            ("{labels: app=db}", false),
            ("{namespaces: [shop], labels: tier=back}", false),
        ] {
            assert_eq!(admitted(settings, &web), expected, "{settings}");
        }
    }

    #[test]
    fn either_end_will_do_and_without_names_everything() {
        let mut incoming = verdict(None, &[]);
        assert!(admitted("{namespaces: [shop]}", &incoming));
        incoming.destination.namespace = Some("shop".to_owned());
        assert!(admitted("{namespaces: [shop]}", &incoming));
        assert!(!admitted("{namespaces: [other]}", &incoming));
    }
}
