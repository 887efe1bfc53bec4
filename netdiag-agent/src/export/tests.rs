//! What comes out: every line against the schema, and what a reader sees.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::record::FlowVerdict;
use super::*;
use crate::verdict::{Component, RuleRef};

/// An output whose text can be looked at afterwards.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

const PLAIN: Options = Options {
    style: Style::PLAIN,
    follow: false,
    verbose: false,
};

fn export(format: &str, verdicts: &[Verdict], options: Options) -> String {
    let output = Shared::default();
    let mut exporter = Format::by_name(format)
        .expect("a format")
        .exporter(Box::new(output.clone()), options);
    for verdict in verdicts {
        exporter.verdict(verdict, &fixtures::context()).unwrap();
    }
    exporter.finish().unwrap();
    output.text()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn line(verdict: &Verdict) -> Value {
    serde_json::to_value(FlowVerdict::from((verdict, &fixtures::context()))).unwrap()
}

fn validator() -> jsonschema::Validator {
    jsonschema::draft202012::new(schema::schema().as_value()).expect("the schema is one")
}

fn assert_valid(value: &Value) {
    let faults: Vec<String> = validator()
        .iter_errors(value)
        .map(|fault| fault.to_string())
        .collect();
    assert!(faults.is_empty(), "{faults:#?}\n{value:#}");
}

#[test]
fn every_line_validates_and_reads_back() {
    for verdict in fixtures::all() {
        let text = FlowVerdict::from((&verdict, &fixtures::context()))
            .to_line()
            .unwrap();
        assert!(!text.contains('\n'));
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_valid(&value);
        let back: FlowVerdict = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(serde_json::to_value(back).unwrap(), value);
    }
}

#[test]
fn nothing_unknown_is_null_or_empty() {
    fn walk(value: &Value, at: &str) {
        match value {
            Value::Null => panic!("{at} is null"),
            Value::String(text) => assert!(!text.is_empty(), "{at} is empty"),
            Value::Array(items) => items.iter().for_each(|item| walk(item, at)),
            Value::Object(fields) => fields.iter().for_each(|(name, field)| walk(field, name)),
            Value::Bool(_) | Value::Number(_) => {}
        }
    }
    for verdict in fixtures::all() {
        walk(&line(&verdict), "line");
    }
}

#[test]
fn the_schema_refuses_what_the_contract_forbids() {
    let good = line(&fixtures::firewall_drop());
    assert_valid(&good);
    let refuse = |pointer: &str, value: Value| {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).expect(pointer) = value.clone();
        assert!(!validator().is_valid(&bad), "{pointer} = {value}");
    };
    refuse("/schema", json!("netdiag.flow_verdict/v2"));
    refuse("/outcome", json!("DROPPED"));
    refuse("/confidence", json!("CERTAIN"));
    refuse("/verdict", json!("LOST"));
    refuse("/hops/0/action", json!("PASSED"));
    refuse("/hops/0/name", json!("VETH"));
    refuse("/hops/0/netns", json!(4_026_531_840_u64));
    refuse("/hops/0/interface", Value::Null);
    refuse("/cause", json!("some cause"));
    refuse("/cause", Value::Null);
    refuse("/time", json!("2026-11-21T00:10:02.123Z"));
    refuse("/time", json!("2026-11-21T00:10:02.123456789+01:00"));
    refuse("/flow_key/isn", json!(2_891_336_012_u64));
    refuse("/flow_key/syn_count", json!(0));
    refuse("/IP/ipVersion", json!("IPV4"));
    refuse("/l4/TCP/source_port", json!(65_536));
    refuse("/conntrack", Value::Null);
    let mut extra = good.clone();
    extra["surprise"] = json!(1);
    assert!(!validator().is_valid(&extra));
    for required in [
        "evidence",
        "suspects",
        "caveats",
        "hops",
        "nat",
        "lost_events",
        "is_reply",
    ] {
        let mut bad = good.clone();
        bad.as_object_mut().unwrap().remove(required);
        assert!(!validator().is_valid(&bad), "without {required}");
    }
}

/// The example of the contract, field by field.
#[test]
fn a_drop_is_spelled_as_the_contract_says() {
    assert_eq!(
        line(&fixtures::firewall_drop()),
        json!({
            "schema": "netdiag.flow_verdict/v1",
            "time": "2026-11-20T23:56:43.000000001Z",
            "uuid": "9d3d8c54-7f06-5c6c-8f4e-6a3f65a0d102",
            "revision": 1,
            "node_name": "node-0",
            "outcome": "DROPPED_HERE",
            "cause": "HOST_FIREWALL_DROP",
            "confidence": "PROVEN",
            "verdict": "DROPPED",
            "drop_reason_desc": "NETFILTER_DROP",
            "traffic_direction": "EGRESS",
            "is_reply": false,
            "IP": {"source": "10.244.0.2", "destination": "10.96.0.10", "ipVersion": "IPv4"},
            "l4": {"TCP": {"source_port": 50213, "destination_port": 443, "flags": {"SYN": true}}},
            "source": {"netns": "web"},
            "destination": {"netns": "api"},
            "flow_key": {
                "isn": "2891336012",
                "first_seen": "2026-11-20T23:56:42.000000000Z",
                "last_seen": "2026-11-20T23:56:42.400000000Z",
                "syn_count": 4
            },
            "hops": [
                {"seq": 1, "name": "POD_VETH", "interface": "vethweb", "ifindex": 7, "netns": "4026531840",
                 "time": "2026-11-20T23:56:42.123456789Z", "action": "SEEN", "count": 4},
                {"seq": 2, "name": "NF_PREROUTING", "action": "TRANSLATED"},
                {"seq": 3, "name": "NF_FORWARD", "interface": "vethweb", "ifindex": 7, "netns": "4026531840",
                 "time": "2026-11-20T23:56:42.123456789Z", "action": "DROPPED", "count": 4,
                 "component": {"kind": "iptables_rule", "backend": "nft", "table": "filter", "chain": "FORWARD",
                               "rule": 3, "text": "-p tcp --dport 8443 -j DROP", "verdict": "DROP"}},
                {"seq": 4, "name": "POD_VETH", "action": "NOT_SEEN"}
            ],
            "died_between": ["POD_VETH", "POD_VETH"],
            "nat": [{"kind": "DNAT", "hop": "NF_PREROUTING", "before": "10.96.0.10:443",
                     "after": "10.244.0.3:8443", "source": "conntrack"}],
            "conntrack": {"state": "NONE", "seen_reply": false, "zone": 0},
            "evidence": [
                {"source": "tp_btf:kfree_skb", "count": 4, "detail": "reason NETFILTER_DROP, in nft_do_chain"},
                {"source": "rule_counter_delta", "value": 4}
            ],
            "suspects": [],
            "caveats": [],
            "lost_events": 0,
            "remediation": {"summary": "rule 3 of FORWARD drops tcp/8443", "commands": ["iptables -D FORWARD 3"]}
        })
    );
}

#[test]
fn other_protocols_are_spelled_as_hubble_does() {
    let ping = line(&fixtures::ping_reply_lost());
    assert_eq!(ping["l4"], json!({"ICMPv4": {"type": 8, "code": 0}}));
    assert_eq!(ping["hops"][3]["reply"], json!(true));
    assert_eq!(ping["verdict"], json!("DROPPED"));
    let v6 = line(&fixtures::refused_v6());
    assert_eq!(
        v6["l4"],
        json!({"UDP": {"source_port": 53124, "destination_port": 53}})
    );
    assert_eq!(v6["IP"]["ipVersion"], json!("IPv6"));
    assert_eq!(
        v6["destination"],
        json!({"host": true, "node_name": "node-0"})
    );
    assert_eq!(v6["verdict"], json!("ERROR"));
    assert_eq!(
        line(&fixtures::delivered())["destination"],
        json!({"external": true})
    );
    let gre = Verdict {
        tuple: crate::event::Tuple {
            proto: crate::event::Proto(47),
            ..fixtures::delivered().tuple
        },
        ..fixtures::delivered()
    };
    assert_eq!(line(&gre).get("l4"), None);
    assert_valid(&line(&gre));
}

#[test]
fn a_failing_flow_is_never_forwarded() {
    for verdict in fixtures::all() {
        let forwarded = line(&verdict)["verdict"] == "FORWARDED";
        assert!(
            !(forwarded && verdict.outcome.is_failing()),
            "{}",
            verdict.uuid
        );
    }
}

#[test]
fn an_nftables_rule_is_named_by_its_handle() {
    let mut verdict = fixtures::firewall_drop();
    verdict.hops[2].component = Some(Component {
        kind: "nft_rule".to_owned(),
        rule: Some(RuleRef::Handle(u64::MAX)),
        table: Some(String::new()),
        ..Component::default()
    });
    let component = line(&verdict)["hops"][2]["component"].clone();
    assert_eq!(
        component,
        json!({"kind": "nft_rule", "handle": "18446744073709551615"})
    );
    assert_valid(&line(&verdict));
}

#[test]
fn absurd_times_stay_within_the_format() {
    for (at, wall_offset) in [
        (u64::MAX, i64::MAX),
        (0, i64::MIN),
        (u64::MAX, i64::MIN),
        (0, 0),
    ] {
        let context = Context {
            node_name: None,
            wall_offset,
        };
        let verdict = Verdict {
            at: crate::event::Ktime(at),
            ..fixtures::delivered()
        };
        let value = serde_json::to_value(FlowVerdict::from((&verdict, &context))).unwrap();
        assert_eq!(value.get("node_name"), None);
        assert_valid(&value);
    }
}

#[test]
fn jsonl_writes_every_revision_and_json_the_last() {
    let first = fixtures::firewall_drop();
    let second = Verdict {
        revision: 2,
        ..first.clone()
    };
    let verdicts = [first, fixtures::delivered(), second];
    let jsonl = lines(&export("jsonl", &verdicts, PLAIN));
    assert_eq!(jsonl.len(), 3);
    jsonl.iter().for_each(assert_valid);

    let array: Value = serde_json::from_str(&export("json", &verdicts, PLAIN)).unwrap();
    let array = array.as_array().unwrap();
    assert_eq!(array.len(), 2);
    array.iter().for_each(assert_valid);
    assert_eq!(array[0]["revision"], json!(2));
    assert_eq!(export("json", &[], PLAIN), "[]\n");
}

#[test]
fn hubble_gets_its_envelope_and_nothing_it_does_not_know() {
    let line = &lines(&export("hubble", &[fixtures::firewall_drop()], PLAIN))[0];
    let mut names: Vec<&str> = line
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["flow", "node_name", "time"]);
    let flow = &line["flow"];
    assert_eq!(flow["verdict"], json!("DROPPED"));
    assert_eq!(flow["Summary"], json!("HOST_FIREWALL_DROP at NF_FORWARD"));
    assert_eq!(flow.get("outcome"), None);
    let known = [
        "time",
        "uuid",
        "verdict",
        "IP",
        "l4",
        "source",
        "destination",
        "Type",
        "node_name",
        "traffic_direction",
        "is_reply",
        "Summary",
    ];
    assert!(
        flow.as_object()
            .unwrap()
            .keys()
            .all(|key| known.contains(&key.as_str())),
        "{flow:#}"
    );
}

#[test]
fn a_healthy_run_is_one_line() {
    let verdicts = [
        fixtures::delivered(),
        Verdict {
            uuid: "other".to_owned(),
            ..fixtures::delivered()
        },
    ];
    assert_eq!(
        export("table", &verdicts, PLAIN),
        "+ 2 flows on node-0, all delivered\n"
    );
    assert_eq!(export("table", &[], PLAIN), ". no flow was seen\n");
}

#[test]
fn blind_spots_are_told_once_and_not_to_the_healthy() {
    let blind = |verdict: Verdict, uuid: &str| Verdict {
        uuid: uuid.to_owned(),
        caveats: vec![format!(
            "{}icmp_send (not in this kernel)",
            crate::verdict::BLIND_SPOT
        )],
        ..verdict
    };
    let healthy = blind(fixtures::delivered(), "a");
    assert_eq!(
        export("table", std::slice::from_ref(&healthy), PLAIN),
        "+ 1 flow on node-0, delivered\n"
    );
    let broken = [
        blind(fixtures::firewall_drop(), "b"),
        blind(fixtures::no_answer(), "c"),
        healthy,
    ];
    let text = export("table", &broken, PLAIN);
    assert_eq!(text.matches("icmp_send").count(), 1, "{text}");
}

#[test]
fn the_plain_table_is_ascii_and_shows_failing_flows_first() {
    let text = export("table", &fixtures::all(), PLAIN);
    assert!(text.is_ascii(), "{text}");
    let overview: Vec<&str> = text.lines().skip(3).take(6).collect();
    let marks: String = overview
        .iter()
        .filter_map(|line| line.chars().next())
        .collect();
    assert_eq!(marks, "XXXX?+", "{text}");
    for wanted in [
        "DNAT 10.96.0.10:443 -> 10.244.0.3:8443",
        "iptables (nft) filter/FORWARD rule 3 DROP: -p tcp --dport 8443 -j DROP",
        "$ iptables -D FORWARD 3",
        "1. firewall: 198.51.100.10 answers",
        "left this node by eth0, and nothing came back (NO_ANSWER, inferred)",
        "[2001:db8::4]:53",
        "2 events lost",
    ] {
        assert!(text.contains(wanted), "{wanted}\n{text}");
    }
    assert!(!text.contains("cpu0"), "events only with -v");
    let verbose = Options {
        verbose: true,
        ..PLAIN
    };
    assert!(export("table", &fixtures::all(), verbose).contains("cpu0"));
}

#[test]
fn flows_that_died_alike_are_told_once() {
    let verdicts: Vec<Verdict> = (0..40)
        .map(|index| {
            let mut verdict = fixtures::no_answer();
            verdict.uuid = format!("flow {index}");
            verdict.tuple.src.set_port(40_000 + index);
            verdict
        })
        .collect();
    let text = export("table", &verdicts, PLAIN);
    assert_eq!(text.matches("suspects").count(), 1, "{text}");
    assert!(
        text.contains("and so did 39 more flows to the same place: source ports 40001, 40002"),
        "{text}"
    );
    assert!(
        text.starts_with("X 40 of 40 flows failed on node-0\n"),
        "{text}"
    );
}

#[test]
fn the_rich_table_fits_the_terminal_except_for_what_is_copied() {
    for width in [60, 80, 100, 140] {
        let style = Style {
            rich: true,
            width: Some(width),
        };
        let text = export("table", &fixtures::all(), Options { style, ..PLAIN });
        let plain = strip(&text);
        let too_long: Vec<&str> = plain
            .lines()
            .filter(|line| line.chars().count() > usize::from(width))
            .filter(|line| !line.trim_start().starts_with(['$', '✘', '✔', '←', '→']))
            .collect();
        // What cannot be broken: flow and outcome of a row on the narrowest terminal.
        assert!(width < 80 || too_long.is_empty(), "{width}: {too_long:#?}");
        assert!(plain.contains('✔') && plain.contains('✘') && plain.contains("→"));
    }
}

fn strip(text: &str) -> String {
    let mut plain = String::new();
    for (index, part) in text.split('\x1b').enumerate() {
        let part = if index == 0 {
            part
        } else {
            part.split_once('m').map_or("", |(_, rest)| rest)
        };
        plain.push_str(part);
    }
    plain
}

#[test]
fn following_prints_each_verdict_as_it_comes() {
    let output = Shared::default();
    let options = Options {
        follow: true,
        ..PLAIN
    };
    let mut exporter = EXPORTERS[0].exporter(Box::new(output.clone()), options);
    exporter
        .verdict(&fixtures::delivered(), &fixtures::context())
        .unwrap();
    assert_eq!(
        output.text(),
        "23:56:43 + web:41900 -> 198.51.100.10:443 tcp delivered\n"
    );
    exporter
        .verdict(&fixtures::firewall_drop(), &fixtures::context())
        .unwrap();
    assert!(
        output
            .text()
            .contains("dropped on this node at NF_FORWARD (HOST_FIREWALL_DROP, proven)")
    );
    exporter.finish().unwrap();
    assert!(
        output.text().ends_with("X 1 of 2 flows failed\n"),
        "{}",
        output.text()
    );
}

#[test]
fn names_from_outside_cannot_steer_the_terminal() {
    let mut verdict = fixtures::firewall_drop();
    verdict.source.netns = Some("\x1b[2Jweb".to_owned());
    verdict.caveats = vec!["\x07bell".to_owned()];
    let text = export("table", &[verdict], PLAIN);
    assert!(!text.contains(['\x1b', '\x07']), "{text:?}");
}

#[test]
fn the_doctor_names_what_is_missing_first() {
    let machine = doctor::Machine {
        node_name: "node-0".to_owned(),
        kernel: "6.1.0".to_owned(),
        tier: Some(0),
    };
    let present = doctor::Finding {
        name: "btf".to_owned(),
        present: true,
        detail: "/sys/kernel/btf/vmlinux".to_owned(),
        ..doctor::Finding::default()
    };
    let missing = doctor::Finding {
        name: "tcx".to_owned(),
        loses: "nothing: a clsact filter does the same".to_owned(),
        todo: "kernel 6.6 or newer has it".to_owned(),
        ..doctor::Finding::default()
    };
    let findings = [present, missing];
    let text = doctor::table(&machine, &findings, Style::PLAIN);
    assert_eq!(
        text,
        "+ node-0, kernel 6.1.0: tier 0, 1 missing\n\n  X tcx\n      lost  nothing: a clsact filter does the same\n\
         \x20     do    kernel 6.6 or newer has it\n  + btf  /sys/kernel/btf/vmlinux\n"
    );
    let report: Value = serde_json::from_str(&doctor::json(&machine, &findings).unwrap()).unwrap();
    assert_eq!(report["capabilities"][1]["present"], json!(false));
    assert_eq!(report["tier"], json!(0));
}

/// `cargo test -p netdiag-agent show -- --ignored --nocapture`
#[test]
#[ignore = "prints for the eye"]
fn show() {
    let width = std::env::var("COLUMNS")
        .ok()
        .and_then(|width| width.parse().ok());
    let rich = Style { rich: true, width };
    for options in [
        PLAIN,
        Options {
            style: rich,
            ..PLAIN
        },
    ] {
        print!("{}\n\n", export("table", &fixtures::all(), options));
    }
    print!("{}", export("jsonl", &fixtures::all(), PLAIN));
    print!("{}", export("hubble", &fixtures::all(), PLAIN));
    println!("{}", schema::pretty().unwrap());
}
