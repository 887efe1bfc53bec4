use std::io::Write;
use std::process::{Command, Stdio};

use super::super::testing::Lab;
use super::*;
use crate::ruleset::model::{Base, Target};
use crate::ruleset::{Hook, Tri};

/// Runs a program in a namespace; returns what it printed.
fn inside(netns: &NetnsHandle, words: &[&str], input: &str) -> String {
    run_in(netns, || {
        let mut child = Command::new(words[0])
            .args(&words[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{words:?}");
        String::from_utf8(output.stdout).unwrap()
    })
    .unwrap()
}

/// Everything there is, without the lines that hold the time of day.
fn all(netns: &NetnsHandle) -> String {
    let programs: [&[&str]; 5] = [
        &["nft", "-a", "list", "ruleset"],
        &["iptables-legacy-save", "-c"],
        &["ip6tables-legacy-save", "-c"],
        &["cat", "/proc/thread-self/net/ip_tables_names"],
        &["cat", "/proc/thread-self/net/ip6_tables_names"],
    ];
    let text: String = programs
        .iter()
        .map(|words| inside(netns, words, ""))
        .collect();
    let lines = text.lines().filter(|line| !line.starts_with("# "));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_namespace_without_rules_has_none_and_gets_none() {
    let Some(mut lab) = Lab::new() else { return };
    let netns = Lab::handle(&lab.netns("empty"));
    let snapshot = read(&netns).unwrap();
    assert_eq!(snapshot.ruleset, Ruleset::default());
    assert_eq!(snapshot.blind, []);
    assert_eq!(all(&netns), "");
}

#[test]
fn every_back_end_is_read_once_and_left_as_it_was() {
    let Some(mut lab) = Lab::new() else { return };
    let netns = Lab::handle(&lab.netns("rules"));
    let rules =
        "*filter\n:FORWARD DROP [0:0]\n-A FORWARD -p tcp -m tcp --dport 80 -j ACCEPT\nCOMMIT\n";
    for program in [
        "iptables-nft-restore",
        "ip6tables-nft-restore",
        "iptables-legacy-restore",
    ] {
        inside(&netns, &[program], rules);
    }
    let own = "table inet corpfw { chain fw { type filter hook forward priority 10; policy drop;\n\
               tcp dport 80 counter accept\n}\n}\n\
               table ip nat { chain odd { type nat hook prerouting priority -90;\n}\n}\n";
    inside(&netns, &["nft", "-f", "-"], own);
    let before = all(&netns);
    let snapshot = read(&netns).unwrap();
    assert_eq!(all(&netns), before);
    assert_eq!(snapshot.blind, []);

    let tables = &snapshot.ruleset.tables;
    let mut read: Vec<_> = tables
        .iter()
        .filter(|table| table.rules() > 0)
        .map(|table| {
            (
                table.backend,
                table.family,
                table.name.as_str(),
                table.rules(),
            )
        })
        .collect();
    read.sort_unstable();
    assert_eq!(
        read,
        [
            (Backend::Nft, Family::Inet, "corpfw", 1),
            (Backend::IptablesNft, Family::Ip, "filter", 1),
            (Backend::IptablesNft, Family::Ip6, "filter", 1),
            (Backend::Legacy, Family::Ip, "filter", 1),
        ]
    );
    // Its chain is none iptables could have made, so only nft can list this table.
    let odd = tables
        .iter()
        .find(|table| table.chain("odd").is_some())
        .unwrap();
    assert_eq!((odd.backend, odd.dormant), (Backend::Nft, Tri::No));
    let base: &Base = odd.chain("odd").unwrap().base.as_ref().unwrap();
    assert_eq!((base.hook, base.priority), (Hook::Prerouting, -90));
}

/// What a thread that may not open raw sockets sees of a namespace; nor may the programs it starts.
fn read_without_raw_sockets(netns: &NetnsHandle) -> RulesetSnapshot {
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            for set in [CapSet::Bounding, CapSet::Effective, CapSet::Permitted] {
                caps::drop(None, set, Capability::CAP_NET_RAW).unwrap();
            }
            read(netns).unwrap()
        });
        reader.join().unwrap()
    })
}

#[test]
fn what_iptables_cannot_show_is_read_as_far_as_nft_sees_it() {
    let Some(mut lab) = Lab::new() else { return };
    if run("ipset", &["version"]).is_err() {
        return eprintln!("skipped: no ipset on this machine");
    }
    let netns = Lab::handle(&lab.netns("raw"));
    inside(&netns, &["ipset", "create", "some", "hash:net"], "");
    let rules = "*filter\n:FORWARD ACCEPT [0:0]\n\
                 -A FORWARD -m set --match-set some src -j DROP\n\
                 -A FORWARD -d 10.96.0.1/32 -m comment --comment text -j REJECT\nCOMMIT\n";
    inside(&netns, &["iptables-nft-restore"], rules);
    inside(
        &netns,
        &["iptables-legacy-restore"],
        "*filter\n-A FORWARD -j ACCEPT\nCOMMIT\n",
    );
    let snapshot = read_without_raw_sockets(&netns);
    let blind: Vec<_> = snapshot.blind.iter().collect();
    assert_eq!(blind.len(), 2, "{blind:#?}");
    for what in [
        "iptables-legacy rules",
        "iptables matches in nft table ip filter",
    ] {
        let spot = blind.iter().find(|spot| spot.what == what).unwrap();
        assert!(spot.why.contains("CAP_NET_RAW"), "{spot:?}");
    }
    let [table] = snapshot.ruleset.tables.as_slice() else {
        panic!("{:#?}", snapshot.ruleset.tables)
    };
    let rules = &table.chain("FORWARD").unwrap().rules;
    assert_eq!(table.backend, Backend::Nft);
    assert_eq!(rules[1].target, Target::Reject(String::new()));
    // With them, nothing is missing.
    assert_eq!(read(&netns).unwrap().blind, []);
}

#[test]
fn a_missing_program_is_named() {
    let failure = run("netdiag-no-such-program", &[]).unwrap_err();
    assert_eq!(
        failure.to_string(),
        "the program netdiag-no-such-program is not installed"
    );
}

#[test]
fn a_program_that_fails_says_why() {
    let failure = run("ls", &["/no/such/file"]).unwrap_err().to_string();
    assert!(
        failure.starts_with("ls failed: ") && failure.contains("/no/such/file"),
        "{failure}"
    );
}

/// Every table, in nft's words and in ours.
fn in_both_words(netns: &NetnsHandle) -> (Vec<Table>, Vec<Table>) {
    let listing = inside(netns, &["nft", "-j", "list", "ruleset"], "");
    let theirs = nft::parse(&listing).unwrap();
    assert_eq!(theirs.strange, [""; 0]);
    let ours = run_in(netns, || {
        let mut contents = Contents::read().unwrap();
        let mut objects = Objects::default();
        for table in contents.tables() {
            objects.table(&mut contents, &table, &interface_names());
        }
        objects.part()
    })
    .unwrap();
    assert_eq!(ours.blind, []);
    (theirs.tables, ours.tables)
}

/// The chains of a table that nft would be asked for.
fn asked_for(netns: &NetnsHandle, name: &str) -> Vec<String> {
    run_in(netns, || {
        let mut contents = Contents::read().unwrap();
        let mut tables = contents.tables().into_iter();
        let table = tables.find(|(_, known)| known == name).unwrap();
        let messages = contents.table(&table).unwrap();
        let unknown = wire::decode(table.0, &messages, &interface_names(), &mut |_| {});
        unknown.unwrap().into_iter().collect()
    })
    .unwrap()
}

/// Masks in front of ranges, keys of several parts, ranges within them, fields read at once, other versions. What is
/// in the chain `asked` nft alone can say; in another, no rule of that one would be compared.
const MORE: &str = "table inet more {
set marks { type mark; flags interval; elements = { 0x1-0x3, 0x10 } }
set nets { type ipv4_addr . inet_service; flags interval; elements = { 10.0.0.1-10.0.0.9 . 80-90, 10.1.0.0/16 . 443 } }
set seen { type ipv4_addr; flags dynamic,timeout; size 100; }
set pairs { type ipv4_addr . inet_service; flags dynamic; size 100; }
set sixes { type ipv6_addr; flags interval; elements = { fd00::/8, ::1 } }
map ports { type inet_service : verdict; elements = { 80 comment \"web\" : drop, * : accept } }
chain c {
type filter hook forward priority -5; policy accept;
meta mark and 0x3 vmap { 0x0 : drop, 0x1-0x2 : accept }
meta mark @marks counter drop
ip saddr . tcp dport @nets drop
ip saddr 10.0.0.1 ip daddr 10.0.0.2 drop
tcp sport 1 tcp dport 2 drop
ip6 saddr @sixes ip6 hoplimit < 3 drop
ip6 nexthdr tcp drop
icmpv6 type { echo-request, nd-neighbor-solicit } accept
tcp dport vmap @ports
update @seen { ip saddr } drop
limit rate over 10 mbytes/second burst 5 kbytes drop
limit rate 1500 bytes/second burst 2 mbytes drop
limit rate 1500 bytes/second drop
limit rate 3/second accept
meta mark set meta mark or 0x4
meta mark set ct mark
iifname . oifname { \"a\" . \"b\" } drop
tcp option maxseg size 1-500 drop
tcp option maxseg size 1460 tcp option sack-perm missing drop
tcp option timestamp tsval 1 drop
tcp flags syn tcp option maxseg size set 1400
tcp flags syn tcp option maxseg size set rt mtu
numgen inc mod 2 offset 100 vmap { 100 : accept, 101 : drop }
jhash ip saddr mod 2 seed 0xdeadbeef 1 drop
jhash ip saddr . ip daddr mod 2 seed 0xdeadbeef offset 10 11 drop
jhash tcp dport mod 7 < 3 drop
symhash mod 2 offset 10 11 drop
meta mark set jhash ip saddr . tcp dport mod 4 seed 0x1
meta mark set symhash mod 2
reject with icmp admin-prohibited
reject with icmpv6 no-route
reject with icmpv6 policy-fail
reject with icmpx no-route
reject
ct state vmap { established : accept, related : accept, invalid : drop }
udp dport != { 53, 67-68 } limit rate over 10/minute burst 3 packets drop
}
chain asked {
add @seen { ip saddr limit rate over 1/minute burst 5 packets } drop
update @seen { ip saddr timeout 90s counter } drop
add @pairs { ip saddr . 80 }
update @pairs { 192.0.2.1 . tcp dport }
}
chain n {
type nat hook postrouting priority 100; policy accept;
ip saddr 10.0.0.0/8 oifname \"eth0\" masquerade
snat ip to 192.0.2.1
}
}
";

#[test]
fn the_kernels_messages_say_what_nft_prints() {
    let Some(mut lab) = Lab::new() else { return };
    let netns = Lab::handle(&lab.netns("words"));
    let rules = include_str!("../../tests/fixtures/ruleset/expressions.nft");
    inside(&netns, &["nft", "-f", "-"], rules);
    inside(&netns, &["nft", "-f", "-"], MORE);
    assert_eq!(asked_for(&netns, "more"), ["asked"]);
    let (theirs, ours) = in_both_words(&netns);
    assert_eq!(theirs.len(), ours.len());
    let mut different = Vec::new();
    for (a, b) in theirs.iter().zip(&ours) {
        assert_eq!((&a.name, &a.sets, &a.maps), (&b.name, &b.sets, &b.maps));
        assert_eq!(a.chains().len(), b.chains().len(), "{}", a.name);
        for (a, b) in a.chains().iter().zip(b.chains()) {
            assert_eq!(a.rules.len(), b.rules.len(), "{}", a.name);
            let pairs = a.rules.iter().zip(&b.rules).filter(|(a, b)| a != b);
            // That the rule is for one version only, nft leaves to the reader.
            let versions = ["ipv4", "ipv6"];
            let same = |a: &str, b: &str| {
                let mut versions = versions.iter();
                versions.any(|version| b == format!("meta nfproto {version} {a}"))
            };
            let unlike = pairs.filter(|(a, b)| !same(&a.text, &b.text));
            different.extend(unlike.map(|(a, b)| format!("{a:#?}\n{b:#?}")));
        }
    }
    assert!(
        different.is_empty(),
        "{} differ:\n{}",
        different.len(),
        different.join("\n")
    );
}
