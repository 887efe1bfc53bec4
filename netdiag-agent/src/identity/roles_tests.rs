use super::*;
use crate::identity::view::RouteView;

fn link(name: &str, kind: Kind, address: Option<&str>) -> LinkView {
    LinkView {
        name: name.to_owned(),
        kind,
        up: true,
        mtu: 1500,
        lower: None,
        lower_nsid: None,
        master: None,
        vxlan_port: None,
        addresses: address
            .map(|address| (address.parse().unwrap(), 24))
            .into_iter()
            .collect(),
    }
}

/// A plain node: lo 1, eth0 2, eth1 3 (down), dummy0 4, vxlan 5, wireguard 6, bridge 7.
fn node(routes: &[(bool, u32, Option<&str>)]) -> View {
    let mut eth1 = link("eth1", Kind::Device, None);
    eth1.up = false;
    let links = [
        link("lo", Kind::Loopback, Some("127.0.0.1")),
        link("eth0", Kind::Device, Some("192.0.2.1")),
        eth1,
        link("dummy0", Kind::Other, Some("203.0.113.1")),
        link("vxlan", Kind::Tunnel, None),
        link("wg0", Kind::Tunnel, Some("198.51.100.1")),
        link("br0", Kind::Bridge, Some("10.244.0.1")),
    ];
    View {
        links: (1..).zip(links).collect(),
        routes: routes
            .iter()
            .map(|(default, device, gateway)| RouteView {
                default: *default,
                hops: vec![(*device, gateway.map(|gateway| gateway.parse().unwrap()))],
            })
            .collect(),
    }
}

fn check(node: &View, given: Option<Vec<u32>>, expected: &[u32], roles: &[(u32, Role)]) {
    let typed = given.is_some();
    let surroundings = Surroundings {
        node,
        peers: &BTreeMap::new(),
        peer_views: &BTreeMap::new(),
        pods: BTreeSet::new(),
        given,
        typed,
    };
    let uplinks = surroundings.uplinks();
    assert_eq!(uplinks, expected, "uplinks of {node:#?}");
    let outside = surroundings.outside(&uplinks);
    for (index, role) in roles {
        assert_eq!(
            surroundings.role(*index, &uplinks, &outside),
            *role,
            "role of {index}"
        );
    }
}

#[test]
fn default_routes_tell_the_uplink() {
    let roles = [
        (1, Role::Loopback),
        (2, Role::Uplink),
        (3, Role::Other),
        (5, Role::Tunnel),
        (7, Role::Bridge),
    ];
    check(&node(&[(true, 2, Some("192.0.2.254"))]), None, &[2], &roles);
    check(
        &node(&[(true, 2, None), (true, 3, None)]),
        None,
        &[2, 3],
        &[],
    );
}

#[test]
fn without_a_default_route_gateways_and_then_hardware_do() {
    check(&node(&[(false, 3, Some("192.0.2.254"))]), None, &[3], &[]);
    check(&node(&[]), None, &[2], &[]);
    // The overlay's own routes have gateways too.
    check(&node(&[(false, 5, Some("10.244.7.0"))]), None, &[2], &[]);
}

#[test]
fn a_tunnel_as_default_route_brings_the_device_that_carries_it() {
    check(
        &node(&[(true, 6, None)]),
        None,
        &[2, 6],
        &[(2, Role::Uplink), (6, Role::Tunnel)],
    );
}

#[test]
fn a_bridge_as_default_route_brings_its_hardware() {
    let mut node = node(&[(true, 7, Some("10.244.0.254"))]);
    node.links.get_mut(&2).unwrap().master = Some(7);
    check(
        &node,
        None,
        &[2, 7],
        &[(2, Role::Uplink), (7, Role::Bridge)],
    );
    node.links.get_mut(&2).unwrap().master = None;
    check(&node, None, &[7], &[(7, Role::Uplink)]);
}

#[test]
fn what_the_user_typed_wins() {
    let node = node(&[(true, 2, None)]);
    check(
        &node,
        Some(vec![6, 4]),
        &[6, 4],
        &[(6, Role::Uplink), (4, Role::Uplink), (2, Role::Other)],
    );
}
