//! The rule that would allow a conversation, as a patch of a policy that forbids it.

use crate::event::Proto;
use crate::inventory::cluster::Pod;
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
pub fn of(ruling: &Ruling<'_>, said: &Conversation<'_>) -> (String, Vec<String>) {
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
    let rule = rule(ruling, said);
    let empty = rules.as_ref().is_none_or(Vec::is_empty);
    let (path, value) = if empty {
        (format!("/spec/{side}"), format!("[{rule}]"))
    } else {
        (format!("/spec/{side}/-"), rule)
    };
    let patch = format!(
        "kubectl -n {namespace} patch networkpolicy {name} --type=json -p '[{{\"op\":\"add\",\"path\":\"{path}\",\"value\":{value}}}]'"
    );
    let read = format!("kubectl -n {namespace} get networkpolicy {name} -o yaml");
    let summary = format!(
        "no {side} rule of networkpolicy {namespace}/{name} allows {}: add one there or in another policy that selects {}",
        what(ruling, said),
        ruling.pod.name
    );
    (summary, vec![read, patch])
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

fn rule(ruling: &Ruling<'_>, said: &Conversation<'_>) -> String {
    let (word, end) = other(ruling, said);
    let peer = match end.pod.and_then(|pod| Some((pod, labels(pod)?))) {
        Some((pod, labels)) => {
            let pods = format!("\"podSelector\":{{\"matchLabels\":{{{labels}}}}}");
            if pod.name.namespace == ruling.pod.name.namespace {
                format!("{{{pods}}}")
            } else {
                let namespace = &pod.name.namespace;
                format!(
                    "{{\"namespaceSelector\":{{\"matchLabels\":{{\"kubernetes.io/metadata.name\":\"{namespace}\"}}}},{pods}}}"
                )
            }
        }
        None => {
            let bits = if end.address.is_ipv4() { 32 } else { 128 };
            format!("{{\"ipBlock\":{{\"cidr\":\"{}/{bits}\"}}}}", end.address)
        }
    };
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
