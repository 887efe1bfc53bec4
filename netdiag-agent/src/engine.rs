//! The one door into the core: inputs go in, verdicts come out.
//!
//! Pure: no I/O, no clock (time is an argument), no async. It cannot fail.
//!
//! Events of different CPUs arrive out of order. They wait [`HOLD`] in a queue sorted by kernel time, so that flows see
//! them in the order in which they happened; any interleaving of the CPUs' streams yields the same verdicts.

mod apply;
mod judge;
mod refusals;
mod tunnels;

use std::collections::{BTreeMap, HashMap, VecDeque};

use self::refusals::Refusals;
use crate::event::{Detail, Event, HookId, Ktime, Netns, NudState, Span};
use crate::flow::{Flow, FlowId, FlowTable, Spot, Tunnels};
use crate::inventory::{Delta, Inventory};
use crate::verdict::{Neighbour, Neighbours, Verdict, build};

/// The kernel gives a next hop up after three probes, one second apart.
const RESOLUTION: Span = Span::millis(3500);

/// How long an event waits for older ones of other CPUs. The ring is read every few milliseconds.
const HOLD: Span = Span::millis(15);

/// Flows are looked at again for names no more often: ten thousand pods are ten thousand pieces of news.
const NAMES: Span = Span::millis(200);

/// Flows kept; the oldest makes room for the next.
const MAX_FLOWS: usize = 16_384;

/// Flows whose place another took, kept for the packets they hold.
const MAX_GONE: usize = 1_024;

/// Neighbour entries remembered.
const MAX_NEIGHBOURS: usize = 4_096;

/// Times of losses told apart.
const MAX_LOSSES: usize = 4_096;

/// Everything that can happen to the core.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every input is an event; a box each would cost more"
)]
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    Event(Event),
    Inventory(Delta),
    /// Events or map entries lost since the last such input, at this hook.
    Lost {
        hook: HookId,
        at: Ktime,
        count: u64,
    },
    /// It is now this late; deadlines may have passed.
    Tick(Ktime),
    /// The trace ends: decide what can be decided.
    Stop(Ktime),
}

/// What the user may tune.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// A request without an answer for this long has none.
    pub no_answer: Span,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            no_answer: Span::millis(3000),
        }
    }
}

/// Owns all state.
#[derive(Debug)]
pub struct Engine {
    config: Config,
    inventory: Inventory,
    flows: FlowTable,
    /// Flows no longer in the table that hold packets, oldest first.
    gone: VecDeque<Flow>,
    neighbours: Neighbours,
    tunnels: Tunnels,
    /// Events not yet old enough, by time, CPU and order of arrival.
    waiting: BTreeMap<(Ktime, u32, u64), Event>,
    arrivals: u64,
    /// Flows changed since they were last judged, or not yet decided.
    open: BTreeMap<FlowId, judge::Open>,
    decided: HashMap<FlowId, judge::Decided>,
    /// Time and number of losses, for the flows alive then.
    losses: Vec<(Ktime, u64)>,
    /// The cluster has changed since the flows were last looked at for it.
    names_changed: bool,
    names_used: Ktime,
}

impl Engine {
    pub fn new(config: Config) -> Self {
        Self {
            config,
            inventory: Inventory::default(),
            flows: FlowTable::new(MAX_FLOWS),
            gone: VecDeque::new(),
            neighbours: Neighbours::new(),
            tunnels: Tunnels::default(),
            waiting: BTreeMap::new(),
            arrivals: 0,
            open: BTreeMap::new(),
            decided: HashMap::new(),
            losses: Vec::new(),
            names_changed: false,
            names_used: Ktime(0),
        }
    }

    /// Takes one input; returns the verdicts it decided, in order.
    pub fn step(&mut self, input: Input) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        match input {
            Input::Event(event) => {
                self.arrivals += 1;
                self.waiting
                    .insert((event.at, event.cpu, self.arrivals), event);
            }
            Input::Inventory(delta) => {
                let rules = matches!(delta, Delta::Rules(_));
                self.names_changed |= matches!(delta, Delta::Cluster { .. });
                self.inventory.apply(delta);
                if rules {
                    self.reopen_firewall_deaths();
                }
            }
            Input::Lost { at, count, .. } => self.lost(at, count),
            Input::Tick(now) => {
                let ripe = Ktime(now.0.saturating_sub(HOLD.0));
                self.digest(ripe, &mut verdicts);
                if self.names_changed && now.since(self.names_used) >= NAMES {
                    self.names_changed = false;
                    self.names_used = now;
                    self.reopen_all();
                }
                self.judge(now, false, &mut verdicts);
            }
            Input::Stop(now) => {
                self.digest(Ktime(u64::MAX), &mut verdicts);
                self.judge(now, true, &mut verdicts);
            }
        }
        verdicts
    }

    /// Some flow is still undecided and may yet be; or a packet nobody has seen may wait for its next hop's address.
    pub fn pending(&self, now: Ktime) -> bool {
        let asked = |(netns, entry): (Netns, &Neighbour)| {
            entry.state == NudState::INCOMPLETE
                && now.since(entry.at) < RESOLUTION
                && self.inventory.namespace(netns).is_some_and(|it| it.target)
        };
        let mut neighbours = self.neighbours.iter();
        !self.waiting.is_empty()
            || self.open.values().any(|open| !open.settled)
            || neighbours.any(|((netns, _), entry)| asked((*netns, entry)))
    }

    /// Flows seen so far.
    pub fn flow_count(&self) -> usize {
        self.flows.iter().count()
    }

    /// What is known of each flow, under the uuid of its verdict: those in the table, and the last that left it and hold
    /// packets.
    pub fn flows(&self) -> impl Iterator<Item = (String, &Flow)> {
        let all = self.gone.iter().chain(self.flows.iter());
        all.map(|flow| (build::uuid(&self.inventory, flow), flow))
    }

    /// Where on its way the packet of an event was.
    pub fn spot_of(&self, event: &Event) -> Option<Spot> {
        self.spot(event, event.packet.as_ref()?)
    }

    pub fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    /// A flow leaves the table.
    fn bury(&mut self, flow: Flow) {
        let mut packets = flow
            .history
            .iter()
            .filter_map(|event| event.packet.as_ref());
        if packets.any(|packet| packet.snap.is_some()) {
            if self.gone.len() >= MAX_GONE {
                self.gone.pop_front();
            }
            self.gone.push_back(flow);
        }
    }

    /// Many losses at one time count as one entry.
    fn lost(&mut self, at: Ktime, count: u64) {
        match self.losses.last_mut() {
            Some((last, sum)) if at.since(*last) < Span::millis(50) => *sum += count,
            _ => self.losses.push((at, count)),
        }
        if self.losses.len() > MAX_LOSSES {
            // The older half becomes one entry, at the latest of its times: a flow may be told of more losses than it
            // met, never of fewer.
            let rest = self.losses.split_off(MAX_LOSSES / 2);
            let latest = self.losses.last().map_or(at, |(at, _)| *at);
            let sum = self.losses.iter().map(|(_, count)| count).sum();
            self.losses = std::iter::once((latest, sum)).chain(rest).collect();
        }
    }

    fn digest(&mut self, ripe: Ktime, verdicts: &mut Vec<Verdict>) {
        let later = self
            .waiting
            .split_off(&(Ktime(ripe.0.saturating_add(1)), 0, 0));
        let mut ripe = std::mem::replace(&mut self.waiting, later);
        let known = Refusals::of(ripe.values().chain(self.waiting.values()));
        let behind: Vec<_> = ripe.values().map(|event| known.behind(event)).collect();
        for (event, refusal) in ripe.values_mut().zip(behind) {
            match &mut event.detail {
                Detail::Refused(_) => continue,
                Detail::Dropped(drop) => drop.refusal = refusal,
                _ => {}
            }
            self.apply(event, verdicts);
        }
    }
}
