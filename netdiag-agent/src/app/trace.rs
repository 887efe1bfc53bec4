//! `netdiag trace`: attach, follow, decide, report, detach.

use std::ffi::OsString;
use std::future;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use tokio::process::Child;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::output::{PacketFile, Report, save_packets};
use super::running::{self, Order, Running, Scope, What};
use super::{Error, destination, trigger};
use crate::cli::{self, Subject, Until, exit};
use crate::engine::Config;
use crate::export::Style;
use crate::export::progress::Progress;
use crate::identity::kube::names::Wanted;
use crate::identity::pods::{self, Finder, Follower, Roots};
use crate::identity::{self, LinkRef, NetnsHandle, Selector, Target};
use crate::inventory::{BlindSpot, Delta, Inventory};
use crate::kernel;
use crate::pcap::Capture;
use crate::privilege;
use crate::recording::Recorder;
use crate::verdict::Verdict;

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
    let (mut order, wider) = order(options).await?;
    let (mut target, follower) = target(&options.subject, &mut order.selector).await?;
    target
        .deltas
        .extend(wider.iter().cloned().map(Delta::Blind));
    target.blind.extend(wider);
    order.follower = follower.filter(|_| options.until == Until::Interrupted);
    // The user's files first: without its privileges even root may not write into a folder of somebody else.
    let packets = options.pcap.as_deref().map(Capture::create).transpose()?;
    let record = options.record.as_deref();
    let recorder = record
        .map(|path| Recorder::create(path, order.config))
        .transpose()?;
    privilege::limit(privilege::Scope::Process)?;
    let mut trace = Trace {
        running: Running::start(order, &target, recorder).await?,
        printer: Printer {
            report: Report::new(
                options.output,
                style,
                options.until == Until::Interrupted,
                options.verbose,
            ),
            packets,
            progress: Progress::new(true),
        },
    };
    trace.announce(options, &target);
    let ended = trace.follow(options, &target, signals).await;
    let code = trace.end();
    match (ended?, code?) {
        (Some(gone), exit::HEALTHY) => Err(Error::Gone(gone)),
        (_, code) => Ok(code),
    }
}

/// With why more is looked for than was asked for.
async fn order(options: &cli::Trace) -> Result<(Order, Option<BlindSpot>), Error> {
    let found = match &options.to {
        Some(to) => destination::targets(to, options).await?,
        None => Vec::new().into(),
    };
    let order = Order {
        selector: selector(&options.subject, &options.uplinks),
        targets: found.targets,
        config: Config {
            no_answer: options.no_answer,
        },
        scope: Scope::Target,
        snap: options.pcap.is_some(),
        max_tier: options.max_tier,
        explain_rule: options.explain_rule,
        names: Some(names(options)),
        follower: None,
    };
    Ok((order, found.blind))
}

fn names(options: &cli::Trace) -> Wanted {
    Wanted::of_process(options.kubeconfig.as_deref())
}

pub(super) fn selector(subject: &Subject, uplinks: &[String]) -> Selector {
    let mut selector = Selector {
        uplinks: uplinks.to_vec(),
        ..Selector::default()
    };
    match subject {
        Subject::NetnsName(name) => selector.netns = Some(name.clone()),
        Subject::NetnsPath(path) => selector.netns = Some(path.display().to_string()),
        Subject::Pid(pid) => selector.pid = Some(*pid),
        Subject::Interface(name) => selector.interface = Some(name.clone()),
        Subject::Pods(..) => {}
    }
    selector
}

/// Whose packets; with who knows when these pods become others.
pub(super) async fn target(
    subject: &Subject,
    selector: &mut Selector,
) -> Result<(Target, Option<Follower>), Error> {
    let Subject::Pods(query, sources) = subject else {
        return Ok((identity::resolve(selector)?, None));
    };
    let mut finder = Finder::new(query.clone(), sources, Roots::default());
    let found = finder.first().await?;
    selector.pods = found.pods.iter().map(|pod| pod.netns.clone()).collect();
    let mut target = identity::resolve(selector)?;
    let spots = found.blind.iter().cloned().map(Delta::Blind);
    target.deltas.extend(spots);
    let names = pods::names(
        running::now(),
        &found.pods,
        target.node.netns(),
        &target.deltas,
    );
    target.deltas.extend(names);
    target.blind.extend(found.blind);
    // The node does not come and go.
    let follower = (!target.pods.is_empty()).then(|| Follower::new(finder, found.pods));
    Ok((target, follower))
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

/// A running trace, and where its verdicts go.
struct Trace {
    running: Running,
    printer: Printer,
}

struct Printer {
    report: Report,
    packets: Option<PacketFile>,
    progress: Progress,
}

impl Printer {
    fn verdicts(&mut self, verdicts: &[Verdict], inventory: &Inventory) -> Result<(), Error> {
        for verdict in verdicts {
            if let Some(packets) = &mut self.packets {
                packets.verdict(verdict);
            }
            self.report.verdict(verdict, inventory)?;
        }
        Ok(())
    }
}

impl Trace {
    /// One line on standard error: from here on nothing is missed.
    fn announce(&self, options: &cli::Trace, target: &Target) {
        let subject = subject(target);
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
        let watched: Vec<String> = [("", &target.pod_links), ("uplink ", &target.uplinks)]
            .into_iter()
            .filter(|(_, links)| !links.is_empty())
            .map(|(what, links)| format!("{what}{}", names(links)))
            .collect();
        let progress = &self.printer.progress;
        progress.attached(self.running.session().hooks().len(), interfaces);
        progress.aside(|| {
            let mut stderr = io::stderr();
            for spot in self.running.blind() {
                let _ = writeln!(stderr, "netdiag: blind: {}: {}", spot.what, spot.why);
            }
            let _ = writeln!(
                stderr,
                "netdiag: ready: {subject} to {to}, watching {}",
                watched.join(" and ")
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
        let limit = limit(&options.until);
        let started = Instant::now();
        loop {
            tokio::select! {
                step = self.running.next() => {
                    let step = step?;
                    self.printer.verdicts(&step.verdicts, self.running.inventory())?;
                    match step.what {
                        What::Gone(gone) if options.until != Until::Interrupted => return Ok(Some(gone)),
                        What::Nothing | What::Gone(_) => {}
                        What::Pods { joined, left } => self.tell_pods(&joined, &left),
                        What::Tick => {
                            let report = &self.printer.report;
                            self.printer.progress.flows(report.flows(), report.failing());
                            if command.drained(&self.running) {
                                return Ok(None);
                            }
                        }
                    }
                }
                () = command.wait() => {
                    self.printer.progress.draining();
                    command.ended(options.no_answer);
                }
                () = signals.any() => return Ok(None),
                () = tokio::time::sleep(limit.saturating_sub(started.elapsed())), if limit < Duration::MAX => return Ok(None),
            }
        }
    }

    /// One line on standard error for each pod that came or went.
    fn tell_pods(&self, joined: &[String], left: &[String]) {
        self.printer.progress.aside(|| {
            let mut stderr = io::stderr();
            for pod in left {
                let _ = writeln!(stderr, "netdiag: {pod} has gone");
            }
            for pod in joined {
                let _ = writeln!(stderr, "netdiag: {pod} is followed too");
            }
        });
    }

    /// Drains, decides what is left, prints it; by then everything is detached.
    fn end(self) -> Result<u8, Error> {
        let Self {
            running,
            mut printer,
        } = self;
        let (verdicts, engine) = running.end()?;
        printer.verdicts(&verdicts, engine.inventory())?;
        printer.progress.finish();
        if let Some(packets) = &mut printer.packets {
            save_packets(packets, &engine)?;
        }
        if printer.report.flows() == 0 {
            let _ = writeln!(io::stderr(), "netdiag: no packet of such a flow was seen");
        }
        printer.report.finish()
    }
}

/// Whose packets, by name; of many, the first few.
fn subject(target: &Target) -> String {
    const SHOWN: usize = 5;
    let names: Vec<String> = target.pods.iter().map(NetnsHandle::label).collect();
    match names.len() {
        0 => "the node".to_owned(),
        count if count <= SHOWN => names.join(", "),
        count => format!("{} and {} more", names[..SHOWN].join(", "), count - SHOWN),
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
        let netns = target.pods.first().map(NetnsHandle::path);
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

    fn drained(&self, running: &Running) -> bool {
        match self {
            Self::Draining { earliest, latest } => {
                let now = Instant::now();
                now >= *latest || (now >= *earliest && !running.pending())
            }
            Self::None | Self::Running(_) => false,
        }
    }
}
