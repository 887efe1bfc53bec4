//! What ip-masq-agent was told: the copy of its ConfigMap that kubelet keeps on the node.

use std::fs;
use std::path::{Path, PathBuf};

use super::kube::exempt;
use crate::inventory::MasqueradeConfig;

/// Where kubelet keeps what it mounts into pods; where the agent's container has it.
const PODS: &str = "/var/lib/kubelet/pods";
const MOUNTED: &str = "/etc/config/ip-masq-agent";
/// A volume of a ConfigMap in a pod's folder, and the key ip-masq-agent and its Azure fork read.
const VOLUMES: &str = "volumes/kubernetes.io~configmap";
const KEY: &str = "ip-masq-agent";

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
    let file = path.display().to_string();
    let exempt = exempt(&text);
    if exempt.is_empty() {
        tracing::warn!("{file} exempts nothing that ip-masq-agent would understand");
        return None;
    }
    Some(MasqueradeConfig { file, exempt })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubelets_copy_is_found() {
        let pods = tempfile::tempdir().unwrap();
        let volume = pods.path().join("uid").join(VOLUMES).join("config");
        fs::create_dir_all(&volume).unwrap();
        fs::write(volume.join(KEY), "nonMasqueradeCIDRs: [10.0.0.0/8]").unwrap();
        let found = files(pods.path());
        assert_eq!(found.len(), 1);
        let config = read(&found[0]).unwrap();
        assert!(config.exempts("10.1.2.3".parse().unwrap()));
        assert!(!config.exempts("11.1.2.3".parse().unwrap()));
        fs::write(&found[0], "- no such thing").unwrap();
        assert_eq!(read(&found[0]), None);
    }
}
