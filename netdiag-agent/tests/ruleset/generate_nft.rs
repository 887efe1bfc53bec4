//! Random small rulesets in nft's language.

use std::fmt::Write as _;

use netdiag::ruleset::Hook;

use crate::rng::Rng;

/// One or two tables.
pub fn nft(rng: &mut Rng, hook: Hook) -> String {
    let mut text = String::new();
    for number in 0..rng.range(1, 2) {
        let family = *rng.pick(&["inet", "ip"]);
        let priority = *rng.pick(&["-300", "-150", "-10", "0", "10", "200"]);
        let policy = if rng.one_in(4) { "drop" } else { "accept" };
        let _ = writeln!(
            text,
            "table {family} t{number} {{\n\
             set nets {{ type ipv4_addr; flags interval; elements = {{ 10.77.1.2-10.77.1.3, 10.77.2.4/31 }} }}\n\
             set pairs {{ type ipv4_addr . inet_proto . inet_service; elements = {{ 10.77.2.2 . udp . 1000, 10.77.2.3 . tcp . 1001 }} }}\n\
             set ports {{ type inet_service; elements = {{ 1000, 1003 }} }}\n\
             chain u1 {{"
        );
        nft_rules(rng, hook, &[], &mut text);
        text.push_str("}\nchain u0 {\n");
        nft_rules(rng, hook, &["u1"], &mut text);
        let _ = writeln!(
            text,
            "}}\nmap verdicts {{ type inet_service : verdict; elements = {{ 1000 : drop, 1001 : jump u1, 1002 : goto u0, 1003 : accept }} }}\n\
             chain base {{ type filter hook {} priority {priority}; policy {policy};",
            hook.name()
        );
        nft_rules(rng, hook, &["u0", "u1"], &mut text);
        if rng.one_in(3) {
            text.push_str("udp dport vmap @verdicts\n");
        }
        nft_rules(rng, hook, &["u0", "u1"], &mut text);
        text.push_str("}\n}\n");
    }
    text
}

fn nft_rules(rng: &mut Rng, hook: Hook, callees: &[&str], text: &mut String) {
    for _ in 0..rng.range(0, 4) {
        for _ in 0..rng.range(0, 2) {
            text.push_str(&nft_match(rng));
            text.push(' ');
        }
        // nft refuses rules that ask for two protocols.
        if rng.one_in(2) {
            text.push_str(&nft_protocol_match(rng));
            text.push(' ');
        }
        if rng.one_in(30) {
            text.push_str("numgen random mod 2 0 ");
        }
        text.push_str("counter ");
        let _ = writeln!(text, "{}", nft_target(rng, hook, callees));
    }
}

fn nft_match(rng: &mut Rng) -> String {
    let ne = if rng.one_in(3) { "!= " } else { "" };
    match rng.range(0, 10) {
        0 => format!("ip saddr {ne}10.77.1.{}", rng.range(2, 5)),
        1 => format!(
            "ip daddr {ne}10.77.{}.0/{}",
            rng.range(1, 2),
            rng.range(22, 26)
        ),
        2 => format!("ip saddr {ne}@nets"),
        3 => format!("ip daddr {ne}@nets"),
        4 => format!("ip saddr {ne}10.77.1.3-10.77.1.4"),
        5 => {
            let states = [
                "new",
                "established,related",
                "invalid",
                "!= new",
                "{ new, established }",
            ];
            format!("ct state {}", rng.pick(&states))
        }
        6 => format!(
            "meta mark {}",
            rng.pick(&["1", "!= 0", "and 0x1 == 0x1", "and 0x6 != 0x2", "1-2"])
        ),
        7 => {
            let names = ["\"vpod\"", "\"vout\"", "\"v*\"", "\"lo\""];
            format!(
                "{} {ne}{}",
                rng.pick(&["iifname", "oifname"]),
                rng.pick(&names)
            )
        }
        // Not `<` beside a `>`: nft 1.0.6 lists `meta length < 29 meta mark > 1` as `meta mark != 29-1`.
        8 => format!(
            "meta length {ne}{}-{}",
            rng.range(28, 50),
            rng.range(51, 80)
        ),
        9 => format!("fib daddr type {ne}{}", rng.pick(&["local", "unicast"])),
        _ => format!("ip ttl {}", rng.pick(&["== 64", "!= 64", "1-63"])),
    }
}

fn nft_protocol_match(rng: &mut Rng) -> String {
    let ne = if rng.one_in(3) { "!= " } else { "" };
    let proto = *rng.pick(&["udp", "tcp"]);
    match rng.range(0, 8) {
        0 => format!("ip daddr . ip protocol . th dport {ne}@pairs"),
        1 => format!("{proto} dport {ne}{}", rng.range(1000, 1004)),
        2 => format!("{proto} dport {ne}{{ 1000, 1002-1003 }}"),
        3 => format!("{proto} dport {} 1002", rng.pick(&["<", ">", "<=", ">="])),
        4 => format!("th dport {ne}@ports"),
        5 => format!(
            "meta l4proto {ne}{}",
            rng.pick(&["tcp", "udp", "icmp", "{ tcp, udp }"])
        ),
        6 => format!(
            "tcp flags {}",
            rng.pick(&["syn", "== syn", "& (syn|ack) == syn", "!= syn"])
        ),
        7 => format!(
            "icmp type {ne}{}",
            rng.pick(&["echo-request", "echo-reply", "{ echo-request, 13 }"])
        ),
        _ => format!("ip protocol {ne}{proto}"),
    }
}

fn nft_target(rng: &mut Rng, hook: Hook, callees: &[&str]) -> String {
    match rng.range(0, 10) {
        0 | 1 => "drop".to_owned(),
        2 => "accept".to_owned(),
        3 => "return".to_owned(),
        4 | 5 if !callees.is_empty() => format!("jump {}", rng.pick(callees)),
        6 if !callees.is_empty() => format!("goto {}", rng.pick(callees)),
        7 => (*rng.pick(&[
            "meta mark set 0x1",
            "meta mark set meta mark or 0x2",
            "meta mark set meta mark and 0xfffffffe",
            "meta mark set meta mark xor 0x3",
        ]))
        .to_owned(),
        8 if matches!(hook, Hook::Input | Hook::Forward | Hook::Output) => {
            "reject with icmp type admin-prohibited".to_owned()
        }
        9 => "ct state vmap { established : accept, invalid : drop }".to_owned(),
        10 => "meta mark and 0x3 vmap { 0x1 : drop, 0x2-0x3 : accept }".to_owned(),
        _ => String::new(),
    }
}
