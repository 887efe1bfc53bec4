//! The processes of pods, by their cgroups: what is left to go by when no runtime answers, and the way to the network of
//! a sandbox whose runtime does not tell its pid.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use super::cgroup::{self, Uid};

/// What runs of one pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Processes {
    /// Ids of containers, the sandbox's among them where it has a process.
    pub containers: BTreeSet<String>,
    /// Of the process that is there longest: the sandbox's own, or an early container's. A later one may have moved on
    /// to a namespace of its own.
    pub eldest: u32,
    started: u64,
}

/// By pod. `proc` is `/proc`, or where it is mounted.
pub fn of_pods(proc: &Path) -> BTreeMap<Uid, Processes> {
    let mut pods: BTreeMap<Uid, Processes> = BTreeMap::new();
    let Ok(entries) = fs::read_dir(proc) else {
        return pods;
    };
    let numbers = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    for pid in numbers {
        let folder = proc.join(pid.to_string());
        let Some(member) = fs::read_to_string(folder.join("cgroup"))
            .ok()
            .and_then(|text| cgroup::member(&text))
        else {
            continue;
        };
        // A zombie has no namespaces any more.
        let (Some(started), true) = (started(&folder), folder.join("ns/net").exists()) else {
            continue;
        };
        let found = pods.entry(member.pod).or_default();
        found.containers.extend(member.container);
        if found.eldest == 0 || (started, pid) < (found.started, found.eldest) {
            (found.started, found.eldest) = (started, pid);
        }
    }
    pods
}

pub fn netns_of(proc: &Path, pid: u32) -> PathBuf {
    proc.join(pid.to_string()).join("ns/net")
}

/// Field 22 of `/proc/PID/stat`, in clock ticks since boot; see proc_pid_stat(5). The name in field 2 may hold anything.
fn started(folder: &Path) -> Option<u64> {
    let text = fs::read_to_string(folder.join("stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "8c2f0ad2-4a3c-4f36-9a2e-5b7f0d3a9c11";
    const PAUSE: &str = "4fd0c6e1b2a39485766859403122134455667788990aabbccddeeff001122334";
    const APP: &str = "b000c6e1b2a39485766859403122134455667788990aabbccddeeff001122334";

    fn process(proc: &Path, pid: u32, started: u64, cgroup: &str) {
        let folder = proc.join(pid.to_string());
        fs::create_dir_all(folder.join("ns")).unwrap();
        fs::write(folder.join("cgroup"), cgroup).unwrap();
        let stat = format!(
            "{pid} (odd ) name) S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 {started} 9 9"
        );
        fs::write(folder.join("stat"), stat).unwrap();
        fs::write(folder.join("ns/net"), "").unwrap();
    }

    #[test]
    fn the_eldest_process_stands_for_the_pod() {
        let folder = tempfile::tempdir().unwrap();
        let proc = folder.path();
        let pod = |id: &str| format!("0::/kubepods/besteffort/pod{UID}/{id}\n");
        process(proc, 1, 0, "0::/init.scope\n");
        // Pids wrapped: the container's is lower than that of the pause process.
        process(proc, 20, 700, &pod(APP));
        process(proc, 900, 500, &pod(PAUSE));
        process(proc, 901, 400, &pod(&format!("crio-conmon-{PAUSE}")));
        process(proc, 902, 300, &pod(PAUSE));
        fs::remove_file(proc.join("902/ns/net")).unwrap();
        fs::create_dir(proc.join("self")).unwrap();
        let pods = of_pods(proc);
        assert_eq!(pods.len(), 1);
        let found = &pods[&Uid::of(UID)];
        assert_eq!(found.eldest, 900);
        let both: Vec<_> = found.containers.iter().map(String::as_str).collect();
        assert_eq!(both, [PAUSE, APP]);
    }

    #[test]
    fn no_proc_no_pods() {
        assert_eq!(of_pods(Path::new("/nonexistent")), BTreeMap::new());
    }
}
