//! It arrived, and the socket (or none) said no.

use super::controls;
use super::routing::INPUT_WITHOUT_REASONS;
use crate::faults::{self, Place, at, broken, socket};
use crate::kernel::Lack;
use crate::scenario::{Attempt, Expect, Scenario, Weaker};
use crate::server::port;
use crate::step::{Answer, Kind, Step};

const SOCKET: &[&str] = &["SOCKET"];

/// Without drop reasons, and before `tcp_send_reset` spoke of segments that met no socket: the reset is seen on its way,
/// not where it is made.
pub(super) const RESET_UNREPORTED: Weaker = (Lack::Reason("NO_SOCKET"), Expect::infer);

pub const SCENARIOS: &[Scenario] = &[
    Scenario::new(
        "port_closed_pod",
        "nothing listens in the second pod",
        faults::none,
        closed_in_pod,
    ),
    Scenario::new(
        "port_closed_pod_udp",
        "nothing receives in the second pod",
        faults::none,
        closed_in_pod_udp,
    ),
    Scenario::new(
        "port_closed_node",
        "nothing listens on the node",
        faults::none,
        closed_on_node,
    ),
    Scenario::new(
        "port_closed_ingress",
        "nothing listens in the pod",
        faults::routing::pods_reachable,
        closed_ingress,
    )
    .from_outside(),
    Scenario::new(
        "peer_refused",
        "nothing listens at the external host",
        faults::none,
        peer,
    ),
    Scenario::new(
        "peer_refused_udp",
        "nothing receives at the external host",
        faults::none,
        peer_udp,
    ),
    Scenario::new(
        "bad_checksum",
        "a SYN with a wrong checksum",
        faults::none,
        bad_checksum,
    ),
    Scenario::new(
        "bad_checksum_udp",
        "a datagram with a wrong checksum",
        faults::none,
        bad_checksum_udp,
    ),
    Scenario::new(
        "socket_buffer_full",
        "a datagram socket with a tiny buffer that nobody reads",
        socket::full_receiver,
        buffer_full,
    ),
    Scenario::new(
        "listen_overflow",
        "a listener that never accepts, its queue full",
        socket::full_listener,
        listen_overflow,
    ),
    Scenario::new(
        "unknown_reason",
        "a listener takes packets of direct neighbours only: a reason no rule knows",
        socket::guarded_listener,
        guarded,
    ),
    Scenario::new(
        "header_error",
        "a SYN with a broken IP option",
        faults::none,
        bad_option,
    )
    .only_v4(),
];

fn closed(
    kind: Kind,
    to: std::net::IpAddr,
    cause: &'static [&'static str],
    hops: &'static [&'static str],
) -> Attempt {
    let step = Step::new(kind, at(to, port::CLOSED));
    let mut expect = Expect::refused(cause, hops);
    if kind == Kind::Tcp && hops == SOCKET {
        expect = expect.weaker(&[RESET_UNREPORTED]);
    }
    Attempt::new(step, &[Answer::Refused], expect)
}

fn closed_in_pod(place: &Place) -> Vec<Attempt> {
    controls::beside(
        place,
        vec![closed(
            Kind::Tcp,
            place.local(),
            &["PORT_NOT_LISTENING"],
            SOCKET,
        )],
    )
}

fn closed_in_pod_udp(place: &Place) -> Vec<Attempt> {
    controls::beside(
        place,
        vec![closed(
            Kind::Udp,
            place.local(),
            &["PORT_NOT_LISTENING"],
            SOCKET,
        )],
    )
}

fn closed_on_node(place: &Place) -> Vec<Attempt> {
    let node = place.addresses().node;
    let both =
        [Kind::Tcp, Kind::Udp].map(|kind| closed(kind, node, &["PORT_NOT_LISTENING"], SOCKET));
    controls::beside(place, both.to_vec())
}

fn closed_ingress(place: &Place) -> Vec<Attempt> {
    let pod = place.local();
    vec![
        closed(Kind::Tcp, pod, &["PORT_NOT_LISTENING"], SOCKET),
        controls::tcp(pod),
    ]
}

const BEYOND: &[&str] = &["FABRIC", "NIC_INGRESS"];

fn peer(place: &Place) -> Vec<Attempt> {
    controls::beside(
        place,
        vec![closed(
            Kind::Tcp,
            place.healthy(),
            &["PEER_REFUSED"],
            BEYOND,
        )],
    )
}

fn peer_udp(place: &Place) -> Vec<Attempt> {
    controls::beside(
        place,
        vec![closed(
            Kind::Udp,
            place.healthy(),
            &["PEER_REFUSED"],
            BEYOND,
        )],
    )
}

fn bad(place: &Place, kind: Kind, port: u16) -> Vec<Attempt> {
    let step = Step::new(kind, at(place.local(), port)).bad_checksum();
    let expect = Expect::dropped(&["CHECKSUM"], SOCKET).weaker(&[
        // Only the counters of the namespace tell.
        (Lack::Reason("UDP_CSUM"), Expect::infer),
    ]);
    controls::beside(place, vec![Attempt::new(step, &[Answer::Sent], expect)])
}

fn bad_checksum(place: &Place) -> Vec<Attempt> {
    bad(place, Kind::RawSyn, broken::TCP)
}

fn bad_checksum_udp(place: &Place) -> Vec<Attempt> {
    bad(place, Kind::RawUdp, broken::UDP)
}

fn buffer_full(place: &Place) -> Vec<Attempt> {
    let burst = Step::new(Kind::UdpOneWay, at(place.local(), broken::RECEIVER))
        .size(1000)
        .count(50);
    let expect = Expect::dropped(&["SOCKET_BUFFER_FULL"], SOCKET)
        .weaker(&[(Lack::Reason("SOCKET_RCVBUFF"), Expect::infer)]);
    controls::beside(place, vec![Attempt::new(burst, &[Answer::Sent], expect)])
}

fn listen_overflow(place: &Place) -> Vec<Attempt> {
    let late = Step::new(Kind::Tcp, at(place.local(), broken::LISTENER));
    let mut expect = Expect::dropped(&["LISTEN_OVERFLOW"], SOCKET);
    // A counter of the whole namespace is the only trace it leaves.
    expect.confidences = &["PROVEN", "INFERRED"];
    expect.action = "";
    controls::beside(place, vec![Attempt::new(late, &[Answer::Timeout], expect)])
}

fn guarded(place: &Place) -> Vec<Attempt> {
    let far = Step::new(Kind::Tcp, at(place.local(), broken::GUARDED));
    let mut expect = Expect::dropped(&["UNKNOWN"], SOCKET).weaker(&[(
        // TCP frees so much without a reason there that a drop says nothing. That no answer comes out of the pod does.
        Lack::Reason("TCP_MINTTL"),
        |expect| {
            expect.action = "NOT_SEEN";
            expect.present = &["remediation"];
        },
    )]);
    expect.confidences = &[];
    controls::beside(place, vec![Attempt::new(far, &[Answer::Timeout], expect)])
}

fn bad_option(place: &Place) -> Vec<Attempt> {
    let step = Step::new(Kind::RawSyn, at(place.healthy(), broken::TCP)).bad_option();
    // A bridge with br_netfilter looks at IP options before the IP layer does.
    let hops = &["FIB", "NF_PREROUTING", "BRIDGE", "POD_VETH"];
    let expect = Expect::dropped(&["HEADER_ERROR"], hops).weaker(&[INPUT_WITHOUT_REASONS]);
    controls::before(place, vec![Attempt::new(step, &[Answer::Sent], expect)])
}
