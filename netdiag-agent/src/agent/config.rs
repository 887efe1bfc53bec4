//! What the node mode is told: YAML in, checked settings out.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::SignedDuration;
use kube::core::Selector;
use serde::{Deserialize, Deserializer, de};

use crate::identity::pods::Wanted;

/// The defaults as the file that says them, with comments.
pub const DEFAULT: &str = include_str!("default.yaml");

/// Beyond this a segment of the store would take seconds to search.
const MAX_STORE_MIB: u64 = 16 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("read {path}: {source}")]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path}: {why}")]
    Bad { path: PathBuf, why: String },
}

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub store: Store,
    pub listen: Vec<Listen>,
    pub trace: Trace,
    pub budget: Budget,
    pub metrics: Metrics,
    /// For names, and for checking tokens; absent: as `trace` finds its own.
    pub kubeconfig: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    pub dir: PathBuf,
    pub max_mib: u64,
    pub keep: Keep,
}

/// Which verdicts are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    #[default]
    Failing,
    All,
}

/// One place where the service answers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    pub unix: Option<PathBuf>,
    pub tcp: Option<SocketAddr>,
    pub tls: Option<Tls>,
    pub auth: Option<Auth>,
}

/// PEM files.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Auth {
    /// A bearer token, checked by TokenReview, and what it may do by SubjectAccessReview.
    Kubernetes,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Trace {
    pub enabled: bool,
    /// Of pods; all when empty.
    pub namespaces: Vec<String>,
    /// Of pods; any when absent.
    pub labels: Option<Labels>,
    pub uplinks: Vec<String>,
    pub no_answer: Span,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Budget {
    /// Processors.
    pub cpu: f64,
    pub events_per_second: u64,
    pub patience: Span,
    pub recover_after: Span,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    pub max_series: usize,
}

/// A label selector, as `-l` takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels(pub Selector);

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match Wanted::labels(&text) {
            Ok(Wanted::Labels(selector)) => Ok(Self(selector)),
            Ok(_) => Err(de::Error::custom(format!("'{text}' is no label selector"))),
            Err(why) => Err(de::Error::custom(why)),
        }
    }
}

/// A length of time such as `500ms` or `10m`; above zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl Span {
    pub fn parse(text: &str) -> Result<Self, String> {
        let span: Option<SignedDuration> = text.parse().ok();
        span.and_then(|span| Duration::try_from(span).ok())
            .filter(|span| !span.is_zero() && u64::try_from(span.as_nanos()).is_ok())
            .map(Self)
            .ok_or_else(|| format!("'{text}' is no length of time such as 500ms, 30s or 2m"))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

impl Default for Store {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("/var/lib/netdiag/verdicts"),
            max_mib: 64,
            keep: Keep::Failing,
        }
    }
}

impl Default for Trace {
    fn default() -> Self {
        Self {
            enabled: true,
            namespaces: Vec::new(),
            labels: None,
            uplinks: Vec::new(),
            no_answer: Span(Duration::from_secs(3)),
        }
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            cpu: 0.3,
            events_per_second: 20_000,
            patience: Span(Duration::from_secs(5)),
            recover_after: Span(Duration::from_mins(1)),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self { max_series: 500 }
    }
}

impl Config {
    /// Reads and checks the file; the defaults without one.
    pub fn load(path: Option<&Path>) -> Result<Self, Error> {
        let Some(path) = path else {
            return Self::parse(DEFAULT).map_err(|why| Error::Bad {
                path: PathBuf::from("the default configuration"),
                why,
            });
        };
        let text = std::fs::read_to_string(path).map_err(|source| Error::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text).map_err(|why| Error::Bad {
            path: path.to_owned(),
            why,
        })
    }

    /// One line on what is wrong, if anything is.
    pub fn parse(text: &str) -> Result<Self, String> {
        // A file of comments only is an empty document, which YAML reads as null.
        let given: Option<Self> = serde_norway::from_str(text).map_err(|error| one_line(&error))?;
        let config = given.unwrap_or_default();
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        let wanted = |fine: bool, what: &str| if fine { Ok(()) } else { Err(what.to_owned()) };
        wanted(
            (1..=MAX_STORE_MIB).contains(&self.store.max_mib),
            "store.max_mib: wanted is 1 to 16384",
        )?;
        wanted(
            self.store.dir.is_absolute(),
            "store.dir: wanted is an absolute path",
        )?;
        wanted(
            self.budget.cpu.is_finite() && self.budget.cpu > 0.0,
            "budget.cpu: wanted is a number above 0",
        )?;
        wanted(
            self.budget.events_per_second > 0,
            "budget.events_per_second: wanted is a number above 0",
        )?;
        wanted(
            (1..=100_000).contains(&self.metrics.max_series),
            "metrics.max_series: wanted is 1 to 100000",
        )?;
        for (at, listen) in self.listen.iter().enumerate() {
            listen
                .check()
                .map_err(|why| format!("listen[{at}]: {why}"))?;
        }
        Ok(())
    }
}

impl Listen {
    /// Reachable from other machines.
    pub fn is_public(&self) -> bool {
        self.tcp
            .is_some_and(|address| !address.ip().to_canonical().is_loopback())
    }

    fn check(&self) -> Result<(), String> {
        match (&self.unix, &self.tcp) {
            (Some(path), None) if !path.is_absolute() => {
                Err(format!("unix: {} is no absolute path", path.display()))
            }
            (Some(_), None) if self.tls.is_some() || self.auth.is_some() => {
                Err("a unix socket is guarded by its file mode; leave out tls and auth".to_owned())
            }
            (Some(_), None) => Ok(()),
            (None, Some(address)) => self.check_tcp(*address),
            _ => Err("give either unix: PATH or tcp: ADDRESS:PORT".to_owned()),
        }
    }

    fn check_tcp(&self, address: SocketAddr) -> Result<(), String> {
        if self.is_public() && (self.tls.is_none() || self.auth.is_none()) {
            return Err(format!(
                "{address} is reachable from other machines: it needs tls (certificate, key) and auth: kubernetes"
            ));
        }
        if self.auth.is_some() && self.tls.is_none() {
            return Err(format!(
                "{address}: auth without tls would send tokens in the clear; add tls (certificate, key)"
            ));
        }
        Ok(())
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.unix, self.tcp) {
            (Some(path), _) => write!(f, "unix:{}", path.display()),
            (None, Some(address)) if self.tls.is_some() => write!(f, "https://{address}"),
            (None, Some(address)) => write!(f, "http://{address}"),
            (None, None) => f.write_str("nowhere"),
        }
    }
}

fn one_line(error: &serde_norway::Error) -> String {
    error.to_string().lines().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> String {
        let why = Config::parse(text).expect_err(text);
        assert!(!why.contains('\n'), "{why}");
        why
    }

    #[test]
    fn the_file_of_defaults_says_what_the_code_does() {
        let mut config = Config::parse(DEFAULT).unwrap();
        assert_eq!(config.listen.len(), 2);
        config.listen.clear();
        assert_eq!(config, Config::default());
        assert_eq!(Config::parse("# nothing\n").unwrap(), Config::default());
    }

    #[test]
    fn an_address_off_this_host_needs_tls_and_auth() {
        for (listen, wanted) in [
            ("tcp: 0.0.0.0:9471", "needs tls"),
            ("tcp: 10.0.0.1:9471", "needs tls"),
            ("tcp: '[::]:9471'", "needs tls"),
            (
                "tcp: 0.0.0.0:9471\n    tls: {certificate: c, key: k}",
                "auth: kubernetes",
            ),
            ("tcp: 127.0.0.1:9471\n    auth: kubernetes", "in the clear"),
            ("unix: agent.sock", "absolute"),
            ("tls: {certificate: c, key: k}", "either unix"),
            ("unix: /a\n    tcp: 127.0.0.1:1", "either unix"),
        ] {
            let why = fault(&format!("listen:\n  - {listen}\n"));
            assert!(
                why.contains("listen[0]") && why.contains(wanted),
                "{listen}: {why}"
            );
        }
        for listen in [
            "tcp: 127.0.0.1:9470",
            "tcp: '[::1]:9470'",
            "tcp: 0.0.0.0:9471\n    tls: {certificate: c, key: k}\n    auth: kubernetes",
        ] {
            Config::parse(&format!("listen:\n  - {listen}\n")).expect(listen);
        }
    }

    #[test]
    fn a_fault_names_the_key() {
        for (text, wanted) in [
            ("stor: {}", "stor"),
            ("store: {max_mib: 0}", "store.max_mib"),
            ("store: {max_mib: many}", "max_mib"),
            ("store: {keep: some}", "keep"),
            ("store: {dir: here}", "store.dir"),
            ("trace: {no_answer: soon}", "soon"),
            ("trace: {labels: 'app in (web'}", "parenthes"),
            ("budget: {cpu: -1}", "budget.cpu"),
            ("budget: {cpu: .nan}", "budget.cpu"),
            ("budget: {events_per_second: 0}", "budget.events_per_second"),
            ("metrics: {max_series: 0}", "metrics.max_series"),
            ("listen: [", "line"),
        ] {
            let why = fault(text);
            assert!(why.contains(wanted), "{text}: {why}");
        }
    }
}
