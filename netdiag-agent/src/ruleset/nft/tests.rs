use std::collections::HashMap;

use super::*;
use crate::ruleset::model::{Counter, Effect, Match, Nat, Step};

const EXPRESSIONS: &str = include_str!("../../../tests/fixtures/ruleset/expressions.json");
/// The same ruleset as `nft -a list ruleset` prints it.
const LISTING: &str = include_str!("../../../tests/fixtures/ruleset/expressions.nft");

fn table(name: &str) -> Table {
    let parsed = parse(EXPRESSIONS).unwrap();
    assert_eq!(parsed.strange, Vec::<String>::new());
    parsed
        .tables
        .into_iter()
        .find(|table| table.name == name)
        .unwrap()
}

/// The rule whose text starts so.
fn rule(text: &str) -> Rule {
    let table = table("corpfw");
    let mut rules = table.chains().iter().flat_map(|chain| &chain.rules);
    rules
        .find(|rule| rule.text.starts_with(text))
        .unwrap_or_else(|| panic!("no rule {text}"))
        .clone()
}

fn is_decidable(rule: &Rule) -> bool {
    !rule.steps.iter().any(|step| match step {
        Step::Match(Match::Unknown(_)) => true,
        Step::Match(Match::Compare(compare)) => compare
            .key
            .iter()
            .any(|selector| selector.field == crate::ruleset::model::Field::Other),
        _ => false,
    })
}

#[test]
fn rules_read_as_nft_prints_them() {
    let printed: HashMap<(String, u64), String> = listing();
    let table = table("corpfw");
    let mut different = Vec::new();
    for chain in table.chains() {
        for rule in &chain.rules {
            let RuleRef::Handle(handle) = rule.at else {
                panic!("{rule:?}")
            };
            let nft = &printed[&(chain.name.clone(), handle)];
            if *nft != rule.text {
                different.push(format!("nft:  {nft}\nours: {}", rule.text));
            }
        }
    }
    // DSCP is the one other field in hexadecimal, and flags have a shorthand of their own.
    let by_form = |pair: &String| pair.contains("dscp") || pair.contains(" / ");
    different.retain(|pair| !by_form(pair));
    assert!(different.is_empty(), "{}", different.join("\n"));
}

/// What `nft -j` and `nft` print of the same rules.
#[test]
fn limits_and_what_sets_do_for_each_element_read_as_nft_prints_them() {
    let saddr = r#"{"payload": {"protocol": "ip", "field": "saddr"}}"#;
    let rate = r#"{"limit": {"rate": 1, "burst": 5, "per": "minute", "inv": true}}"#;
    let pairs = [
        (
            format!(r#"{{"set": {{"op": "add", "elem": {saddr}, "set": "@seen", "stmt": [{rate}]}}}}"#),
            "add @seen { ip saddr limit rate over 1/minute }",
        ),
        (
            format!(
                r#"{{"set": {{"op": "update", "elem": {{"elem": {{"val": {saddr}, "timeout": 3690}}}}, "set": "@seen", "stmt": [{{"counter": null}}]}}}}"#
            ),
            "update @seen { ip saddr timeout 1h1m30s counter }",
        ),
        (
            r#"{"limit": {"rate": 10, "burst": 5, "per": "second", "inv": true, "rate_unit": "mbytes", "burst_unit": "kbytes"}}"#.to_owned(),
            "limit rate over 10 mbytes/second burst 5 kbytes",
        ),
        (
            r#"{"limit": {"rate": 1500, "burst": 0, "per": "second", "rate_unit": "bytes", "burst_unit": "bytes"}}"#.to_owned(),
            "limit rate 1500 bytes/second",
        ),
        (
            r#"{"limit": {"rate": 3, "burst": 7, "per": "second"}}"#.to_owned(),
            "limit rate 3/second burst 7 packets",
        ),
    ];
    for (json, printed) in pairs {
        let statement = serde_json::from_str(&json).expect("JSON");
        assert_eq!(text::rule(&[statement], None), printed);
    }
}

/// As above, of what is drawn by chance or read from options.
#[test]
fn hashes_options_and_refusals_read_as_nft_prints_them() {
    let pairs = [
        (
            r#"{"match": {"op": "==", "left": {"tcp option": {"name": "maxseg", "field": "size"}}, "right": 1460}}"#,
            "tcp option maxseg size 1460",
        ),
        (
            r#"{"match": {"op": "==", "left": {"tcp option": {"name": "sack-perm"}}, "right": false}}"#,
            "tcp option sack-perm missing",
        ),
        (
            r#"{"mangle": {"key": {"tcp option": {"name": "maxseg", "field": "size"}}, "value": {"rt": {"key": "mtu"}}}}"#,
            "tcp option maxseg size set rt mtu",
        ),
        (
            r#"{"match": {"op": "==", "left": {"exthdr": {"name": "frag"}}, "right": true}}"#,
            "exthdr frag exists",
        ),
        (
            r#"{"vmap": {"key": {"numgen": {"mode": "inc", "mod": 2, "offset": 100}}, "data": {"set": [[100, {"accept": null}]]}}}"#,
            "numgen inc mod 2 offset 100 vmap { 100 : accept }",
        ),
        (
            r#"{"match": {"op": "==", "left": {"jhash": {"mod": 2, "seed": 3735928559, "offset": 10, "expr": {"concat": [{"payload": {"protocol": "ip", "field": "saddr"}}, {"payload": {"protocol": "ip", "field": "daddr"}}]}}}, "right": 11}}"#,
            "jhash ip saddr . ip daddr mod 2 seed 0xdeadbeef offset 10 11",
        ),
        (
            r#"{"match": {"op": "<", "left": {"jhash": {"mod": 7, "expr": {"payload": {"protocol": "tcp", "field": "dport"}}}}, "right": 3}}"#,
            "jhash tcp dport mod 7 < 3",
        ),
        (
            r#"{"match": {"op": "==", "left": {"symhash": {"mod": 2, "offset": 10}}, "right": 11}}"#,
            "symhash mod 2 offset 10 11",
        ),
        (
            r#"{"reject": {"type": "icmpx", "expr": "port-unreachable"}}"#,
            "reject",
        ),
        (
            r#"{"reject": {"type": "icmpv6", "expr": "no-route"}}"#,
            "reject with icmpv6 no-route",
        ),
    ];
    for (json, printed) in pairs {
        let statement = serde_json::from_str(json).expect("JSON");
        assert_eq!(text::rule(&[statement], None), printed);
    }
}

/// Text by chain and handle, without counters.
fn listing() -> HashMap<(String, u64), String> {
    let mut chain = String::new();
    let mut rules = HashMap::new();
    for line in LISTING.lines() {
        let Some((text, handle)) = line.trim().split_once(" # handle ") else {
            continue;
        };
        if let Some(name) = text.strip_prefix("chain ") {
            name.trim_end_matches(" {").clone_into(&mut chain);
        } else if let Ok(handle) = handle.parse() {
            let text = text.replace("counter packets 0 bytes 0 ", "");
            rules.entry((chain.clone(), handle)).or_insert(text);
        }
    }
    rules
}

#[test]
fn undecidable_rules_are_these() {
    let table = table("corpfw");
    let rules = table.chains().iter().flat_map(|chain| &chain.rules);
    let open: Vec<_> = rules
        .filter(|rule| !is_decidable(rule))
        .map(|rule| rule.text.as_str())
        .collect();
    assert_eq!(
        open,
        [
            "fib saddr . iif oif missing drop",
            "limit rate 5/second accept",
            "ip dscp 4 drop",
            "meta pkttype broadcast drop",
            "ct count over 5 drop",
        ]
    );
}

#[test]
fn base_chains_carry_hook_priority_and_policy() {
    let base = table("corpfw").chain("nat").unwrap().base.clone().unwrap();
    assert_eq!(
        (base.hook, base.priority, base.nat, base.drops),
        (Hook::Prerouting, -100, true, false)
    );
    let base = table("corpfw").chain("fw").unwrap().base.clone().unwrap();
    assert_eq!(
        (base.hook, base.priority, base.nat, base.drops),
        (Hook::Forward, 0, false, true)
    );
    assert_eq!(table("br").family, Family::Bridge);
}

#[test]
fn a_flag_nft_garbles_leaves_open_whether_the_table_sleeps() {
    assert_eq!(table("dormant0").dormant, Tri::Maybe);
    assert_eq!(table("corpfw").dormant, Tri::No);
}

#[test]
fn counters_count_only_behind_the_last_match() {
    assert_eq!(
        rule("ip saddr @blocked drop").counter,
        Some(Counter {
            packets: 0,
            bytes: 0
        })
    );
    let early = r#"[{"counter":{"packets":5,"bytes":9}},
        {"match":{"op":"==","left":{"payload":{"protocol":"tcp","field":"dport"}},"right":80}},{"drop":null}]"#;
    let read = statement::read(&serde_json::from_str::<Vec<Value>>(early).unwrap());
    assert_eq!((read.counter, read.target), (None, Target::Drop));
}

#[test]
fn marks_compose() {
    let changed = rule("meta mark set meta mark & 0x000000ff ^ 0x00000010").steps;
    assert_eq!(
        changed,
        [Step::Effect(Effect::Mark {
            and: 0xff,
            xor: 0x10
        })]
    );
    assert_eq!(
        rule("ct mark set 0x00000001").steps,
        [Step::Effect(Effect::CtMark { and: 0, xor: 1 })]
    );
    assert_eq!(rule("notrack").steps, [Step::Effect(Effect::NoTrack)]);
}

#[test]
fn targets() {
    assert_eq!(
        rule("reject with icmpx").target,
        Target::Reject("icmpx admin-prohibited".to_owned())
    );
    assert_eq!(
        rule("tcp dport 5 redirect").target,
        Target::Nat(Nat::Redirect)
    );
    assert!(matches!(
        rule("tcp dport vmap @vm").target,
        Target::Vmap { .. }
    ));
    let entries = &table("corpfw").maps["dm"].entries;
    assert_eq!(entries[0].target, Target::Goto("blk".into()));
    assert_eq!(entries[0].text, "10.96.0.1 . tcp . 80");
}

/// Rules of iptables on nft, where iptables itself could not be asked: the options of extensions are hidden.
#[test]
fn extensions_of_iptables_say_what_their_names_say() {
    let rule = |expr: &str| {
        let listing = format!(
            r#"{{"nftables": [{{"table": {{"family": "ip", "name": "filter", "handle": 1}}}},
             {{"chain": {{"family": "ip", "table": "filter", "name": "C", "handle": 1}}}},
             {{"rule": {{"family": "ip", "table": "filter", "chain": "C", "handle": 2, "expr": [{expr}]}}}}]}}"#
        );
        parse(&listing).unwrap().tables[0].chains()[0].rules[0].clone()
    };
    let extension =
        |kind: &str, name: &str| format!(r#"{{"xt": {{"type": "{kind}", "name": "{name}"}}}}"#);
    let refused = rule(&format!(
        "{}, {}",
        extension("match", "comment"),
        extension("target", "REJECT")
    ));
    assert_eq!(refused.steps, []);
    assert_eq!(refused.target, Target::Reject(String::new()));
    assert_eq!(refused.text, "xt match comment xt target REJECT");
    let marked = rule(&extension("target", "MARK"));
    assert_eq!(marked.target, Target::Continue);
    assert_eq!(
        marked.steps,
        [Step::Effect(Effect::MarkUnknown { mask: u32::MAX })]
    );
    let asked = rule(&extension("match", "set"));
    assert!(!is_decidable(&asked), "{asked:?}");
    let strange = rule(&extension("target", "SYNPROXY"));
    assert_eq!(strange.target, Target::Unknown("SYNPROXY".to_owned()));
}
