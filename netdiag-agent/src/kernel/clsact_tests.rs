//! The path of kernels without tcx, which this one takes too when told to.

use aya::Ebpf;

use super::{Filter, filters, sweep};
use crate::event::HookId;
use crate::kernel::capability::Capabilities;
use crate::kernel::lab::{Lab, Observed, is};
use crate::kernel::plan::{TcMode, plan};
use crate::kernel::{Session, attach, load, sweep_leftovers};

/// Above `PID_MAX_LIMIT` of any machine that runs this, so nobody's.
const GONE: u32 = (1 << 22) - 1;

fn object(lab: &Lab) -> Ebpf {
    let kernel = load::Kernel::read().expect("BTF");
    let capabilities = Capabilities::probe();
    let plan = plan(&capabilities).expect("observable");
    let (loader, watch) = (kernel.loader, lab.watch());
    let mut ebpf =
        load::load_object(loader, &kernel.facts, &capabilities, &plan, &watch).expect("load");
    let hooks: Vec<_> = attach::tc_hooks().map(|(hook, _)| hook).collect();
    for (hook, verified) in load::verify(&mut ebpf, &hooks, &kernel.btf) {
        assert_eq!(verified, Ok(()), "{}", hook.program);
    }
    ebpf
}

fn attached(lab: &Lab, ebpf: &mut Ebpf, pid: u32) -> attach::Watched {
    let interface = lab.interface("vetha");
    attach::interface(ebpf, TcMode::Clsact, pid, &interface)
        .expect("attach")
        .expect("interface exists")
}

fn on(lab: &Lab) -> Vec<Filter> {
    let index = lab.interface("vetha").ifindex.0 as i32;
    lab.within("node", move || filters(index)).expect("dump")
}

fn qdiscs(lab: &Lab) -> String {
    lab.output("ip netns exec $P-node tc qdisc show dev vetha")
}

#[tokio::test]
async fn filters_are_marked_and_leave_with_their_qdisc() {
    let Some(lab) = Lab::new() else { return };
    let mut ebpf = object(&lab);
    let watched = attached(&lab, &mut ebpf, std::process::id());
    let mine = on(&lab);
    assert_eq!(mine.len(), 2, "{mine:?}");
    assert!(
        mine.iter()
            .all(|filter| filter.owner() == Some(std::process::id()))
    );
    assert_eq!(
        sweep_leftovers(Some(&lab.path("node"))).expect("sweep"),
        0,
        "their maker lives"
    );
    drop(watched);
    assert_eq!(on(&lab), []);
    assert!(!qdiscs(&lab).contains("clsact"), "{}", qdiscs(&lab));
}

#[tokio::test]
async fn what_a_killed_predecessor_left_is_swept_and_the_rest_is_not() {
    let Some(lab) = Lab::new() else { return };
    let mut ebpf = object(&lab);
    std::mem::forget(attached(&lab, &mut ebpf, GONE));
    assert_eq!(on(&lab).len(), 2);
    assert_eq!(lab.within("node", sweep).expect("sweep"), 2);
    assert_eq!(on(&lab), []);
    assert!(!qdiscs(&lab).contains("clsact"), "{}", qdiscs(&lab));

    lab.sh("ip netns exec $P-node tc qdisc add dev vetha clsact");
    std::mem::forget(attached(&lab, &mut ebpf, GONE));
    assert_eq!(lab.within("node", sweep).expect("sweep"), 2);
    assert!(qdiscs(&lab).contains("clsact"), "was there before us");
}

/// Linux 5.10 as far as this kernel can play it: filters instead of links, and TC programs that see only the packet.
#[tokio::test]
async fn an_older_kernel_sees_the_packets_too() {
    let Some(lab) = Lab::new() else { return };
    let old = Capabilities {
        tcx: false,
        tc_kernel_read: false,
        ..Capabilities::probe()
    };
    let mut seen = Observed::with(Session::start_with(&lab.watch(), old).expect("start"));
    let blind: Vec<_> = seen
        .session
        .blind()
        .iter()
        .map(|spot| spot.what.as_str())
        .collect();
    assert_eq!(blind, ["conntrack at TC"]);
    lab.connect("192.0.2.10:9001");
    for (hook, interface, source) in [
        (HookId::TcIngress, "vetha", "10.244.0.2"),
        (HookId::TcEgress, "eth0", "192.0.2.1"),
    ] {
        let event = seen
            .expect(hook, "SYN", |e| is(e, interface, source, "192.0.2.10:9001"))
            .await;
        assert_eq!(
            event.place.netns,
            Some(lab.netns("node")),
            "told by the interface"
        );
        assert_eq!(event.conntrack, None);
    }
    assert_eq!(on(&lab).len(), 2);
    drop(seen);
    assert_eq!(on(&lab), []);
}
