//! `netdiag-lab`: the scenarios without a test harness, and the traffic they send.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use netdiag_tests::plan::{Family, Topology};
use netdiag_tests::runner::{self, Options, variant};
use netdiag_tests::scenario::{self, Scenario};
use netdiag_tests::{kernel, needs, outcome, send};

const USAGE: &str = "\
usage: netdiag-lab list
       netdiag-lab run [--record-dir DIR] [--sample] [--no-trace] [--jobs N] [--tier N] [--compare] [NAME…]
           --tier N: traces use no more than this; --compare: what dies in a netfilter hook once more with --tier 0
           NAME is a scenario or one variant of it (no_route, no_route_bridge_v4); all without NAME
       netdiag-lab send --report FILE [--netns NAME] [--node NAME] STEP…
           STEP is KIND:ADDRESS:PORT[,option…]: tcp:198.51.100.10:80,ttl=1";

type Variant = (&'static Scenario, Topology, Family);

fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let done = match words.split_first() {
        Some((command, rest)) if command == "list" && rest.is_empty() => {
            list();
            Ok(true)
        }
        Some((command, rest)) if command == "run" => run(rest),
        Some((command, rest)) if command == "send" => send(rest).map(|()| true),
        _ => Err(anyhow::anyhow!("{USAGE}")),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(2)
        }
    }
}

fn list() {
    for scenario in scenario::all() {
        let variants: Vec<_> = scenario
            .variants()
            .map(|(topology, family)| format!("{topology}/{family}"))
            .collect();
        println!(
            "{:24} {:36} {}",
            scenario.name,
            variants.join(" "),
            scenario.about
        );
    }
}

fn run(words: &[String]) -> Result<bool> {
    let mut options = Options::default();
    let mut jobs = 8;
    let mut sample = false;
    let mut compare = false;
    let mut names = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || {
            words
                .next()
                .with_context(|| format!("{word} wants a value"))
        };
        match word.as_str() {
            "--record-dir" => options.record_dir = Some(PathBuf::from(value()?)),
            "--sample" => sample = true,
            "--no-trace" => options.without_trace = true,
            "--tier" => options.tier = Some(value()?.parse().context("--tier wants a number")?),
            "--compare" => compare = true,
            "--jobs" => jobs = value()?.parse().context("--jobs wants a number")?,
            name => names.push(name),
        }
    }
    let mut queue = chosen(&names)?;
    if sample {
        // By turns through the whole table, so that the choice does not depend on what else is named.
        let samples = one_of_each(&chosen(&[])?);
        queue.retain(|(scenario, topology, family)| {
            let name = variant(scenario, *topology, *family);
            samples.iter().any(|(s, t, f)| variant(s, *t, *f) == name)
        });
    }
    ensure!(
        nix::unistd::geteuid().is_root(),
        "network namespaces need root"
    );
    let again: Vec<Variant> = queue
        .iter()
        .copied()
        .filter(|variant| compare && dies_in_netfilter(variant))
        .collect();
    let mut endings = work(queue, jobs, &options);
    options.tier = Some(0);
    endings.extend(work(again, jobs, &options));
    let count = |is: fn(&Ending) -> bool| endings.iter().filter(|ending| is(ending)).count();
    let failed = count(|ending| matches!(ending, Ending::Failed));
    println!(
        "{} passed, {failed} failed, {} skipped",
        count(|ending| matches!(ending, Ending::Passed)),
        count(|ending| matches!(ending, Ending::Skipped)),
    );
    Ok(failed == 0)
}

/// What the probes of the higher tiers have something to say of.
fn dies_in_netfilter((scenario, topology, family): &Variant) -> bool {
    let plan = scenario.plan(*topology);
    let attempts = scenario::attempts(scenario, &plan, *family);
    attempts.iter().any(|attempt| {
        let expect = &attempt.expect;
        expect.is_failing() && expect.hops.iter().any(|hop| hop.starts_with("NF_"))
    })
}

/// One variant of each scenario, by turns: enough for a recording of every cause.
fn one_of_each(all: &[Variant]) -> Vec<Variant> {
    let scenarios = all.chunk_by(|(one, ..), (next, ..)| one.name == next.name);
    scenarios
        .enumerate()
        .map(|(turn, variants)| variants[turn % variants.len()])
        .collect()
}

/// The variants named, or all.
fn chosen(names: &[&str]) -> Result<Vec<Variant>> {
    let all: Vec<Variant> = scenario::all()
        .flat_map(|scenario| scenario.variants().map(move |(t, f)| (scenario, t, f)))
        .collect();
    if names.is_empty() {
        return Ok(all);
    }
    let is = |(scenario, topology, family): &Variant, name: &str| {
        scenario.name == name || variant(scenario, *topology, *family) == name
    };
    if let Some(unknown) = names
        .iter()
        .find(|name| !all.iter().any(|one| is(one, name)))
    {
        bail!("no scenario is called {unknown}; see `netdiag-lab list`");
    }
    Ok(all
        .into_iter()
        .filter(|one| names.iter().any(|name| is(one, name)))
        .collect())
}

enum Ending {
    Passed,
    Failed,
    Skipped,
}

/// Runs the queue on some threads.
fn work(queue: Vec<Variant>, jobs: usize, options: &Options) -> Vec<Ending> {
    let queue = Mutex::new(queue.into_iter());
    let endings = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let Some(next) = lock(&queue).next() else {
                        break;
                    };
                    let ending = one(next, options);
                    lock(&endings).push(ending);
                }
            });
        }
    });
    endings.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn one(run: Variant, options: &Options) -> Ending {
    let (scenario, topology, family) = run;
    let name = variant(scenario, topology, family);
    let none = |why| {
        let attempts = scenario::attempts(scenario, &scenario.plan(topology), family);
        outcome::without_verdicts(&attempts, why)
    };
    let (ending, outcomes) = if let Some(why) = needs::missing(scenario) {
        println!("skip  {name}: {why}");
        (Ending::Skipped, none(outcome::LEFT_OUT))
    } else {
        match runner::run(scenario, topology, family, options) {
            Ok(passed) => {
                println!("ok    {name} ({:.1} s)", passed.took.as_secs_f32());
                (Ending::Passed, passed.outcomes)
            }
            Err(error) => {
                println!("FAIL  {name}\n{error:#}");
                (Ending::Failed, none(outcome::FAILED))
            }
        }
    };
    if let (Ok(kernel), false) = (kernel::this(), options.without_trace) {
        let (release, tier) = (&kernel.release, kernel.tier(options.tier));
        for outcome in &outcomes {
            println!("{}\t{release}\t{tier}\t{name}\t{outcome}", outcome::PREFIX);
        }
    }
    ending
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn send(words: &[String]) -> Result<()> {
    let (mut report, mut node) = (None, None);
    let mut steps = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--report" => report = words.next().map(PathBuf::from),
            "--node" => node = words.next().map(String::as_str),
            "--netns" => send::enter(words.next().context("--netns wants a name")?)?,
            step => steps.push(step.parse()?),
        }
    }
    send::run(&steps, node, &report.context("send wants --report FILE")?)
}
