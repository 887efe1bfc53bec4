use super::*;
use crate::ruleset::model::{
    Compare, Effect, Element, Field, IpVersion, Match, Operand, Pattern, Selector, Step, Target,
};

/// The one rule of chain INPUT in table filter.
fn rule(line: &str) -> Rule {
    let text =
        format!("*filter\n:INPUT ACCEPT [0:0]\n:KUBE-X - [0:0]\n[3:180] -A INPUT {line}\nCOMMIT\n");
    let parsed = parse(&text, Backend::Legacy, Family::Ip);
    assert_eq!(parsed.strange, Vec::<String>::new());
    parsed.tables[0].chain("INPUT").unwrap().rules[0].clone()
}

fn matches(line: &str) -> Vec<Match> {
    let test = |step: Step| match step {
        Step::Match(test) => test,
        Step::Effect(effect) => panic!("{effect:?} is no match"),
    };
    rule(line).steps.into_iter().map(test).collect()
}

fn compare(line: &str) -> Compare {
    match matches(line).as_slice() {
        [.., Match::Compare(compare)] => compare.clone(),
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn a_rule_keeps_its_number_text_counter_and_comments() {
    let rule = rule(
        r#"-s 10.0.0.0/8 -m comment --comment "cali:abc" -m comment --comment "he said \"no\"" -j DROP"#,
    );
    assert_eq!(rule.at, RuleRef::Number(1));
    assert_eq!(
        rule.counter,
        Some(Counter {
            packets: 3,
            bytes: 180
        })
    );
    assert_eq!(rule.comment.as_deref(), Some(r#"cali:abc he said "no""#));
    assert!(
        rule.text.starts_with("-A INPUT -s 10.0.0.0/8 -m comment"),
        "{}",
        rule.text
    );
    assert_eq!(rule.target, Target::Drop);
    assert_eq!(rule.steps.len(), 1);
}

#[test]
fn policies_are_base_chains_and_dashes_are_not() {
    let text = "*mangle\n:PREROUTING DROP [7:99]\n:X - [0:0]\nCOMMIT\n*nat\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n";
    let tables = parse(text, Backend::IptablesNft, Family::Ip6).tables;
    let base = tables[0].chain("PREROUTING").unwrap().base.clone().unwrap();
    assert_eq!(
        (base.hook, base.priority, base.drops, base.nat),
        (Hook::Prerouting, -150, true, false)
    );
    assert_eq!(
        base.counter,
        Some(Counter {
            packets: 7,
            bytes: 99
        })
    );
    assert_eq!(tables[0].chain("X").unwrap().base, None);
    let base = tables[1].chain("OUTPUT").unwrap().base.clone().unwrap();
    assert_eq!((base.priority, base.nat), (-100, true));
}

#[test]
fn negation_stays_with_its_option() {
    let tests = matches("! -i lo -p tcp -m tcp ! --dport 80:90 -j DROP");
    let negated: Vec<_> = tests
        .iter()
        .map(|test| match test {
            Match::Compare(compare) => compare.negate,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(negated, [true, false, true]);
}

#[test]
fn ports_are_ranges() {
    let elements = |line| match compare(line).operand {
        Operand::In(elements) => elements,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        elements("-p tcp -m tcp --dport 80"),
        [Element::one(Pattern::Range(80, 80))]
    );
    assert_eq!(
        elements("-p udp -m udp --sport 80:"),
        [Element::one(Pattern::Range(80, 65535))]
    );
    assert_eq!(
        elements("-p udp -m multiport --dports 1:5,9"),
        [
            Element::one(Pattern::Range(1, 5)),
            Element::one(Pattern::Range(9, 9))
        ]
    );
}

#[test]
fn addresses_are_masked() {
    let whole = compare("-s 10.1.2.3/8");
    assert_eq!(whole.key[0].field, Field::Source(IpVersion::V4));
    assert_eq!(whole.key[0].mask, 0xff00_0000);
    assert_eq!(whole.operand, Operand::number(0x0a00_0000));
    assert_eq!(compare("-d 10.0.2.0/255.0.255.0").key[0].mask, 0xff00_ff00);
}

#[test]
fn what_is_not_known_is_undecidable_and_names_itself() {
    let tests =
        matches("-m statistic --mode random --probability 0.5 -m u32 ! --u32 0x0=0x0 -j DROP");
    assert_eq!(
        tests,
        [
            Match::Unknown("-m statistic --mode random --probability 0.5".to_owned()),
            Match::Unknown("-m u32 ! --u32 0x0=0x0".to_owned()),
        ]
    );
    assert_eq!(
        matches("-m socket"),
        [Match::Unknown("-m socket ".to_owned())]
    );
    // One option of a match that is not known spoils the others.
    assert!(matches!(
        matches("-m addrtype --dst-type LOCAL --limit-iface-in")[..],
        [Match::Unknown(_)]
    ));
}

#[test]
fn ipv6_reads_unicast_off_the_address() {
    let text = "*filter\n:INPUT ACCEPT [0:0]\n[0:0] -A INPUT -m addrtype --dst-type UNICAST -j DROP\nCOMMIT\n";
    let parsed = parse(text, Backend::Legacy, Family::Ip6);
    let steps = &parsed.tables[0].chain("INPUT").unwrap().rules[0].steps;
    let [Step::Match(Match::Compare(compare))] = &steps[..] else {
        panic!("{steps:?}");
    };
    let of_address = Field::Destination(IpVersion::V6);
    assert_eq!(compare.key, [Selector::whole(of_address)]);
    let v4 = self::compare("-m addrtype --dst-type UNICAST -j DROP");
    assert_eq!(v4.key, [Selector::whole(Field::DestinationType)]);
}

#[test]
fn targets() {
    assert_eq!(rule("-j KUBE-X").target, Target::Jump("KUBE-X".into()));
    assert_eq!(rule("-g KUBE-X").target, Target::Goto("KUBE-X".into()));
    assert_eq!(
        rule("-j REJECT --reject-with tcp-reset").target,
        Target::Reject("tcp-reset".to_owned())
    );
    assert_eq!(
        rule(r#"-j LOG --log-prefix "a -j DROP""#).target,
        Target::Continue
    );
    assert_eq!(rule("-p tcp").target, Target::Continue);
    assert_eq!(
        rule("-j SYNPROXY --mss 1460").target,
        Target::Unknown("SYNPROXY".to_owned())
    );
    let marking = rule("-j MARK --set-xmark 0x4000/0x4000");
    assert_eq!(
        marking.steps,
        [Step::Effect(Effect::Mark {
            and: !0x4000,
            xor: 0x4000
        })]
    );
}

#[test]
fn tables_that_only_nft_can_list_are_named() {
    let text =
        "# Table `filter' is incompatible, use 'nft' tool.\n*nat\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n";
    let parsed = parse(text, Backend::IptablesNft, Family::Ip);
    assert_eq!(parsed.foreign, ["filter"]);
    assert_eq!(parsed.tables.len(), 1);
    assert_eq!(
        parse("no rules at all\n", Backend::Legacy, Family::Ip).strange,
        ["no rules at all"]
    );
}
