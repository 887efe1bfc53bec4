//! Expressions that say what becomes of a packet, each as the statement nft prints for it.

use serde_json::{Value, json};

use super::attr::Attributes;
use super::field::{Protocols, VERSION_6};

/// `enum nft_verdict_attributes`
const CODE: u16 = 1;
const CHAIN: u16 = 2;

/// `NF_*` and `enum nft_verdicts`
pub fn verdict(verdict: Attributes<'_>) -> Option<Value> {
    let to = || verdict.text(CHAIN).map(|chain| json!({ "target": chain }));
    Some(match verdict.u32(CODE)? as i32 {
        0 => json!({ "drop": null }),
        1 => json!({ "accept": null }),
        -1 => json!({ "continue": null }),
        -3 => json!({ "jump": to()? }),
        -4 => json!({ "goto": to()? }),
        -5 => json!({ "return": null }),
        _ => return None,
    })
}

/// Statements that need no register; `None` for any other.
pub fn plain(name: &str, body: Attributes<'_>, known: Protocols) -> Option<Value> {
    Some(match name {
        "counter" => {
            json!({"counter": {"packets": body.number(2)?, "bytes": body.number(1)?}})
        }
        "log" => log(body),
        "limit" => limit(body)?,
        "reject" => reject(body, known)?,
        "notrack" => json!({ "notrack": null }),
        "connlimit" => {
            let mut count = json!({"val": body.u32(1)?});
            if body.u32(2)? & 1 != 0 {
                count["inv"] = json!(true);
            }
            json!({ "ct count": count })
        }
        "flow_offload" => {
            json!({"flow": {"op": "add", "flowtable": format!("@{}", body.text(1)?)}})
        }
        "last" => json!({ "last": null }),
        // A named counter; other objects are the program's to print.
        "objref" if body.u32(1) == Some(1) => json!({"counter": body.text(2)?}),
        "match" | "target" => json!({"xt": {"type": name, "name": body.text(1)?}}),
        "queue" => queue(body),
        _ => return None,
    })
}

fn queue(body: Attributes<'_>) -> Value {
    match body.number(1) {
        Some(number) => json!({"queue": {"num": number}}),
        None => json!({ "queue": null }),
    }
}

fn log(body: Attributes<'_>) -> Value {
    let mut log = json!({});
    if let Some(prefix) = body.text(2) {
        log["prefix"] = json!(prefix);
    }
    if let Some(group) = body.u32(1) {
        log["group"] = json!(group);
    }
    json!({ "log": log })
}

fn limit(body: Attributes<'_>) -> Option<Value> {
    let per = match body.number(2)? {
        1 => "second",
        60 => "minute",
        3_600 => "hour",
        86_400 => "day",
        604_800 => "week",
        _ => return None,
    };
    let (rate, burst) = (body.number(1)?, body.number(3).unwrap_or(0));
    let mut limit = if body.u32(4) == Some(1) {
        let ((rate, rate_unit), (burst, burst_unit)) = (in_bytes(rate), in_bytes(burst));
        json!({"rate": rate, "rate_unit": rate_unit, "burst": burst, "burst_unit": burst_unit, "per": per})
    } else {
        json!({"rate": rate, "burst": burst, "per": per})
    };
    if body.u32(5).unwrap_or(0) & 1 != 0 {
        limit["inv"] = json!(true);
    }
    Some(json!({ "limit": limit }))
}

/// In the largest unit of which it is a whole number, as nft has it.
fn in_bytes(bytes: u64) -> (u64, &'static str) {
    const UNITS: [(u64, &str); 2] = [(1 << 20, "mbytes"), (1 << 10, "kbytes")];
    let whole = |(size, _): &(u64, &str)| bytes > 0 && bytes.is_multiple_of(*size);
    match UNITS.into_iter().find(whole) {
        Some((size, unit)) => (bytes / size, unit),
        None => (bytes, "bytes"),
    }
}

/// Types and codes of `nft_reject_types`; ICMP codes are numbered by their own RFC.
fn reject(body: Attributes<'_>, known: Protocols) -> Option<Value> {
    const ICMP: &[(u32, &str)] = &[
        (0, "net-unreachable"),
        (1, "host-unreachable"),
        (2, "prot-unreachable"),
        (3, "port-unreachable"),
        (9, "net-prohibited"),
        (10, "host-prohibited"),
        (13, "admin-prohibited"),
    ];
    const ICMP6: &[(u32, &str)] = &[
        (0, "no-route"),
        (1, "admin-prohibited"),
        (3, "addr-unreachable"),
        (4, "port-unreachable"),
        (5, "policy-fail"),
        (6, "reject-route"),
    ];
    const ICMPX: &[(u32, &str)] = &[
        (0, "no-route"),
        (1, "port-unreachable"),
        (2, "host-unreachable"),
        (3, "admin-prohibited"),
    ];
    let code = body.u32(2).unwrap_or(0);
    let name = |codes: &[(u32, &str)]| {
        codes
            .iter()
            .find(|(known, _)| *known == code)
            .map_or_else(|| json!(code), |(_, name)| json!(name))
    };
    Some(match body.u32(1)? {
        // The one type for both versions, each with its own codes.
        0 if known.network == Some(VERSION_6) => {
            json!({"reject": {"type": "icmpv6", "expr": name(ICMP6)}})
        }
        0 => json!({"reject": {"type": "icmp", "expr": name(ICMP)}}),
        1 => json!({"reject": {"type": "tcp reset"}}),
        2 => json!({"reject": {"type": "icmpx", "expr": name(ICMPX)}}),
        _ => return None,
    })
}
