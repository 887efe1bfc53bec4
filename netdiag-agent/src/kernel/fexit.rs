//! Can programs be attached to kernel functions by trampoline (fentry, fexit)?
//!
//! Tried, not derived: it needs a kernel configuration, an architecture and a lockdown that allow it, and only attaching
//! asks for all three. The kernel keeps functions for just this test.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Does nothing but return; called by nobody.
pub const TEST_FUNCTION: &str = "bpf_fentry_test1";

/// Numbers of `linux/bpf.h`.
const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_RAW_TRACEPOINT_OPEN: libc::c_int = 17;
const BPF_PROG_TYPE_TRACING: u32 = 26;
const BPF_TRACE_FEXIT: u32 = 25;

/// `r0 = 0; exit`.
const PROGRAM: [u64; 2] = [0x0000_00b7, 0x0000_0095];

/// The part of `union bpf_attr` for `BPF_PROG_LOAD` up to what is needed here.
#[repr(C)]
#[derive(Default)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log: [u64; 2],
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
    prog_btf_fd: u32,
    func_info_rec_size: u32,
    func_info: u64,
    func_info_cnt: u32,
    line_info_rec_size: u32,
    line_info: u64,
    line_info_cnt: u32,
    attach_btf_id: u32,
    attach_prog_fd: u32,
    _pad: u32,
}

const _: () = assert!(std::mem::offset_of!(Load, attach_btf_id) == 108);

#[repr(C)]
struct Open {
    /// None: the program knows its function.
    name: u64,
    prog_fd: u32,
    _pad: u32,
}

/// Attaches a program without effect to the function of this BTF id, and takes it off again.
pub fn can_attach(function: u32) -> bool {
    let license = c"GPL";
    let load = Load {
        prog_type: BPF_PROG_TYPE_TRACING,
        insn_cnt: PROGRAM.len() as u32,
        insns: PROGRAM.as_ptr() as u64,
        license: license.as_ptr() as u64,
        expected_attach_type: BPF_TRACE_FEXIT,
        attach_btf_id: function,
        ..Load::default()
    };
    let attached = bpf(BPF_PROG_LOAD, &load).and_then(|program| {
        let open = Open {
            name: 0,
            prog_fd: program.as_raw_fd() as u32,
            _pad: 0,
        };
        bpf(BPF_RAW_TRACEPOINT_OPEN, &open)
    });
    match attached {
        Ok(_) => true,
        Err(error) => {
            tracing::debug!("functions cannot be traced by fexit: {error}");
            false
        }
    }
}

fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the attributes are of the command's layout and as long as said, and what they point to outlives the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            size_of::<T>(),
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: both commands return a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
