//! What the exporters write: lines for programs, tables for people.

mod contract;

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::record::FlowVerdict;
use super::*;

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

pub(super) fn line(verdict: &Verdict) -> Value {
    serde_json::to_value(FlowVerdict::from((verdict, &fixtures::context()))).unwrap()
}

pub(super) fn validator() -> jsonschema::Validator {
    jsonschema::draft202012::new(schema::schema().as_value()).expect("the schema is one")
}

pub(super) fn assert_valid(value: &Value) {
    let faults: Vec<String> = validator()
        .iter_errors(value)
        .map(|fault| fault.to_string())
        .collect();
    assert!(faults.is_empty(), "{faults:#?}\n{value:#}");
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
fn hubble_gets_the_names() {
    let line = &lines(&export("hubble", &[fixtures::named()], PLAIN))[0];
    let flow = &line["flow"];
    assert_eq!(
        flow["destination"],
        json!({
            "namespace": "shop", "labels": ["k8s:app=db"], "pod_name": "db-0",
            "workloads": [{"kind": "Deployment", "name": "db"}]
        })
    );
    assert_eq!(
        flow["destination_service"],
        json!({"name": "db", "namespace": "shop"})
    );
    assert_eq!(flow["source"]["pod_name"], json!("api-7f9c"));
}

#[test]
fn the_table_calls_both_ends_by_name() {
    let text = export("table", &[fixtures::named()], PLAIN);
    for wanted in [
        "web/api-7f9c -> svc shop/db:5432 (10.96.0.9) -> db-0",
        "web/api-7f9c 10.244.0.2:50213 -> svc shop/db 10.96.0.9:5432 -> shop/db-0 10.244.1.7:5432",
    ] {
        assert!(text.contains(wanted), "{wanted}\n{text}");
    }
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
    let length = output.text().len();
    let recount = Verdict {
        revision: 2,
        ..fixtures::firewall_drop()
    };
    exporter.verdict(&recount, &fixtures::context()).unwrap();
    assert_eq!(output.text().len(), length, "nothing new to say");
    let recovered = Verdict {
        uuid: fixtures::delivered().uuid,
        revision: 2,
        ..fixtures::no_answer()
    };
    exporter.verdict(&recovered, &fixtures::context()).unwrap();
    assert!(output.text().contains("(revised)"));
    exporter.finish().unwrap();
    assert!(
        output.text().ends_with("X 2 of 2 flows failed\n"),
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
