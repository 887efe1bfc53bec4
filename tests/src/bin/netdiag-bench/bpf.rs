//! What the kernel says of its eBPF programs, and an empty one to compare with.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Command;

use anyhow::{Context, Result};
use netdiag_tests::netns::Netns;
use serde_json::Value;

/// The name it is listed under.
pub const EMPTY: &str = "bench_empty";

/// A loaded eBPF program and what it has cost so far.
pub struct Program {
    pub id: u64,
    name: String,
    ns: u64,
    runs: u64,
}

pub fn loaded() -> Result<Vec<Program>> {
    let output = Command::new("bpftool")
        .args(["-j", "prog", "show"])
        .output()
        .context("start bpftool")?;
    let programs: Vec<Value> =
        serde_json::from_slice(&output.stdout).context("read the programs bpftool lists")?;
    let number = |program: &Value, field: &str| program[field].as_u64().unwrap_or(0);
    let one = |program: &Value| Program {
        id: number(program, "id"),
        name: program["name"].as_str().unwrap_or_default().to_owned(),
        ns: number(program, "run_time_ns"),
        runs: number(program, "run_cnt"),
    };
    Ok(programs.iter().map(one).collect())
}

/// Of the programs that were not there `before`, what a run took between `start` and `end`; equal names are one.
pub fn per_run(
    before: &BTreeSet<u64>,
    start: &[Program],
    end: &[Program],
) -> BTreeMap<String, f64> {
    let mut sums: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for program in end.iter().filter(|program| !before.contains(&program.id)) {
        let first = start.iter().find(|first| first.id == program.id);
        let sum = sums.entry(program.name.clone()).or_default();
        sum.0 += program.ns - first.map_or(0, |first| first.ns);
        sum.1 += program.runs - first.map_or(0, |first| first.runs);
    }
    // A program that hardly ran has no meaningful mean.
    sums.retain(|_, (_, runs)| *runs >= 1000);
    sums.into_iter()
        .map(|(name, (ns, runs))| (name, ns as f64 / runs as f64))
        .collect()
}

const PROG_LOAD: u32 = 5;
const LINK_CREATE: u32 = 28;
const ENABLE_STATS: u32 = 32;
const PROG_TYPE_SCHED_CLS: u32 = 3;
const ATTACH_TCX_INGRESS: u32 = 46;

/// Counts run times as long as the descriptor lives.
pub fn count_time() -> Result<OwnedFd> {
    bpf(ENABLE_STATS, &[0; 4]).context("count the run time of eBPF programs")
}

/// `return TCX_NEXT`, where the pod's packets enter the node; `None` on a kernel without tcx.
pub fn empty_program(netns: &Netns, interface: &str) -> Result<Option<[OwnedFd; 2]>> {
    // mov r0, -1; exit
    let code: [u64; 2] = [0xffff_ffff_0000_00b7, 0x95];
    let licence = CString::new("GPL").context("a literal without NUL")?;
    let mut load = [0; 80];
    put(&mut load, 0, &PROG_TYPE_SCHED_CLS.to_ne_bytes());
    put(&mut load, 4, &(code.len() as u32).to_ne_bytes());
    put(&mut load, 8, &(code.as_ptr() as u64).to_ne_bytes());
    put(&mut load, 16, &(licence.as_ptr() as u64).to_ne_bytes());
    put(&mut load, 48, EMPTY.as_bytes());
    let program = bpf(PROG_LOAD, &load).context("load the empty program")?;
    let index = netns
        .within(|| nix::net::if_::if_nametoindex(interface).context("look the interface up"))?;
    let mut attach = [0; 80];
    put(&mut attach, 0, &program.as_raw_fd().to_ne_bytes());
    put(&mut attach, 4, &index.to_ne_bytes());
    put(&mut attach, 8, &ATTACH_TCX_INGRESS.to_ne_bytes());
    // The interface is looked for in the namespace of the thread that asks.
    match netns.within(|| Ok(bpf(LINK_CREATE, &attach))) {
        Ok(Ok(link)) => Ok(Some([program, link])),
        Ok(Err(error)) => {
            eprintln!("no empty program to compare with: {error}");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn put(attributes: &mut [u8], offset: usize, bytes: &[u8]) {
    attributes[offset..offset + bytes.len()].copy_from_slice(bytes);
}

/// `bpf(2)` for commands that return a descriptor.
fn bpf(command: u32, attributes: &[u8]) -> std::io::Result<OwnedFd> {
    // SAFETY: the block is as long as we say, and what it points at lives in the caller's frame.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            attributes.as_ptr(),
            attributes.len(),
        )
    };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: a fresh descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
