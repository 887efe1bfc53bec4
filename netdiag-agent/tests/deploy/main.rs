//! The Helm chart: what it renders to, that Kubernetes' own types take all of it, and that the agent takes its settings.
//!
//! `deploy/rendered.yaml` is the chart with its own values; `UPDATE_DEPLOY=1` writes it anew.

mod template;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use netdiag::agent::config::{Auth, Config};
use netdiag::privilege;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
}

fn values() -> Value {
    serde_norway::from_str(&read(&deploy().join("chart/values.yaml"))).expect("values.yaml is YAML")
}

/// The values of an installation that wants everything.
fn everything() -> Value {
    let mut values = values();
    values["capabilities"] = json!({"sysAdmin": true, "netRaw": true});
    values["api"]["enabled"] = json!(true);
    values["podMonitor"]["enabled"] = json!(true);
    values["priorityClassName"] = json!("system-node-critical");
    values["config"]["trace"]["namespaces"] = json!(["shop", "bank"]);
    values
}

/// All templates in helm's order of files, as one stream of documents.
fn rendered(values: &Value) -> String {
    let folder = deploy().join("chart/templates");
    let entries = fs::read_dir(&folder).expect("list the templates");
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    let data = json!({
        "Values": values,
        "Release": {"Name": "netdiag", "Namespace": "kube-system"},
    });
    let mut out = String::new();
    for file in files {
        let name = file
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let text =
            template::render(&read(&file), &data).unwrap_or_else(|why| panic!("{name}: {why}"));
        if !text.trim().is_empty() {
            let _ = write!(
                out,
                "---\n# Source: netdiag/templates/{name}\n{}\n",
                text.trim()
            );
        }
    }
    out
}

fn documents(text: &str) -> Vec<Value> {
    serde_norway::Deserializer::from_str(text)
        .map(|document| Value::deserialize(document).expect("YAML"))
        .filter(|document| !document.is_null())
        .collect()
}

fn of_kind(documents: &[Value], kind: &str) -> Value {
    let found: Vec<_> = documents
        .iter()
        .filter(|document| document["kind"] == kind)
        .collect();
    assert_eq!(found.len(), 1, "one {kind} is due");
    found[0].clone()
}

const UPDATE: &str = "UPDATE_DEPLOY=1 cargo test -p netdiag-agent --test deploy";

#[test]
fn the_rendered_manifests_are_those_of_the_chart() {
    let all = rendered(&everything());
    let kinds_of_kubernetes = all
        .split_inclusive("\n---\n")
        .filter(|document| !document.contains("kind: PodMonitor"));
    for (file, what, text) in [
        (
            "rendered.yaml",
            "The chart with its own values",
            rendered(&values()),
        ),
        (
            "../tests/src/cluster/everything.yaml",
            "The chart with everything on, but for the PodMonitor",
            kinds_of_kubernetes.collect(),
        ),
    ] {
        let path = deploy().join(file);
        let text = format!("# {what}, in kube-system. Written by `{UPDATE}`.\n{text}");
        if std::env::var_os("UPDATE_DEPLOY").is_some() {
            fs::write(&path, &text).expect("write the manifests");
        }
        assert_eq!(read(&path), text, "run {UPDATE}");
    }
}

/// Nothing of a document may be lost on the way through Kubernetes' own type: a misspelt key would be.
fn takes_all<T: DeserializeOwned + serde::Serialize>(document: &Value) {
    let typed: T = serde_json::from_value(document.clone())
        .unwrap_or_else(|error| panic!("{}: {error}\n{document:#}", document["kind"]));
    let back = serde_json::to_value(&typed).expect("JSON");
    assert_eq!(
        back, *document,
        "{} has keys Kubernetes does not know",
        document["kind"]
    );
}

#[test]
fn kubernetes_knows_every_key() {
    for values in [values(), everything()] {
        for document in documents(&rendered(&values)) {
            match document["kind"].as_str() {
                Some("DaemonSet") => takes_all::<DaemonSet>(&document),
                Some("ConfigMap") => takes_all::<ConfigMap>(&document),
                Some("ServiceAccount") => takes_all::<ServiceAccount>(&document),
                Some("ClusterRole") => takes_all::<ClusterRole>(&document),
                Some("ClusterRoleBinding") => takes_all::<ClusterRoleBinding>(&document),
                Some("Role") => takes_all::<Role>(&document),
                Some("RoleBinding") => takes_all::<RoleBinding>(&document),
                // Not Kubernetes' own; its operator's schema is not at hand.
                Some("PodMonitor") => {
                    assert_eq!(document["spec"]["podMetricsEndpoints"][0]["port"], "api");
                }
                other => panic!("{other:?} is checked by nobody"),
            }
        }
    }
}

#[test]
fn the_container_holds_what_the_agent_keeps_and_the_dear_ones_only_when_asked_for() {
    let all: Vec<String> = privilege::kept().collect();
    let dear = |name: &&String| matches!(name.as_str(), "SYS_ADMIN" | "NET_RAW");
    let cheap: Vec<String> = all.iter().filter(|name| !dear(name)).cloned().collect();
    for (values, expected) in [(values(), cheap), (everything(), all)] {
        let daemons = of_kind(&documents(&rendered(&values)), "DaemonSet");
        let pod = &daemons["spec"]["template"]["spec"];
        let context = &pod["containers"][0]["securityContext"];
        assert_eq!(
            context["capabilities"],
            json!({"drop": ["ALL"], "add": expected})
        );
        assert_eq!(context["readOnlyRootFilesystem"], true);
        assert_eq!(context["privileged"], false);
        assert_eq!(context["allowPrivilegeEscalation"], false);
        assert_eq!(
            (&pod["hostPID"], &pod["hostNetwork"]),
            (&json!(true), &json!(true))
        );
    }
}

#[test]
fn the_agent_takes_its_configuration() {
    for (values, public) in [(values(), false), (everything(), true)] {
        let map = of_kind(&documents(&rendered(&values)), "ConfigMap");
        let text = map["data"]["agent.yaml"].as_str().expect("agent.yaml");
        let config = Config::parse(text).unwrap_or_else(|why| panic!("{why}\n{text}"));
        let open: Vec<_> = config
            .listen
            .iter()
            .filter(|listen| listen.is_public())
            .collect();
        assert_eq!(open.len(), usize::from(public), "{text}");
        assert!(
            open.iter()
                .all(|listen| listen.auth == Some(Auth::Kubernetes)),
            "{text}"
        );
        assert_eq!(config.trace.namespaces.len(), if public { 2 } else { 0 });
    }
}

/// What the chart mounts is where the agent looks and writes.
#[test]
fn what_the_agent_writes_is_mounted() {
    let all = documents(&rendered(&values()));
    let daemons = of_kind(&all, "DaemonSet");
    let container = &daemons["spec"]["template"]["spec"]["containers"][0];
    let mounts = container["volumeMounts"].as_array().expect("mounts");
    let writable = |path: &str| {
        let holds = |mount: &&Value| {
            path.starts_with(mount["mountPath"].as_str().unwrap_or("?"))
                && mount["readOnly"].is_null()
        };
        mounts.iter().any(|mount| holds(&mount))
    };
    let config = of_kind(&all, "ConfigMap");
    let config = Config::parse(config["data"]["agent.yaml"].as_str().expect("text")).expect("good");
    assert!(writable(&config.store.dir.display().to_string()));
    for listen in &config.listen {
        if let Some(socket) = &listen.unix {
            assert!(writable(&socket.display().to_string()), "{listen}");
        }
    }
}

#[test]
fn what_the_renderer_does_not_know_is_an_error() {
    let data = json!({"Values": {"on": true, "off": false, "list": ["a"], "empty": ""}});
    for (text, expected) in [
        ("a {{- if .Values.on }} b{{ else }} c{{ end }}", "a b"),
        ("a\n{{- if .Values.off }}\nb\n{{- end }}\nc", "a\nc"),
        (
            "{{ if and .Values.on .Values.empty }}x{{ else }}y{{ end }}",
            "y",
        ),
        ("k:{{ .Values.list | toYaml | nindent 2 }}", "k:\n  - a"),
        (
            "{{ printf \"%s:%s\" \"a b\" .Values.on | quote }}",
            "\"a b:true\"",
        ),
    ] {
        assert_eq!(
            template::render(text, &data).as_deref(),
            Ok(expected),
            "{text}"
        );
    }
    for text in [
        "{{ .Values.of }}",
        "{{ include \"x\" . }}",
        "{{ range .Values.list }}{{ end }}",
        "{{ if .Values.on }}",
        "{{ .Values.list }}",
        "{{ end }}",
        "{{ .Values.on",
    ] {
        template::render(text, &data).expect_err(text);
    }
}
