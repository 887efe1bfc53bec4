//! What ip-masq-agent was told: the copy of its ConfigMap that kubelet keeps on the node.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::inventory::MasqueradeConfig;

/// Where kubelet keeps what it mounts into pods; where the agent's container has it.
const PODS: &str = "/var/lib/kubelet/pods";
const MOUNTED: &str = "/etc/config/ip-masq-agent";
/// A volume of a ConfigMap in a pod's folder, and the key ip-masq-agent and its Azure fork read.
const VOLUMES: &str = "volumes/kubernetes.io~configmap";
const KEY: &str = "ip-masq-agent";

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct File {
    #[serde(rename = "nonMasqueradeCIDRs")]
    non_masquerade_cidrs: Vec<String>,
    masq_link_local: bool,
}

/// The configuration, where this node has one.
pub fn config() -> Option<MasqueradeConfig> {
    let below = files(Path::new(PODS));
    let mut found = below.into_iter().chain([PathBuf::from(MOUNTED)]);
    found.find_map(|path| read(&path))
}

fn files(pods: &Path) -> Vec<PathBuf> {
    let entries = |path: &Path| {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let volumes = entries(pods).into_iter().map(|pod| pod.join(VOLUMES));
    let mut files: Vec<PathBuf> = volumes
        .flat_map(|volumes| entries(&volumes))
        .map(|volume| volume.join(KEY))
        .filter(|file| file.is_file())
        .collect();
    files.sort();
    files
}

fn read(path: &Path) -> Option<MasqueradeConfig> {
    let text = fs::read_to_string(path).ok()?;
    let parsed = parse(&text, path.display().to_string());
    if parsed.is_none() {
        tracing::warn!("{} is no configuration of ip-masq-agent", path.display());
    }
    parsed
}

/// YAML or JSON, which is YAML too.
fn parse(text: &str, file: String) -> Option<MasqueradeConfig> {
    let parsed: File = serde_norway::from_str(text).ok()?;
    let exempt = parsed.non_masquerade_cidrs.iter().map(|cidr| network(cidr));
    Some(MasqueradeConfig {
        file,
        exempt: exempt.collect::<Option<_>>()?,
        link_local: parsed.masq_link_local,
    })
}

fn network(cidr: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = cidr.trim().split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let length: u8 = length.parse().ok()?;
    let width = if address.is_ipv4() { 32 } else { 128 };
    (length <= width).then_some((address, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agents_yaml_and_json_are_read() {
        for text in [
            "nonMasqueradeCIDRs:\n  - 10.0.0.0/8\n  - fd00::/8\nmasqLinkLocal: true\nresyncInterval: 60s\n",
            r#"{"nonMasqueradeCIDRs": ["10.0.0.0/8", "fd00::/8"], "masqLinkLocal": true}"#,
        ] {
            let config = parse(text, "f".to_owned()).expect(text);
            assert_eq!(config.exempt.len(), 2);
            assert!(config.link_local && config.exempts("10.1.2.3".parse().unwrap()));
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in [
            "nonMasqueradeCIDRs: 7",
            "nonMasqueradeCIDRs: [10.0.0.0/33]",
            "- a",
        ] {
            assert_eq!(parse(text, String::new()), None, "{text}");
        }
    }

    #[test]
    fn kubelets_copy_is_found() {
        let pods = tempfile::tempdir().unwrap();
        let volume = pods.path().join("uid").join(VOLUMES).join("config");
        fs::create_dir_all(&volume).unwrap();
        fs::write(volume.join(KEY), "nonMasqueradeCIDRs: [10.0.0.0/8]").unwrap();
        let found = files(pods.path());
        assert_eq!(found.len(), 1);
        assert!(read(&found[0]).is_some());
    }
}
