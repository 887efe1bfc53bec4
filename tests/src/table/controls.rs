//! Healthy conversations that run beside a fault and must be called healthy.

use std::net::IpAddr;
use std::time::Duration;

use crate::faults::{Place, at};
use crate::scenario::Attempt;
use crate::server::port;
use crate::step::{Kind, Step};
use crate::topology::service_port;

/// The name the lab's DNS server knows an address for.
pub const NAME: &str = "web.example";

/// The kernel gives up on a neighbour after three requests one second apart, later on a busy machine; the sender is told
/// at once, so nobody waits this long.
pub const NO_NEIGHBOUR: Duration = Duration::from_secs(10);

pub fn tcp(to: IpAddr) -> Attempt {
    Attempt::healthy(Kind::Tcp, at(to, port::TCP[0]))
}

pub fn udp(to: IpAddr) -> Attempt {
    Attempt::healthy(Kind::Udp, at(to, port::UDP[0]))
}

pub fn icmp(to: IpAddr) -> Attempt {
    Attempt::healthy(Kind::Icmp, at(to, 0))
}

pub fn dns(to: IpAddr) -> Attempt {
    let mut attempt = Attempt::healthy(Kind::Dns, at(to, port::DNS));
    attempt.step = attempt.step.name(NAME);
    attempt
}

/// All four to the external host.
pub fn external(place: &Place) -> Vec<Attempt> {
    let to = place.healthy();
    vec![tcp(to), udp(to), icmp(to), dns(to)]
}

/// Both Services, by both protocols.
pub fn services(place: &Place) -> Vec<Attempt> {
    let (stream, datagram) = (service_port(port::TCP[0]), service_port(port::UDP[0]));
    let vips = [place.addresses().vip_external, place.addresses().vip_local];
    vips.into_iter()
        .flat_map(|vip| {
            [
                Attempt::healthy(Kind::Tcp, at(vip, stream)),
                Attempt::healthy(Kind::Udp, at(vip, datagram)),
            ]
        })
        .collect()
}

/// To the second pod and to the node itself.
pub fn local(place: &Place) -> Vec<Attempt> {
    let node = place.addresses().node;
    vec![
        tcp(place.local()),
        udp(place.local()),
        tcp(node),
        udp(node),
        icmp(node),
    ]
}

/// Everything a pod does all day.
pub fn all(place: &Place) -> Vec<Attempt> {
    [external(place), services(place), local(place)].concat()
}

/// The broken conversation first, then everything healthy.
pub fn beside(place: &Place, broken: Vec<Attempt>) -> Vec<Attempt> {
    [broken, all(place)].concat()
}

/// Everything healthy first: ARP for the gateway would carry the strange source too, and go unanswered.
pub fn before(place: &Place, broken: Vec<Attempt>) -> Vec<Attempt> {
    [all(place), broken].concat()
}

/// A conversation of one kind with the broken port of that kind.
pub fn step(kind: Kind, to: IpAddr) -> Step {
    use crate::faults::broken;
    match kind {
        Kind::Tcp | Kind::RawSyn | Kind::RawAck | Kind::Held => {
            Step::new(kind, at(to, broken::TCP))
        }
        Kind::Icmp => Step::new(kind, at(to, 0)),
        Kind::Dns => Step::new(kind, at(to, port::DNS)).name(NAME),
        Kind::Udp | Kind::UdpOneWay | Kind::RawUdp => Step::new(kind, at(to, broken::UDP)),
    }
}
