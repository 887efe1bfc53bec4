//! Credentials that may do less than one would like.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{delivered, ghost};
use crate::cluster::Scenario;
use crate::cluster::judge::{fail, of};
use crate::cluster::kubectl::until;
use crate::cluster::stage::{NAMESPACE, Stage};
use crate::cluster::trace::Trace;

/// May look at the one pod, and at nothing else.
const MANIFEST: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: narrow, namespace: shop}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: narrow, namespace: shop}
rules: [{apiGroups: [''], resources: [pods], resourceNames: [client], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: narrow, namespace: shop}
subjects: [{kind: ServiceAccount, name: narrow, namespace: shop}]
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: narrow}
";

pub const SCENARIO: Scenario = Scenario {
    name: "rbac",
    about: "a service account that may look at one pod only: poorer names, the same verdicts",
    run,
};

fn run(stage: &Stage) -> Result<()> {
    stage.kubectl.apply(MANIFEST)?;
    let folder = tempfile::tempdir().context("make a temporary folder")?;
    let file = folder.path().join("narrow.conf");
    token_kubeconfig(stage, "shop", "narrow", &file)?;
    let web = delivered(stage.service(NAMESPACE, "web")?);
    let attempts = [web, ghost(stage)?];
    let done = Trace::of_client(stage).kubeconfig(&file).run(&attempts)?;
    let mut complaints = of(&done, &attempts);
    if done.ended.code != Some(1) {
        complaints.push(format!("exit code {:?}, 1 was due", done.ended.code));
    }
    let said = done.ended.stderr.to_lowercase();
    if !said.contains("403") && !said.contains("forbidden") {
        complaints.push("nothing says what was forbidden".to_owned());
    }
    fail(&done, &complaints)
}

/// The administrator's kubeconfig with the account's token.
pub fn token_kubeconfig(stage: &Stage, namespace: &str, account: &str, file: &Path) -> Result<()> {
    let kubectl = &stage.kubectl;
    let secret = || -> Option<String> {
        let found = kubectl
            .get(&format!("serviceaccount {account} -n {namespace}"))
            .ok()?;
        Some(found.pointer("/secrets/0/name")?.as_str()?.to_owned())
    };
    until("the account has a token", || secret().is_some())?;
    let secret = secret().context("the account has lost its token")?;
    let template = "-o go-template={{.data.token|base64decode}}";
    let token = kubectl.run(&format!("get secret {secret} -n {namespace} {template}"))?;
    let config = kubectl.run("config view --raw -o json")?;
    let mut config: Value = serde_json::from_str(&config).context("read a kubeconfig")?;
    config["users"][0]["user"] = serde_json::json!({ "token": token });
    fs::write(file, config.to_string()).with_context(|| format!("write {}", file.display()))
}
