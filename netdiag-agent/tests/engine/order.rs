//! Events of several CPUs arrive in any order; the verdict is the same.

use std::collections::BTreeMap;

use netdiag::engine::{Config, Engine, Input};
use netdiag::event::{Event, Ktime, Span};
use netdiag::verdict::Verdict;
use proptest::prelude::*;

use crate::story::{Story, actions, inventory};

/// What must not depend on the order in which the CPUs' events arrive.
fn essence(verdicts: &[Verdict]) -> Vec<String> {
    let mut latest = BTreeMap::new();
    for verdict in verdicts {
        latest.insert((verdict.tuple, verdict.key.first_seen), verdict);
    }
    latest
        .into_values()
        .map(|v| {
            format!(
                "{:?} {:?} {:?} {:?} {:?} {:?}",
                v.tuple,
                v.outcome,
                v.cause,
                v.confidence,
                actions(v),
                v.nat
            )
        })
        .collect()
}

fn stories() -> Vec<Story> {
    vec![
        Story::established().fin_from_pod(),
        Story::new()
            .syn_at_pod()
            .firewall(false)
            .wait(Span::millis(1000))
            .syn_at_pod()
            .firewall(false),
        Story::new()
            .syn_at_pod()
            .syn_at_uplink()
            .syn_ack_at_uplink()
            .firewall(true),
        Story::new().syn_at_pod().syn_at_uplink().rst_at_uplink(),
        Story::new()
            .syn_at_pod()
            .firewall(false)
            .wait(Span::millis(900))
            .syn_at_pod()
            .syn_at_uplink()
            .syn_ack_at_uplink(),
    ]
}

proptest! {
    /// Any merge of the per-CPU streams gives the verdict of the merge in order of time.
    #[test]
    fn interleaving_of_cpus_does_not_matter(which in 0usize..5, choices in proptest::collection::vec(any::<u8>(), 32)) {
        let story = &stories()[which];
        let decide = |events: &[Event]| {
            let mut engine = Engine::new(Config::default());
            let mut verdicts = Vec::new();
            for input in inventory().into_iter().chain(events.iter().cloned().map(Input::Event)) {
                verdicts.extend(engine.step(input));
            }
            verdicts.extend(engine.step(Input::Tick(Ktime(story.at + 5_000_000_000))));
            verdicts.extend(engine.step(Input::Stop(Ktime(story.at + 5_100_000_000))));
            essence(&verdicts)
        };
        let mut queues: BTreeMap<u32, Vec<Event>> = BTreeMap::new();
        for event in story.events.iter().rev() {
            queues.entry(event.cpu).or_default().push(event.clone());
        }
        let mut shuffled = Vec::new();
        let mut choices = choices.into_iter().cycle();
        while let Some(count) = Some(queues.len()).filter(|count| *count > 0) {
            let pick = usize::from(choices.next().unwrap_or(0)) % count;
            let cpu = *queues.keys().nth(pick).expect("pick is below the number of queues");
            let queue = queues.get_mut(&cpu).expect("the key was just read");
            shuffled.extend(queue.pop());
            if queue.is_empty() {
                queues.remove(&cpu);
            }
        }
        prop_assert_eq!(decide(&story.events), decide(&shuffled));
    }
}
