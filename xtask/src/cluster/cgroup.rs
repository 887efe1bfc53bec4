//! The node's own group in every hierarchy: kubelets on one kernel remove each other's pods otherwise.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Every mounted hierarchy, v1 and v2.
pub fn hierarchies() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts
        .lines()
        .filter_map(hierarchy)
        .map(PathBuf::from)
        .collect()
}

/// The mount point in a line of /proc/mounts, if it is a hierarchy where everybody looks for it.
fn hierarchy(mount: &str) -> Option<&str> {
    let mut words = mount.split(' ').skip(1);
    let (point, kind) = (words.next()?, words.next()?);
    (matches!(kind, "cgroup" | "cgroup2") && point.starts_with("/sys/fs/cgroup")).then_some(point)
}

pub fn make(name: &str) -> Result<()> {
    for hierarchy in hierarchies() {
        let group = hierarchy.join(name);
        fs::create_dir_all(&group).with_context(|| format!("create {}", group.display()))?;
        // A new group of v1 has no processors and no memory; in v2 these files are not writable and need not be.
        for file in ["cpuset.mems", "cpuset.cpus"] {
            let own = group.join(file);
            if fs::read_to_string(&own).is_ok_and(|set| set.trim().is_empty())
                && let Ok(set) = fs::read_to_string(hierarchy.join(file))
            {
                fs::write(&own, set).with_context(|| format!("write {}", own.display()))?;
            }
        }
    }
    Ok(())
}

/// Removes the groups; the processes are dead, but the kernel may take a moment to notice.
pub fn remove(name: &str) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    for hierarchy in hierarchies() {
        let group = hierarchy.join(name);
        while group.exists() {
            remove_tree(&group);
            if !group.exists() {
                break;
            }
            if Instant::now() > deadline {
                bail!("{} still has processes", group.display());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    Ok(())
}

/// Only folders can be removed, from the innermost out.
fn remove_tree(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    let _ = fs::remove_dir(group);
}

#[cfg(test)]
mod tests {
    use super::hierarchy;

    #[test]
    fn both_versions_are_hierarchies_and_nothing_else_is() {
        let v1 = "cgroup /sys/fs/cgroup/cpu cgroup rw,relatime,cpu 0 0";
        let v2 = "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0";
        assert_eq!(hierarchy(v1), Some("/sys/fs/cgroup/cpu"));
        assert_eq!(hierarchy(v2), Some("/sys/fs/cgroup/unified"));
        assert_eq!(hierarchy("tmpfs /sys/fs/cgroup tmpfs rw 0 0"), None);
        assert_eq!(hierarchy("cgroup2 /run/elsewhere cgroup2 rw 0 0"), None);
    }
}
