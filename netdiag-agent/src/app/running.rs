//! A running trace: everything that feeds the engine, step by step. Prints nothing, heeds no signal, knows no end.

mod changes;
mod names;
mod order;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::Error;
use super::news::News;
use super::rulings::Rulings;
use crate::engine::{Engine, Input};
use crate::event::{Ktime, Netns};
use crate::identity::kube::names::Names;
use crate::identity::{self, LinkRef, NetnsHandle, Target};
use crate::inventory::{BlindSpot, Delta, Inventory};
use crate::kernel::{self, Session};
use crate::recording::Recorder;
use crate::verdict::Verdict;
pub(super) use order::{Order, Scope};

/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(20);

/// How often counters are read.
const COUNTERS: Duration = Duration::from_millis(400);

/// How long the end of a trace waits for what the node was asked for.
const LAST_ANSWERS: Duration = Duration::from_millis(320);

/// What one step brought.
pub(super) struct Step {
    /// Decided by it, in order.
    pub verdicts: Vec<Verdict>,
    pub what: What,
}

pub(super) enum What {
    Nothing,
    /// Deadlines were looked at.
    Tick,
    /// The pod's last interface went away; its name.
    Gone(String),
    /// The traced pods are others now.
    Pods {
        joined: Vec<String>,
        left: Vec<String>,
    },
}

/// Detaches everything when dropped.
pub(super) struct Running {
    engine: Engine,
    recorder: Option<Recorder<File>>,
    session: Session,
    news: News,
    rulings: Option<Rulings>,
    node: Netns,
    node_path: PathBuf,
    /// What the target could not tell; the session has its own.
    blind: Vec<BlindSpot>,
    /// The traced pods, and their addresses.
    pods: Vec<NetnsHandle>,
    pod_addresses: Vec<IpAddr>,
    /// Host-side interfaces of the pods that are still there.
    pod_links: Vec<LinkRef>,
    /// Namespaces behind the node's interfaces.
    behind: BTreeMap<LinkRef, Netns>,
    scope: Scope,
    tick: Interval,
    counters: Interval,
    names: Option<Names>,
    /// Of what names lack, each reason is told once.
    warned: BTreeSet<Arc<str>>,
}

impl Running {
    /// Attaches; when this returns, nothing is missed any more.
    /// All inputs go to `recorder` too.
    pub(super) async fn start(
        order: Order,
        target: &Target,
        recorder: Option<Recorder<File>>,
    ) -> Result<Self, Error> {
        // The answers arrive while the programs are loaded.
        let names = order.names.clone().and_then(Names::start);
        kernel::sweep_leftovers(Some(target.node.path()))?;
        let namespaces = std::iter::once(&target.node).chain(&target.pods);
        identity::rule_trace::sweep(namespaces.chain(&target.other_pods));
        // Both take a tenth of a second or more, and neither needs the other.
        let reader = tokio::task::spawn_blocking({
            let target = target.clone();
            move || News::rules(&target)
        });
        let session = Session::start(&order.watch(target))?;
        let rules = reader.await.unwrap_or_default();
        let own_programs = session.programs().iter().map(|own| own.id).collect();
        let pod_links = target.pod_links.iter().filter(|_| !target.pods.is_empty());
        let mut running = Self {
            engine: Engine::new(order.config),
            recorder,
            news: News::new(target, own_programs),
            rulings: order
                .explain_rule
                .then(|| Rulings::new(target.node.clone(), order.targets.clone())),
            node: target.node.netns(),
            node_path: target.node.path().to_owned(),
            blind: target.blind.clone(),
            pods: target.pods.clone(),
            pod_addresses: target.pod_addresses.clone(),
            pod_links: pod_links.cloned().collect(),
            behind: order::behind(target),
            session,
            scope: order.scope,
            tick: every(TICK),
            counters: every(COUNTERS),
            names,
            warned: BTreeSet::new(),
        };
        running.begin(target, rules)?;
        running.mark()?;
        running.first_names().await?;
        running
            .news
            .watch_links(target, order.selector, order.follower);
        Ok(running)
    }

    /// Tells the engine what is known before the first packet.
    fn begin(&mut self, target: &Target, rules: Vec<Delta>) -> Result<(), Error> {
        let deltas = target.deltas.iter().cloned().map(|delta| match delta {
            Delta::Node(mut node) => {
                node.tier = self.session.tier();
                node.hooks = self.session.hooks().to_vec();
                Delta::Node(node)
            }
            other => other,
        });
        let blind = self.blind().cloned().map(Delta::Blind);
        let read = self
            .news
            .connections(target)
            .into_iter()
            .chain(self.news.counters())
            .chain(identity::masquerade::config().map(Delta::MasqueradeConfig))
            .chain(rules);
        let all: Vec<Delta> = deltas.chain(blind).chain(read).collect();
        // Knowledge without packets decides nothing.
        self.feed_all(all.into_iter().map(Input::Inventory))?;
        Ok(())
    }

    /// Waits for the next thing to happen, however small. Nothing is lost when the future is dropped.
    pub(super) async fn next(&mut self) -> Result<Step, Error> {
        let mut what = What::Nothing;
        let mut news = Vec::new();
        let verdicts = tokio::select! {
            more = names::next(&mut self.names, &mut news) => {
                if !more {
                    self.names = None;
                }
                self.learn(news)?
            }
            inputs = self.session.next() => self.take(inputs)?,
            Some(change) = self.news.next() => {
                let (verdicts, brought) = self.change(change)?;
                what = brought;
                verdicts
            }
            _ = self.tick.tick() => {
                what = What::Tick;
                self.news.poll_rules(Instant::now());
                let mut verdicts = self.ruled()?;
                verdicts.extend(self.feed(Input::Tick(now()))?);
                verdicts
            }
            _ = self.counters.tick() => {
                self.news.poll_counters();
                Vec::new()
            }
        };
        Ok(Step { verdicts, what })
    }

    /// Drains the ring and decides what is left. The engine still knows its flows.
    pub(super) fn end(mut self) -> Result<(Vec<Verdict>, Engine), Error> {
        let rest = self.session.drain();
        let mut verdicts = self.take(rest)?;
        verdicts.extend(self.ruled()?);
        let news = self.names.as_mut().map_or_else(Vec::new, Names::waiting);
        verdicts.extend(self.learn(news)?);
        let answers = self.news.last_answers(LAST_ANSWERS);
        let last_words: Vec<Delta> = answers
            .into_iter()
            .chain(self.news.last_rules())
            .chain(self.news.counters())
            .collect();
        verdicts.extend(self.feed_all(last_words.into_iter().map(Input::Inventory))?);
        verdicts.extend(self.feed(Input::Stop(now()))?);
        if let Some(recorder) = self.recorder.take() {
            recorder.finish()?;
        }
        Ok((verdicts, self.engine))
    }

    /// Some flow is still undecided and may yet be, or the node has not told all it was asked for.
    pub(super) fn pending(&self) -> bool {
        self.engine.pending(now()) || self.news.is_asking()
    }

    pub(super) fn inventory(&self) -> &Inventory {
        self.engine.inventory()
    }

    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    /// What is not seen, and what that costs.
    pub(super) fn blind(&self) -> impl Iterator<Item = &BlindSpot> {
        self.blind.iter().chain(self.session.blind())
    }

    fn take(&mut self, inputs: Vec<Input>) -> Result<Vec<Verdict>, Error> {
        let now = Instant::now();
        let mut verdicts = Vec::new();
        for input in inputs {
            if let Input::Event(event) = &input {
                self.news.consider(event, now);
            }
            verdicts.extend(self.feed(input)?);
        }
        Ok(verdicts)
    }

    /// Has the kernel trace the rules that the pods' packets meet from now on, where that was asked for.
    fn mark(&mut self) -> Result<Vec<Verdict>, Error> {
        let Some(rulings) = &mut self.rulings else {
            return Ok(Vec::new());
        };
        let inventory = self.engine.inventory();
        let blind = rulings.follow(&self.pods, &self.pod_addresses, inventory);
        self.blind.extend_from_slice(&blind);
        let deltas = blind.into_iter().map(Delta::Blind);
        self.feed_all(deltas.map(Input::Inventory))
    }

    /// What the kernel's rule trace said meanwhile.
    fn ruled(&mut self) -> Result<Vec<Verdict>, Error> {
        let events = self.rulings.as_mut().map(Rulings::events);
        let events = events.into_iter().flatten();
        self.feed_all(events.map(Input::Event))
    }

    fn feed_all(&mut self, inputs: impl Iterator<Item = Input>) -> Result<Vec<Verdict>, Error> {
        let mut verdicts = Vec::new();
        for input in inputs {
            verdicts.extend(self.feed(input)?);
        }
        Ok(verdicts)
    }

    fn feed(&mut self, input: Input) -> Result<Vec<Verdict>, Error> {
        if let Some(recorder) = &mut self.recorder {
            recorder.write(&input)?;
        }
        Ok(self.engine.step(input))
    }
}

fn every(period: Duration) -> Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// Nanoseconds of the clock the kernel stamps events with.
pub(super) fn now() -> Ktime {
    // CLOCK_MONOTONIC exists on every Linux.
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map(Duration::from)
        .unwrap_or_default();
    Ktime(time.as_nanos() as u64)
}
