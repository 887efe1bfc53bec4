//! One round after the other, and the table they end in.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use netdiag_tests::node::Node;
use netdiag_tests::programs;
use serde_json::{Value, json};

use crate::bpf::{EMPTY, count_time, empty_program, loaded, per_run};
use crate::flood::Sink;
use crate::samples::Samples;
use crate::tracer::Tracer;

const FLOOD: Duration = Duration::from_secs(1);
/// Verdicts waited for, per kind.
pub const TRIALS: u16 = 20;
/// Nothing else in the lab uses these ports.
const DROPPED_PORTS: u16 = 20_000;
const CLOSED_PORTS: u16 = 21_000;
/// The programs that every packet passes.
const TC: [&str; 2] = ["netdiag_ingress", "netdiag_egress"];
/// The promises that the figures are held against.
const GOAL_RATIO: f64 = 2.5;
const GOAL_READY_MS: f64 = 1000.0;
const GOAL_VERDICT_MS: f64 = 200.0;
const GOAL_DETACH_MS: f64 = 1000.0;
const GOAL_MIB: [f64; 2] = [64.0, 15.0];

#[derive(Default)]
pub struct Figures {
    off: Samples,
    on: Samples,
    /// On by the mean of the two runs around it: the machine's speed drifts.
    ratio: Samples,
    ready: Samples,
    detach: Samples,
    rss: Samples,
    drop: Samples,
    refusal: Samples,
    /// Nanoseconds per run, by program.
    programs: BTreeMap<String, Samples>,
    binary: u64,
}

impl Figures {
    pub fn round(&mut self, node: &Node, sink: &Sink) -> Result<()> {
        let off_before = sink.flood(node, FLOOD)?;
        let before: BTreeSet<u64> = loaded()?.into_iter().map(|program| program.id).collect();
        let tracer = Tracer::start(node)?;
        self.ready.add(millis(tracer.ready));
        let on = sink.flood(node, FLOOD)?;
        let empty = empty_program(&node.netns, node.veth())?;
        let counting = count_time()?;
        let start = loaded()?;
        sink.flood(node, FLOOD)?;
        let end = loaded()?;
        drop((counting, empty));
        for (name, ns) in per_run(&before, &start, &end) {
            self.programs.entry(name).or_default().add(ns);
        }
        self.rss.add(tracer.peak_memory()? as f64 / 1024.0);
        self.detach.add(millis(tracer.stop()?));
        let off_after = sink.flood(node, FLOOD)?;
        self.on.add(on);
        self.off.add(off_before);
        self.off.add(off_after);
        self.ratio.add(on / f64::midpoint(off_before, off_after));
        Ok(())
    }

    /// Of the file that is put on a node.
    pub fn binary(&mut self) -> Result<()> {
        let path = programs::netdiag()?;
        let meta = fs::metadata(&path).with_context(|| format!("stat {}", path.display()))?;
        self.binary = meta.len();
        Ok(())
    }

    /// From the packet that proves it to the line that says it.
    pub fn latency(&mut self, node: &Node) -> Result<()> {
        let last = DROPPED_PORTS + TRIALS;
        node.run(&format!(
            "iptables-nft -w -I FORWARD -p tcp --dport {DROPPED_PORTS}:{last} -j DROP"
        ))?;
        let tracer = Tracer::start(node)?;
        for port in 0..TRIALS {
            for (first, samples) in [
                (DROPPED_PORTS, &mut self.drop),
                (CLOSED_PORTS, &mut self.refusal),
            ] {
                samples.add(millis(tracer.verdict_on(node, first + port)?));
            }
        }
        tracer.stop().map(drop)
    }
}

impl Figures {
    pub fn print(&self) {
        println!("{:<34} {:>12} {:>22}  goal", "", "median", "from … to");
        let empty = self.programs.get(EMPTY).map_or(f64::NAN, Samples::median);
        for (name, ns) in &self.programs {
            let ratio = ns.median() / empty;
            let goal = if TC.contains(&name.as_str()) {
                verdict_of(ratio, GOAL_RATIO)
            } else {
                String::new()
            };
            row(
                &format!("{name}, ns per run"),
                ns,
                &format!("{ratio:.2} × empty {goal}"),
            );
        }
        row("64-byte UDP, off, packets/s", &self.off, "");
        row("64-byte UDP, on, packets/s", &self.on, "");
        row("on ÷ off, round by round", &self.ratio, "");
        row(
            "ready, ms",
            &self.ready,
            &verdict_of(self.ready.median(), GOAL_READY_MS),
        );
        for (name, samples) in [
            ("drop → verdict, ms", &self.drop),
            ("refusal → verdict, ms", &self.refusal),
        ] {
            let p99 = samples.quantile(0.99);
            row(
                name,
                samples,
                &format!("p99 {p99:.0} {}", verdict_of(p99, GOAL_VERDICT_MS)),
            );
        }
        row(
            "detach, ms",
            &self.detach,
            &verdict_of(self.detach.median(), GOAL_DETACH_MS),
        );
        row(
            "memory at its peak, MiB",
            &self.rss,
            &verdict_of(self.rss.median(), GOAL_MIB[0]),
        );
        let size = Samples::one(self.binary as f64 / f64::from(1 << 20));
        row(
            "binary, MiB",
            &size,
            &verdict_of(size.median(), GOAL_MIB[1]),
        );
    }

    pub fn json(&self, rounds: usize) -> Value {
        let programs: BTreeMap<_, _> = self
            .programs
            .iter()
            .map(|(name, ns)| (name, ns.json()))
            .collect();
        json!({
            "benchmark": "netdiag", "rounds": rounds, "ns_per_run": programs,
            "packets_per_second": {"off": self.off.json(), "on": self.on.json(), "ratio": self.ratio.json()},
            "ready_ms": self.ready.json(), "detach_ms": self.detach.json(), "peak_rss_mib": self.rss.json(),
            "drop_to_verdict_ms": self.drop.json(), "refusal_to_verdict_ms": self.refusal.json(),
            "binary_bytes": self.binary,
        })
    }
}

fn row(name: &str, samples: &Samples, note: &str) {
    let digits = match samples.median() {
        median if median < 10.0 => 2,
        median if median < 1000.0 => 1,
        _ => 0,
    };
    let range = format!(
        "{:.digits$} … {:.digits$}",
        samples.quantile(0.0),
        samples.quantile(1.0)
    );
    println!(
        "{name:<34} {:>12.digits$} {range:>22}  {note}",
        samples.median()
    );
}

fn verdict_of(figure: f64, goal: f64) -> String {
    format!(
        "(goal ≤ {goal}: {})",
        if figure <= goal { "met" } else { "MISSED" }
    )
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
