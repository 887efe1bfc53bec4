//! Which workload a pod belongs to, by its name and labels alone: controllers name pods after themselves.

use super::local::Labels;
use super::query::WorkloadKind;

/// Label of a Deployment's ReplicaSets and their pods.
const TEMPLATE_HASH: &str = "pod-template-hash";

/// What the API server appends to a name it is to make unique.
const RANDOM: usize = 5;

/// `labels: None`: not known, the name decides alone.
pub fn belongs(kind: WorkloadKind, workload: &str, pod: &str, labels: Option<&Labels>) -> bool {
    let Some(rest) = pod
        .strip_prefix(workload)
        .and_then(|rest| rest.strip_prefix('-'))
    else {
        return false;
    };
    let hash = labels.map(|labels| labels.get(TEMPLATE_HASH));
    match kind {
        WorkloadKind::Deployment => {
            let parts = rest.split_once('-');
            parts.is_some_and(|(own, end)| {
                is_random(end)
                    && match hash {
                        Some(hash) => hash.is_some_and(|hash| hash == own),
                        None => is_word(own),
                    }
            })
        }
        // A Deployment's pod looks like its ReplicaSet's, and belongs to both.
        WorkloadKind::ReplicaSet => is_random(rest),
        WorkloadKind::DaemonSet => is_random(rest) && hash.flatten().is_none(),
        WorkloadKind::StatefulSet => {
            !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit())
        }
    }
}

fn is_random(text: &str) -> bool {
    text.len() == RANDOM && is_word(text)
}

fn is_word(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    !text.is_empty() && text.bytes().all(letter)
}

#[cfg(test)]
mod tests {
    use super::WorkloadKind::*;
    use super::*;

    fn labels(hash: &str) -> Labels {
        Labels::from([(TEMPLATE_HASH.to_owned(), hash.to_owned())])
    }

    #[test]
    fn controllers_name_pods_after_themselves() {
        let none = Labels::new();
        for (kind, workload, pod, labels, belonging) in [
            (
                Deployment,
                "web",
                "web-7f9c4d-x2x9k",
                Some(&labels("7f9c4d")),
                true,
            ),
            (Deployment, "web", "web-7f9c4d-x2x9k", None, true),
            // Of the Deployment web-api.
            (
                Deployment,
                "web",
                "web-api-7f9c4d-x2x9k",
                Some(&labels("7f9c4d")),
                false,
            ),
            (Deployment, "web", "web-api-7f9c4d-x2x9k", None, false),
            (Deployment, "web", "web-7f9c4d-x2x9k", Some(&none), false),
            (Deployment, "web", "web", None, false),
            (
                ReplicaSet,
                "web-7f9c4d",
                "web-7f9c4d-x2x9k",
                Some(&labels("7f9c4d")),
                true,
            ),
            (DaemonSet, "cni", "cni-x2x9k", Some(&none), true),
            (DaemonSet, "cni", "cni-node-x2x9k", Some(&none), false),
            (
                DaemonSet,
                "web-7f9c4d",
                "web-7f9c4d-x2x9k",
                Some(&labels("7f9c4d")),
                false,
            ),
            (StatefulSet, "db", "db-0", Some(&none), true),
            (StatefulSet, "db", "db-12", None, true),
            (StatefulSet, "db", "db-main-0", None, false),
            (StatefulSet, "db", "db-", None, false),
        ] {
            assert_eq!(
                belongs(kind, workload, pod, labels),
                belonging,
                "{kind:?} {workload} {pod}"
            );
        }
    }
}
