//! Where the node's files lie, and the names that are its own.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::sh;

/// One node per build directory.
pub struct Place {
    root: PathBuf,
}

impl Place {
    pub fn own() -> Result<Self> {
        let target = sh::target();
        let root = std::path::absolute(&target)
            .with_context(|| format!("resolve {}", target.display()))?
            .join("cluster");
        Ok(Self { root })
    }

    /// Files of this run that are readable from outside the node: logs, credentials, start scripts.
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// `DIR/name` as text, for configuration files.
    pub fn text(&self, name: &str) -> String {
        self.file(name).to_string_lossy().into_owned()
    }

    /// Unique on this machine, the same each time: what a crashed run left is found again by it.
    pub fn name(&self) -> String {
        format!(
            "netdiag-{:08x}",
            fnv1a(self.root.to_string_lossy().as_bytes())
        )
    }
}

/// A hash that stays the same with every compiler.
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::fnv1a;

    #[test]
    fn the_hash_is_the_published_one() {
        assert_eq!(fnv1a(b""), 0x811c_9dc5);
        assert_eq!(fnv1a(b"a"), 0xe40c_292c);
        assert_eq!(fnv1a(b"foobar"), 0xbf9c_f968);
    }
}
