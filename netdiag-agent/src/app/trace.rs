//! `netdiag trace`: attach, follow, decide, report, detach.

use std::ffi::OsString;
use std::fs::File;
use std::future;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use tokio::process::Child;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use super::news::News;
use super::output::{PacketFile, Report, save_packets};
use super::rulings::Rulings;
use super::{Error, trigger};
use crate::cli::{self, Destination, Subject, Until, exit};
use crate::engine::{Config, Engine, Input};
use crate::event::{Ktime, Netns};
use crate::export::Style;
use crate::export::progress::Progress;
use crate::identity::links::Change;
use crate::identity::{self, LinkRef, Selector, Target};
use crate::inventory::Delta;
use crate::kernel::{self, Session, Watch, WatchInterface};
use crate::pcap::Capture;
use crate::recording::Recorder;

/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(20);

/// How often counters are read.
const COUNTERS: Duration = Duration::from_millis(400);

/// The command's last packets are in the ring when it ends; so long until they are judged.
const SETTLE: Duration = Duration::from_millis(150);

/// After its command has ended a trace waits for undecided flows, at most this long beyond the no-answer deadline.
const DRAIN: Duration = Duration::from_millis(2500);

pub(super) fn run(options: &cli::Trace, style: Style) -> Result<u8, Error> {
    kernel::ensure_observable()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::Runtime)?;
    let result = runtime.block_on(trace(options, style));
    // A reader thread may still sit in a system call; nothing it could find matters any more.
    runtime.shutdown_background();
    result
}

async fn trace(options: &cli::Trace, style: Style) -> Result<u8, Error> {
    let signals = Signals::new()?;
    let addresses = options
        .to
        .as_ref()
        .map(Destination::addresses)
        .transpose()?
        .unwrap_or_default();
    let mut target = identity::resolve(&selector(options))?;
    kernel::sweep_leftovers(Some(target.node.path()))?;
    let namespaces = std::iter::once(&target.node).chain(&target.pod);
    identity::rule_trace::sweep(namespaces.chain(&target.other_pods));
    // Both take a tenth of a second or more, and neither needs the other.
    let reader = tokio::task::spawn_blocking({
        let target = target.clone();
        move || News::rules(&target)
    });
    let session = Session::start(&watch(options, &target, &addresses))?;
    let rules = reader.await.unwrap_or_default();
    let mut rulings = Rulings::default();
    if options.explain_rule {
        let (running, blind) = Rulings::start(&target, &targets(options, &addresses), &rules);
        rulings = running;
        target.blind.extend(blind);
    }
    let mut trace = Trace::new(options, style, session, &target)?;
    trace.rulings = rulings;
    trace.begin(&target, rules)?;
    trace.announce(options, &target);
    let ended = trace.follow(options, &target, signals).await;
    let code = trace.end();
    match (ended?, code?) {
        (Some(gone), exit::HEALTHY) => Err(Error::Gone(gone)),
        (_, code) => Ok(code),
    }
}

fn selector(options: &cli::Trace) -> Selector {
    let mut selector = Selector {
        uplinks: options.uplinks.clone(),
        ..Selector::default()
    };
    match &options.subject {
        Subject::NetnsName(name) => selector.netns = Some(name.clone()),
        Subject::NetnsPath(path) => selector.netns = Some(path.display().to_string()),
        Subject::Pid(pid) => selector.pid = Some(*pid),
        Subject::Interface(name) => selector.interface = Some(name.clone()),
    }
    selector
}

fn watch(options: &cli::Trace, target: &Target, addresses: &[std::net::IpAddr]) -> Watch {
    let node = target.node.path();
    let interfaces = target
        .pod_links
        .iter()
        .chain(&target.uplinks)
        .map(|link| WatchInterface {
            netns: Some(node.to_owned()),
            ifindex: link.ifindex,
            name: Arc::clone(&link.name),
        });
    let namespaces = target
        .other_pods
        .iter()
        .map(identity::NetnsHandle::netns)
        .collect();
    Watch {
        node: Some(node.to_owned()),
        interfaces: interfaces.collect(),
        pod: target.pod.as_ref().map(identity::NetnsHandle::netns),
        namespaces,
        addresses: target.pod_addresses.clone(),
        any_address: target.pod.is_none(),
        targets: targets(options, addresses),
        snap: options.pcap.is_some(),
        debug_log: tracing::enabled!(tracing::Level::TRACE),
    }
}

/// What `--to` asks for; empty: everything.
fn targets(
    options: &cli::Trace,
    addresses: &[std::net::IpAddr],
) -> Vec<(Option<std::net::IpAddr>, Option<u16>)> {
    let port = options.to.as_ref().and_then(|to| to.port);
    match &options.to {
        None => Vec::new(),
        Some(_) if addresses.is_empty() => vec![(None, port)],
        Some(_) => addresses
            .iter()
            .map(|address| (Some(*address), port))
            .collect(),
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

/// Asks to end: Ctrl-C, or the supervisor's SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> Result<Self, Error> {
        let listen = |kind| signal(kind).map_err(Error::Runtime);
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    async fn any(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// A running trace: everything that feeds the engine, and where its verdicts go.
struct Trace {
    engine: Engine,
    report: Report,
    recorder: Option<Recorder<File>>,
    packets: Option<PacketFile>,
    session: Session,
    news: News,
    /// Empty without `--explain-rule`.
    rulings: Rulings,
    progress: Progress,
    node: Netns,
    /// Host-side interfaces of the pod that are still there.
    pod_links: Vec<LinkRef>,
}

impl Trace {
    fn new(
        options: &cli::Trace,
        style: Style,
        session: Session,
        target: &Target,
    ) -> Result<Self, Error> {
        let config = Config {
            no_answer: options.no_answer,
        };
        let follow = options.until == Until::Interrupted;
        let recorder = options
            .record
            .as_deref()
            .map(|path| Recorder::create(path, config))
            .transpose()?;
        let packets = options.pcap.as_deref().map(Capture::create).transpose()?;
        let pod_links = target.pod.iter().flat_map(|_| &target.pod_links);
        Ok(Self {
            engine: Engine::new(config),
            report: Report::new(options.output, style, follow, options.verbose),
            recorder,
            packets,
            news: News::new(
                target,
                session
                    .programs()
                    .iter()
                    .map(|program| program.id)
                    .collect(),
            ),
            rulings: Rulings::default(),
            progress: Progress::new(true),
            node: target.node.netns(),
            pod_links: pod_links.cloned().collect(),
            session,
        })
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
        let blind = target
            .blind
            .iter()
            .cloned()
            .chain(self.session.blind().iter().cloned())
            .map(Delta::Blind);
        let read = self
            .news
            .connections(target)
            .into_iter()
            .chain(self.news.counters())
            .chain(identity::masquerade::config().map(Delta::MasqueradeConfig))
            .chain(rules);
        let all: Vec<Delta> = deltas.chain(blind).chain(read).collect();
        all.into_iter()
            .try_for_each(|delta| self.feed(Input::Inventory(delta)))
    }

    /// One line on standard error: from here on nothing is missed.
    fn announce(&self, options: &cli::Trace, target: &Target) {
        let subject = target
            .pod
            .as_ref()
            .map_or_else(|| "the node".to_owned(), identity::NetnsHandle::label);
        let to = options
            .to
            .as_ref()
            .map_or_else(|| "anywhere".to_owned(), ToString::to_string);
        let names = |links: &[LinkRef]| {
            links
                .iter()
                .map(|link| link.name.to_string())
                .collect::<Vec<_>>()
                .join(", ")
        };
        let interfaces = target.pod_links.len() + target.uplinks.len();
        self.progress
            .attached(self.session.hooks().len(), interfaces);
        self.progress.aside(|| {
            let mut stderr = io::stderr();
            for spot in self.session.blind().iter().chain(&target.blind) {
                let _ = writeln!(stderr, "netdiag: blind: {}: {}", spot.what, spot.why);
            }
            let _ = writeln!(
                stderr,
                "netdiag: ready: {subject} to {to}, watching {} and uplink {}",
                names(&target.pod_links),
                names(&target.uplinks),
            );
        });
    }

    /// Runs until the trace should end; the name of the pod's interface when that went away.
    async fn follow(
        &mut self,
        options: &cli::Trace,
        target: &Target,
        mut signals: Signals,
    ) -> Result<Option<String>, Error> {
        let mut command = Trigger::start(options, target)?;
        self.news.watch_links(target, &selector(options));
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut counters = interval(COUNTERS);
        counters.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let limit = limit(&options.until);
        let started = Instant::now();
        loop {
            tokio::select! {
                inputs = self.session.next() => self.take(inputs)?,
                Some(change) = self.news.next() => {
                    if let Some(gone) = self.change(change)? && options.until != Until::Interrupted {
                        return Ok(Some(gone));
                    }
                }
                _ = tick.tick() => {
                    self.news.poll_rules(Instant::now());
                    self.rule()?;
                    self.feed(Input::Tick(now()))?;
                    self.progress.flows(self.report.flows(), self.report.failing());
                    if command.drained(&self.engine) {
                        return Ok(None);
                    }
                }
                _ = counters.tick() => self.news.poll_counters(),
                () = command.wait() => {
                    self.progress.draining();
                    command.ended(options.no_answer);
                }
                () = signals.any() => return Ok(None),
                () = tokio::time::sleep(limit.saturating_sub(started.elapsed())), if limit < Duration::MAX => return Ok(None),
            }
        }
    }

    fn take(&mut self, inputs: Vec<Input>) -> Result<(), Error> {
        let now = Instant::now();
        for input in inputs {
            if let Input::Event(event) = &input {
                self.news.consider(event, now);
            }
            self.feed(input)?;
        }
        Ok(())
    }

    /// A change on the node; the name of the pod's last interface when it is gone.
    fn change(&mut self, change: Change) -> Result<Option<String>, Error> {
        match change {
            Change::Delta(delta) => self.feed(Input::Inventory(delta))?,
            Change::Appeared { pod: Some(pod), .. } => {
                self.session.add_namespace(pod.netns())?;
                self.news.add(pod);
            }
            Change::Appeared { pod: None, .. } => {}
            Change::Gone { link, .. } => {
                self.session.unwatch_interface(self.node, link.ifindex);
                let before = self.pod_links.len();
                self.pod_links.retain(|known| *known != link);
                if before > 0 && self.pod_links.is_empty() {
                    return Ok(Some(link.name.to_string()));
                }
            }
        }
        Ok(None)
    }

    /// Passes on what the kernel's rule trace said.
    fn rule(&mut self) -> Result<(), Error> {
        let events = self.rulings.events();
        events
            .into_iter()
            .try_for_each(|event| self.feed(Input::Event(event)))
    }

    fn feed(&mut self, input: Input) -> Result<(), Error> {
        if let Some(recorder) = &mut self.recorder {
            recorder.write(&input)?;
        }
        for verdict in self.engine.step(input) {
            if let Some(packets) = &mut self.packets {
                packets.verdict(&verdict);
            }
            self.report.verdict(&verdict, self.engine.inventory())?;
        }
        Ok(())
    }

    /// Drains, decides what is left, prints it; dropping the session detaches.
    fn end(mut self) -> Result<u8, Error> {
        let rest = self.session.drain();
        self.take(rest)?;
        self.rule()?;
        let last_words = self
            .news
            .last_rules()
            .into_iter()
            .chain(self.news.counters());
        for delta in last_words.collect::<Vec<_>>() {
            self.feed(Input::Inventory(delta))?;
        }
        self.feed(Input::Stop(now()))?;
        self.progress.finish();
        if let Some(recorder) = self.recorder.take() {
            recorder.finish()?;
        }
        if let Some(packets) = &mut self.packets {
            save_packets(packets, &self.engine)?;
        }
        if self.report.flows() == 0 {
            let _ = writeln!(io::stderr(), "netdiag: no packet of such a flow was seen");
        }
        self.report.finish()
    }
}

fn limit(until: &Until) -> Duration {
    match until {
        Until::Elapsed(span) => *span,
        Until::CommandEnded { limit, .. } => limit.unwrap_or(Duration::MAX),
        Until::Interrupted => Duration::MAX,
    }
}

/// The command of `trace … -- COMMAND`, if there is one.
enum Trigger {
    None,
    Running(Child),
    /// The trace ends when all flows are decided, between these times.
    Draining {
        earliest: Instant,
        latest: Instant,
    },
}

impl Trigger {
    fn start(options: &cli::Trace, target: &Target) -> Result<Self, Error> {
        let command: &[OsString] = match &options.until {
            Until::CommandEnded { command, .. } => command,
            Until::Elapsed(_) | Until::Interrupted => return Ok(Self::None),
        };
        let netns = target.pod.as_ref().map(identity::NetnsHandle::path);
        trigger::spawn(command, netns).map(Self::Running)
    }

    /// Returns when the command has ended. Its exit code is its own business: a failing curl is why we are here.
    async fn wait(&mut self) {
        match self {
            Self::Running(child) => drop(child.wait().await),
            Self::None | Self::Draining { .. } => future::pending().await,
        }
    }

    fn ended(&mut self, no_answer: crate::event::Span) {
        let now = Instant::now();
        *self = Self::Draining {
            earliest: now + SETTLE,
            latest: now + Duration::from_nanos(no_answer.0) + DRAIN,
        };
    }

    fn drained(&self, engine: &Engine) -> bool {
        match self {
            Self::Draining { earliest, latest } => {
                let now = Instant::now();
                now >= *latest || (now >= *earliest && !engine.pending())
            }
            Self::None | Self::Running(_) => false,
        }
    }
}
