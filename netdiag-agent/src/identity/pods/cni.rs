//! What network plugins left behind: `/var/lib/cni/results` names pods where neither an API nor a runtime answers.
//!
//! One file per sandbox and interface, written by libcni when it sets one up and removed when it tears it down, so a node
//! that went down with its pods may still hold theirs: whoever reads this checks that the namespace lives.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::cgroup::Uid;

/// Below the node's root.
pub const RESULTS: &str = "var/lib/cni/results";

/// A node may have some hundred; a folder with more is not what we think it is.
const MAX_FILES: usize = 4096;
const MAX_BYTES: u64 = 1 << 20;

/// One interface of one sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    pub sandbox: String,
    pub interface: String,
    pub uid: Option<Uid>,
    pub namespace: String,
    pub name: String,
    pub netns: Option<PathBuf>,
    pub addresses: Vec<IpAddr>,
}

#[derive(Deserialize)]
struct File {
    #[serde(rename = "containerId")]
    sandbox: String,
    #[serde(rename = "ifName", default)]
    interface: String,
    netns: Option<PathBuf>,
    #[serde(rename = "cniArgs", default)]
    arguments: Vec<(String, String)>,
    result: Option<Outcome>,
}

#[derive(Deserialize)]
struct Outcome {
    #[serde(default)]
    interfaces: Vec<Interface>,
    #[serde(default)]
    ips: Vec<Ip>,
}

#[derive(Deserialize)]
struct Interface {
    #[serde(default)]
    name: String,
    /// The namespace's path; empty for an interface of the node.
    #[serde(default)]
    sandbox: PathBuf,
}

#[derive(Deserialize)]
struct Ip {
    /// With its prefix length.
    address: String,
}

/// All that can be read below the node's root; what cannot is left out.
pub fn attachments(root: &Path) -> Vec<Attachment> {
    let Ok(entries) = fs::read_dir(root.join(RESULTS)) else {
        return Vec::new();
    };
    let files = entries.flatten().take(MAX_FILES);
    let small = files.filter(|entry| {
        entry
            .metadata()
            .is_ok_and(|meta| meta.is_file() && meta.len() <= MAX_BYTES)
    });
    let mut found: Vec<Attachment> = small
        .filter_map(|entry| parse(&fs::read(entry.path()).ok()?))
        .collect();
    found.sort_by(|one, other| {
        (&one.sandbox, &one.interface).cmp(&(&other.sandbox, &other.interface))
    });
    found
}

/// `None`: not of a Kubernetes pod, or not such a file.
pub fn parse(text: &[u8]) -> Option<Attachment> {
    let file: File = serde_json::from_slice(text).ok()?;
    let argument = |key: &str| {
        let found = file.arguments.iter().find(|(name, _)| name == key);
        found.map(|(_, value)| value.clone())
    };
    let result = file.result.as_ref();
    let inside = result.and_then(|result| {
        let interfaces = &result.interfaces;
        let own = |one: &&Interface| one.name == file.interface && one.sandbox.is_absolute();
        interfaces.iter().find(own).map(|one| one.sandbox.clone())
    });
    let ips = result.into_iter().flat_map(|result| &result.ips);
    Some(Attachment {
        namespace: argument("K8S_POD_NAMESPACE")?,
        name: argument("K8S_POD_NAME")?,
        uid: argument("K8S_POD_UID").map(|uid| Uid::of(&uid)),
        netns: file.netns.clone().or(inside),
        addresses: ips
            .filter_map(|ip| ip.address.split('/').next()?.parse().ok())
            .collect(),
        sandbox: file.sandbox,
        interface: file.interface,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{"kind":"cniCacheV1","containerId":"4fd0c6e1b2a3","config":"eyJhIjoxfQ==","ifName":"eth0",
        "networkName":"lab","cniArgs":[["IgnoreUnknown","1"],["K8S_POD_NAMESPACE","shop"],["K8S_POD_NAME","web-0"],
        ["K8S_POD_INFRA_CONTAINER_ID","4fd0c6e1b2a3"],["K8S_POD_UID","8c2f0ad2-4a3c-4f36-9a2e-5b7f0d3a9c11"]],
        "capabilityArgs":{"dns":{}},"result":{"cniVersion":"0.4.0","dns":{},
        "interfaces":[{"mac":"2a:aa","name":"cni0"},{"mac":"b2:bb","name":"veth5ac1a1b2"},
          {"mac":"5e:cc","name":"eth0","sandbox":"/var/run/netns/cni-5a0b1c2d"}],
        "ips":[{"address":"10.244.1.7/24","gateway":"10.244.1.1","interface":2,"version":"4"}]}}"#;

    #[test]
    fn a_result_names_its_pod() {
        let expected = Attachment {
            sandbox: "4fd0c6e1b2a3".to_owned(),
            interface: "eth0".to_owned(),
            uid: Uid::parse("8c2f0ad2-4a3c-4f36-9a2e-5b7f0d3a9c11"),
            namespace: "shop".to_owned(),
            name: "web-0".to_owned(),
            netns: Some("/var/run/netns/cni-5a0b1c2d".into()),
            addresses: vec!["10.244.1.7".parse().unwrap()],
        };
        assert_eq!(parse(FILE.as_bytes()), Some(expected.clone()));
        // Newer libraries write the namespace at the top; older kubelets do not tell the UID.
        let newer = FILE
            .replacen('{', r#"{"netns":"/var/run/netns/cni-0","#, 1)
            .replace(
                r#",["K8S_POD_UID","8c2f0ad2-4a3c-4f36-9a2e-5b7f0d3a9c11"]"#,
                "",
            );
        let expected = Attachment {
            netns: Some("/var/run/netns/cni-0".into()),
            uid: None,
            ..expected
        };
        assert_eq!(parse(newer.as_bytes()), Some(expected));
    }

    #[test]
    fn what_is_no_result_of_a_pod_is_left_out() {
        for text in [
            "",
            "{}",
            "[1]",
            r#"{"containerId":"a","cniArgs":[["K8S_POD_NAME","x"]]}"#,
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(attachments(folder.path()), []);
        let results = folder.path().join(RESULTS);
        fs::create_dir_all(results.join("folder")).unwrap();
        fs::write(results.join("lab-4fd0-eth0"), FILE).unwrap();
        fs::write(results.join("torn"), &FILE[..100]).unwrap();
        assert_eq!(attachments(folder.path()).len(), 1);
    }
}
