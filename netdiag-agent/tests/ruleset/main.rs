//! The evaluator against the kernel: random rulesets loaded for real, random packets sent through them.
//!
//! What the evaluator calls certain must have happened, and what the kernel dropped must be among its candidates, with
//! the counters of the rules it names having moved by exactly that much. `NETDIAG_SEED` repeats a run, `NETDIAG_CASES`
//! sets its length.

mod generate;
mod generate_nft;
mod lab;
mod packet;
mod rng;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use lab::{From, Lab};
use netdiag::identity::rulesets;
use netdiag::ruleset::{Candidate, Hook, RuleRef, Ruleset, evaluate, narrow};
use packet::Packet;
use rng::Rng;

const HOOKS: [Hook; 5] = [
    Hook::Prerouting,
    Hook::Input,
    Hook::Forward,
    Hook::Output,
    Hook::Postrouting,
];
const PACKETS: u16 = 24;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[expect(
    clippy::disallowed_methods,
    reason = "only the seed comes from the clock, and it is printed"
)]
#[test]
fn the_kernel_agrees() {
    let Some(lab) = Lab::new() else { return };
    let clock = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let seed = setting("NETDIAG_SEED").unwrap_or(clock.as_nanos() as u64);
    let cases = setting("NETDIAG_CASES").unwrap_or(200);
    println!("NETDIAG_SEED={seed} NETDIAG_CASES={cases}");
    let mut rng = Rng::new(seed);
    let mut port = 10_000;
    let mut tally = Tally::default();
    for number in 0..cases {
        let hook = *rng.pick(&HOOKS);
        let context = format!("NETDIAG_SEED={seed}, case {number}, hook {}", hook.name());
        check(&lab, &mut rng, hook, &mut port, &mut tally, &context);
    }
    println!("{tally:?}");
    assert!(
        tally.dropped > cases / 4,
        "hardly anything was dropped: the test shows nothing"
    );
    assert!(
        tally.v6 > 0 && tally.v6 < tally.packets,
        "one version is missing: {tally:?}"
    );
    assert!(
        tally.undecided * 4 < tally.packets,
        "too much is left undecided: {tally:?}"
    );
}

#[derive(Debug, Default)]
struct Tally {
    packets: u64,
    /// Of these.
    v6: u64,
    dropped: u64,
    undecided: u64,
}

fn check(lab: &Lab, rng: &mut Rng, hook: Hook, port: &mut u16, tally: &mut Tally, context: &str) {
    let case = generate::case(rng, hook);
    let context = format!("{context}\n{case:#?}").replace("\\n", "\n");
    let empty = generate::empty_iptables();
    lab.feed(
        "nft",
        &["-f", "-"],
        &format!("flush ruleset\n{}{}", lab::KEEP, case.nft),
    );
    let programs = ["iptables", "ip6tables"];
    for (program, v6) in programs.iter().zip([false, true]) {
        let own = case.legacy.as_ref().filter(|_| case.v6 == v6);
        lab.feed(
            &format!("{program}-legacy-restore"),
            &[],
            own.unwrap_or(&empty),
        );
    }
    if let Some(rules) = &case.iptables_nft {
        let program = programs[usize::from(case.v6)];
        lab.feed(&format!("{program}-nft-restore"), &[], rules);
    }
    lab.arrived();
    let before = rulesets::read(&lab.node).unwrap();
    assert_eq!(before.blind, [], "{context}");

    let from = if hook == Hook::Output {
        From::Node
    } else {
        From::Pod
    };
    let packets: Vec<_> = (1..=PACKETS)
        .map(|id| {
            *port = if *port == u16::MAX { 10_000 } else { *port + 1 };
            let mark = if from == From::Node {
                rng.range(0, 3) as u32
            } else {
                0
            };
            (Packet::random(rng, case.v6, hook, id, *port), mark)
        })
        .collect();
    for (packet, mark) in &packets {
        lab.send(from, packet, *mark);
    }
    let verdicts: Vec<_> = packets
        .iter()
        .map(|(packet, mark)| {
            evaluate(&before.ruleset, hook, &packet.facts(hook, *mark)).candidates
        })
        .collect();
    let due = verdicts
        .iter()
        .filter(|candidates| candidates.is_empty())
        .count();
    let arrived = collect(lab, due);
    let after = rulesets::read(&lab.node).unwrap();
    for ((packet, _), candidates) in packets.iter().zip(&verdicts) {
        let passed = arrived.contains(&packet.id);
        let certain = candidates.first().is_some_and(|first| first.certain);
        let story = || {
            format!("{context}\npacket {packet:?}\narrived: {passed}\ncandidates {candidates:#?}")
        };
        assert!(
            !(passed && certain),
            "dropped for certain, but it arrived\n{}",
            story()
        );
        assert!(
            passed || !candidates.is_empty(),
            "nothing drops it, but it did not arrive\n{}",
            story()
        );
        tally.packets += 1;
        tally.v6 += u64::from(packet.v6);
        tally.dropped += u64::from(!passed);
        tally.undecided += u64::from(!candidates.is_empty() && !is_proven(candidates));
        if !passed {
            let left = narrow(candidates, &before.ruleset, &after.ruleset, 1);
            assert!(!left.is_empty(), "no counter moved\n{}", story());
        }
    }
    compare_counters(lab, &before.ruleset, &verdicts, &context);
}

fn is_proven(candidates: &[Candidate]) -> bool {
    matches!(candidates, [only] if only.certain)
}

/// Every rule that was found to drop for certain has counted those packets, and no other certain ones.
fn compare_counters(lab: &Lab, before: &Ruleset, verdicts: &[Vec<Candidate>], context: &str) {
    let mut expected: HashMap<Key, u64> = HashMap::new();
    for candidates in verdicts.iter().filter(|candidates| is_proven(candidates)) {
        *expected.entry(key(&candidates[0])).or_default() += 1;
    }
    // A rule that may also have dropped others has counted at least so much.
    let unproven = verdicts.iter().filter(|candidates| !is_proven(candidates));
    let loose: HashSet<_> = unproven.flatten().map(key).collect();
    let mut wrong = String::new();
    // The last packets may still wait in the receiving end's backlog.
    for _ in 0..50 {
        let after = rulesets::read(&lab.node).unwrap().ruleset;
        wrong.clear();
        for (key, count) in &expected {
            let Some(candidate) = find(verdicts, key) else {
                continue;
            };
            let (Some(new), Some(old)) =
                (packets_of(candidate, &after), packets_of(candidate, before))
            else {
                continue;
            };
            let moved = new - old;
            // A verdict map's counter counts all its verdicts; the node's own ICMP errors pass OUTPUT as well.
            let only_drops = !candidate.text.contains("vmap") && candidate.hook != Hook::Output;
            if moved < *count || (moved > *count && only_drops && !loose.contains(key)) {
                wrong =
                    format!("{context}\nthe counter moved by {moved}, not {count}\n{candidate:#?}");
            }
        }
        if wrong.is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{wrong}");
}

/// What arrived; waits for as much as is due.
fn collect(lab: &Lab, due: usize) -> HashSet<u16> {
    let mut arrived = HashSet::new();
    for _ in 0..100 {
        arrived.extend(lab.arrived());
        if arrived.len() >= due {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    arrived
}

type Key = (
    String,
    String,
    Option<RuleRef>,
    &'static str,
    bool,
    Option<String>,
);

fn key(candidate: &Candidate) -> Key {
    (
        candidate.table.clone(),
        candidate.chain.clone(),
        candidate.rule,
        candidate.family.name(),
        candidate.backend.name() == "nft",
        candidate
            .element
            .as_ref()
            .map(|element| element.key.clone()),
    )
}

fn find<'a>(verdicts: &'a [Vec<Candidate>], wanted: &Key) -> Option<&'a Candidate> {
    verdicts
        .iter()
        .flatten()
        .find(|candidate| key(candidate) == *wanted)
}

/// The counter of the rule or policy.
fn packets_of(candidate: &Candidate, ruleset: &Ruleset) -> Option<u64> {
    let table = ruleset.tables.iter().find(|table| {
        (table.backend, table.family, &table.name)
            == (candidate.backend, candidate.family, &candidate.table)
    })?;
    let chain = table.chain(&candidate.chain)?;
    let counter = match candidate.rule {
        Some(at) => chain.rules.iter().find(|rule| rule.at == at)?.counter,
        None => chain.base.as_ref()?.counter,
    };
    counter.map(|counter| counter.packets)
}
