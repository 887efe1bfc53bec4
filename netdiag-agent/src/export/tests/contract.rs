//! The JSON of a verdict: every line against the schema, the spelling against the contract.

use serde_json::{Value, json};

use super::super::record::FlowVerdict;
use super::super::{Context, fixtures};
use super::{assert_valid, line, validator};
use crate::verdict::{Component, RuleRef, Verdict};

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
        json!({"kind": "nft_rule", "rule": u64::MAX, "handle": "18446744073709551615"})
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
fn both_ends_are_named() {
    let line = line(&fixtures::named());
    assert_valid(&line);
    assert_eq!(
        line["source"],
        json!({
            "node_name": "node-0", "namespace": "web", "pod_name": "api-7f9c", "labels": ["app=api"],
            "workloads": [{"kind": "Deployment", "name": "api"}]
        })
    );
    assert_eq!(
        line["destination"],
        json!({
            "node_name": "node-1", "namespace": "shop", "pod_name": "db-0", "labels": ["app=db"],
            "workloads": [{"kind": "Deployment", "name": "db"}],
            "service": {"namespace": "shop", "name": "db", "port_name": "sql"}, "port_name": "postgres"
        })
    );
}
