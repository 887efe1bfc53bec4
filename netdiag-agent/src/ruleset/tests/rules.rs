//! Small rulesets, one question each.

use super::*;

#[test]
fn plain_rules_come_with_the_exact_command() {
    let filter = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n-A INPUT -i lo -j ACCEPT\n-A INPUT -p tcp -m tcp --dport 10250 -j DROP\nCOMMIT\n";
    let facts = syn("192.0.2.9:40000", "192.0.2.1:10250");
    for (backend, rule, policy) in [
        (
            Backend::IptablesNft,
            "iptables -D INPUT 2",
            "iptables -P FORWARD ACCEPT",
        ),
        (
            Backend::Legacy,
            "iptables-legacy -D INPUT 2",
            "iptables-legacy -P FORWARD ACCEPT",
        ),
    ] {
        let ruleset = saved(filter, backend);
        let found = proven(&ruleset, Hook::Input, &facts);
        assert_eq!(owner(&found, &ruleset), Owner::Plain);
        assert_eq!(undo(&found, Owner::Plain, &facts).commands, [rule]);
        assert_eq!(command(&proven(&ruleset, Hook::Forward, &facts)), policy);
    }
    let mangle = saved(
        "*mangle\n:FORWARD ACCEPT [0:0]\n-A FORWARD -j DROP\nCOMMIT\n",
        Backend::IptablesNft,
    );
    assert_eq!(
        command(&proven(&mangle, Hook::Forward, &facts)),
        "iptables -t mangle -D FORWARD 1"
    );
}

#[test]
fn two_back_ends_that_both_drop_leave_neither_certain() {
    let text = "*filter\n:FORWARD DROP [0:0]\nCOMMIT\n";
    let mut ruleset = saved(text, Backend::Legacy);
    ruleset
        .tables
        .extend(saved(text, Backend::IptablesNft).tables);
    let evaluation = evaluate(&ruleset, Hook::Forward, &syn("10.0.0.1:1", "10.0.0.2:2"));
    let certain: Vec<_> = evaluation
        .candidates
        .iter()
        .map(|found| (found.backend, found.certain))
        .collect();
    assert_eq!(
        certain,
        [(Backend::Legacy, false), (Backend::IptablesNft, false)]
    );
}

#[test]
fn the_stack_tells_which_of_two_back_ends_it_was() {
    let text = "*filter\n:FORWARD DROP [0:0]\nCOMMIT\n";
    let mut ruleset = saved(text, Backend::Legacy);
    ruleset
        .tables
        .extend(saved(text, Backend::IptablesNft).tables);
    let mut facts = syn("10.0.0.1:1", "10.0.0.2:2");
    for (legacy, backend) in [(true, Backend::Legacy), (false, Backend::IptablesNft)] {
        facts.by_legacy = Some(legacy);
        assert_eq!(proven(&ruleset, Hook::Forward, &facts).backend, backend);
    }
}

#[test]
fn counters_pick_the_one_that_moved() {
    let text = |legacy: u64, nft: u64| {
        let one = |packets| format!("*filter\n:FORWARD DROP [{packets}:99]\nCOMMIT\n");
        let mut ruleset = saved(&one(legacy), Backend::Legacy);
        ruleset
            .tables
            .extend(saved(&one(nft), Backend::IptablesNft).tables);
        ruleset
    };
    let (before, after) = (text(10, 20), text(10, 24));
    let candidates = evaluate(&before, Hook::Forward, &syn("10.0.0.1:1", "10.0.0.2:2")).candidates;
    let left = narrow(&candidates, &before, &after, 4);
    assert_eq!(
        left.iter().map(|found| found.backend).collect::<Vec<_>>(),
        [Backend::IptablesNft]
    );
    assert_eq!(narrow(&candidates, &before, &after, 5), []);
}

#[test]
fn the_mark_a_packet_died_with_rules_ways_out() {
    let text = "*filter\n:FORWARD ACCEPT [0:0]\n:A - [0:0]\n-A FORWARD -m u32 --u32 0x0=0x0 -j A\n-A FORWARD -m u32 --u32 0x0=0x1 -j DROP\n-A A -j MARK --set-xmark 0x1/0x1\n-A A -j DROP\nCOMMIT\n";
    let ruleset = saved(text, Backend::Legacy);
    let mut facts = syn("10.0.0.1:1", "10.0.0.2:2");
    let chains = |facts: &PacketFacts| -> Vec<String> {
        evaluate(&ruleset, Hook::Forward, facts)
            .candidates
            .into_iter()
            .map(|found| found.chain)
            .collect()
    };
    facts.mark = None;
    assert_eq!(chains(&facts), ["A", "FORWARD"]);
    facts.mark = Some(0);
    assert_eq!(chains(&facts), ["FORWARD"]);
}

#[test]
fn an_undecidable_detour_that_loses_nothing_costs_no_certainty() {
    let text = "*filter\n:FORWARD ACCEPT [0:0]\n:LOGGING - [0:0]\n-A FORWARD -m limit --limit 3/min -j LOGGING\n-A FORWARD -j DROP\n-A LOGGING -j LOG\nCOMMIT\n";
    let found = proven(
        &saved(text, Backend::Legacy),
        Hook::Forward,
        &syn("10.0.0.1:1", "10.0.0.2:2"),
    );
    assert_eq!(found.rule, Some(RuleRef::Number(2)));
    let accepting = text.replace("-A LOGGING -j LOG", "-A LOGGING -j ACCEPT");
    let evaluation = evaluate(
        &saved(&accepting, Backend::Legacy),
        Hook::Forward,
        &syn("10.0.0.1:1", "10.0.0.2:2"),
    );
    assert_eq!(evaluation.candidates.len(), 1);
    assert_eq!(evaluation.proven(), None);
}

#[test]
fn an_event_without_an_entry_is_invalid_or_untracked() {
    let rule = |state| {
        format!("*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -m conntrack {state} -j DROP\nCOMMIT\n")
    };
    let mut facts = syn("10.0.0.1:1", "10.0.0.2:2");
    facts.ct = CtFacts::no_entry();
    let candidates =
        |state| evaluate(&saved(&rule(state), Backend::Legacy), Hook::Forward, &facts).candidates;
    let certain = |state| {
        candidates(state)
            .iter()
            .map(|found| found.certain)
            .collect::<Vec<_>>()
    };
    assert!(candidates("--ctstate NEW").is_empty());
    assert_eq!(certain("--ctstate INVALID"), [false]);
    assert_eq!(certain("! --ctstate NEW,ESTABLISHED"), [true]);
}

#[test]
fn chains_in_front_of_nat_see_the_ends_before_it() {
    let text = |dst| {
        format!("*mangle\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -d {dst}/32 -j DROP\nCOMMIT\n")
    };
    let tuple = |src: &str, dst: &str| Tuple {
        proto: Proto::TCP,
        src: src.parse().unwrap(),
        dst: dst.parse().unwrap(),
    };
    let packet = crate::event::Packet::of(tuple("10.244.1.7:40000", "10.244.2.5:8080"));
    let conntrack = crate::event::Conntrack {
        status: crate::event::CtStatus(0),
        reply: false,
        related: false,
        orig: tuple("10.244.1.7:40000", "10.96.12.34:80"),
        answer: tuple("10.244.2.5:8080", "10.244.1.7:40000"),
        tcp_state: 0,
        zone: 0,
    };
    let facts = PacketFacts::of_event(Hook::Prerouting, &packet, Some(&conntrack));
    assert_eq!(facts.ct.state, Some(CtState::New));
    proven(
        &saved(&text("10.96.12.34"), Backend::Legacy),
        Hook::Prerouting,
        &facts,
    );
    let behind = evaluate(
        &saved(&text("10.244.2.5"), Backend::Legacy),
        Hook::Prerouting,
        &facts,
    );
    assert_eq!(behind, Evaluation::default());
}

#[test]
fn nat_chains_see_new_connections_only() {
    let json = r#"{"nftables": [{"table": {"family": "ip", "name": "t", "handle": 1}},
        {"chain": {"family": "ip", "table": "t", "name": "c", "handle": 1, "type": "nat", "hook": "prerouting", "prio": -100, "policy": "drop"}}]}"#;
    let mut facts = syn("10.0.0.1:1", "10.0.0.2:2");
    assert_eq!(
        command(&proven(&listed(json), Hook::Prerouting, &facts)),
        "nft chain ip t c '{ policy accept; }'"
    );
    facts.ct.state = Some(CtState::Established);
    assert_eq!(
        evaluate(&listed(json), Hook::Prerouting, &facts),
        Evaluation::default()
    );
}

#[test]
fn only_a_rule_that_queues_can_lose_a_packet_to_a_queue() {
    let filter = saved(
        "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -p udp -j NFQUEUE --queue-num 3\n-A FORWARD -p tcp -m tcp --dport 8080 -j NFQUEUE --queue-num 7\n-A FORWARD -j DROP\nCOMMIT\n",
        Backend::IptablesNft,
    );
    let facts = syn("10.0.0.1:40000", "10.0.0.2:8080");
    let dropped = evaluate(&filter, Hook::Forward, &facts);
    assert_eq!(dropped.proven(), None, "a program may have dropped it");
    let facts = PacketFacts {
        queued: true,
        ..facts
    };
    let found = proven(&filter, Hook::Forward, &facts);
    assert_eq!(command(&found), "iptables -D FORWARD 2");
}
