//! What one namespace knows of itself: its interfaces, addresses and routes, read in one go.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsRawFd, RawFd};

use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;

use super::error::IdentityError;
use super::netlink::Channel;
use super::netns::{NetnsHandle, run_in};
use crate::event::Netns;

/// Number by which one namespace knows another; means nothing anywhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Nsid(pub(super) i32);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct View {
    /// By interface index.
    pub(super) links: BTreeMap<u32, LinkView>,
    pub(super) routes: Vec<RouteView>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LinkView {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) up: bool,
    pub(super) mtu: u32,
    /// Of a pair: the other end's index. Of a VLAN, macvlan, ipvlan: the device below.
    pub(super) lower: Option<u32>,
    /// Namespace of `lower` where it is another one.
    pub(super) lower_nsid: Option<Nsid>,
    /// The bridge, bond or VRF this one is enslaved to.
    pub(super) master: Option<u32>,
    /// UDP port of a VXLAN device.
    pub(super) vxlan_port: Option<u16>,
    pub(super) addresses: Vec<(IpAddr, u8)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Loopback,
    /// No driver kind: what hardware and virtual machines give.
    Device,
    /// veth or netkit: what goes in here comes out at the other end.
    Pair,
    Bridge,
    Tunnel,
    /// bond, team, VLAN: stands on devices of the same namespace.
    Stacked,
    /// macvlan or ipvlan: packets reach the device below without passing a host-side interface of their own.
    Slice,
    Other,
}

/// A usable route that sends out of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RouteView {
    pub(super) default: bool,
    pub(super) hops: Vec<(u32, Option<IpAddr>)>,
}

impl LinkView {
    /// The pair's other end lies in another namespace.
    pub(super) fn leads_to(&self) -> Option<(Nsid, u32)> {
        if self.kind == Kind::Pair {
            Some((self.lower_nsid?, self.lower?))
        } else {
            None
        }
    }

    /// The namespace of the device below a macvlan or ipvlan, where that is another.
    pub(super) fn sits_in(&self) -> Option<Nsid> {
        self.lower_nsid.filter(|_| self.kind == Kind::Slice)
    }
}

impl View {
    /// Of the namespace this thread is in.
    pub(super) fn read() -> io::Result<Self> {
        let mut channel = Channel::open(NETLINK_ROUTE)?;
        let mut view = Self {
            links: read_links(&mut channel)?,
            routes: read_routes(&mut channel)?,
        };
        for answer in channel.dump(&RouteNetlinkMessage::GetAddress(AddressMessage::default()))? {
            let RouteNetlinkMessage::NewAddress(address) = answer else {
                continue;
            };
            if let Some(link) = view.links.get_mut(&address.header.index)
                && let Some(ip) = local_address(&address)
            {
                link.addresses.push((ip, address.header.prefix_len));
            }
        }
        Ok(view)
    }

    pub(super) fn read_of(namespace: &NetnsHandle) -> Result<Self, IdentityError> {
        run_in(namespace, Self::read)?.map_err(|cause| read_failed(namespace, cause))
    }

    pub(super) fn by_name(&self, name: &str) -> Option<(u32, &LinkView)> {
        self.links
            .iter()
            .find(|(_, link)| link.name == name)
            .map(|(index, link)| (*index, link))
    }

    pub(super) fn slaves_of(&self, master: u32) -> impl Iterator<Item = (u32, &LinkView)> {
        self.links
            .iter()
            .filter(move |(_, link)| link.master == Some(master))
            .map(|(index, link)| (*index, link))
    }

    pub(super) fn default_devices(&self) -> impl Iterator<Item = u32> {
        self.routes
            .iter()
            .filter(|route| route.default)
            .flat_map(|route| &route.hops)
            .map(|(device, _)| *device)
    }

    pub(super) fn owns(&self, address: IpAddr) -> bool {
        self.links
            .values()
            .any(|link| link.addresses.iter().any(|(own, _)| *own == address))
    }

    /// Gateways of all routes; link-local ones are left out, they name nobody outside their link.
    pub(super) fn gateways(&self) -> impl Iterator<Item = (u32, IpAddr)> {
        self.routes
            .iter()
            .flat_map(|route| &route.hops)
            .filter_map(|(device, gateway)| Some((*device, (*gateway)?)))
    }
}

pub(super) fn read_failed(namespace: &NetnsHandle, cause: io::Error) -> IdentityError {
    IdentityError::Netlink {
        act: "read the interfaces",
        namespace: namespace.label(),
        cause,
    }
}

/// Which of `candidates` the namespace `from` knows by these numbers; ends as soon as all are found.
pub(super) fn name_nsids(
    from: &NetnsHandle,
    nsids: impl IntoIterator<Item = Nsid>,
    candidates: &[NetnsHandle],
) -> Result<BTreeMap<Nsid, NetnsHandle>, IdentityError> {
    let mut wanted: Vec<Nsid> = nsids.into_iter().collect();
    wanted.sort_unstable();
    wanted.dedup();
    if wanted.is_empty() {
        return Ok(BTreeMap::new());
    }
    let ask = || -> io::Result<BTreeMap<Nsid, NetnsHandle>> {
        let mut channel = Channel::open(NETLINK_ROUTE)?;
        let mut found = BTreeMap::new();
        for candidate in candidates {
            if found.len() == wanted.len() {
                break;
            }
            // A namespace that ended since it was listed cannot be the one that is looked for.
            let Ok(file) = candidate.open() else { continue };
            if let Some(nsid) = nsid_of(&mut channel, file.as_raw_fd())?
                && wanted.binary_search(&nsid).is_ok()
            {
                found.entry(nsid).or_insert_with(|| candidate.clone());
            }
        }
        Ok(found)
    };
    run_in(from, ask)?.map_err(|cause| IdentityError::Netlink {
        act: "look up the namespaces at the other end of the veths",
        namespace: from.label(),
        cause,
    })
}

fn nsid_of(channel: &mut Channel, namespace: RawFd) -> io::Result<Option<Nsid>> {
    let mut request = NsidMessage::default();
    request.attributes.push(NsidAttribute::Fd(namespace as u32));
    let RouteNetlinkMessage::NewNsId(answer) =
        channel.get(&RouteNetlinkMessage::GetNsId(request))?
    else {
        return Ok(None);
    };
    // NETNSA_NSID_NOT_ASSIGNED is -1.
    Ok(answer
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NsidAttribute::Id(id) if *id >= 0 => Some(Nsid(*id)),
            _ => None,
        }))
}

fn read_links(channel: &mut Channel) -> io::Result<BTreeMap<u32, LinkView>> {
    let mut request = LinkMessage::default();
    // Statistics are two thirds of a link's message.
    request
        .attributes
        .push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    let answers = channel.dump(&RouteNetlinkMessage::GetLink(request))?;
    let links = answers.into_iter().filter_map(|answer| match answer {
        RouteNetlinkMessage::NewLink(link) => Some((link.header.index, link_view(&link))),
        _ => None,
    });
    Ok(links.collect())
}

fn read_routes(channel: &mut Channel) -> io::Result<Vec<RouteView>> {
    let mut routes = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut request = RouteMessage::default();
        request.header.address_family = family;
        // One by one: a router's table is large, and little of it is kept.
        channel.dump_each(&RouteNetlinkMessage::GetRoute(request), |answer| {
            if let RouteNetlinkMessage::NewRoute(route) = answer {
                routes.extend(route_view(&route));
            }
        })?;
    }
    Ok(routes)
}

fn link_view(message: &LinkMessage) -> LinkView {
    let flags = message.header.flags;
    let mut view = LinkView {
        name: String::new(),
        kind: if flags.contains(LinkFlags::Loopback) {
            Kind::Loopback
        } else {
            Kind::Device
        },
        // IFF_RUNNING follows the operational state; interfaces that have none (lo, tun) count as running.
        up: flags.contains(LinkFlags::Up | LinkFlags::Running),
        mtu: 0,
        lower: None,
        lower_nsid: None,
        master: None,
        vxlan_port: None,
        addresses: Vec::new(),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => view.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => view.mtu = *mtu,
            LinkAttribute::Link(index) => view.lower = Some(*index),
            LinkAttribute::LinkNetNsId(id) => view.lower_nsid = Some(Nsid(*id)),
            LinkAttribute::Controller(index) => view.master = Some(*index),
            LinkAttribute::LinkInfo(infos) => {
                if let Some(kind) = infos.iter().find_map(kind_of) {
                    view.kind = kind;
                }
                view.vxlan_port = infos.iter().find_map(vxlan_port);
            }
            _ => {}
        }
    }
    view
}

fn vxlan_port(info: &LinkInfo) -> Option<u16> {
    let LinkInfo::Data(InfoData::Vxlan(settings)) = info else {
        return None;
    };
    settings.iter().find_map(|setting| match setting {
        InfoVxlan::Port(port) => Some(*port),
        _ => None,
    })
}

fn kind_of(info: &LinkInfo) -> Option<Kind> {
    let LinkInfo::Kind(kind) = info else {
        return None;
    };
    Some(match kind {
        InfoKind::Veth | InfoKind::Netkit => Kind::Pair,
        InfoKind::Bridge => Kind::Bridge,
        InfoKind::Bond | InfoKind::Team | InfoKind::Vlan => Kind::Stacked,
        InfoKind::MacVlan | InfoKind::MacVtap | InfoKind::IpVlan | InfoKind::IpVtap => Kind::Slice,
        InfoKind::Vxlan
        | InfoKind::Geneve
        | InfoKind::IpIp
        | InfoKind::Ip6Tnl
        | InfoKind::SitTun
        | InfoKind::GreTun
        | InfoKind::GreTun6
        | InfoKind::GreTap
        | InfoKind::GreTap6
        | InfoKind::ErSpan
        | InfoKind::Ip6ErSpan
        | InfoKind::Vti
        | InfoKind::Vti6
        | InfoKind::Xfrm
        | InfoKind::BareUdp
        | InfoKind::Wireguard => Kind::Tunnel,
        InfoKind::Other(name) if name == "openvswitch" => Kind::Bridge,
        InfoKind::Dsa | InfoKind::Ipoib | InfoKind::Wwan | InfoKind::Netdevsim => Kind::Device,
        _ => Kind::Other,
    })
}

fn local_address(message: &AddressMessage) -> Option<IpAddr> {
    // IFA_ADDRESS is the peer's on point-to-point links; IFA_LOCAL, where there is one, is ours.
    let mut address = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => return Some(*ip),
            AddressAttribute::Address(ip) => address = Some(*ip),
            _ => {}
        }
    }
    address
}

fn route_view(message: &RouteMessage) -> Option<RouteView> {
    if message.header.kind != RouteType::Unicast {
        return None;
    }
    let mut direct = (None, None);
    let mut hops = Vec::new();
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => direct.0 = Some(*index),
            RouteAttribute::MultiPath(nexthops) => hops.extend(nexthops.iter().map(|hop| {
                (
                    hop.interface_index,
                    hop.attributes.iter().find_map(gateway_of),
                )
            })),
            other => direct.1 = direct.1.or_else(|| gateway_of(other)),
        }
    }
    if let Some(device) = direct.0 {
        hops.push((device, direct.1));
    }
    let default = message.header.destination_prefix_length == 0;
    // Connected routes say nothing about where the world is.
    hops.retain(|(_, gateway)| default || gateway.is_some());
    (!hops.is_empty()).then_some(RouteView { default, hops })
}

fn gateway_of(attribute: &RouteAttribute) -> Option<IpAddr> {
    match attribute {
        RouteAttribute::Gateway(RouteAddress::Inet(ip))
        | RouteAttribute::Via(RouteVia::Inet(ip)) => Some(IpAddr::V4(*ip)),
        RouteAttribute::Gateway(RouteAddress::Inet6(ip))
        | RouteAttribute::Via(RouteVia::Inet6(ip)) => Some(IpAddr::V6(*ip)),
        _ => None,
    }
}

pub(super) const fn is_link_local(address: Ipv6Addr) -> bool {
    address.segments()[0] & 0xffc0 == 0xfe80
}

/// The namespaces behind a namespace's pairs, as far as they could be named.
pub(super) type Peers = BTreeMap<Nsid, NetnsHandle>;

pub(super) fn netns_at(peers: &Peers, link: &LinkView) -> Option<Netns> {
    peers.get(&link.leads_to()?.0).map(NetnsHandle::netns)
}
