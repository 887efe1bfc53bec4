//! The rule that would allow a conversation, as a patch of a policy that forbids it.

use crate::event::Proto;
use crate::inventory::cluster::{Cluster, Pod};
use crate::inventory::policy::{Conversation, End, Ruling, Side};

/// Labels that change with every rollout: no policy should select by them.
const PASSING: [&str; 5] = [
    "pod-template-hash",
    "controller-revision-hash",
    "pod-template-generation",
    "statefulset.kubernetes.io/pod-name",
    "apps.kubernetes.io/pod-index",
];

/// In words, and as commands.
pub fn of(
    ruling: &Ruling<'_>,
    said: &Conversation<'_>,
    cluster: &Cluster,
) -> (String, Vec<String>) {
    let side = ruling.side.name();
    // Any of them will do: what one allows is allowed.
    let Some(policy) = ruling.selecting.first() else {
        return (String::new(), Vec::new());
    };
    let (namespace, name) = (&policy.name.namespace, &policy.name.name);
    let rules = match ruling.side {
        Side::Ingress => &policy.ingress,
        Side::Egress => &policy.egress,
    };
    let (peer, label) = peer(ruling, said, cluster);
    let rule = rule(ruling, said, &peer);
    let empty = rules.as_ref().is_none_or(Vec::is_empty);
    let (place, value) = if empty {
        (format!("/spec/{side}"), format!("[{rule}]"))
    } else {
        (format!("/spec/{side}/-"), rule)
    };
    let patch = format!(
        "kubectl -n {namespace} patch networkpolicy {name} --type=json -p '[{{\"op\":\"add\",\"path\":\"{place}\",\"value\":{value}}}]'"
    );
    let read = format!("kubectl -n {namespace} get networkpolicy {name} -o yaml");
    let summary = format!(
        "no {side} rule of networkpolicy {namespace}/{name} allows {}: add one there or in another policy that selects {}",
        what(ruling, said),
        ruling.pod.name
    );
    (
        summary,
        [Some(read), label, Some(patch)]
            .into_iter()
            .flatten()
            .collect(),
    )
}

/// `tcp/5432 to shop/db`, `tcp/80 from 198.51.100.9`
pub fn what(ruling: &Ruling<'_>, said: &Conversation<'_>) -> String {
    let (word, end) = other(ruling, said);
    let name = end
        .pod
        .map_or_else(|| end.address.to_string(), |pod| pod.name.to_string());
    if said.proto.is_icmp() {
        format!("{} {word} {name}", said.proto)
    } else {
        format!("{}/{} {word} {name}", said.proto, said.port)
    }
}

fn other<'a>(ruling: &Ruling<'_>, said: &'a Conversation<'a>) -> (&'static str, End<'a>) {
    match ruling.side {
        Side::Egress => ("to", said.to),
        Side::Ingress => ("from", said.from),
    }
}

/// Who is to be allowed, and the label its namespace has to be given before.
fn peer(
    ruling: &Ruling<'_>,
    said: &Conversation<'_>,
    cluster: &Cluster,
) -> (String, Option<String>) {
    let (_, end) = other(ruling, said);
    let Some((pod, labels)) = end.pod.and_then(|pod| Some((pod, labels(pod)?))) else {
        let bits = if end.address.is_ipv4() { 32 } else { 128 };
        let block = format!("{{\"ipBlock\":{{\"cidr\":\"{}/{bits}\"}}}}", end.address);
        return (block, None);
    };
    let pods = format!("\"podSelector\":{{\"matchLabels\":{{{labels}}}}}");
    let namespace = &pod.name.namespace;
    if *namespace == ruling.pod.name.namespace {
        return (format!("{{{pods}}}"), None);
    }
    let (labels, label) = of_namespace(namespace, cluster);
    let peer = format!("{{\"namespaceSelector\":{{\"matchLabels\":{{{labels}}}}},{pods}}}");
    (peer, label)
}

/// What selects a namespace, and the command that gives it its only label.
///
/// The API server labels every namespace with its name since Kubernetes 1.21.
fn of_namespace(namespace: &str, cluster: &Cluster) -> (String, Option<String>) {
    let own = format!("\"{OWN_NAME}\":\"{namespace}\"");
    match cluster.namespace(namespace) {
        Some(labels) if labels.is_empty() => {
            let command = format!("kubectl label namespace {namespace} name={namespace}");
            (format!("\"name\":\"{namespace}\""), Some(command))
        }
        Some(labels) if !labels.contains_key(OWN_NAME) => {
            let pairs = labels
                .iter()
                .map(|(key, value)| format!("\"{key}\":\"{value}\""));
            (pairs.collect::<Vec<_>>().join(","), None)
        }
        _ => (own, None),
    }
}

const OWN_NAME: &str = "kubernetes.io/metadata.name";

fn rule(ruling: &Ruling<'_>, said: &Conversation<'_>, peer: &str) -> String {
    let (word, _) = other(ruling, said);
    let protocol = match said.proto {
        Proto::TCP => "TCP",
        Proto::UDP => "UDP",
        Proto(132) => "SCTP",
        // Policies know no other; without ports they mean all of them.
        _ => return format!("{{\"{word}\":[{peer}]}}"),
    };
    let ports = format!("[{{\"protocol\":\"{protocol}\",\"port\":{}}}]", said.port);
    format!("{{\"{word}\":[{peer}],\"ports\":{ports}}}")
}

/// Those a policy may select the pod by; `None`: it has none.
fn labels(pod: &Pod) -> Option<String> {
    let lasting = pod
        .labels
        .iter()
        .filter(|(key, _)| !PASSING.contains(&&***key));
    let pairs: Vec<String> = lasting
        .map(|(key, value)| format!("\"{key}\":\"{value}\""))
        .collect();
    (!pairs.is_empty()).then(|| pairs.join(","))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::of_namespace;
    use crate::event::Ktime;
    use crate::inventory::cluster::{Change, Cluster, Labels};

    #[test]
    fn a_namespace_is_selected_by_labels_it_has() {
        let with = |pairs: &[(&str, &str)]| {
            let labels: Labels = pairs
                .iter()
                .map(|(key, value)| (Arc::from(*key), Arc::from(*value)))
                .collect();
            let mut cluster = Cluster::default();
            cluster.apply(Ktime(1), Change::Namespace("shop".into(), labels));
            of_namespace("shop", &cluster)
        };
        let named = "\"kubernetes.io/metadata.name\":\"shop\"".to_owned();
        assert_eq!(
            of_namespace("shop", &Cluster::default()),
            (named.clone(), None)
        );
        let both = [("kubernetes.io/metadata.name", "shop"), ("team", "front")];
        assert_eq!(with(&both), (named, None));
        assert_eq!(with(&both[1..]), ("\"team\":\"front\"".to_owned(), None));
        let command = "kubectl label namespace shop name=shop".to_owned();
        assert_eq!(with(&[]), ("\"name\":\"shop\"".to_owned(), Some(command)));
    }
}
