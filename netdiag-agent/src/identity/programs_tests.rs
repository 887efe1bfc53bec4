use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::tc::TcBpfFlags;
use netlink_sys::{Socket, SocketAddr};

use super::*;
use crate::event::IfIndex;
use crate::identity::testing::{Lab, pair, run};

/// `linux/bpf.h`.
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
const BPF_TCX_INGRESS: u32 = 46;
const TCX_NEXT: i32 = -1;
const XDP_PASS: i32 = 2;

fn bpf(command: libc::c_long, attr: &[u8]) -> File {
    // SAFETY: the attribute block and all it points to outlive the call; the kernel only reads them.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_ptr(), attr.len()) };
    assert!(fd >= 0, "bpf({command}): {}", io::Error::last_os_error());
    // SAFETY: both commands return a new descriptor that is ours alone.
    unsafe { File::from_raw_fd(i32::try_from(fd).unwrap()) }
}

/// A program that returns a constant and lets every packet pass.
fn load(kind: u32, name: &str, result: i32) -> File {
    let mut instructions = vec![0xb7, 0, 0, 0];
    instructions.extend(result.to_ne_bytes());
    instructions.extend([0x95, 0, 0, 0, 0, 0, 0, 0]);
    let license = CString::new("GPL").unwrap();
    let mut attr = vec![0; 72];
    attr[0..4].copy_from_slice(&kind.to_ne_bytes());
    attr[4..8].copy_from_slice(&2_u32.to_ne_bytes());
    attr[8..16].copy_from_slice(&(instructions.as_ptr() as u64).to_ne_bytes());
    attr[16..24].copy_from_slice(&(license.as_ptr() as u64).to_ne_bytes());
    attr[48..48 + name.len()].copy_from_slice(name.as_bytes());
    bpf(BPF_PROG_LOAD, &attr)
}

fn link(program: &File, ifindex: IfIndex, attach: u32) -> File {
    let words = [program.as_raw_fd() as u32, ifindex.0, attach, 0];
    let attr: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    bpf(BPF_LINK_CREATE, &attr)
}

fn filter(program: &File, ifindex: IfIndex) {
    let mut message = TcMessage::default();
    message.header.index = ifindex.0 as i32;
    message.header.parent = TcHandle {
        major: TcHandle::CLSACT.major,
        minor: TcHandle::MIN_EGRESS,
    };
    // Priority 7, all protocols.
    message.header.info = 7 << 16 | u32::from(3_u16.to_be());
    message.attributes.push(TcAttribute::Kind("bpf".to_owned()));
    message.attributes.push(TcAttribute::Options(vec![
        TcOption::Bpf(TcFilterBpfOption::ProgFd(program.as_raw_fd() as u32)),
        TcOption::Bpf(TcFilterBpfOption::ProgName("foreign_tc".to_owned())),
        TcOption::Bpf(TcFilterBpfOption::Flags(TcBpfFlags::DirectAction)),
    ]));
    let payload = NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewTrafficFilter(message));
    let mut message = NetlinkMessage::new(NetlinkHeader::default(), payload);
    message.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    let mut socket = Socket::new(NETLINK_ROUTE).unwrap();
    socket.bind_auto().unwrap();
    socket.send_to(&bytes, &SocketAddr::new(0, 0), 0).unwrap();
    let (answer, _) = socket.recv_from_full().unwrap();
    match NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer)
        .unwrap()
        .payload
    {
        NetlinkPayload::Error(error) => assert_eq!(error.code, None, "{error}"),
        other => panic!("{other:?}"),
    }
}

fn shown(deltas: &[Delta]) -> Vec<(&str, &str)> {
    let Delta::Programs { programs, .. } = &deltas[0] else {
        panic!()
    };
    programs
        .iter()
        .map(|program| (program.attach.as_str(), program.name.as_str()))
        .collect()
}

#[test]
fn programs_of_others_are_listed_and_ours_left_out() {
    let Some(mut lab) = Lab::new() else { return };
    let (left, right) = (lab.netns("left"), lab.netns("right"));
    pair((&left, "v0", &[]), (&right, "v1", &[]));
    let handle = Lab::handle(&left);
    let ifindex = run_in(&handle, || nix::net::if_::if_nametoindex("v0").unwrap()).unwrap();
    let v0 = LinkRef {
        ifindex: IfIndex(ifindex),
        name: "v0".into(),
    };
    let links = [v0.clone()];
    assert_eq!(shown(&foreign(&handle, &links, &[]).unwrap()), []);

    run(&format!("netns exec {left} tc qdisc add dev v0 clsact"));
    let attached = run_in(&handle, || {
        let tc = load(BPF_PROG_TYPE_SCHED_CLS, "foreign_tcx", TCX_NEXT);
        let xdp = load(BPF_PROG_TYPE_XDP, "foreign_xdp", XDP_PASS);
        filter(&tc, v0.ifindex);
        (
            link(&tc, v0.ifindex, BPF_TCX_INGRESS),
            link(&xdp, v0.ifindex, BPF_XDP),
        )
    })
    .unwrap();
    let deltas = foreign(&handle, &links, &[]).unwrap();
    let all = [
        ("tcx ingress", "foreign_tcx"),
        ("tc egress", "foreign_tc"),
        ("xdp", "foreign_xdp"),
    ];
    assert_eq!(shown(&deltas), all);

    let Delta::Programs {
        programs,
        ifindex,
        netns,
    } = &deltas[0]
    else {
        panic!()
    };
    assert_eq!((*ifindex, *netns), (v0.ifindex, handle.netns()));
    assert_eq!(
        programs[0].id, programs[1].id,
        "one program, attached twice"
    );
    let rest = foreign(&handle, &links, &[programs[0].id]).unwrap();
    assert_eq!(shown(&rest), [("xdp", "foreign_xdp")]);
    drop(attached);
}

#[test]
fn an_interface_that_has_gone_has_no_programs() {
    let Some(mut lab) = Lab::new() else { return };
    let name = lab.netns("empty");
    let gone = LinkRef {
        ifindex: IfIndex(4711),
        name: "gone0".into(),
    };
    assert_eq!(
        shown(&foreign(&Lab::handle(&name), &[gone], &[]).unwrap()),
        []
    );
}
