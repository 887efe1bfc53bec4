//! `--to svc/NAME[.NAMESPACE][:PORT]` and `--to pod/NAME[.NAMESPACE][:PORT]`: things only the cluster knows.

use std::fmt;

/// A Service or a pod, as it was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    pub kind: ObjectKind,
    /// With the namespace, behind a dot, where one was typed; names of pods may have dots of their own.
    pub name: String,
    /// A port by its name; numbers stand in the destination.
    pub port_name: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    Service,
    Pod,
}

impl ObjectKind {
    const SPELLINGS: &'static [(&'static str, Self)] = &[
        ("svc/", Self::Service),
        ("service/", Self::Service),
        ("services/", Self::Service),
        ("pod/", Self::Pod),
        ("pods/", Self::Pod),
        ("po/", Self::Pod),
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Service => "svc",
            Self::Pod => "pod",
        }
    }
}

impl Object {
    /// The object and its port as text; `None`: it is not about one.
    pub(super) fn read(text: &str) -> Option<Result<(Self, Option<&str>), String>> {
        let mut spellings = ObjectKind::SPELLINGS.iter();
        let (kind, rest) =
            spellings.find_map(|(prefix, kind)| Some((*kind, text.strip_prefix(prefix)?)))?;
        let (name, port) = match rest.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (rest, None),
        };
        // As in DNS: web.shop.svc.cluster.local is web in shop.
        let name = match kind {
            ObjectKind::Service => name.split(".svc").next().unwrap_or(name),
            ObjectKind::Pod => name,
        };
        let sound = |label: &str| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        };
        let few = kind == ObjectKind::Pod || name.split('.').count() <= 2;
        if !few || name.len() > 253 || !name.split('.').all(sound) {
            let kind = kind.name();
            return Some(Err(format!(
                "'{name}' is no name: wanted is {kind}/NAME, {kind}/NAME.NAMESPACE, each with :PORT if you like"
            )));
        }
        Some(Ok((
            Self {
                kind,
                name: name.to_owned(),
                port_name: None,
            },
            port,
        )))
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.name(), self.name)?;
        match &self.port_name {
            Some(port) => write!(f, ":{port}"),
            None => Ok(()),
        }
    }
}
