//! A running trace: everything that feeds the engine, step by step. Prints nothing, heeds no signal, knows no end.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::Error;
use super::news::News;
use super::rulings::Rulings;
use crate::engine::{Config, Engine, Input};
use crate::event::{Ktime, Netns};
use crate::identity::kube::names::{Names, Roll, Wanted};
use crate::identity::pods::Follower;
use crate::identity::{self, links};
use crate::identity::{LinkRef, NetnsHandle, Selector, Target};
use crate::inventory::cluster::Change;
use crate::inventory::{BlindSpot, Delta, Inventory, Link, Role};
use crate::kernel::{self, Session, Watch, WatchInterface};
use crate::recording::Recorder;
use crate::verdict::Verdict;

/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(20);

/// How often counters are read.
const COUNTERS: Duration = Duration::from_millis(400);

/// So long a trace waits for names before it says that it is ready.
const FIRST_NAMES: Duration = Duration::from_millis(300);

/// Pieces of news of the cluster taken at once.
const BATCH: usize = 256;

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
    /// Use no more than this tier; `None`: all the kernel has.
    pub max_tier: Option<u8>,
    /// The kernel is to name the rules that drop.
    pub explain_rule: bool,
    /// Whom to ask for names; nobody where there is no cluster.
    pub names: Option<Wanted>,
    /// Knows when the pods become others; these are then traced instead.
    pub follower: Option<Follower>,
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
        let session = Session::start(&watch(&order, target))?;
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
            behind: behind(target),
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
        for delta in all {
            // Knowledge without packets decides nothing.
            self.feed(Input::Inventory(delta))?;
        }
        Ok(())
    }

    /// A small cluster is known before the first packet; nobody waits for a large one, or for one that is down.
    async fn first_names(&mut self) -> Result<(), Error> {
        let deadline = tokio::time::Instant::now() + FIRST_NAMES;
        let mut roll = Roll::default();
        while let Some(names) = self.names.as_mut().filter(|_| !roll.is_full()) {
            let mut news = Vec::new();
            match tokio::time::timeout_at(deadline, names.next(&mut news, BATCH)).await {
                Ok(true) => {}
                Ok(false) => self.names = None,
                Err(_) => break,
            }
            for change in &news {
                roll.take(change);
            }
            self.learn(news)?;
        }
        Ok(())
    }

    fn learn(&mut self, news: Vec<Change>) -> Result<Vec<Verdict>, Error> {
        let at = now();
        let mut verdicts = Vec::new();
        for change in news {
            if let Change::Unseen(kind, why) = &change
                && self.warned.insert(Arc::clone(why))
            {
                tracing::warn!("names of the cluster: {}: {why}", kind.name());
            }
            let delta = Delta::Cluster { at, change };
            verdicts.extend(self.feed(Input::Inventory(delta))?);
        }
        Ok(verdicts)
    }

    /// Waits for the next thing to happen, however small. Nothing is lost when the future is dropped.
    pub(super) async fn next(&mut self) -> Result<Step, Error> {
        let mut what = What::Nothing;
        let mut news = Vec::new();
        let verdicts = tokio::select! {
            more = next_names(&mut self.names, &mut news) => {
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
        self.engine.pending(now())
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

    /// A change on the node.
    fn change(&mut self, change: links::Change) -> Result<(Vec<Verdict>, What), Error> {
        match change {
            links::Change::Delta(delta) => {
                return Ok((self.feed(Input::Inventory(delta))?, What::Nothing));
            }
            links::Change::Pods(target) => return self.retarget(target.map(|target| *target)),
            links::Change::Appeared { link, role, pod } => {
                if self.scope == Scope::AllPods && role == Role::PodVeth {
                    let wanted = interface(&self.node_path, &link);
                    self.session.watch_interface(&wanted)?;
                }
                if let Some(pod) = pod {
                    self.session.add_namespace(pod.netns())?;
                    self.behind.insert(link, pod.netns());
                    self.news.add(pod);
                }
            }
            links::Change::Gone { link, .. } => {
                self.session.unwatch_interface(self.node, link.ifindex);
                self.forget_behind(&link)?;
                let before = self.pod_links.len();
                self.pod_links.retain(|known| *known != link);
                if before > 0 && self.pod_links.is_empty() {
                    return Ok((Vec::new(), What::Gone(link.name.to_string())));
                }
            }
        }
        Ok((Vec::new(), What::Nothing))
    }

    /// The namespace behind an interface that has gone ends soon; a trace without end must not keep them all.
    fn forget_behind(&mut self, link: &LinkRef) -> Result<(), Error> {
        let Some(netns) = self.behind.remove(link) else {
            return Ok(());
        };
        let traced = self.pods.iter().any(|pod| pod.netns() == netns);
        if traced || self.behind.values().any(|other| *other == netns) {
            return Ok(());
        }
        self.news.forget(netns);
        self.session.unfollow([netns], [])?;
        Ok(())
    }

    /// Other pods are traced from now on; none when they are all gone.
    fn retarget(&mut self, target: Option<Target>) -> Result<(Vec<Verdict>, What), Error> {
        let (pods, addresses, links, deltas) = target.map_or_else(Default::default, |target| {
            let Target {
                pods,
                pod_addresses,
                pod_links,
                deltas,
                ..
            } = target;
            (pods, pod_addresses, pod_links, deltas)
        });
        let left = without(&self.pods, &pods);
        let joined = without(&pods, &self.pods);
        let old: Vec<IpAddr> = self.pod_addresses.clone();
        let gone = old.into_iter().filter(|one| !addresses.contains(one));
        self.session
            .unfollow(left.iter().map(NetnsHandle::netns), gone)?;
        self.session
            .follow(joined.iter().map(NetnsHandle::netns), &addresses)?;
        for pod in &joined {
            self.news.add(pod.clone());
        }
        let mut news: Vec<Delta> = deltas.into_iter().filter(is_surroundings).collect();
        for link in links.iter().filter(|link| !self.pod_links.contains(link)) {
            let interface = interface(&self.node_path, link);
            if let Err(error) = self.session.watch_interface(&interface) {
                news.push(Delta::Blind(BlindSpot {
                    what: format!("tc on {}", link.name),
                    why: error.to_string(),
                }));
            }
        }
        for link in self.pod_links.iter().filter(|link| !links.contains(link)) {
            self.session.unwatch_interface(self.node, link.ifindex);
        }
        (self.pods, self.pod_addresses, self.pod_links) = (pods, addresses, links);
        let mut verdicts = self.mark()?;
        for delta in news {
            verdicts.extend(self.feed(Input::Inventory(delta))?);
        }
        let names = |pods: &[NetnsHandle]| pods.iter().map(NetnsHandle::label).collect();
        let what = What::Pods {
            joined: names(&joined),
            left: names(&left),
        };
        Ok((verdicts, what))
    }

    /// Has the kernel trace the rules that the pods' packets meet from now on, where that was asked for.
    fn mark(&mut self) -> Result<Vec<Verdict>, Error> {
        let Some(rulings) = &mut self.rulings else {
            return Ok(Vec::new());
        };
        let inventory = self.engine.inventory();
        let blind = rulings.follow(&self.pods, &self.pod_addresses, inventory);
        let mut verdicts = Vec::new();
        for spot in blind {
            self.blind.push(spot.clone());
            verdicts.extend(self.feed(Input::Inventory(Delta::Blind(spot)))?);
        }
        Ok(verdicts)
    }

    /// What the kernel's rule trace said meanwhile.
    fn ruled(&mut self) -> Result<Vec<Verdict>, Error> {
        let events = self.rulings.as_mut().map(Rulings::events);
        let mut verdicts = Vec::new();
        for event in events.into_iter().flatten() {
            verdicts.extend(self.feed(Input::Event(event))?);
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

async fn next_names(names: &mut Option<Names>, news: &mut Vec<Change>) -> bool {
    match names {
        Some(names) => names.next(news, BATCH).await,
        None => std::future::pending().await,
    }
}

/// What surrounds the traced pods; facts about the whole trace stay as they are.
fn is_surroundings(delta: &Delta) -> bool {
    matches!(
        delta,
        Delta::Namespace(_) | Delta::Link(_) | Delta::Blind(_) | Delta::Cluster { .. }
    )
}

/// Those of `pods` that are not among `others`.
fn without(pods: &[NetnsHandle], others: &[NetnsHandle]) -> Vec<NetnsHandle> {
    let other = |pod: &&NetnsHandle| others.iter().all(|other| other.netns() != pod.netns());
    pods.iter().filter(other).cloned().collect()
}

fn interface(node: &Path, link: &LinkRef) -> WatchInterface {
    WatchInterface {
        netns: Some(node.to_owned()),
        ifindex: link.ifindex,
        name: Arc::clone(&link.name),
    }
}

/// The pods' namespaces by the node's interfaces that lead there.
fn behind(target: &Target) -> BTreeMap<LinkRef, Netns> {
    let links = target.deltas.iter().filter_map(|delta| match delta {
        Delta::Link(link) if link.netns == target.node.netns() && link.role == Role::PodVeth => {
            Some((link_ref(link), link.peer?.0))
        }
        _ => None,
    });
    links.collect()
}

fn link_ref(link: &Link) -> LinkRef {
    LinkRef {
        ifindex: link.ifindex,
        name: Arc::clone(&link.name),
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
        Delta::Link(link) if link.netns == node && link.role == Role::PodVeth => {
            Some(link_ref(link))
        }
        _ => None,
    }));
    links.sort_unstable();
    links.dedup();
    links
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
        max_tier: order.max_tier,
    }
}

/// Nanoseconds of the clock the kernel stamps events with.
pub(super) fn now() -> Ktime {
    // CLOCK_MONOTONIC exists on every Linux.
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map(Duration::from)
        .unwrap_or_default();
    Ktime(time.as_nanos() as u64)
}
