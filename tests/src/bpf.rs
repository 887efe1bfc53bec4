//! Programs that drop, written as raw instructions: the lab needs no compiler for them.
//!
//! A dropper drops packets to one destination port and lets all others pass, so that the healthy controls of a
//! scenario still run through it.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result};
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};

use crate::netlink::{self, attribute, flag};
use crate::netns::Netns;
use crate::plan::Family;
use crate::sys::{self, BpfAttributes};

/// The name `bpftool` and a verdict show for it.
pub const NAME: &str = "nd_lab_shot";

const PROG_LOAD: u32 = 5;
const LINK_CREATE: u32 = 28;
const PROG_TYPE_SCHED_CLS: u32 = 3;
const PROG_TYPE_XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;
const ATTACH_TCX_INGRESS: u32 = 46;
const ATTACH_TCX_EGRESS: u32 = 47;

/// Where a dropper hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// A clsact filter, as tc makes them: every kernel has those.
    Filter(Side),
    /// A tcx link (kernel 6.6).
    Tcx(Side),
    Xdp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Ingress,
    Egress,
}

/// Loads a dropper for `port` and attaches it; it drops until the returned descriptor is closed or, for a filter,
/// until the interface goes.
pub fn attach_dropper(
    netns: &Netns,
    interface: &str,
    attach: Attach,
    family: Family,
    port: u16,
) -> Result<OwnedFd> {
    let act = || {
        format!(
            "{}: attach a dropper to {interface} as {attach:?}",
            netns.name()
        )
    };
    if let Attach::Filter(_) = attach {
        netns.sh(&format!("tc qdisc add dev {interface} clsact"))?;
    }
    netns
        .within(|| {
            let index =
                nix::net::if_::if_nametoindex(interface).context("look the interface up")?;
            let program = load(&dropper(attach, family, port), attach)?;
            match attach {
                Attach::Filter(side) => filter(&program, index, side).map(|()| program),
                Attach::Tcx(Side::Ingress) => link(&program, index, ATTACH_TCX_INGRESS),
                Attach::Tcx(Side::Egress) => link(&program, index, ATTACH_TCX_EGRESS),
                Attach::Xdp => link(&program, index, ATTACH_XDP),
            }
        })
        .with_context(act)
}

/// Ids of all programs that tcx runs at an interface, ingress before egress; none on kernels without tcx.
pub fn tcx_programs(netns: &Netns, interface: &str) -> Result<String> {
    netns.within(|| {
        let index = nix::net::if_::if_nametoindex(interface).context("look the interface up")?;
        let ids = [ATTACH_TCX_INGRESS, ATTACH_TCX_EGRESS].map(|side| sys::attached(index, side));
        Ok(format!("{:?}", ids.map(Result::unwrap_or_default)))
    })
}

/// Whether this kernel has tcx: a link to interface 0 then fails for want of the interface, not of the attach type.
pub fn has_tcx() -> bool {
    let attach = Attach::Tcx(Side::Ingress);
    let Ok(program) = load(&dropper(attach, Family::V4, 1), attach) else {
        return false;
    };
    let attributes = BpfAttributes::new()
        .put(0, &program.as_raw_fd().to_ne_bytes())
        .put(8, &ATTACH_TCX_INGRESS.to_ne_bytes());
    let answer = sys::bpf(LINK_CREATE, &attributes);
    answer.is_err_and(|error| error.raw_os_error() == Some(libc::ENODEV))
}

fn load(code: &[u64], attach: Attach) -> Result<OwnedFd> {
    // Before Linux 5.11 programs count as locked memory. Later kernels do not ask: there it may fail.
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
    let kind = if attach == Attach::Xdp {
        PROG_TYPE_XDP
    } else {
        PROG_TYPE_SCHED_CLS
    };
    let licence = CString::new("GPL").context("a literal without NUL")?;
    let attributes = BpfAttributes::new()
        .put(0, &kind.to_ne_bytes())
        .put(4, &(code.len() as u32).to_ne_bytes())
        .put(8, &(code.as_ptr() as u64).to_ne_bytes())
        .put(16, &(licence.as_ptr() as u64).to_ne_bytes())
        .put(48, NAME.as_bytes());
    sys::bpf(PROG_LOAD, &attributes).context("load the program")
}

fn link(program: &OwnedFd, index: u32, attach: u32) -> Result<OwnedFd> {
    let attributes = BpfAttributes::new()
        .put(0, &program.as_raw_fd().to_ne_bytes())
        .put(4, &index.to_ne_bytes())
        .put(8, &attach.to_ne_bytes());
    sys::bpf(LINK_CREATE, &attributes).context("create the link")
}

/// One instruction: opcode, registers, offset, immediate.
const fn instruction(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> u64 {
    (code as u64)
        | ((destination as u64 | (source as u64) << 4) << 8)
        | ((offset as u16 as u64) << 16)
        | ((immediate as u32 as u64) << 32)
}

const LOAD_WORD: u8 = 0x61;
const LOAD_HALF: u8 = 0x69;
const MOVE_REGISTER: u8 = 0xbf;
const MOVE: u8 = 0xb7;
const ADD: u8 = 0x07;
const JUMP_GREATER: u8 = 0x2d;
const JUMP_NOT_EQUAL: u8 = 0x55;
const EXIT: u8 = 0x95;

/// `if the half word at the destination port equals it: drop; else: pass`, bounds checked for the verifier.
fn dropper(attach: Attach, family: Family, port: u16) -> Vec<u64> {
    // Ethernet header, IP header without options, source port.
    let offset: i16 = match family {
        Family::V4 => 14 + 20 + 2,
        Family::V6 => 14 + 40 + 2,
    };
    // Offsets of data and data_end in the context; TC_ACT_SHOT and TC_ACT_UNSPEC, XDP_DROP and XDP_PASS.
    let (data, end, drop, pass) = match attach {
        Attach::Xdp => (0, 4, 1, 2),
        _ => (76, 80, 2, -1),
    };
    vec![
        instruction(LOAD_WORD, 2, 1, data, 0),
        instruction(LOAD_WORD, 3, 1, end, 0),
        instruction(MOVE, 0, 0, 0, pass),
        instruction(MOVE_REGISTER, 4, 2, 0, 0),
        instruction(ADD, 4, 0, 0, i32::from(offset) + 2),
        instruction(JUMP_GREATER, 4, 3, 3, 0),
        instruction(LOAD_HALF, 5, 2, offset, 0),
        instruction(JUMP_NOT_EQUAL, 5, 0, 1, i32::from(port.to_be())),
        instruction(MOVE, 0, 0, 0, drop),
        instruction(EXIT, 0, 0, 0, 0),
    ]
}

const NEW_FILTER: u16 = 44;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const DIRECT_ACTION: u32 = 1;
const ETH_P_ALL: u16 = 3;

/// What `tc filter add … bpf da object-pinned` asks of the kernel, without the file system it would need.
fn filter(program: &OwnedFd, index: u32, side: Side) -> Result<()> {
    let options = [
        attribute(TCA_BPF_FD, &program.as_raw_fd().to_ne_bytes()),
        attribute(TCA_BPF_NAME, format!("{NAME}\0").as_bytes()),
        attribute(TCA_BPF_FLAGS, &DIRECT_ACTION.to_ne_bytes()),
    ]
    .concat();
    let parent: u32 = match side {
        Side::Ingress => 0xffff_fff2,
        Side::Egress => 0xffff_fff3,
    };
    let priority_and_protocol = 1 << 16 | u32::from(ETH_P_ALL.to_be());
    let body = [
        &[0; 4][..],
        &index.to_ne_bytes(),
        &0_u32.to_ne_bytes(),
        &parent.to_ne_bytes(),
        &priority_and_protocol.to_ne_bytes(),
        &attribute(TCA_KIND, b"bpf\0"),
        &attribute(TCA_OPTIONS, &options),
    ]
    .concat();
    let flags = flag::REQUEST | flag::ACKNOWLEDGE | flag::EXCLUSIVE | flag::CREATE;
    let socket = netlink::open(NETLINK_ROUTE)?;
    netlink::send(&socket, &netlink::message(NEW_FILTER, flags, &body))?;
    netlink::acknowledged(&socket).context("add the filter")
}
