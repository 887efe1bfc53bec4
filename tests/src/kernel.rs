//! What the running kernel can tell, as far as expectations depend on it. Asked of the kernel, never of its version.

use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::programs;

/// Something a kernel may lack, and with it the proof of a cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// No such drop reason.
    Reason(&'static str),
    /// No such tracepoint.
    Tracepoint(&'static str),
    /// The table that refused a packet has no name: no kprobes, or no type information of the module.
    NftTableName,
}

/// This machine, as `netdiag doctor` and the kernel's type information describe it.
#[derive(Debug)]
pub struct Kernel {
    pub release: String,
    /// The highest tier a trace uses here.
    tier: u8,
    types: Vec<u8>,
    nft_probe: bool,
    nft_types: bool,
}

/// Read once per process.
pub fn this() -> Result<&'static Kernel> {
    static KNOWN: OnceLock<Kernel> = OnceLock::new();
    if let Some(known) = KNOWN.get() {
        return Ok(known);
    }
    let read = read()?;
    Ok(KNOWN.get_or_init(|| read))
}

fn read() -> Result<Kernel> {
    let mut doctor = Command::new(programs::netdiag()?);
    let output = doctor
        .args(["doctor", "-o", "json"])
        .output()
        .context("run netdiag doctor")?;
    ensure!(output.status.success(), "netdiag doctor: {}", output.status);
    let said: Value =
        serde_json::from_slice(&output.stdout).context("read what netdiag doctor said")?;
    let present = |name: &str| {
        said["capabilities"]
            .as_array()
            .into_iter()
            .flatten()
            .any(|found| found["name"] == name && found["present"] == true)
    };
    Ok(Kernel {
        release: said["kernel"].as_str().unwrap_or_default().to_owned(),
        tier: said["tier"].as_u64().unwrap_or(0) as u8,
        types: std::fs::read("/sys/kernel/btf/vmlinux").context("read the kernel's types")?,
        nft_probe: present("tier 1: kretprobe:nft_do_chain"),
        nft_types: std::path::Path::new("/sys/kernel/btf/nf_tables").exists(),
    })
}

impl Kernel {
    /// What a trace uses that may use no more than `limit`.
    pub fn tier(&self, limit: Option<u8>) -> u8 {
        limit.map_or(self.tier, |limit| limit.min(self.tier))
    }

    /// Whether a trace of at most this tier has to do without.
    pub fn lacks(&self, lack: Lack, limit: Option<u8>) -> bool {
        match lack {
            Lack::Reason(name) => !self.has_type(&format!("SKB_DROP_REASON_{name}")),
            Lack::Tracepoint(name) => !self.has_type(&format!("btf_trace_{name}")),
            Lack::NftTableName => self.tier(limit) == 0 || !self.nft_probe || !self.nft_types,
        }
    }

    /// A whole string of the type information.
    fn has_type(&self, name: &str) -> bool {
        let wanted = [b"\0", name.as_bytes(), b"\0"].concat();
        self.types
            .windows(wanted.len())
            .any(|window| window == wanted)
    }
}
