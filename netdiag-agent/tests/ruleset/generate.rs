//! Random small rulesets as text for the tools that load them.

use std::fmt::Write as _;

use netdiag::ruleset::Hook;

use crate::rng::Rng;

/// What to load: `iptables-legacy-restore`, `iptables-nft-restore`, `nft -f`.
#[derive(Debug, Default)]
pub struct Case {
    pub legacy: Option<String>,
    pub iptables_nft: Option<String>,
    pub nft: String,
}

pub fn case(rng: &mut Rng, hook: Hook) -> Case {
    let mut case = Case::default();
    for _ in 0..rng.range(1, 2) {
        match rng.range(0, 2) {
            0 => case.legacy = Some(iptables(rng, hook)),
            1 => case.iptables_nft = Some(iptables(rng, hook)),
            _ => case.nft = nft(rng, hook),
        }
    }
    case
}

const TABLES: [(&str, &[Hook]); 3] = [
    ("raw", &[Hook::Prerouting, Hook::Output]),
    ("mangle", &[Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output, Hook::Postrouting]),
    ("filter", &[Hook::Input, Hook::Forward, Hook::Output]),
];

/// All chains of all tables, so that nothing of the case before is left: restoring an empty table keeps its policies.
pub fn empty_iptables() -> String {
    TABLES.iter().fold(String::new(), |text, (table, hooks)| {
        text + &format!("*{table}\n{}COMMIT\n", policies(hooks.iter().copied(), |_| "ACCEPT"))
    })
}

fn policies(hooks: impl Iterator<Item = Hook>, policy: impl Fn(Hook) -> &'static str) -> String {
    hooks.fold(String::new(), |text, hook| {
        text + &format!(":{} {} [0:0]\n", hook.name().to_ascii_uppercase(), policy(hook))
    })
}

fn iptables(rng: &mut Rng, hook: Hook) -> String {
    let mut text = String::new();
    for (table, hooks) in TABLES {
        let policy = if rng.one_in(4) { "DROP" } else { "ACCEPT" };
        let used = hooks.contains(&hook) && (table != "raw" || rng.one_in(3));
        let of = |other| if other == hook && used { policy } else { "ACCEPT" };
        let _ = write!(text, "*{table}\n{}", policies(hooks.iter().copied(), of));
        if used {
            text.push_str(":U0 - [0:0]\n:U1 - [0:0]\n");
            iptables_rules(rng, hook, table, "U1", &[], &mut text);
            iptables_rules(rng, hook, table, "U0", &["U1"], &mut text);
            iptables_rules(rng, hook, table, &hook.name().to_ascii_uppercase(), &["U0", "U1"], &mut text);
        }
        text.push_str("COMMIT\n");
    }
    text
}

fn iptables_rules(rng: &mut Rng, hook: Hook, table: &str, chain: &str, callees: &[&str], text: &mut String) {
    for number in 0..rng.range(0, 4) {
        let _ = write!(text, "-A {chain}");
        let matches = iptables_matches(rng, hook);
        let _ = write!(text, "{matches} -m comment --comment \"rule {number} of {chain}\"");
        let target = iptables_target(rng, table, callees, &matches);
        let _ = writeln!(text, "{target}");
    }
}

fn not(rng: &mut Rng) -> &'static str {
    if rng.one_in(4) { " !" } else { "" }
}

fn iptables_matches(rng: &mut Rng, hook: Hook) -> String {
    let mut text = String::new();
    if rng.one_in(3) {
        let _ = write!(text, "{} -s 10.77.1.{}/{}", not(rng), rng.range(1, 5), rng.range(28, 32));
    }
    if rng.one_in(3) {
        let _ = write!(text, "{} -d 10.77.{}.{}/{}", not(rng), rng.range(1, 2), rng.range(1, 5), rng.range(22, 32));
    }
    if !matches!(hook, Hook::Output | Hook::Postrouting) && rng.one_in(5) {
        let _ = write!(text, "{} -i {}", not(rng), rng.pick(&["vpod", "vout", "v+", "lo"]));
    }
    if !matches!(hook, Hook::Prerouting | Hook::Input) && rng.one_in(5) {
        let _ = write!(text, "{} -o {}", not(rng), rng.pick(&["vpod", "vout", "v+"]));
    }
    match rng.range(0, 7) {
        0 => {
            let (proto, low) = (*rng.pick(&["udp", "tcp"]), rng.range(1000, 1004));
            let _ = write!(text, " -p {proto} -m {proto}{} --dport {low}:{}", not(rng), low + rng.range(0, 2));
        }
        1 => {
            let _ = write!(text, " -p udp -m multiport{} --dports 1000,1002:1003", not(rng));
        }
        2 => {
            let flags = *rng.pick(&["SYN,ACK SYN", "SYN SYN", "FIN,SYN,RST,ACK SYN", "ALL NONE", "ACK ACK"]);
            let _ = write!(text, " -p tcp -m tcp{} --tcp-flags {flags}", not(rng));
        }
        3 => {
            let _ = write!(text, " -p icmp -m icmp{} --icmp-type {}", not(rng), rng.pick(&["8", "0", "any", "13/0"]));
        }
        4 => {
            let _ = write!(text, "{} -p {}", not(rng), rng.pick(&["udp", "tcp", "icmp"]));
        }
        _ => {}
    }
    if rng.one_in(4) {
        let states = *rng.pick(&["NEW", "ESTABLISHED", "RELATED,ESTABLISHED", "INVALID", "NEW,UNTRACKED", "DNAT"]);
        let _ = write!(text, " -m conntrack{} --ctstate {states}", not(rng));
    }
    if rng.one_in(4) {
        let _ = write!(text, " -m mark{} --mark {}", not(rng), rng.pick(&["0x0/0x1", "0x1/0x1", "0x3", "0x2/0x6"]));
    }
    if rng.one_in(8) {
        let _ = write!(text, " -m addrtype{} --dst-type {}", not(rng), rng.pick(&["LOCAL", "UNICAST", "MULTICAST"]));
    }
    if rng.one_in(8) {
        let low = rng.range(28, 60);
        let _ = write!(text, " -m length{} --length {low}:{}", not(rng), low + rng.range(0, 20));
    }
    if rng.one_in(8) {
        let _ = write!(text, " -m ttl --ttl-{} {}", rng.pick(&["eq", "lt", "gt"]), rng.range(62, 65));
    }
    if rng.one_in(8) {
        let _ = write!(text, " -m iprange{} --src-range 10.77.1.3-10.77.1.4", not(rng));
    }
    if rng.one_in(40) {
        text.push_str(" -m statistic --mode random --probability 0.5");
    }
    text
}

fn iptables_target(rng: &mut Rng, table: &str, callees: &[&str], matches: &str) -> String {
    match rng.range(0, 9) {
        0 | 1 => " -j DROP".to_owned(),
        2 => " -j ACCEPT".to_owned(),
        3 => " -j RETURN".to_owned(),
        4 | 5 if !callees.is_empty() => format!(" -j {}", rng.pick(callees)),
        6 if !callees.is_empty() => format!(" -g {}", rng.pick(callees)),
        7 => format!(" -j MARK --set-xmark {}", rng.pick(&["0x1/0x1", "0x3/0xffffffff", "0x0/0x1", "0x2/0x0"])),
        8 if table == "filter" && matches.contains(" -p tcp -m tcp") => " -j REJECT --reject-with tcp-reset".to_owned(),
        8 if table == "filter" => " -j REJECT --reject-with icmp-admin-prohibited".to_owned(),
        9 => " -j CONNMARK --save-mark".to_owned(),
        _ => String::new(),
    }
}

fn nft(rng: &mut Rng, hook: Hook) -> String {
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
        1 => format!("ip daddr {ne}10.77.{}.0/{}", rng.range(1, 2), rng.range(22, 26)),
        2 => format!("ip saddr {ne}@nets"),
        3 => format!("ip daddr {ne}@nets"),
        4 => format!("ip saddr {ne}10.77.1.3-10.77.1.4"),
        5 => {
            let states = ["new", "established,related", "invalid", "!= new", "{ new, established }"];
            format!("ct state {}", rng.pick(&states))
        }
        6 => format!("meta mark {}", rng.pick(&["1", "!= 0", "and 0x1 == 0x1", "and 0x6 != 0x2", "1-2"])),
        7 => {
            let names = ["\"vpod\"", "\"vout\"", "\"v*\"", "\"lo\""];
            format!("{} {ne}{}", rng.pick(&["iifname", "oifname"]), rng.pick(&names))
        }
        // Not `<` beside a `>`: nft 1.0.6 lists `meta length < 29 meta mark > 1` as `meta mark != 29-1`.
        8 => format!("meta length {ne}{}-{}", rng.range(28, 50), rng.range(51, 80)),
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
        5 => format!("meta l4proto {ne}{}", rng.pick(&["tcp", "udp", "icmp", "{ tcp, udp }"])),
        6 => format!("tcp flags {}", rng.pick(&["syn", "== syn", "& (syn|ack) == syn", "!= syn"])),
        7 => format!("icmp type {ne}{}", rng.pick(&["echo-request", "echo-reply", "{ echo-request, 13 }"])),
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
        7 => (*rng.pick(&["meta mark set 0x1", "meta mark set meta mark or 0x2", "meta mark set meta mark and 0xfffffffe", "meta mark set meta mark xor 0x3"])).to_owned(),
        8 if matches!(hook, Hook::Input | Hook::Forward | Hook::Output) => "reject with icmp type admin-prohibited".to_owned(),
        9 => "ct state vmap { established : accept, invalid : drop }".to_owned(),
        10 => "meta mark and 0x3 vmap { 0x1 : drop, 0x2-0x3 : accept }".to_owned(),
        _ => String::new(),
    }
}
