//! Random small rulesets as text for the tools that load them.

use std::fmt::Write as _;

use netdiag::ruleset::Hook;

use crate::generate_nft::nft;
use crate::packet::v6;
use crate::rng::Rng;

/// What to load: `iptables-legacy-restore`, `iptables-nft-restore`, `nft -f`; for IPv6 those of ip6tables.
#[derive(Debug, Default)]
pub struct Case {
    pub v6: bool,
    pub legacy: Option<String>,
    pub iptables_nft: Option<String>,
    pub nft: String,
}

pub fn case(rng: &mut Rng, hook: Hook) -> Case {
    let mut case = Case {
        v6: rng.one_in(2),
        ..Case::default()
    };
    for _ in 0..rng.range(1, 2) {
        match rng.range(0, 2) {
            0 => case.legacy = Some(iptables(rng, hook)),
            1 => case.iptables_nft = Some(iptables(rng, hook)),
            _ => case.nft = nft(rng, hook),
        }
    }
    if case.v6 {
        case.legacy = case.legacy.map(|rules| in_v6(&rules));
        case.iptables_nft = case.iptables_nft.map(|rules| in_v6(&rules));
        case.nft = in_v6(&case.nft);
    }
    case
}

/// What iptables and nft call differently for IPv6; longer words first.
const WORDS: &[(&str, &str)] = &[
    ("-p icmp -m icmp", "-p ipv6-icmp -m icmp6"),
    ("--icmp-type 8", "--icmpv6-type 128"),
    ("--icmp-type 0", "--icmpv6-type 129"),
    ("--icmp-type any", "--icmpv6-type 139"),
    ("--icmp-type 13/0", "--icmpv6-type 139/0"),
    ("-p icmp", "-p ipv6-icmp"),
    ("-m ttl --ttl-", "-m hl --hl-"),
    ("icmp-admin-prohibited", "icmp6-adm-prohibited"),
    ("table ip ", "table ip6 "),
    ("ipv4_addr", "ipv6_addr"),
    ("ip saddr", "ip6 saddr"),
    ("ip daddr", "ip6 daddr"),
    ("ip ttl", "ip6 hoplimit"),
    ("ip protocol", "ip6 nexthdr"),
    ("l4proto icmp", "l4proto ipv6-icmp"),
    ("l4proto != icmp", "l4proto != ipv6-icmp"),
    ("{ echo-request, 13 }", "{ echo-request, 139 }"),
    ("icmp type", "icmpv6 type"),
];

/// The same rules for IPv6: the lab's addresses are `fd77::` and those of IPv4.
fn in_v6(text: &str) -> String {
    let mut text = WORDS
        .iter()
        .fold(text.to_owned(), |text, (v4, v6)| text.replace(v4, v6));
    let mut done = String::new();
    while let Some(at) = text.find("10.77.") {
        let end = |text: &str, allowed: fn(char) -> bool| {
            text.find(|c| !allowed(c)).unwrap_or(text.len())
        };
        let rest = text.split_off(at);
        done.push_str(&text);
        let (address, rest) = rest.split_at(end(&rest, |c| c.is_ascii_digit() || c == '.'));
        let _ = write!(done, "{}", v6(address.parse().unwrap()));
        text = match rest.strip_prefix('/') {
            Some(rest) => {
                let (length, rest) = rest.split_at(end(rest, |c| c.is_ascii_digit()));
                let length: u32 = length.parse().unwrap();
                let _ = write!(done, "/{}", 96 + length);
                rest.to_owned()
            }
            None => rest.to_owned(),
        };
    }
    done + &text
}

const TABLES: [(&str, &[Hook]); 3] = [
    ("raw", &[Hook::Prerouting, Hook::Output]),
    (
        "mangle",
        &[
            Hook::Prerouting,
            Hook::Input,
            Hook::Forward,
            Hook::Output,
            Hook::Postrouting,
        ],
    ),
    ("filter", &[Hook::Input, Hook::Forward, Hook::Output]),
];

/// All chains of all tables, so that nothing of the case before is left: restoring an empty table keeps its policies.
pub fn empty_iptables() -> String {
    TABLES.iter().fold(String::new(), |text, (table, hooks)| {
        text + &format!(
            "*{table}\n{}COMMIT\n",
            policies(hooks.iter().copied(), |_| "ACCEPT")
        )
    })
}

fn policies(hooks: impl Iterator<Item = Hook>, policy: impl Fn(Hook) -> &'static str) -> String {
    hooks.fold(String::new(), |text, hook| {
        text + &format!(
            ":{} {} [0:0]\n",
            hook.name().to_ascii_uppercase(),
            policy(hook)
        )
    })
}

fn iptables(rng: &mut Rng, hook: Hook) -> String {
    let mut text = String::new();
    for (table, hooks) in TABLES {
        let policy = if rng.one_in(4) { "DROP" } else { "ACCEPT" };
        let used = hooks.contains(&hook) && (table != "raw" || rng.one_in(3));
        let of = |other| {
            if other == hook && used {
                policy
            } else {
                "ACCEPT"
            }
        };
        let _ = write!(text, "*{table}\n{}", policies(hooks.iter().copied(), of));
        if used {
            text.push_str(":U0 - [0:0]\n:U1 - [0:0]\n");
            iptables_rules(rng, hook, table, "U1", &[], &mut text);
            iptables_rules(rng, hook, table, "U0", &["U1"], &mut text);
            iptables_rules(
                rng,
                hook,
                table,
                &hook.name().to_ascii_uppercase(),
                &["U0", "U1"],
                &mut text,
            );
        }
        text.push_str("COMMIT\n");
    }
    text
}

fn iptables_rules(
    rng: &mut Rng,
    hook: Hook,
    table: &str,
    chain: &str,
    callees: &[&str],
    text: &mut String,
) {
    for number in 0..rng.range(0, 4) {
        let _ = write!(text, "-A {chain}");
        let matches = iptables_matches(rng, hook);
        let _ = write!(
            text,
            "{matches} -m comment --comment \"rule {number} of {chain}\""
        );
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
        let _ = write!(
            text,
            "{} -s 10.77.1.{}/{}",
            not(rng),
            rng.range(1, 5),
            rng.range(28, 32)
        );
    }
    if rng.one_in(3) {
        let _ = write!(
            text,
            "{} -d 10.77.{}.{}/{}",
            not(rng),
            rng.range(1, 2),
            rng.range(1, 5),
            rng.range(22, 32)
        );
    }
    if !matches!(hook, Hook::Output | Hook::Postrouting) && rng.one_in(5) {
        let _ = write!(
            text,
            "{} -i {}",
            not(rng),
            rng.pick(&["vpod", "vout", "v+", "lo"])
        );
    }
    if !matches!(hook, Hook::Prerouting | Hook::Input) && rng.one_in(5) {
        let _ = write!(
            text,
            "{} -o {}",
            not(rng),
            rng.pick(&["vpod", "vout", "v+"])
        );
    }
    protocol_match(rng, &mut text);
    if rng.one_in(4) {
        let states = *rng.pick(&[
            "NEW",
            "ESTABLISHED",
            "RELATED,ESTABLISHED",
            "INVALID",
            "NEW,UNTRACKED",
            "DNAT",
        ]);
        let _ = write!(text, " -m conntrack{} --ctstate {states}", not(rng));
    }
    if rng.one_in(4) {
        let _ = write!(
            text,
            " -m mark{} --mark {}",
            not(rng),
            rng.pick(&["0x0/0x1", "0x1/0x1", "0x3", "0x2/0x6"])
        );
    }
    rare_matches(rng, &mut text);
    text
}

fn protocol_match(rng: &mut Rng, text: &mut String) {
    match rng.range(0, 7) {
        0 => {
            let (proto, low) = (*rng.pick(&["udp", "tcp"]), rng.range(1000, 1004));
            let _ = write!(
                text,
                " -p {proto} -m {proto}{} --dport {low}:{}",
                not(rng),
                low + rng.range(0, 2)
            );
        }
        1 => {
            let _ = write!(
                text,
                " -p udp -m multiport{} --dports 1000,1002:1003",
                not(rng)
            );
        }
        2 => {
            let flags = *rng.pick(&[
                "SYN,ACK SYN",
                "SYN SYN",
                "FIN,SYN,RST,ACK SYN",
                "ALL NONE",
                "ACK ACK",
            ]);
            let _ = write!(text, " -p tcp -m tcp{} --tcp-flags {flags}", not(rng));
        }
        3 => {
            let _ = write!(
                text,
                " -p icmp -m icmp{} --icmp-type {}",
                not(rng),
                rng.pick(&["8", "0", "any", "13/0"])
            );
        }
        4 => {
            let _ = write!(
                text,
                "{} -p {}",
                not(rng),
                rng.pick(&["udp", "tcp", "icmp"])
            );
        }
        _ => {}
    }
}

fn rare_matches(rng: &mut Rng, text: &mut String) {
    if rng.one_in(8) {
        let _ = write!(
            text,
            " -m addrtype{} --dst-type {}",
            not(rng),
            rng.pick(&["LOCAL", "UNICAST", "MULTICAST"])
        );
    }
    if rng.one_in(8) {
        let low = rng.range(28, 60);
        let _ = write!(
            text,
            " -m length{} --length {low}:{}",
            not(rng),
            low + rng.range(0, 20)
        );
    }
    if rng.one_in(8) {
        let _ = write!(
            text,
            " -m ttl --ttl-{} {}",
            rng.pick(&["eq", "lt", "gt"]),
            rng.range(62, 65)
        );
    }
    if rng.one_in(8) {
        let _ = write!(
            text,
            " -m iprange{} --src-range 10.77.1.3-10.77.1.4",
            not(rng)
        );
    }
    if rng.one_in(40) {
        text.push_str(" -m statistic --mode random --probability 0.5");
    }
}

fn iptables_target(rng: &mut Rng, table: &str, callees: &[&str], matches: &str) -> String {
    match rng.range(0, 9) {
        0 | 1 => " -j DROP".to_owned(),
        2 => " -j ACCEPT".to_owned(),
        3 => " -j RETURN".to_owned(),
        4 | 5 if !callees.is_empty() => format!(" -j {}", rng.pick(callees)),
        6 if !callees.is_empty() => format!(" -g {}", rng.pick(callees)),
        7 => format!(
            " -j MARK --set-xmark {}",
            rng.pick(&["0x1/0x1", "0x3/0xffffffff", "0x0/0x1", "0x2/0x0"])
        ),
        8 if table == "filter" && matches.contains(" -p tcp -m tcp") => {
            " -j REJECT --reject-with tcp-reset".to_owned()
        }
        8 if table == "filter" => " -j REJECT --reject-with icmp-admin-prohibited".to_owned(),
        9 => " -j CONNMARK --save-mark".to_owned(),
        _ => String::new(),
    }
}
