//! Real layouts, as their tools print them once loaded, against packets that meet them.

mod rules;

use super::*;
use crate::event::{Proto, Tuple};
use crate::ruleset::model::Table;
use crate::ruleset::undo::command;

const KUBE_PROXY: &str = include_str!("../../tests/fixtures/ruleset/kube-proxy.save");
const KUBE_PROXY_NFT: &str = include_str!("../../tests/fixtures/ruleset/kube-proxy-nft.json");
const CALICO: &str = include_str!("../../tests/fixtures/ruleset/calico.save");
const CALICO_SETS: &str = include_str!("../../tests/fixtures/ruleset/calico.ipset");
const UFW: &str = include_str!("../../tests/fixtures/ruleset/ufw.save");

fn saved(text: &str, backend: Backend) -> Ruleset {
    let parsed = iptables::parse(text, backend, Family::Ip);
    assert_eq!(parsed.strange, Vec::<String>::new());
    Ruleset {
        tables: parsed.tables,
        ..Ruleset::default()
    }
}

fn listed(json: &str) -> Ruleset {
    Ruleset {
        tables: nft::parse(json).unwrap().tables,
        ..Ruleset::default()
    }
}

/// A new TCP connection's first packet.
fn syn(from: &str, to: &str) -> PacketFacts {
    let tuple = Tuple {
        proto: Proto::TCP,
        src: from.parse().unwrap(),
        dst: to.parse().unwrap(),
    };
    PacketFacts {
        iif: Interface::Named("cni0".to_owned()),
        oif: Interface::Named("eth0".to_owned()),
        mark: Some(0),
        ct: CtFacts {
            state: Some(CtState::New),
            status: Some(0),
            reply: Some(false),
            ..CtFacts::default()
        },
        ..PacketFacts::of(&tuple)
    }
}

fn proven(ruleset: &Ruleset, hook: Hook, facts: &PacketFacts) -> Candidate {
    let evaluation = evaluate(ruleset, hook, facts);
    evaluation
        .proven()
        .unwrap_or_else(|| panic!("not one certain rule: {evaluation:#?}"))
        .clone()
}

fn service(name: &str, local: bool) -> ServicePort {
    ServicePort {
        namespace: if local { "default" } else { "shop" }.to_owned(),
        name: name.to_owned(),
        port: Some("http".to_owned()),
        local,
    }
}

#[test]
fn kube_proxy_iptables_rejects_a_service_without_endpoints() {
    let ruleset = saved(KUBE_PROXY, Backend::IptablesNft);
    let facts = syn("10.244.1.7:40000", "10.96.77.7:80");
    let found = proven(&ruleset, Hook::Forward, &facts);
    assert_eq!(
        (found.fate, found.chain.as_str()),
        (Fate::Reject, "KUBE-SERVICES")
    );
    assert_eq!(owner(&found, &ruleset), Owner::KubeProxy);
    assert_eq!(
        service_without_endpoints(&found),
        Some(service("cart", false))
    );
    let undo = undo(&found, Owner::KubeProxy, &facts);
    assert!(
        undo.commands[0].contains("kubernetes.io/service-name=cart"),
        "{undo:?}"
    );
    assert!(
        !undo
            .commands
            .iter()
            .any(|command| command.contains("iptables")),
        "{undo:?}"
    );
}

#[test]
fn kube_proxy_drops_for_want_of_local_endpoints() {
    let ruleset = saved(KUBE_PROXY, Backend::IptablesNft);
    let found = proven(
        &ruleset,
        Hook::Input,
        &syn("192.0.2.9:40000", "10.99.0.1:30080"),
    );
    assert_eq!(
        (found.fate, found.chain.as_str()),
        (Fate::Drop, "KUBE-EXTERNAL-SERVICES")
    );
    assert_eq!(
        service_without_endpoints(&found),
        Some(service("edge", true))
    );
}

#[test]
fn kube_proxy_lets_healthy_traffic_pass() {
    let ruleset = saved(KUBE_PROXY, Backend::IptablesNft);
    let mut facts = syn("10.244.1.7:40000", "10.244.2.5:8080");
    assert_eq!(
        evaluate(&ruleset, Hook::Forward, &facts),
        Evaluation::default()
    );
    facts.ct.state = Some(CtState::Invalid);
    let found = proven(&ruleset, Hook::Forward, &facts);
    assert_eq!(
        (found.chain.as_str(), found.rule),
        ("KUBE-FORWARD", Some(RuleRef::Number(1)))
    );
    assert_eq!(service_without_endpoints(&found), None);
}

#[test]
fn kube_proxy_nft_names_the_service_by_its_map_element() {
    let ruleset = listed(KUBE_PROXY_NFT);
    let found = proven(
        &ruleset,
        Hook::Forward,
        &syn("10.244.1.7:40000", "10.96.77.7:80"),
    );
    assert_eq!(
        (found.fate, found.chain.as_str()),
        (Fate::Reject, "reject-chain")
    );
    assert_eq!(
        service_without_endpoints(&found),
        Some(service("cart", false))
    );
    assert_eq!(owner(&found, &ruleset), Owner::KubeProxy);
}

#[test]
fn kube_proxy_nft_drops_by_the_element_itself() {
    let ruleset = listed(KUBE_PROXY_NFT);
    let found = proven(
        &ruleset,
        Hook::Input,
        &syn("192.0.2.9:40000", "10.99.0.1:30080"),
    );
    assert_eq!(found.fate, Fate::Drop);
    assert_eq!(
        service_without_endpoints(&found),
        Some(service("edge", true))
    );
    assert_eq!(
        command(&found),
        "nft delete element ip kube-proxy no-endpoint-nodeports '{ tcp . 30080 }'"
    );
}

#[test]
fn kube_proxy_nft_tells_wrong_port_and_unallocated_address() {
    let ruleset = listed(KUBE_PROXY_NFT);
    let port = proven(
        &ruleset,
        Hook::Forward,
        &syn("10.244.1.7:40000", "10.96.12.34:81"),
    );
    assert_eq!(
        (port.fate, port.comment.as_deref()),
        (
            Fate::Reject,
            Some("Reject traffic to invalid ports of ClusterIPs")
        )
    );
    let address = proven(
        &ruleset,
        Hook::Forward,
        &syn("10.244.1.7:40000", "10.96.200.1:80"),
    );
    assert_eq!(address.fate, Fate::Drop);
    assert_eq!(
        service_without_endpoints(&port).or(service_without_endpoints(&address)),
        None
    );
}

/// Into the pod behind a policy that lets 10.244.1.9 reach port 80.
fn to_policed_pod(from: &str) -> PacketFacts {
    let mut facts = syn(&format!("{from}:40000"), "10.244.2.5:80");
    facts.oif = Interface::Named("cali12d4a061371".to_owned());
    facts
}

#[test]
fn calico_drops_what_no_policy_passes() {
    let mut ruleset = saved(CALICO, Backend::Legacy);
    ruleset.ipsets = ipset::parse(CALICO_SETS);
    let facts = to_policed_pod("10.244.1.7");
    let found = proven(&ruleset, Hook::Forward, &facts);
    assert_eq!(found.chain, "cali-tw-cali12d4a061371");
    assert!(
        found
            .comment
            .as_deref()
            .unwrap()
            .contains("Drop if no policies passed packet"),
        "{found:?}"
    );
    assert!(owner(&found, &ruleset).is_policy_engine());
    let undo = undo(&found, owner(&found, &ruleset), &facts);
    assert!(undo.summary.contains("never delete the rule"), "{undo:?}");
    assert!(
        undo.commands.iter().all(|command| !command.contains("-D ")),
        "{undo:?}"
    );
    assert_eq!(
        evaluate(&ruleset, Hook::Forward, &to_policed_pod("10.244.1.9")),
        Evaluation::default()
    );
}

#[test]
fn calico_without_its_sets_stays_a_candidate_but_the_only_one() {
    let ruleset = saved(CALICO, Backend::Legacy);
    let evaluation = evaluate(&ruleset, Hook::Forward, &to_policed_pod("10.244.1.7"));
    assert_eq!(evaluation.candidates.len(), 1, "{evaluation:#?}");
    assert!(!evaluation.candidates[0].certain);
    assert_eq!(evaluation.proven(), None);
}

#[test]
fn calico_policies_are_named_where_the_walk_came_through_them() {
    let rule = "-A cali-pi-x -m comment --comment \"cali:abc\" -m comment --comment \"Policy default/deny ingress\" -j DROP";
    let text = format!(
        "*filter\n:FORWARD ACCEPT [0:0]\n:cali-pi-x - [0:0]\n-A FORWARD -j cali-pi-x\n{rule}\nCOMMIT\n"
    );
    let found = proven(
        &saved(&text, Backend::Legacy),
        Hook::Forward,
        &syn("10.0.0.1:1", "10.0.0.2:2"),
    );
    assert_eq!(policies(&found), ["default/deny"]);
}

#[test]
fn ufw_rules_and_policy_are_ufws() {
    let ruleset = saved(UFW, Backend::IptablesNft);
    let facts = syn("192.0.2.9:40000", "192.0.2.1:9000");
    let found = proven(&ruleset, Hook::Input, &facts);
    assert_eq!(
        (found.chain.as_str(), owner(&found, &ruleset)),
        ("ufw-user-input", Owner::Ufw)
    );
    assert_eq!(
        undo(&found, Owner::Ufw, &facts).commands,
        ["ufw allow 9000/tcp"]
    );

    let facts = syn("192.0.2.9:40000", "192.0.2.1:10250");
    let found = proven(&ruleset, Hook::Input, &facts);
    assert_eq!((found.rule, owner(&found, &ruleset)), (None, Owner::Ufw));
    assert_eq!(
        undo(&found, Owner::Ufw, &facts).commands,
        ["ufw allow 10250/tcp"]
    );

    let facts = syn("10.244.1.7:40000", "192.0.2.80:5432");
    let found = proven(&ruleset, Hook::Forward, &facts);
    assert_eq!(found.chain, "ufw-user-forward");
    assert_eq!(
        undo(&found, Owner::Ufw, &facts).commands,
        ["ufw route allow proto tcp from any to any port 5432"]
    );
    assert_eq!(
        evaluate(
            &ruleset,
            Hook::Input,
            &syn("192.0.2.9:40000", "192.0.2.1:22")
        ),
        Evaluation::default()
    );
}

#[test]
fn owners_by_name() {
    let chain = |name: &str| owner::by_chain(name).map_or("plain", Owner::name);
    assert_eq!(chain("KUBE-POD-FW-ABC"), "kube-router");
    assert_eq!(chain("KUBE-SVC-ABC"), "kube-proxy");
    assert_eq!(chain("AZURE-NPM-INGRESS"), "azure-npm");
    assert_eq!(chain("DOCKER-ISOLATION-STAGE-1"), "docker");
    assert_eq!(chain("INPUT"), "plain");
    assert_eq!(owner::by_table("firewalld"), Some(Owner::Firewalld));
    assert!(Owner::KubeRouter.is_policy_engine() && !Owner::KubeProxy.is_policy_engine());
}

#[test]
fn fixtures_hold_rules() {
    let rules = |ruleset: &Ruleset| ruleset.tables.iter().map(Table::rules).sum::<usize>();
    assert!(rules(&saved(KUBE_PROXY, Backend::IptablesNft)) > 30);
    assert!(rules(&listed(KUBE_PROXY_NFT)) > 20);
}
