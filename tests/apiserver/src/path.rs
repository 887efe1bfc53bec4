//! Paths of the API.

use std::collections::BTreeMap;

/// What a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// `api/v1`, `apis/apps/v1` …
    pub group_version: String,
    /// As in the path: `pods`.
    pub resource: String,
    pub namespace: Option<String>,
    pub name: Option<String>,
}

impl Target {
    pub fn read(path: &str) -> Option<Self> {
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        let group_version = match parts.next()? {
            "api" => format!("api/{}", parts.next()?),
            "apis" => format!("apis/{}/{}", parts.next()?, parts.next()?),
            _ => return None,
        };
        let rest: Vec<&str> = parts.collect();
        let own = |text: &str| Some(text.to_owned());
        let (namespace, resource, name) = match rest[..] {
            ["namespaces"] => (None, "namespaces", None),
            ["namespaces", name] => (None, "namespaces", own(name)),
            ["namespaces", namespace, resource] => (own(namespace), resource, None),
            ["namespaces", namespace, resource, name] => (own(namespace), resource, own(name)),
            [resource] => (None, resource, None),
            [resource, name] => (None, resource, own(name)),
            _ => return None,
        };
        Some(Self {
            group_version,
            resource: resource.to_owned(),
            namespace,
            name,
        })
    }
}

/// `Pod` is listed at `pods`.
pub fn resource_of(kind: &str) -> String {
    let lower = kind.to_lowercase();
    match lower.strip_suffix('y') {
        _ if lower == "endpoints" => lower,
        Some(stem) => format!("{stem}ies"),
        None if lower.ends_with('s') => format!("{lower}es"),
        None => format!("{lower}s"),
    }
}

/// `v1` is served below `api/v1`, `apps/v1` below `apis/apps/v1`.
pub fn group_version_of(api_version: &str) -> String {
    if api_version.contains('/') {
        format!("apis/{api_version}")
    } else {
        format!("api/{api_version}")
    }
}

/// The query of a request.
pub type Query = BTreeMap<String, String>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read() {
        let pods = Target::read("/api/v1/pods").unwrap();
        assert_eq!(
            (pods.group_version.as_str(), pods.resource.as_str()),
            ("api/v1", "pods")
        );
        let one = Target::read("/apis/apps/v1/namespaces/shop/deployments/web").unwrap();
        assert_eq!(one.namespace.as_deref(), Some("shop"));
        assert_eq!(one.name.as_deref(), Some("web"));
        let namespace = Target::read("/api/v1/namespaces/shop").unwrap();
        assert_eq!(
            (namespace.resource.as_str(), namespace.namespace),
            ("namespaces", None)
        );
        assert_eq!(Target::read("/healthz"), None);
    }

    #[test]
    fn kinds_have_their_resources() {
        for (kind, resource) in [
            ("Pod", "pods"),
            ("NetworkPolicy", "networkpolicies"),
            ("Endpoints", "endpoints"),
            ("EndpointSlice", "endpointslices"),
            ("Ingress", "ingresses"),
        ] {
            assert_eq!(resource_of(kind), resource);
        }
    }
}
