//! How long do reading and evaluating a large ruleset take? Prints; asserts nothing.
//!
//! `cargo run --release --example ruleset_speed [RULES]` (root; makes and removes a namespace of its own).

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Instant;

use netdiag::event::{Proto, Tuple};
use netdiag::identity::{NetnsHandle, rulesets, run_in};
use netdiag::ruleset::model::Table;
use netdiag::ruleset::{CtState, Hook, Interface, PacketFacts, evaluate};

/// Services of a cluster: what makes rulesets large.
fn iptables(rules: usize) -> String {
    let services = rules / 2;
    let mut text = String::from(
        "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:KUBE-SERVICES - [0:0]\n",
    );
    let chain = |n: usize| format!("KUBE-SVC-{n:016}");
    for n in 0..services / 10 {
        let _ = writeln!(text, ":{} - [0:0]", chain(n));
    }
    text.push_str("-A FORWARD -m conntrack --ctstate NEW -j KUBE-SERVICES\n");
    for n in 0..services {
        let (ip, port) = (format!("10.96.{}.{}", n / 250, n % 250 + 1), n % 60_000 + 1);
        let comment = format!("-m comment --comment \"ns/service-{n}:http cluster IP\"");
        let _ = writeln!(
            text,
            "-A KUBE-SERVICES -d {ip}/32 -p tcp {comment} -m tcp --dport {port} -j {}",
            chain(n % (services / 10))
        );
        let _ = writeln!(
            text,
            "-A {} ! -s 10.244.0.0/16 -d {ip}/32 -p tcp -m tcp --dport {port} -j MARK --set-xmark 0x4000/0x4000",
            chain(n % (services / 10))
        );
    }
    text.push_str("-A FORWARD -d 10.99.99.99/32 -p tcp -m tcp --dport 80 -j DROP\nCOMMIT\n");
    text
}

fn nft(rules: usize) -> String {
    let mut text = String::from("table inet corpfw {\n");
    let chains = rules.div_ceil(100);
    for chain in 0..chains {
        let _ = writeln!(text, "chain c{chain} {{");
        for rule in 0..100 {
            let _ = writeln!(
                text,
                "ip saddr 10.{}.{rule}.1 tcp dport {} counter drop comment \"rule {rule}\"",
                chain % 250,
                rule + 1
            );
        }
        text.push_str("}\n");
    }
    text.push_str("chain base { type filter hook forward priority 0; policy accept;\n");
    for chain in 0..chains {
        let _ = writeln!(text, "jump c{chain}");
    }
    text.push_str("ip daddr 10.99.99.99 tcp dport 80 counter drop\n}\n}\n");
    text
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let rules = std::env::args()
        .nth(1)
        .map_or(Ok(20_000), |rules| rules.parse())?;
    let name = format!("ruleset-speed-{}", std::process::id());
    for (program, arguments, text) in [
        ("iptables-nft-restore", &[][..], iptables(rules)),
        ("iptables-legacy-restore", &[], iptables(rules)),
        ("nft", &["-f", "-"], nft(rules)),
    ] {
        ip(&["netns", "add", &name])?;
        let measured = measure(&name, program, arguments, &text);
        ip(&["netns", "del", &name])?;
        measured?;
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "it measures")]
fn measure(
    name: &str,
    program: &str,
    arguments: &[&str],
    text: &str,
) -> Result<(), Box<dyn std::error::Error>> {
    let netns = NetnsHandle::by_name(name)?;
    run_in(&netns, || feed(program, arguments, text))??;
    let facts = PacketFacts {
        iif: Interface::Named("cni0".to_owned()),
        oif: Interface::Named("eth0".to_owned()),
        ct: netdiag::ruleset::CtFacts {
            state: Some(CtState::New),
            ..Default::default()
        },
        ..PacketFacts::of(&Tuple {
            proto: Proto::TCP,
            src: SocketAddr::new([10, 244, 1, 7].into(), 40_000),
            dst: SocketAddr::new([10, 99, 99, 99].into(), 80),
        })
    };
    for _ in 0..3 {
        let start = Instant::now();
        let snapshot = rulesets::read(&netns)?;
        let read = start.elapsed();
        let start = Instant::now();
        let evaluation = evaluate(&snapshot.ruleset, Hook::Forward, &facts);
        let evaluated = start.elapsed();
        let rules: usize = snapshot.ruleset.tables.iter().map(Table::rules).sum();
        let found = evaluation.proven().map(|candidate| &candidate.text);
        println!(
            "{program}: {rules} rules read in {read:.1?}, evaluated in {evaluated:.1?}: {found:?}"
        );
    }
    Ok(())
}

fn feed(program: &str, arguments: &[&str], text: &str) -> std::io::Result<()> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(text.as_bytes())?;
    }
    child.wait().map(|_| ())
}

fn ip(arguments: &[&str]) -> std::io::Result<()> {
    Command::new("ip").args(arguments).status().map(|_| ())
}
