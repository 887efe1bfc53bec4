//! Does what was said match what was expected? Collects every complaint instead of stopping at the first.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde_json::Value;

use crate::conntrack::{Entry, Translation};
use crate::scenario::{Attempt, Expect};
use crate::step::Step;

/// The last revision of each verdict, in the order of their first appearance.
pub fn last_revisions(lines: Vec<Value>) -> Vec<Value> {
    let mut order = Vec::new();
    let mut latest: BTreeMap<String, Value> = BTreeMap::new();
    for line in lines {
        let uuid = text(&line, "/uuid").to_owned();
        let revision = |value: &Value| value["revision"].as_u64().unwrap_or(0);
        match latest.get(&uuid) {
            Some(known) if revision(known) >= revision(&line) => {}
            known => {
                if known.is_none() {
                    order.push(uuid.clone());
                }
                latest.insert(uuid, line);
            }
        }
    }
    order
        .into_iter()
        .filter_map(|uuid| latest.remove(&uuid))
        .collect()
}

pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// A string as it is, anything else as JSON writes it.
fn word(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// By DESIGN §5.
pub fn is_failing(verdict: &Value) -> bool {
    !matches!(text(verdict, "/outcome"), "DELIVERED" | "UNDETERMINED")
}

/// The verdict on one conversation.
pub fn about<'a>(attempt: &Attempt, verdicts: &'a [Value]) -> Option<&'a Value> {
    verdicts
        .iter()
        .find(|verdict| is_about(verdict, &attempt.step))
}

/// Checks what was said of one conversation.
pub fn attempt(attempt: &Attempt, verdicts: &[Value]) -> Vec<String> {
    match about(attempt, verdicts) {
        Some(verdict) => against(&attempt.expect, verdict),
        None => vec!["no verdict".to_owned()],
    }
}

/// Checks all verdicts of a run against all its attempts.
pub fn verdicts(attempts: &[Attempt], verdicts: &[Value], entries: &[Entry]) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut claimed = vec![false; verdicts.len()];
    for attempt in attempts {
        let mut found = 0;
        for (verdict, claimed) in verdicts.iter().zip(&mut claimed) {
            if is_about(verdict, &attempt.step) {
                found += 1;
                *claimed = true;
                let about = |complaint| format!("{}: {complaint}", attempt.step);
                complaints.extend(against(&attempt.expect, verdict).into_iter().map(about));
                complaints.extend(translations(verdict, entries).into_iter().map(about));
            }
        }
        let due = attempt.step.flows();
        if found != due {
            complaints.push(format!(
                "{}: {found} verdicts where {due} were due",
                attempt.step
            ));
        }
    }
    for (verdict, _) in verdicts.iter().zip(claimed).filter(|(_, claimed)| !claimed) {
        if is_failing(verdict) {
            complaints.push(format!("a failing verdict nobody asked for: {verdict}"));
        }
    }
    complaints
}

/// The verdict is about this conversation, by protocol and destination as the initiator sent it.
fn is_about(verdict: &Value, step: &Step) -> bool {
    let Some(l4) = verdict
        .pointer("/l4")
        .and_then(|l4| l4.get(step.protocol()))
    else {
        return false;
    };
    let port = l4["destination_port"].as_u64();
    let source = step
        .from
        .is_none_or(|from| address(verdict, "/IP/source") == Some(from));
    let named = |port: u64| port == u64::from(step.to.port());
    source && address(verdict, "/IP/destination") == Some(step.to.ip()) && port.is_none_or(named)
}

fn address(verdict: &Value, pointer: &str) -> Option<IpAddr> {
    text(verdict, pointer).parse().ok()
}

fn against(expect: &Expect, verdict: &Value) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut one_of = |what: &str, allowed: &[&str], said: &str| {
        if !allowed.contains(&said) {
            complaints.push(format!("{what} {said:?}, expected {allowed:?}"));
        }
    };
    one_of("outcome", expect.outcomes, text(verdict, "/outcome"));
    let causes = if expect.causes.is_empty() {
        &[""]
    } else {
        expect.causes
    };
    one_of("cause", causes, text(verdict, "/cause"));
    if !expect.confidences.is_empty() {
        one_of(
            "confidence",
            expect.confidences,
            text(verdict, "/confidence"),
        );
    }
    complaints.extend(hop(expect, verdict));
    for (pointer, value) in expect.says {
        let said = verdict.pointer(pointer).map(word);
        if said.as_deref() != Some(*value) {
            complaints.push(format!("{pointer} is {said:?}, expected {value:?}"));
        }
    }
    for member in expect.present {
        let missing = match verdict.get(member) {
            Some(Value::Array(list)) => list.is_empty(),
            Some(Value::Object(map)) => map.is_empty(),
            Some(_) => false,
            None => true,
        };
        if missing {
            complaints.push(format!("{member} is missing"));
        }
    }
    complaints
}

/// The hop that is blamed, and what stands there.
fn hop(expect: &Expect, verdict: &Value) -> Vec<String> {
    if expect.hops.is_empty() {
        return Vec::new();
    }
    let hops = verdict["hops"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let matches = |hop: &&Value| {
        expect.hops.contains(&text(hop, "/name"))
            && (expect.action.is_empty() || text(hop, "/action") == expect.action)
            && hop["reply"].as_bool().unwrap_or(false) == expect.reply
    };
    let Some(found) = hops.iter().find(matches) else {
        let said: Vec<_> = hops
            .iter()
            .map(|hop| {
                let reply = if hop["reply"] == true { " (reply)" } else { "" };
                format!("{} {}{reply}", text(hop, "/name"), text(hop, "/action"))
            })
            .collect();
        let side = if expect.reply { "reply " } else { "" };
        return vec![format!(
            "no {side}hop of {:?} with action {:?} in {said:?}",
            expect.hops, expect.action
        )];
    };
    let wrong = expect
        .component
        .iter()
        .filter(|(key, value)| word(&found["component"][key]) != *value);
    wrong
        .map(|(key, value)| {
            format!(
                "component.{key} of {} is not {value:?}: {}",
                text(found, "/name"),
                found["component"]
            )
        })
        .collect()
}

/// `nat[]` must be what the node's conntrack says, for flows it still knows.
fn translations(verdict: &Value, entries: &[Entry]) -> Vec<String> {
    let Some((key, l4)) = verdict["l4"].as_object().and_then(|l4| l4.iter().next()) else {
        return vec!["no l4".to_owned()];
    };
    let protocol = match key.as_str() {
        "ICMPv4" => "icmp",
        "ICMPv6" => "icmpv6",
        "TCP" => "tcp",
        _ => "udp",
    };
    let port = |name: &str| l4[name].as_u64().unwrap_or(0) as u16;
    let source = address(verdict, "/IP/source").map(|ip| (ip, port("source_port")));
    let destination = address(verdict, "/IP/destination").map(|ip| (ip, port("destination_port")));
    let known = entries.iter().find(|entry| {
        entry.protocol == protocol
            && Some(entry.original.source) == source
            && Some(entry.original.destination) == destination
    });
    let Some(entry) = known else {
        return Vec::new();
    };
    let mut said = said_translations(verdict, protocol.starts_with("icmp"));
    let mut true_ones = entry.translations();
    said.sort();
    true_ones.sort();
    if said == true_ones {
        Vec::new()
    } else {
        vec![format!("nat[] {said:?}, conntrack {true_ones:?}")]
    }
}

fn said_translations(verdict: &Value, icmp: bool) -> Vec<Translation> {
    let end = |nat: &Value, key: &str| {
        let said = nat[key].as_str()?;
        let parsed = said.parse::<SocketAddr>().map(|end| (end.ip(), end.port()));
        let (ip, port) = parsed
            .or_else(|_| said.parse::<IpAddr>().map(|ip| (ip, 0)))
            .ok()?;
        Some((ip, if icmp { 0 } else { port }))
    };
    let list = verdict["nat"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    list.iter()
        .filter_map(|nat| {
            Some(Translation {
                kind: nat["kind"].as_str()?.to_owned(),
                before: end(nat, "before")?,
                after: end(nat, "after")?,
            })
        })
        .filter(|nat| nat.before != nat.after)
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::step::Answer;

    fn verdict() -> Value {
        json!({
            "uuid": "a", "revision": 1, "outcome": "DROPPED_HERE", "cause": "NO_ROUTE", "confidence": "PROVEN",
            "IP": {"source": "10.0.0.1", "destination": "10.0.0.2"},
            "l4": {"TCP": {"source_port": 1000, "destination_port": 80}},
            "hops": [{"name": "FIB", "action": "DROPPED"}],
            "evidence": [{"source": "x"}], "remediation": {"summary": "y"}
        })
    }

    fn attempt(expect: Expect) -> Attempt {
        Attempt::new(
            "tcp:10.0.0.2:80".parse().expect("a step"),
            &[Answer::Timeout],
            expect,
        )
    }

    fn complaints(expect: Expect, verdict: Value) -> Vec<String> {
        verdicts(&[attempt(expect)], &[verdict], &[])
    }

    #[test]
    fn the_expected_verdict_passes_and_any_other_does_not() {
        let good = Expect::dropped(&["NO_ROUTE"], &["FIB"]);
        assert_eq!(complaints(good.clone(), verdict()), Vec::<String>::new());
        for (pointer, value) in [
            ("/outcome", json!("DELIVERED")),
            ("/cause", json!("MARTIAN")),
            ("/confidence", json!("INFERRED")),
            ("/hops/0/action", json!("SEEN")),
            ("/hops/0/name", json!("NF_INPUT")),
            ("/hops/0/reply", json!(true)),
            ("/evidence", json!([])),
            ("/IP/destination", json!("10.0.0.3")),
        ] {
            let mut wrong = verdict();
            if pointer == "/hops/0/reply" {
                wrong["hops"][0]["reply"] = value;
            } else {
                *wrong.pointer_mut(pointer).expect(pointer) = value;
            }
            assert_ne!(
                complaints(good.clone(), wrong),
                Vec::<String>::new(),
                "{pointer}"
            );
        }
    }

    #[test]
    fn a_healthy_flow_must_not_name_a_cause() {
        let mut wrong = verdict();
        wrong["outcome"] = json!("DELIVERED");
        assert_eq!(complaints(Expect::delivered(), wrong).len(), 1);
    }

    #[test]
    fn the_last_revision_counts() {
        let mut later = verdict();
        later["revision"] = json!(2);
        later["outcome"] = json!("DELIVERED");
        let kept = last_revisions(vec![verdict(), later.clone()]);
        assert_eq!(kept, [later]);
    }
}
