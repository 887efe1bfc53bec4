//! One trace on a thread of its own.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use crate::agent::metrics::{HookHealth, NodeHealth};
use crate::app::running::{Order, Running, Scope, What};
use crate::app::{Error, trace};
use crate::cli::Subject;
use crate::event::HookId;
use crate::export::Context;
use crate::export::record::FlowVerdict;
use crate::identity;
use crate::inventory::Inventory;
use crate::kernel::Session;
use crate::verdict::{Action, Confidence, Verdict};

/// How often a trace tells how it is doing.
const HEALTH: Duration = Duration::from_secs(1);

/// What a trace tells its supervisor, with its number.
pub(super) struct Message {
    pub worker: u64,
    pub what: News,
}

pub(super) enum News {
    /// Attached: from here on nothing is missed.
    Ready {
        programs: usize,
        interfaces: usize,
    },
    Verdict(Box<FlowVerdict>),
    /// Totals since it began.
    Health {
        hooks: Vec<HookHealth>,
        node: NodeHealth,
    },
    /// Detached; nothing comes after it.
    Ended(Result<(), String>),
}

/// Asks the trace to end when dropped.
pub(super) struct Worker {
    pub id: u64,
    stop: watch::Sender<bool>,
}

impl Worker {
    /// Starts; whatever happens, an `Ended` is sent at last.
    pub(super) fn start(
        id: u64,
        order: Order,
        subject: Option<Subject>,
        limit: Option<Duration>,
        out: mpsc::Sender<Message>,
    ) -> io::Result<Self> {
        let (stop, stopped) = watch::channel(false);
        thread::Builder::new()
            .name(format!("trace-{id}"))
            .spawn(move || {
                let sender = Sender { worker: id, out };
                let result = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .map_err(Error::Runtime)
                    .and_then(|runtime| {
                        let result =
                            runtime.block_on(follow(order, subject, limit, stopped, &sender));
                        runtime.shutdown_background();
                        result
                    });
                let ended = News::Ended(result.map_err(|error| error.to_string()));
                let _ = sender.out.blocking_send(Message {
                    worker: id,
                    what: ended,
                });
            })?;
        Ok(Self { id, stop })
    }

    /// Asks it to drain and end.
    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }
}

struct Sender {
    worker: u64,
    out: mpsc::Sender<Message>,
}

impl Sender {
    /// Waits where the supervisor is behind: then the kernel's ring fills, and what it cannot take is counted.
    async fn send(&self, what: News) {
        let _ = self
            .out
            .send(Message {
                worker: self.worker,
                what,
            })
            .await;
    }

    async fn verdicts(&self, scope: Scope, verdicts: Vec<Verdict>, inventory: &Inventory) {
        if verdicts.is_empty() {
            return;
        }
        let context = Context::from(inventory);
        for verdict in verdicts {
            if let Some(verdict) = admit(scope, verdict) {
                let record = FlowVerdict::from((&verdict, &context));
                self.send(News::Verdict(Box::new(record))).await;
            }
        }
    }
}

/// `subject`: whose packets; the whole node's without one.
async fn follow(
    mut order: Order,
    subject: Option<Subject>,
    limit: Option<Duration>,
    mut stopped: watch::Receiver<bool>,
    sender: &Sender,
) -> Result<(), Error> {
    let target = match subject {
        None => identity::resolve(&order.selector)?,
        Some(subject) => {
            let (target, follower) = trace::target(&subject, &mut order.selector).await?;
            order.follower = follower;
            target
        }
    };
    let scope = order.scope;
    let mut running = Running::start(order, &target, None).await?;
    sender
        .send(News::Ready {
            programs: running.session().hooks().len(),
            interfaces: running.session().interfaces(),
        })
        .await;
    let started = Instant::now();
    let mut told = started;
    let mut result = Ok(());
    loop {
        let left = limit.map(|limit| limit.saturating_sub(started.elapsed()));
        let step = tokio::select! {
            step = running.next() => step,
            _ = stopped.wait_for(|stop| *stop) => break,
            () = tokio::time::sleep(left.unwrap_or_default()), if left.is_some() => break,
        };
        let step = match step {
            Ok(step) => step,
            Err(error) => {
                result = Err(error);
                break;
            }
        };
        sender
            .verdicts(scope, step.verdicts, running.inventory())
            .await;
        match step.what {
            What::Gone(name) => {
                result = Err(Error::Gone(name));
                break;
            }
            What::Tick if told.elapsed() >= HEALTH => {
                told = Instant::now();
                sender
                    .send(health(running.session(), running.inventory()))
                    .await;
            }
            What::Tick | What::Nothing | What::Pods { .. } => {}
        }
    }
    let last = health(running.session(), running.inventory());
    sender.send(last).await;
    let (verdicts, engine) = running.end()?;
    sender.verdicts(scope, verdicts, engine.inventory()).await;
    result
}

fn health(session: &Session, inventory: &Inventory) -> News {
    let hook = |hook: &HookId| {
        let totals = session.totals(*hook);
        HookHealth {
            name: hook.name(),
            attached: session.hooks().contains(hook),
            seen: totals.seen,
            lost: totals.lost + totals.map_full,
        }
    };
    News::Health {
        hooks: HookId::ALL.iter().map(hook).collect(),
        node: NodeHealth::from(inventory),
    }
}

/// Where only deaths are seen, nothing can be said of flows that live, and whether a retransmission got through is not
/// known: a death is what it is, but not the last word on its flow.
fn admit(scope: Scope, mut verdict: Verdict) -> Option<Verdict> {
    if scope != Scope::Deaths {
        return Some(verdict);
    }
    let died = verdict.hops.iter().any(|hop| hop.action == Action::Dropped);
    if !died || !verdict.outcome.is_failing() {
        return None;
    }
    verdict.confidence = verdict.confidence.min(Confidence::Inferred);
    verdict.caveats.push(
        "only deaths are followed, to stay within the agent's budget: a later packet of this flow may have got through"
            .to_owned(),
    );
    Some(verdict)
}
