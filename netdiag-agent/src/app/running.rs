//! A running trace: everything that feeds the engine, step by step. Prints nothing, heeds no signal, knows no end.

use std::fs::File;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::Error;
use super::news::News;
use crate::engine::{Config, Engine, Input};
use crate::event::Ktime;
use crate::identity::links::Change;
use crate::identity::{LinkRef, NetnsHandle, Selector, Target};
use crate::inventory::{BlindSpot, Delta, Inventory, Role};
use crate::kernel::{self, Session, Watch, WatchInterface};
use crate::recording::Recorder;
use crate::verdict::Verdict;

/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(20);

/// How often counters are read.
const COUNTERS: Duration = Duration::from_millis(400);

/// What is to be traced, and how.
pub(super) struct Order {
    pub selector: Selector,
    /// Only flows to one of these; all when empty.
    pub targets: Vec<(Option<IpAddr>, Option<u16>)>,
    pub config: Config,
    /// How much of the node.
    pub scope: Scope,
    /// The first bytes of each packet are wanted.
    pub snap: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Scope {
    /// The interfaces of the target.
    #[default]
    Target,
    /// Those of all pods, also of later ones.
    AllPods,
    /// None: only where packets die, whosever they are.
    Deaths,
}

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
}

/// Detaches everything when dropped.
pub(super) struct Running {
    engine: Engine,
    recorder: Option<Recorder<File>>,
    session: Session,
    news: News,
    node: NetnsHandle,
    /// What the target could not tell; the session has its own.
    blind: Vec<BlindSpot>,
    /// Host-side interfaces of the pod that are still there.
    pod_links: Vec<LinkRef>,
    scope: Scope,
    tick: Interval,
    counters: Interval,
}

impl Running {
    /// Attaches; when this returns, nothing is missed any more.
    /// All inputs go to `recorder` too.
    pub(super) async fn start(
        order: &Order,
        target: &Target,
        recorder: Option<Recorder<File>>,
    ) -> Result<Self, Error> {
        kernel::sweep_leftovers(Some(target.node.path()))?;
        // Both take a tenth of a second or more, and neither needs the other.
        let reader = tokio::task::spawn_blocking({
            let target = target.clone();
            move || News::rules(&target)
        });
        let session = Session::start(&watch(order, target))?;
        let rules = reader.await.unwrap_or_default();
        let own_programs = session.programs().iter().map(|own| own.id).collect();
        let pod_links = target.pod_links.iter().filter(|_| !target.pods.is_empty());
        let mut running = Self {
            engine: Engine::new(order.config),
            recorder,
            news: News::new(target, own_programs),
            node: target.node.clone(),
            blind: target.blind.clone(),
            pod_links: pod_links.cloned().collect(),
            session,
            scope: order.scope,
            tick: every(TICK),
            counters: every(COUNTERS),
        };
        running.begin(target, rules)?;
        running.news.watch_links(target, &order.selector);
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
            .chain(rules);
        let all: Vec<Delta> = deltas.chain(blind).chain(read).collect();
        for delta in all {
            // Knowledge without packets decides nothing.
            self.feed(Input::Inventory(delta))?;
        }
        Ok(())
    }

    /// Waits for the next thing to happen, however small. Nothing is lost when the future is dropped.
    pub(super) async fn next(&mut self) -> Result<Step, Error> {
        let mut what = What::Nothing;
        let verdicts = tokio::select! {
            inputs = self.session.next() => self.take(inputs)?,
            Some(change) = self.news.next() => {
                let (verdicts, gone) = self.change(change)?;
                what = gone.map_or(What::Nothing, What::Gone);
                verdicts
            }
            _ = self.tick.tick() => {
                what = What::Tick;
                self.news.poll_rules(Instant::now());
                self.feed(Input::Tick(now()))?
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
        let last_words: Vec<Delta> = self
            .news
            .last_rules()
            .into_iter()
            .chain(self.news.counters())
            .collect();
        for delta in last_words {
            verdicts.extend(self.feed(Input::Inventory(delta))?);
        }
        verdicts.extend(self.feed(Input::Stop(now()))?);
        if let Some(recorder) = self.recorder.take() {
            recorder.finish()?;
        }
        Ok((verdicts, self.engine))
    }

    /// Some flow is still undecided and may yet be.
    pub(super) fn pending(&self) -> bool {
        self.engine.pending()
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

    /// A change on the node; with the name of the pod's last interface when it is gone.
    fn change(&mut self, change: Change) -> Result<(Vec<Verdict>, Option<String>), Error> {
        match change {
            Change::Delta(delta) => return Ok((self.feed(Input::Inventory(delta))?, None)),
            Change::Appeared { link, role, pod } => {
                if self.scope == Scope::AllPods && role == Role::PodVeth {
                    let wanted = interface(self.node.path(), &link);
                    self.session.watch_interface(&wanted)?;
                }
                if let Some(pod) = pod {
                    self.session.add_namespace(pod.netns())?;
                    self.news.add(pod);
                }
            }
            Change::Gone { link, .. } => {
                self.session
                    .unwatch_interface(self.node.netns(), link.ifindex);
                let before = self.pod_links.len();
                self.pod_links.retain(|known| *known != link);
                if before > 0 && self.pod_links.is_empty() {
                    return Ok((Vec::new(), Some(link.name.to_string())));
                }
            }
        }
        Ok((Vec::new(), None))
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

fn links(scope: Scope, target: &Target) -> Vec<LinkRef> {
    let own = target.pod_links.iter().chain(&target.uplinks).cloned();
    let mut links: Vec<LinkRef> = match scope {
        Scope::Target => return own.collect(),
        Scope::Deaths => return Vec::new(),
        Scope::AllPods => own.collect(),
    };
    let node = target.node.netns();
    links.extend(target.deltas.iter().filter_map(|delta| match delta {
        Delta::Link(link) if link.netns == node && link.role == Role::PodVeth => Some(LinkRef {
            ifindex: link.ifindex,
            name: Arc::clone(&link.name),
        }),
        _ => None,
    }));
    links.sort_unstable();
    links.dedup();
    links
}

fn interface(node: &Path, link: &LinkRef) -> WatchInterface {
    WatchInterface {
        netns: Some(node.to_owned()),
        ifindex: link.ifindex,
        name: Arc::clone(&link.name),
    }
}

fn watch(order: &Order, target: &Target) -> Watch {
    let node = target.node.path();
    let links = links(order.scope, target);
    let interfaces = links.iter().map(|link| interface(node, link));
    let namespaces = target.other_pods.iter().map(NetnsHandle::netns).collect();
    Watch {
        node: Some(node.to_owned()),
        interfaces: interfaces.collect(),
        pods: target.pods.iter().map(NetnsHandle::netns).collect(),
        namespaces,
        addresses: target.pod_addresses.clone(),
        any_address: target.pods.is_empty(),
        targets: order.targets.clone(),
        drops_only: order.scope == Scope::Deaths,
        snap: order.snap,
        vxlan_port: target.vxlan_port,
        debug_log: tracing::enabled!(tracing::Level::TRACE),
    }
}

/// Nanoseconds of the clock the kernel stamps events with.
fn now() -> Ktime {
    // CLOCK_MONOTONIC exists on every Linux.
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map(Duration::from)
        .unwrap_or_default();
    Ktime(time.as_nanos() as u64)
}
