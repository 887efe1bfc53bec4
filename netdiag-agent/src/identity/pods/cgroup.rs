//! Which pod a process belongs to, as its cgroup says. Pure: takes `/proc/PID/cgroup` apart.
//!
//! The kubelet names one cgroup per pod after the pod's UID, the runtime one below it per container:
//!
//! | driver | pod | container |
//! |---|---|---|
//! | cgroupfs | `kubepods/besteffort/pod<uid>` | `<id>`, of CRI-O `crio-<id>` |
//! | systemd | `kubepods-besteffort-pod<uid with _>.slice` | `cri-containerd-<id>.scope`, `crio-…`, `docker-…` |
//! | a runtime set to the other driver than its kubelet | `kubepods-…-pod<uid with _>.slice:cri-containerd:<id>` | in the same component |
//!
//! Pods of the guaranteed class have no part for it, and a kubelet's cgroup root stands in front of everything.

use std::fmt;
use std::sync::Arc;

/// Of a pod, in the spelling of the API: `0c1e7a4c-…`, or 32 digits where a pod comes from a file on the node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uid(Arc<str>);

/// A process of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub pod: Uid,
    /// Also of the sandbox itself, which runtimes treat as one more container.
    pub container: Option<String>,
}

impl Uid {
    /// Accepts systemd's spelling too, where `_` stands for `-`.
    pub fn parse(text: &str) -> Option<Self> {
        const GROUPS: [usize; 5] = [8, 4, 4, 4, 12];
        let text = text.replace('_', "-");
        let hex = |part: &str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
        let lengths = text.split('-').map(str::len);
        let dashed = lengths.eq(GROUPS) && text.split('-').all(hex);
        let plain = text.len() == 32 && hex(&text);
        (dashed || plain).then(|| Self(text.into()))
    }

    /// As the API or a runtime gave it, whatever it looks like.
    pub fn of(text: &str) -> Self {
        Self(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `None`: a process of no pod, or one that only looks after a container from outside.
pub fn member(cgroup: &str) -> Option<Member> {
    cgroup.lines().find_map(|line| {
        // hierarchy:controllers:path, and the path may hold colons itself.
        let path = line.splitn(3, ':').nth(2)?;
        in_path(path)
    })
}

fn in_path(path: &str) -> Option<Member> {
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    let (pod, rest) = parts.find_map(pod)?;
    let next = rest.or_else(|| parts.next());
    let container = next.and_then(container);
    // conmon sits in the pod's cgroup, but in the node's namespaces.
    if next.is_some_and(|next| next.contains("conmon-")) {
        return None;
    }
    Some(Member { pod, container })
}

/// The UID in one component of a path, and what follows it in the same component.
fn pod(part: &str) -> Option<(Uid, Option<&str>)> {
    if let Some((slice, rest)) = part.split_once(".slice") {
        let (before, uid) = slice.rsplit_once("-pod")?;
        let rest = rest.strip_prefix(':');
        return is_kubepods(before).then_some((Uid::parse(uid)?, rest));
    }
    Some((Uid::parse(part.strip_prefix("pod")?)?, None))
}

/// `kubepods`, `kubepods-burstable`, with a cgroup root `kubelet-kubepods-burstable`.
fn is_kubepods(name: &str) -> bool {
    let class = name
        .strip_suffix("-burstable")
        .or_else(|| name.strip_suffix("-besteffort"));
    class.unwrap_or(name).ends_with("kubepods")
}

/// The id in `cri-containerd-<id>.scope`, `crio-<id>`, `cri-containerd:<id>` or `<id>`.
fn container(part: &str) -> Option<String> {
    let part = part.strip_suffix(".scope").unwrap_or(part);
    let id = part.rsplit(['-', ':']).next()?;
    let is_id = id.len() >= 12 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id.then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "8c2f0ad2-4a3c-4f36-9a2e-5b7f0d3a9c11";
    const SYSTEMD: &str = "8c2f0ad2_4a3c_4f36_9a2e_5b7f0d3a9c11";
    const STATIC: &str = "3f1c9d0e8b7a6f5e4d3c2b1a09f8e7d6";
    const ID: &str = "4fd0c6e1b2a39485766859403122134455667788990aabbccddeeff001122334";

    #[track_caller]
    fn check(line: &str, expected: Option<(&str, Option<&str>)>) {
        let found = member(line);
        let found = found
            .as_ref()
            .map(|member| (member.pod.as_str(), member.container.as_deref()));
        assert_eq!(found, expected, "{line}");
    }

    #[test]
    fn both_drivers_and_all_classes_are_read() {
        for (path, uid) in [
            (format!("/kubepods/besteffort/pod{UID}/{ID}"), UID),
            (format!("/kubepods/burstable/pod{UID}/{ID}"), UID),
            (format!("/kubepods/pod{UID}/{ID}"), UID),
            (format!("/kubepods/burstable/pod{STATIC}/{ID}"), STATIC),
            (format!("/n1/kubepods/pod{UID}/{ID}"), UID),
            (format!("/kubepods/besteffort/pod{UID}/crio-{ID}"), UID),
            (
                format!(
                    "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{SYSTEMD}.slice/cri-containerd-{ID}.scope"
                ),
                UID,
            ),
            (
                format!(
                    "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{SYSTEMD}.slice/crio-{ID}.scope"
                ),
                UID,
            ),
            (
                format!("/kubepods.slice/kubepods-pod{SYSTEMD}.slice/docker-{ID}.scope"),
                UID,
            ),
            (
                format!(
                    "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{STATIC}.slice/crio-{ID}.scope"
                ),
                STATIC,
            ),
            (
                format!(
                    "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod{SYSTEMD}.slice/cri-containerd-{ID}.scope"
                ),
                UID,
            ),
            (
                format!(
                    "/system.slice/containerd.service/kubepods-besteffort-pod{SYSTEMD}.slice:cri-containerd:{ID}"
                ),
                UID,
            ),
            // Seen from inside another cgroup namespace.
            (format!("/../../kubepods/besteffort/pod{UID}/{ID}"), UID),
            // systemd running in the container.
            (
                format!("/kubepods/besteffort/pod{UID}/{ID}/system.slice/nginx.service"),
                UID,
            ),
        ] {
            check(&format!("0::{path}"), Some((uid, Some(ID))));
            check(&format!("5:cpu,cpuacct:{path}"), Some((uid, Some(ID))));
        }
    }

    #[test]
    fn a_hybrid_file_is_read_as_a_whole() {
        let text = format!(
            "12:freezer:/kubepods/besteffort/pod{UID}/{ID}\n1:name=systemd:/kubepods/besteffort/pod{UID}/{ID}\n0::/system.slice\n"
        );
        check(&text, Some((UID, Some(ID))));
        check(&format!("0::/\n{text}"), Some((UID, Some(ID))));
    }

    #[test]
    fn a_pod_without_a_container_is_a_pod() {
        check(&format!("0::/kubepods/pod{UID}"), Some((UID, None)));
        check(
            &format!("0::/kubepods/pod{UID}/kata_overhead"),
            Some((UID, None)),
        );
    }

    #[test]
    fn others_are_left_alone() {
        for line in [
            "",
            "0::/",
            "0::/init.scope",
            "nonsense",
            "0::/user.slice/user-0.slice/session-1.scope",
            &format!("0::/system.slice/docker-{ID}.scope"),
            "0::/kubepods/besteffort",
            "0::/kubepods/podless/x",
            "0::/machine.slice/libpod-pod1234.slice",
            &format!("0::/machine.slice/machine-libpod_pod_{SYSTEMD}.slice/libpod-{ID}.scope"),
            // CRI-O's monitor of a container.
            &format!("0::/kubepods/besteffort/pod{UID}/crio-conmon-{ID}"),
            &format!(
                "0::/kubepods.slice/kubepods-besteffort-pod{SYSTEMD}.slice/crio-conmon-{ID}.scope"
            ),
        ] {
            check(line, None);
        }
    }
}
