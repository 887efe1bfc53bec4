use super::*;

fn pod(uid: &str, address: &str) -> Pod {
    Pod {
        addresses: vec![address.parse().unwrap()],
        ..Pod::named(uid, Name::new("default", uid))
    }
}

fn here(pod: Pod) -> Change {
    Change::Pod(Arc::new(pod))
}

fn gone(uid: &str) -> Change {
    Change::PodGone(uid.into(), Origin::Api)
}

fn name_at(cluster: &Cluster, address: &str, at: u64) -> String {
    let pod = cluster.pod_at(address.parse().unwrap(), Ktime(at));
    pod.unwrap().uid.to_string()
}

#[test]
fn an_address_has_the_name_it_had_at_the_time() {
    let mut cluster = Cluster::default();
    cluster.apply(Ktime(10), here(pod("a", "10.0.0.1")));
    cluster.apply(Ktime(20), gone("a"));
    cluster.apply(Ktime(30), here(pod("b", "10.0.0.1")));
    let told: Vec<_> = [5, 15, 25, 35]
        .map(|at| name_at(&cluster, "10.0.0.1", at))
        .into();
    assert_eq!(told, ["a", "a", "a", "b"]);
}

#[test]
fn an_address_taken_over_before_the_old_owner_is_reported_gone() {
    let mut cluster = Cluster::default();
    cluster.apply(Ktime(10), here(pod("a", "10.0.0.1")));
    cluster.apply(Ktime(20), here(pod("b", "10.0.0.1")));
    // Late news of the old owner does not bring it back.
    let mut late = pod("a", "10.0.0.1");
    late.ready = true;
    cluster.apply(Ktime(25), here(late));
    cluster.apply(Ktime(30), gone("a"));
    assert_eq!(name_at(&cluster, "10.0.0.1", 15), "a");
    assert_eq!(name_at(&cluster, "10.0.0.1", 40), "b");
}

#[test]
fn late_news_holds_from_the_start_of_the_pod() {
    let mut cluster = Cluster::default();
    cluster.apply(Ktime(10), here(pod("a", "10.0.0.1")));
    let mut new = pod("b", "10.0.0.1");
    new.started = Some(Ktime(50));
    cluster.apply(Ktime(90), here(new));
    assert_eq!(name_at(&cluster, "10.0.0.1", 49), "a");
    assert_eq!(name_at(&cluster, "10.0.0.1", 60), "b");
}

#[test]
fn a_pod_that_is_over_gives_up_its_address() {
    let mut cluster = Cluster::default();
    cluster.apply(Ktime(10), here(pod("job", "10.0.0.1")));
    let mut over = pod("job", "10.0.0.1");
    over.addresses.clear();
    over.over = true;
    cluster.apply(Ktime(20), here(over));
    cluster.apply(Ktime(30), here(pod("b", "10.0.0.1")));
    assert_eq!(name_at(&cluster, "10.0.0.1", 15), "job");
    assert_eq!(name_at(&cluster, "10.0.0.1", 31), "b");
}

#[test]
fn the_api_and_the_runtime_complete_each_other() {
    let mut runtime = pod("a", "10.0.0.1");
    runtime.origin = Origin::Runtime;
    runtime.netns = Some(Netns(7));
    let mut api = pod("a", "10.0.0.1");
    api.addresses.clear();
    api.ready = true;
    for changes in [[&runtime, &api], [&api, &runtime]] {
        let mut cluster = Cluster::default();
        for change in changes {
            cluster.apply(Ktime(1), here(change.clone()));
        }
        let known = cluster.pod_in(Netns(7)).unwrap();
        assert!(known.ready && known.origin == Origin::Api);
        assert_eq!(name_at(&cluster, "10.0.0.1", 5), "a");
        cluster.apply(Ktime(9), Change::PodGone("a".into(), Origin::Runtime));
        assert!(cluster.pod_in(Netns(7)).is_none());
        assert_eq!(cluster.pods().count(), 1);
        cluster.apply(Ktime(9), gone("a"));
        assert_eq!(cluster.pods().count(), 0);
    }
}

fn service(port: u16) -> Arc<Service> {
    Arc::new(Service {
        name: Name::new("shop", "db"),
        cluster_addresses: vec!["10.96.0.9".parse().unwrap()],
        outer_addresses: Vec::new(),
        selector: Labels::new(),
        ports: vec![ServicePort {
            name: None,
            proto: Proto::TCP,
            port,
            target: TargetPort::Number(port),
            node_port: None,
        }],
        proxied: true,
        local_only: false,
        outer_local_only: false,
    })
}

#[test]
fn a_service_is_what_it_was_at_the_time_of_the_packet() {
    let mut cluster = Cluster::default();
    let port = |cluster: &Cluster, at| {
        let service = cluster.service_at("10.96.0.9".parse().unwrap(), Ktime(at))?;
        Some(service.ports[0].port)
    };
    cluster.apply(Ktime(10), Change::Service(service(80)));
    cluster.apply(Ktime(11), Change::Synced(Kind::Services));
    cluster.apply(Ktime(20), Change::Service(service(81)));
    cluster.apply(Ktime(30), Change::ServiceGone(Name::new("shop", "db")));
    let told = [5, 15, 25, 35].map(|at| port(&cluster, at));
    assert_eq!(told, [Some(80), Some(80), Some(81), None]);
    cluster.apply(Ktime(40), Change::Service(service(82)));
    assert_eq!((port(&cluster, 35), port(&cluster, 45)), (None, Some(82)));
}

#[test]
fn what_is_gone_is_forgotten_in_the_end() {
    let mut cluster = Cluster::default();
    for number in 0..2 * GRAVES as u32 {
        let address = std::net::Ipv4Addr::from(0x0a00_0000 + number).to_string();
        let uid = number.to_string();
        cluster.apply(Ktime(number.into()), here(pod(&uid, &address)));
        cluster.apply(Ktime(number.into()), gone(&uid));
    }
    assert!(
        cluster
            .pod_at("10.0.0.0".parse().unwrap(), Ktime(1))
            .is_none()
    );
    let last = std::net::Ipv4Addr::from(0x0a00_0000 + 2 * GRAVES as u32 - 1);
    assert!(cluster.pod_at(last.into(), Ktime(1)).is_some());
    assert_eq!(cluster.graves.len(), GRAVES);
}

#[test]
fn an_outage_ends_with_the_next_list() {
    let mut cluster = Cluster::default();
    cluster.apply(Ktime(1), Change::Synced(Kind::Services));
    assert!(cluster.synced(Kind::Services));
    cluster.apply(Ktime(2), Change::Unseen(Kind::Services, "403".into()));
    assert!(!cluster.synced(Kind::Services));
    assert_eq!(cluster.unseen().count(), 1);
    cluster.apply(Ktime(3), Change::Synced(Kind::Services));
    assert!(cluster.synced(Kind::Services) && cluster.unseen().next().is_none());
}

#[test]
fn networks_contain_their_own_family_only() {
    let within = |network: &str, address: &str| {
        let network: Network = network.parse().unwrap();
        network.contains(address.parse().unwrap())
    };
    assert!(within("10.1.0.0/16", "10.1.255.1"));
    assert!(!within("10.1.0.0/16", "10.2.0.1"));
    assert!(within("0.0.0.0/0", "203.0.113.9"));
    assert!(!within("0.0.0.0/0", "2001:db8::1"));
    assert!(within("2001:db8::/32", "2001:db8:1::1"));
    assert!(within("192.0.2.1/32", "192.0.2.1"));
    for wrong in ["10.0.0.0", "10.0.0.0/33", "x/8", "10.0.0.0/", "::/129"] {
        assert!(wrong.parse::<Network>().is_err(), "{wrong}");
    }
}

#[test]
fn a_missing_label_is_not_in_a_set() {
    let expression = |operator, values: &[&str]| Selector {
        labels: Labels::new(),
        expressions: vec![Expression {
            key: "app".into(),
            operator,
            values: values.iter().map(|value| (*value).into()).collect(),
        }],
    };
    let none = Labels::new();
    let web = Labels::from([("app".into(), "web".into())]);
    assert!(expression(Operator::NotIn, &["web"]).selects(&none));
    assert!(!expression(Operator::NotIn, &["web"]).selects(&web));
    assert!(expression(Operator::In, &["db", "web"]).selects(&web));
    assert!(!expression(Operator::Exists, &[]).selects(&none));
    assert!(expression(Operator::DoesNotExist, &[]).selects(&none));
    assert!(Selector::default().selects(&none));
}
