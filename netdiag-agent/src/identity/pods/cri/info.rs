//! What runtimes add to a sandbox's status on request. Not part of the interface, so nothing here may be relied upon:
//! CRI-O leaves the pid out where it runs no pause process, cri-dockerd says nothing at all.

use std::path::PathBuf;

use serde::Deserialize;

#[derive(Deserialize)]
struct Info {
    pid: Option<i64>,
    #[serde(rename = "runtimeSpec")]
    spec: Option<Spec>,
}

#[derive(Deserialize)]
struct Spec {
    linux: Option<Linux>,
}

#[derive(Deserialize)]
struct Linux {
    #[serde(default)]
    namespaces: Vec<Namespace>,
}

#[derive(Deserialize)]
struct Namespace {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    path: PathBuf,
}

/// The sandbox's first process, and the file its network namespace is mounted on.
pub fn read(text: &str) -> (Option<u32>, Option<PathBuf>) {
    let Ok(info) = serde_json::from_str::<Info>(text) else {
        return (None, None);
    };
    // A dead sandbox has pid 0.
    let pid = info.pid.and_then(|pid| u32::try_from(pid).ok());
    let linux = info.spec.and_then(|spec| spec.linux);
    let network = linux
        .into_iter()
        .flat_map(|linux| linux.namespaces)
        .find(|namespace| namespace.kind == "network")
        .map(|namespace| namespace.path)
        .filter(|path| path.is_absolute());
    (pid.filter(|pid| *pid > 0), network)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containerd_tells_both() {
        let text = r#"{"pid":4711,"processStatus":"running","netNamespaceClosed":false,"runtimeSpec":{"ociVersion":"1.1.0",
            "linux":{"cgroupsPath":"/kubepods/besteffort/pod8c2f0ad2/4fd0","namespaces":[{"type":"pid"},{"type":"ipc"},
            {"type":"network","path":"/var/run/netns/cni-5a0b1c2d"}]}}}"#;
        let netns = PathBuf::from("/var/run/netns/cni-5a0b1c2d");
        assert_eq!(read(text), (Some(4711), Some(netns)));
    }

    #[test]
    fn what_is_not_told_is_not_known() {
        for text in [
            "",
            "{}",
            "[]",
            r#"{"pid":0}"#,
            r#"{"pid":-1,"runtimeSpec":{"linux":{"namespaces":[{"type":"network"}]}}}"#,
            r#"{"runtimeSpec":{"linux":{"namespaces":[{"type":"mount","path":"/x"}]}}}"#,
        ] {
            assert_eq!(read(text), (None, None), "{text}");
        }
    }
}
