//! What Prometheus reads: verdicts counted, and how the agent itself is doing.
//!
//! Counters count flows and packets once, whatever number of revisions a verdict has. Every metric with labels from the
//! outside has a limit of label sets; what comes after it counts under the label `other`.

mod capped;
mod labels;
mod once;
mod text;

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use self::capped::Capped;
use self::labels::{
    Build, DropLabels, FlowLabels, LevelLabels, Metric, Program, ReasonLabels, Source, SynLabels,
};
use self::once::Once;
use super::watchdog::{Change, Level, Usage};
use crate::export::record::{Action, FlowVerdict, Hop, L4, Outcome};
use crate::inventory::Inventory;

pub use text::Exposition;

/// Answers within a node take microseconds, a retransmitted SYN a second or three.
const HANDSHAKE_SECONDS: [f64; 12] = [
    0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 4.0, 8.0,
];

/// How one hook is doing; totals since its trace began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookHealth {
    pub name: &'static str,
    pub attached: bool,
    pub seen: u64,
    pub lost: u64,
}

/// Everything that is exported.
pub struct Metrics {
    registry: Registry,
    flows: Capped<FlowLabels>,
    drops: Capped<DropLabels>,
    syn_unanswered: Capped<SynLabels>,
    handshake: Histogram,
    once: Once,
    events: Family<Source, Counter>,
    lost: Family<Source, Counter>,
    attached: Family<Program, Gauge>,
    conntrack_entries: Gauge,
    conntrack_limit: Gauge,
    conntrack_failed: Counter,
    level: Family<LevelLabels, Gauge>,
    level_changes: Family<ReasonLabels, Counter>,
    store_bytes: Gauge,
    store_torn: Counter,
    store_errors: Counter,
    traces: Gauge,
    cpu: Gauge<f64, AtomicU64>,
}

impl Metrics {
    /// With at most `cap` label sets per metric. `version` and `kernel` are those of the build and of this node.
    pub fn new(cap: usize, version: &str, kernel: &str) -> Self {
        let mut registry = Registry::with_prefix("netdiag");
        let overflow: Family<Metric, Counter> = Family::default();
        let capped = |name| (cap, overflow.get_or_create_owned(&Metric { metric: name }));
        let metrics = Self {
            flows: Capped::new(capped("flows")),
            drops: Capped::new(capped("drops")),
            syn_unanswered: Capped::new(capped("syn_unanswered")),
            handshake: Histogram::new(HANDSHAKE_SECONDS),
            once: Once::default(),
            events: Family::default(),
            lost: Family::default(),
            attached: Family::default(),
            conntrack_entries: Gauge::default(),
            conntrack_limit: Gauge::default(),
            conntrack_failed: Counter::default(),
            level: Family::default(),
            level_changes: Family::default(),
            store_bytes: Gauge::default(),
            store_torn: Counter::default(),
            store_errors: Counter::default(),
            traces: Gauge::default(),
            cpu: Gauge::default(),
            registry: Registry::default(),
        };
        metrics.register(&mut registry);
        registry.register(
            "series_overflow",
            "Samples counted under the label other, because their metric had too many label sets",
            overflow,
        );
        let build: Family<Build, Gauge> = Family::default();
        build
            .get_or_create(&Build {
                version: version.to_owned(),
                kernel: kernel.to_owned(),
            })
            .set(1);
        registry.register("build_info", "What runs here", build);
        let metrics = Self {
            registry,
            ..metrics
        };
        metrics.set_level(Level::Full);
        metrics
    }

    fn register(&self, registry: &mut Registry) {
        registry.register("flows", "Flows decided", self.flows.family());
        registry.register(
            "drops",
            "Packets this node dropped for good, by place and cause",
            self.drops.family(),
        );
        registry.register(
            "syn_unanswered",
            "TCP connection attempts (SYNs, retransmissions included) that left the node and got no answer",
            self.syn_unanswered.family(),
        );
        registry.register(
            "events",
            "Events the kernel side reported",
            self.events.clone(),
        );
        registry.register(
            "lost_events",
            "Events there was no room for",
            self.lost.clone(),
        );
        registry.register(
            "program_attached",
            "1 for a program that is in place",
            self.attached.clone(),
        );
        registry.register(
            "conntrack_entries",
            "Connections in the node's conntrack table",
            self.conntrack_entries.clone(),
        );
        registry.register(
            "conntrack_entries_limit",
            "Connections the node's conntrack table has room for",
            self.conntrack_limit.clone(),
        );
        registry.register(
            "conntrack_insert_failed",
            "Connections the conntrack table refused, since the trace began",
            self.conntrack_failed.clone(),
        );
        registry.register(
            "agent_level",
            "1 for the level at which the agent works",
            self.level.clone(),
        );
        registry.register(
            "agent_level_changes",
            "Steps to another level",
            self.level_changes.clone(),
        );
        registry.register(
            "store_size_bytes",
            "Verdicts on disk",
            self.store_bytes.clone(),
        );
        registry.register(
            "store_torn_lines",
            "Lines a killed agent left unfinished, cut off at the next start",
            self.store_torn.clone(),
        );
        registry.register(
            "store_errors",
            "Verdicts that could not be stored",
            self.store_errors.clone(),
        );
        registry.register("traces_running", "Traces attached now", self.traces.clone());
        registry.register(
            "agent_cpu_ratio",
            "Processors this agent used in the last second",
            self.cpu.clone(),
        );
        registry.register_with_unit(
            "handshake_duration",
            "From the first SYN to the sight of its answer",
            Unit::Seconds,
            self.handshake.clone(),
        );
    }

    /// Counts a verdict; of a revision only what the one before did not say.
    pub fn verdict(&mut self, verdict: &FlowVerdict) {
        let before = self.once.remember(verdict);
        if before.is_none() {
            self.flows.add(&FlowLabels::of(verdict), 1);
            if let Some(seconds) = handshake(verdict) {
                self.handshake.observe(seconds);
            }
        }
        let before = before.unwrap_or_default();
        if let Some(hop) = death(verdict) {
            let more = hop.count.unwrap_or(1).saturating_sub(before.drops);
            self.drops.add(&DropLabels::of(verdict, hop), more);
        }
        if let Some(labels) = SynLabels::of(verdict) {
            let syns = verdict.flow_key.syn_count.unwrap_or(1);
            self.syn_unanswered
                .add(&labels, u64::from(syns).saturating_sub(before.syns));
        }
    }

    /// Totals of a trace that went on; `before` is what was told of it last.
    pub fn hooks(&self, before: &[HookHealth], now: &[HookHealth]) {
        for hook in now {
            let last = before.iter().find(|last| last.name == hook.name);
            let source = Source { source: hook.name };
            let (told, missed) = last.map_or((0, 0), |last| (last.seen, last.lost));
            self.events
                .get_or_create(&source)
                .inc_by(hook.seen.saturating_sub(told));
            self.lost
                .get_or_create(&source)
                .inc_by(hook.lost.saturating_sub(missed));
            self.attached
                .get_or_create(&Program { program: hook.name })
                .set(i64::from(hook.attached));
        }
    }

    /// What the standing trace knows of the node.
    pub fn node(&self, node: &NodeHealth) {
        self.conntrack_entries.set(node.conntrack_entries as i64);
        self.conntrack_limit.set(node.conntrack_limit as i64);
        let counted = self.conntrack_failed.get();
        self.conntrack_failed
            .inc_by(node.conntrack_insert_failed.saturating_sub(counted));
    }

    pub fn level(&self, change: &Change) {
        self.set_level(change.to);
        self.level_changes
            .get_or_create(&ReasonLabels {
                from: change.from.name(),
                to: change.to.name(),
                reason: change.reason.name(),
            })
            .inc();
    }

    fn set_level(&self, now: Level) {
        for level in Level::ALL {
            self.level
                .get_or_create(&LevelLabels {
                    level: level.name(),
                })
                .set(i64::from(level == now));
        }
    }

    pub fn stored(&self, bytes: u64) {
        self.store_bytes.set(bytes as i64);
    }

    pub fn torn(&self, lines: u64) {
        self.store_torn.inc_by(lines);
    }

    pub fn not_stored(&self) {
        self.store_errors.inc();
    }

    pub fn traces(&self, running: usize) {
        self.traces.set(running as i64);
    }

    pub fn usage(&self, usage: Usage) {
        self.cpu.set(usage.cpu);
    }

    /// The exposition in one of its two spellings.
    pub fn text(&self, exposition: Exposition) -> String {
        let mut text = String::new();
        // A String takes all that is written to it.
        let _ = encode(&mut text, &self.registry);
        exposition.of(text)
    }
}

/// Of the node's conntrack table; zero where it has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeHealth {
    pub conntrack_entries: u64,
    pub conntrack_limit: u64,
    /// Since the trace began.
    pub conntrack_insert_failed: u64,
}

impl From<&Inventory> for NodeHealth {
    fn from(inventory: &Inventory) -> Self {
        let Some(node) = inventory.node_netns() else {
            return Self::default();
        };
        let counter = |name| inventory.counter(node, name).unwrap_or(0);
        Self {
            conntrack_entries: counter("conntrack.entries"),
            conntrack_limit: counter("conntrack.limit"),
            conntrack_insert_failed: inventory
                .counter_delta(node, "conntrack.insert_failed")
                .unwrap_or(0),
        }
    }
}

/// The hop that dropped the flow for good.
fn death(verdict: &FlowVerdict) -> Option<&Hop> {
    let deadly = matches!(
        verdict.outcome,
        Outcome::DroppedHere | Outcome::ReplyLost | Outcome::Refused
    );
    let dropped = |hop: &&Hop| hop.action == Action::Dropped;
    verdict.hops.iter().rev().find(dropped).filter(|_| deadly)
}

/// Seconds from the first SYN to the last sight of its answer on this node.
fn handshake(verdict: &FlowVerdict) -> Option<f64> {
    if verdict.outcome != Outcome::Delivered || !matches!(verdict.l4, Some(L4::Tcp(_))) {
        return None;
    }
    let replies = verdict.hops.iter().filter(|hop| hop.reply);
    let answered = replies
        .filter_map(|hop| hop.time.as_ref())
        .map(|time| &time.0)
        .max()?;
    let time = |text: &str| text.parse::<jiff::Timestamp>().ok();
    let span = time(answered)?.duration_since(time(&verdict.flow_key.first_seen.0)?);
    (!span.is_negative()).then(|| span.as_secs_f64())
}

#[cfg(test)]
mod tests;
