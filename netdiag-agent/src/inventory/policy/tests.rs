//! The semantics the Kubernetes documentation gives, one by one.

use proptest::prelude::*;

use super::*;
use crate::inventory::cluster::{Change, ContainerPort, Expression, Name, Operator, Selector};

const AT: Ktime = Ktime(10);

fn labels(text: &str) -> Labels {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(key, value)| (key.into(), value.into()))
        .collect()
}

fn select(text: &str) -> Selector {
    Selector {
        labels: labels(text),
        expressions: Vec::new(),
    }
}

fn pod(namespace: &str, name: &str, of: &str, address: &str) -> Arc<Pod> {
    let mut pod = Pod::named(name, Name::new(namespace, name));
    pod.labels = labels(of);
    pod.addresses = vec![address.parse().unwrap()];
    pod.ports = vec![ContainerPort {
        name: Some("sql".into()),
        proto: Proto::TCP,
        port: 5432,
    }];
    Arc::new(pod)
}

struct World {
    cluster: Cluster,
    db: Arc<Pod>,
    web: Arc<Pod>,
    /// In another namespace, with the labels of `web`.
    stranger: Arc<Pod>,
}

fn world(policies: Vec<Policy>) -> World {
    let world = World {
        cluster: Cluster::default(),
        db: pod("shop", "db", "app=db", "10.0.0.1"),
        web: pod("shop", "web", "app=web", "10.0.0.2"),
        stranger: pod("other", "web", "app=web", "10.0.1.2"),
    };
    let mut cluster = world.cluster;
    for (name, of) in [("shop", "team=a"), ("other", "team=b")] {
        cluster.apply(Ktime(1), Change::Namespace(name.into(), labels(of)));
    }
    for policy in policies {
        cluster.apply(Ktime(1), Change::Policy(Arc::new(policy)));
    }
    World { cluster, ..world }
}

fn policy(name: &str, pods: &str) -> Policy {
    Policy {
        name: Name::new("shop", name),
        pods: select(pods),
        ingress: None,
        egress: None,
    }
}

fn ingress(name: &str, pods: &str, rules: Vec<PolicyRule>) -> Policy {
    Policy {
        ingress: Some(rules),
        ..policy(name, pods)
    }
}

fn from(peer: Peer) -> PolicyRule {
    PolicyRule {
        peers: vec![peer],
        ports: Vec::new(),
    }
}

fn pods(namespaces: Option<&str>, pods: Option<&str>) -> Peer {
    Peer::Pods {
        namespaces: namespaces.map(select),
        pods: pods.map(select),
    }
}

fn on(ports: Vec<PolicyPort>) -> PolicyRule {
    PolicyRule {
        peers: Vec::new(),
        ports,
    }
}

fn port(proto: Proto, port: Option<TargetPort>, end: Option<u16>) -> PolicyPort {
    PolicyPort { proto, port, end }
}

impl World {
    fn asks<'a>(
        &'a self,
        from: &'a Arc<Pod>,
        to: &'a Arc<Pod>,
        proto: Proto,
        port: u16,
    ) -> Vec<Ruling<'a>> {
        let end = |pod: &'a Arc<Pod>| End {
            address: pod.addresses[0],
            pod: Some(pod),
        };
        let said = Conversation {
            proto,
            port,
            from: end(from),
            to: end(to),
            at: AT,
        };
        rulings(&self.cluster, &said)
    }

    /// Whether web may ask db.
    fn allowed(&self, port: u16) -> bool {
        let rulings = self.asks(&self.web, &self.db, Proto::TCP, port);
        !rulings.iter().any(Ruling::forbids)
    }

    fn stranger_allowed(&self) -> bool {
        let rulings = self.asks(&self.stranger, &self.db, Proto::TCP, 5432);
        !rulings.iter().any(Ruling::forbids)
    }
}

#[test]
fn pods_nobody_selects_are_open() {
    assert!(world(Vec::new()).allowed(1));
    assert!(world(vec![ingress("p", "app=cache", Vec::new())]).allowed(1));
    let mut elsewhere = ingress("p", "", Vec::new());
    elsewhere.name.namespace = "other".into();
    assert!(world(vec![elsewhere]).allowed(1));
}

#[test]
fn an_empty_selector_with_no_rules_denies_all_of_its_direction() {
    let world = world(vec![ingress("default-deny", "", Vec::new())]);
    let rulings = world.asks(&world.web, &world.db, Proto::TCP, 1);
    assert_eq!(rulings.len(), 1, "egress stays open: {rulings:?}");
    assert_eq!(
        (rulings[0].side, rulings[0].forbids()),
        (Side::Ingress, true)
    );
    assert_eq!(&*rulings[0].selecting[0].name.name, "default-deny");
}

#[test]
fn an_empty_rule_allows_all() {
    assert!(world(vec![ingress("p", "", vec![PolicyRule::default()])]).allowed(1));
}

#[test]
fn policies_add_up() {
    let deny = ingress("deny", "", Vec::new());
    let allow = ingress("allow", "app=db", vec![from(pods(None, Some("app=web")))]);
    let world = world(vec![deny, allow]);
    assert!(world.allowed(1));
    let ruling = &world.asks(&world.web, &world.db, Proto::TCP, 1)[0];
    assert_eq!((ruling.selecting.len(), ruling.allowing.len()), (2, 1));
}

#[test]
fn both_directions_must_agree() {
    let mut both = ingress("in", "app=db", vec![PolicyRule::default()]);
    both.egress = Some(Vec::new());
    // That the receiver may not send is nothing to the request.
    assert!(world(vec![both]).allowed(1));
    let mut sender = policy("out", "app=web");
    sender.egress = Some(Vec::new());
    assert!(!world(vec![sender]).allowed(1));
}

#[test]
fn a_pod_selector_alone_means_the_own_namespace() {
    let world = world(vec![ingress(
        "p",
        "",
        vec![from(pods(None, Some("app=web")))],
    )]);
    assert!(world.allowed(1));
    assert!(!world.stranger_allowed());
}

#[test]
fn a_namespace_selector_alone_means_all_pods_there() {
    let world = world(vec![ingress(
        "p",
        "",
        vec![from(pods(Some("team=b"), None))],
    )]);
    assert!(!world.allowed(1));
    assert!(world.stranger_allowed());
}

#[test]
fn both_selectors_in_one_peer_must_hold() {
    let both = |of: &str| {
        world(vec![ingress(
            "p",
            "",
            vec![from(pods(Some("team=b"), Some(of)))],
        )])
    };
    assert!(both("app=web").stranger_allowed());
    assert!(!both("app=api").stranger_allowed());
    // As two peers either is enough.
    let peers = vec![pods(Some("team=b"), None), pods(None, Some("app=web"))];
    let either = PolicyRule {
        peers,
        ports: Vec::new(),
    };
    let either = world(vec![ingress("p", "", vec![either])]);
    assert!(either.allowed(1) && either.stranger_allowed());
}

#[test]
fn blocks_have_exceptions() {
    let block = |network: &str, except: &[&str]| {
        let except = except.iter().map(|one| one.parse().unwrap()).collect();
        let network = network.parse().unwrap();
        world(vec![ingress(
            "p",
            "",
            vec![from(Peer::Block { network, except })],
        )])
    };
    assert!(block("10.0.0.0/8", &[]).allowed(1));
    assert!(!block("10.0.0.0/8", &["10.0.0.0/24"]).allowed(1));
    assert!(block("10.0.0.0/8", &["10.0.9.0/24"]).allowed(1));
    assert!(!block("2001:db8::/32", &[]).allowed(1));
}

#[test]
fn ports_are_numbers_ranges_and_names() {
    let only = |ports| world(vec![ingress("p", "", vec![on(ports)])]);
    let number = |number| Some(TargetPort::Number(number));
    let tcp = |first, end| vec![port(Proto::TCP, number(first), end)];
    assert!(only(tcp(5432, None)).allowed(5432));
    assert!(!only(tcp(5432, None)).allowed(5433));
    assert!(only(tcp(32000, Some(32768))).allowed(32768));
    assert!(!only(tcp(32000, Some(32768))).allowed(32769));
    assert!(!only(vec![port(Proto::UDP, number(5432), None)]).allowed(5432));
    assert!(only(vec![port(Proto::TCP, None, None)]).allowed(9));
    let named = |name: &str| vec![port(Proto::TCP, Some(TargetPort::Named(name.into())), None)];
    assert!(only(named("sql")).allowed(5432));
    assert!(!only(named("sql")).allowed(80));
    assert!(!only(named("http")).allowed(5432));
}

#[test]
fn peers_and_ports_of_one_rule_must_both_hold() {
    let rule = PolicyRule {
        peers: vec![pods(None, Some("app=web"))],
        ports: vec![port(Proto::TCP, Some(TargetPort::Number(80)), None)],
    };
    let world = world(vec![ingress("p", "", vec![rule])]);
    assert!(world.allowed(80) && !world.allowed(81));
}

#[test]
fn expressions_select_too() {
    let selector = Selector {
        labels: Labels::new(),
        expressions: vec![Expression {
            key: "app".into(),
            operator: Operator::NotIn,
            values: vec!["web".into()],
        }],
    };
    let peer = Peer::Pods {
        namespaces: None,
        pods: Some(selector),
    };
    assert!(!world(vec![ingress("p", "", vec![from(peer)])]).allowed(1));
}

#[test]
fn whoever_is_no_pod_is_met_by_blocks_only() {
    let world = world(vec![ingress(
        "p",
        "",
        vec![
            from(pods(Some(""), None)),
            from(Peer::Block {
                network: "198.51.100.0/24".parse().unwrap(),
                except: Vec::new(),
            }),
        ],
    )]);
    let asks = |address: &str| {
        let said = Conversation {
            proto: Proto::TCP,
            port: 1,
            from: End {
                address: address.parse().unwrap(),
                pod: None,
            },
            to: End {
                address: world.db.addresses[0],
                pod: Some(&world.db),
            },
            at: AT,
        };
        let rulings = rulings(&world.cluster, &said);
        !rulings[0].forbids()
    };
    assert!(asks("198.51.100.9"));
    assert!(!asks("203.0.113.9"));
}

fn any_rule() -> impl Strategy<Value = PolicyRule> {
    let peer = prop_oneof![
        Just(pods(None, Some("app=web"))),
        Just(pods(Some("team=a"), None)),
        Just(pods(Some("team=b"), Some("app=web"))),
        (0..=32_u8).prop_map(|prefix| Peer::Block {
            network: format!("10.0.0.0/{prefix}").parse().unwrap(),
            except: Vec::new(),
        }),
    ];
    let port = (1..9_u16, prop::option::of(1..9_u16))
        .prop_map(|(first, end)| port(Proto::TCP, Some(TargetPort::Number(first)), end));
    (
        prop::collection::vec(peer, 0..3),
        prop::collection::vec(port, 0..3),
    )
        .prop_map(|(peers, ports)| PolicyRule { peers, ports })
}

fn any_policy() -> impl Strategy<Value = Policy> {
    let rules = || prop::option::of(prop::collection::vec(any_rule(), 0..3));
    let pods = prop::sample::select(&["", "app=db", "app=web"][..]);
    (pods, rules(), rules()).prop_map(|(pods, ingress, egress)| Policy {
        ingress,
        egress,
        ..policy("any", pods)
    })
}

proptest! {
    /// Policies only add up: a further rule in a policy that selects the pod never takes anything away.
    #[test]
    fn a_further_rule_takes_nothing_away(one in any_policy(), rule in any_rule(), number in 1..9_u16) {
        let before = world(vec![one.clone()]).allowed(number);
        let mut more = one;
        if let Some(rules) = &mut more.ingress {
            rules.push(rule.clone());
        }
        if let Some(rules) = &mut more.egress {
            rules.push(rule);
        }
        prop_assert!(!before || world(vec![more]).allowed(number));
    }

    /// A rule without peers and ports in every policy opens everything again.
    #[test]
    fn an_empty_rule_in_each_direction_opens_all(one in any_policy(), number in 1..9_u16) {
        let mut open = one;
        open.ingress = open.ingress.map(|_| vec![PolicyRule::default()]);
        open.egress = open.egress.map(|_| vec![PolicyRule::default()]);
        prop_assert!(world(vec![open]).allowed(number));
    }
}
