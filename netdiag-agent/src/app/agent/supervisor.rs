//! Where traces, requests, signals and the budget meet.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::standing::{Standing, State};
use super::usage::Meter;
use super::worker::{Message, News, Worker};
use super::{Doors, MIB, Orders, asked, say};
use crate::agent::api::{Ask, Command, Readiness, Refusal};
use crate::agent::choice;
use crate::agent::config::{Config, Keep};
use crate::agent::metrics::{HookHealth, Metrics};
use crate::agent::traces::{End, Trace, Traces};
use crate::agent::watchdog::{Change, Level, Watchdog};
use crate::app::Error;
use crate::app::running::{Order, Scope};
use crate::cli::{Subject, exit};
use crate::engine;
use crate::event::Span;
use crate::export::listing::is_failing;
use crate::export::record::{FlowVerdict, Time};
use crate::identity::Selector;
use crate::identity::kube::names::Wanted;
use crate::store::{Limits, Writer};

/// Verdicts on their way here.
const MESSAGES: usize = 1024;

/// Traces asked for that may run at a time; each has programs and maps of its own in the kernel.
const MAX_TRACES: usize = 4;

/// A trace nobody gave an end ends then.
const DEFAULT_DURATION: Duration = Duration::from_secs(30);

/// Flows whose failure is stored: should they recover, that is stored too.
const REMEMBERED: usize = 16_384;

/// How often the budget is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// SIGTERM: so long for traces to drain.
const DRAIN: Duration = Duration::from_secs(5);

pub(super) struct Supervisor {
    config: Config,
    writer: Writer,
    metrics: Arc<Mutex<Metrics>>,
    traces: Arc<Traces>,
    tell: watch::Sender<Readiness>,
    watchdog: Watchdog,
    meter: Meter,
    /// Of the last step to another level.
    reason: Option<String>,
    standing: Standing,
    asked: BTreeMap<u64, (Worker, Arc<Trace>, u64)>,
    next_id: u64,
    stored: Stored,
    store_fails: bool,
    out: mpsc::Sender<Message>,
    messages: mpsc::Receiver<Message>,
    signals: Signals,
}

struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

/// Flows with a failing verdict in the store.
#[derive(Default)]
struct Stored {
    uuids: HashSet<String>,
    order: VecDeque<String>,
}

impl Stored {
    fn insert(&mut self, uuid: &str) {
        if self.uuids.insert(uuid.to_owned()) {
            self.order.push_back(uuid.to_owned());
            if self.order.len() > REMEMBERED
                && let Some(oldest) = self.order.pop_front()
            {
                self.uuids.remove(&oldest);
            }
        }
    }
}

impl Supervisor {
    pub(super) fn new(
        config: Config,
        writer: Writer,
        metrics: Arc<Mutex<Metrics>>,
        traces: Arc<Traces>,
        tell: watch::Sender<Readiness>,
    ) -> Result<Self, Error> {
        let listen = |kind| signal(kind).map_err(Error::Runtime);
        let (out, messages) = mpsc::channel(MESSAGES);
        Ok(Self {
            watchdog: Watchdog::new(config.budget.clone()),
            config,
            writer,
            metrics,
            traces,
            tell,
            meter: Meter::new(),
            reason: None,
            standing: Standing::new(Instant::now()),
            asked: BTreeMap::new(),
            next_id: 1,
            stored: Stored::default(),
            store_fails: false,
            out,
            messages,
            signals: Signals {
                hangup: listen(SignalKind::hangup())?,
                terminate: listen(SignalKind::terminate())?,
                interrupt: listen(SignalKind::interrupt())?,
            },
        })
    }

    /// Until SIGTERM or SIGINT.
    pub(super) async fn run(
        mut self,
        file: Option<&Path>,
        mut orders: Orders,
        doors: &Doors,
    ) -> Result<u8, Error> {
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.start_standing();
        self.report();
        loop {
            tokio::select! {
                Some(message) = self.messages.recv() => self.message(message),
                Some(command) = orders.recv() => self.command(command),
                _ = look.tick() => self.look(),
                Some(()) = self.signals.hangup.recv() => self.reload(file, doors),
                _ = self.signals.terminate.recv() => break,
                _ = self.signals.interrupt.recv() => break,
            }
            self.report();
        }
        self.drain().await
    }

    fn metrics(&self) -> MutexGuard<'_, Metrics> {
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts the standing trace, where it is wanted and none is at work.
    fn start_standing(&mut self) {
        if !matches!(self.standing.state, State::Off | State::Waiting { .. }) {
            return;
        }
        self.standing.state = State::Off;
        self.standing.level = self.watchdog.level();
        let scope = match self.watchdog.level() {
            Level::Full => Scope::AllPods,
            Level::DropsOnly => Scope::Deaths,
            Level::Paused => return,
        };
        if !self.config.trace.enabled {
            return;
        }
        let order = Order {
            selector: Selector {
                uplinks: self.config.trace.uplinks.clone(),
                ..Selector::default()
            },
            targets: Vec::new(),
            config: engine::Config {
                no_answer: Span(self.config.trace.no_answer.0.as_nanos() as u64),
            },
            scope,
            snap: false,
            max_tier: None,
            explain_rule: false,
            names: Some(Wanted::of_process(self.config.kubeconfig.as_deref())),
            follower: None,
        };
        let now = Instant::now();
        match self.launch(order, None, None) {
            Ok(worker) => self.standing.started(worker, now),
            Err(error) => self.standing.failed(error, now),
        }
    }

    fn launch(
        &mut self,
        order: Order,
        subject: Option<Subject>,
        limit: Option<Duration>,
    ) -> Result<Worker, String> {
        let id = self.next_id;
        self.next_id += 1;
        Worker::start(id, order, subject, limit, self.out.clone())
            .map_err(|error| format!("start a thread: {error}"))
    }

    fn message(&mut self, message: Message) {
        if self.standing.worker() == Some(message.worker) {
            return self.of_standing(message.what);
        }
        let Some((_, trace, events)) = self.asked.get_mut(&message.worker) else {
            return;
        };
        match message.what {
            News::Ready { .. } => {}
            News::Verdict(verdict) => {
                if let Ok(line) = verdict.to_line() {
                    trace.say(line.into());
                }
            }
            News::Health { hooks, .. } => {
                let seen = hooks.iter().map(|hook| hook.seen).sum::<u64>();
                self.meter.events(seen.saturating_sub(*events));
                *events = seen;
            }
            News::Ended(result) => {
                trace.ended(result.map_or_else(End::Failed, |()| End::InOrder));
                self.asked.remove(&message.worker);
            }
        }
    }

    fn of_standing(&mut self, news: News) {
        match news {
            News::Ready {
                programs,
                interfaces,
            } => {
                self.standing.ready = true;
                // What the start and the level before cost is not held against this one.
                self.meter = Meter::new();
                let level = self.standing.level.name();
                say(format_args!(
                    "ready: level {level}, {programs} programs attached, {interfaces} interfaces watched"
                ));
            }
            News::Verdict(verdict) => self.verdict(&verdict),
            News::Health { hooks, node } => {
                let seen =
                    |hooks: &[_]| -> u64 { hooks.iter().map(|hook: &HookHealth| hook.seen).sum() };
                self.meter
                    .events(seen(&hooks).saturating_sub(seen(&self.standing.hooks)));
                self.metrics().hooks(&self.standing.hooks, &hooks);
                self.metrics().node(&node);
                self.standing.hooks = hooks;
            }
            News::Ended(result) => {
                let planned = matches!(self.standing.state, State::Ending(_));
                self.standing.state = State::Off;
                match result {
                    Err(why) if !planned => {
                        tracing::warn!("the standing trace ended: {why}");
                        self.standing.failed(why, Instant::now());
                    }
                    _ => self.start_standing(),
                }
            }
        }
    }

    fn verdict(&mut self, verdict: &FlowVerdict) {
        if !choice::admits(&self.config.trace, verdict) {
            return;
        }
        self.metrics().verdict(verdict);
        let failing = is_failing(verdict.outcome);
        let keep = self.config.store.keep == Keep::All
            || failing
            || self.stored.uuids.contains(&verdict.uuid);
        if !keep {
            return;
        }
        if failing {
            self.stored.insert(&verdict.uuid);
        }
        let Ok(line) = verdict.to_line() else {
            return;
        };
        match self.writer.append(&line) {
            Ok(()) => self.store_fails = false,
            Err(error) => {
                self.metrics().not_stored();
                // A full disk is said once, not with every verdict.
                if !std::mem::replace(&mut self.store_fails, true) {
                    tracing::warn!("{error}");
                }
            }
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Start(ask, answer) => {
                let _ = answer.send(self.start(&ask));
            }
            Command::Stop(id, answer) => {
                let running = self.asked.get(&id);
                if let Some((worker, ..)) = running {
                    worker.stop();
                }
                let _ = answer.send(running.is_some());
            }
        }
    }

    fn start(&mut self, ask: &Ask) -> Result<u64, Refusal> {
        if self.watchdog.level() == Level::Paused {
            let why = self.reason.as_deref().unwrap_or("over its budget");
            return Err(Refusal::NotNow(format!("the agent is paused: {why}")));
        }
        if self.asked.len() >= MAX_TRACES {
            return Err(Refusal::TooMany(self.asked.len()));
        }
        let limit = ask.duration.map_or(DEFAULT_DURATION, |span| span.0);
        let kubeconfig = self.config.kubeconfig.as_deref();
        let (name, order, subject) = asked::order(ask, kubeconfig).map_err(Refusal::Bad)?;
        let worker = self
            .launch(order, Some(subject), Some(limit))
            .map_err(Refusal::NotNow)?;
        let started = Time::from(Timestamp::now()).0;
        let trace = self.traces.add(worker.id, name, started);
        let id = worker.id;
        self.asked.insert(id, (worker, trace, 0));
        Ok(id)
    }

    fn look(&mut self) {
        let (usage, elapsed) = self.meter.look();
        {
            let metrics = self.metrics();
            metrics.stored(self.writer.bytes());
            metrics.traces(self.asked.len() + usize::from(self.standing.ready));
            metrics.usage(usage);
        }
        if !self.standing.in_transition()
            && let Some(change) = self.watchdog.observe(usage, elapsed)
        {
            self.step(&change);
        }
        if let State::Waiting { until, .. } = &self.standing.state
            && Instant::now() >= *until
        {
            self.start_standing();
        }
    }

    /// Carries out what the watchdog decided.
    fn step(&mut self, change: &Change) {
        let (from, to) = (change.from.name(), change.to.name());
        tracing::warn!("from level {from} to {to}: {}", change.reason);
        self.metrics().level(change);
        self.reason = (change.to != Level::Full).then(|| change.reason.to_string());
        if change.to == Level::Paused {
            for (worker, trace, _) in self.asked.values() {
                trace.ended(End::Failed(format!(
                    "the agent is paused: {}",
                    change.reason
                )));
                worker.stop();
            }
        }
        if !self.standing.stop() {
            self.start_standing();
        }
    }

    /// A bad file changes nothing.
    fn reload(&mut self, file: Option<&Path>, doors: &Doors) {
        let fresh = match Config::load(file) {
            Ok(fresh) => fresh,
            Err(error) => return tracing::warn!("keeping the configuration: {error}"),
        };
        let later = |what: &str| tracing::warn!("{what}: takes effect at the next start");
        if !doors.are(&fresh.listen) {
            later("listen");
        }
        if fresh.store.dir != self.config.store.dir {
            later("store.dir");
        }
        if fresh.metrics != self.config.metrics {
            later("metrics.max_series");
        }
        doors.renew();
        if let Err(error) = self
            .writer
            .set_limits(Limits::of_total(fresh.store.max_mib * MIB))
        {
            tracing::warn!("{error}");
        }
        if fresh.budget != self.config.budget {
            self.watchdog.set_budget(fresh.budget.clone());
        }
        // Which verdicts are chosen needs no other trace.
        let attached = |config: &Config| {
            let trace = &config.trace;
            (
                trace.enabled,
                trace.uplinks.clone(),
                trace.no_answer,
                config.kubeconfig.clone(),
            )
        };
        let other_trace = attached(&fresh) != attached(&self.config);
        self.config = fresh;
        if other_trace && !self.standing.stop() {
            self.start_standing();
        }
        say("the configuration was read again");
    }

    /// Says whether we observe.
    fn report(&self) {
        let level = self.watchdog.level();
        let wanted = self.config.trace.enabled;
        let trouble = self.standing.trouble().map(str::to_owned);
        let at_work = !wanted || self.standing.ready;
        let starting = (!at_work && level != Level::Paused).then(|| "starting".to_owned());
        let now = Readiness {
            ready: at_work && level != Level::Paused,
            level: level.name(),
            reason: trouble.or_else(|| self.reason.clone()).or(starting),
        };
        self.tell.send_if_modified(|before| {
            let changed = *before != now;
            *before = now;
            changed
        });
    }

    /// Ends all traces in order; what they still decide is stored.
    async fn drain(mut self) -> Result<u8, Error> {
        self.standing.stop();
        for (worker, ..) in self.asked.values() {
            worker.stop();
        }
        // No further trace: the one at work is the last.
        self.config.trace.enabled = false;
        let deadline = tokio::time::Instant::now() + DRAIN;
        while self.standing.worker().is_some() || !self.asked.is_empty() {
            match tokio::time::timeout_at(deadline, self.messages.recv()).await {
                Ok(Some(message)) => self.message(message),
                Ok(None) => break,
                Err(_) => {
                    tracing::warn!("a trace did not end within {DRAIN:?}");
                    break;
                }
            }
        }
        self.writer.sync()?;
        Ok(exit::HEALTHY)
    }
}
