//! `netdiag agent`: traces without end, and what becomes of their verdicts.
//!
//! One thread serves, stores and decides; each trace has a thread of its own ([`worker`]), so that neither waits for the
//! other. [`supervisor`] is where they meet.

mod asked;
mod standing;
mod supervisor;
mod usage;
mod worker;

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use self::supervisor::Supervisor;
use super::Error;
use crate::agent::api::{Authorizer, Command, Guard, Listener, Readiness, Service};
use crate::agent::config::{Config, DEFAULT, Listen};
use crate::agent::metrics::Metrics;
use crate::agent::traces::Traces;
use crate::cli;
use crate::identity;
use crate::identity::kube::client::{Places, connect};
use crate::kernel;
use crate::privilege::{self, Kept};
use crate::store::{Limits, Writer};

/// Requests waiting for the supervisor.
const COMMANDS: usize = 16;

const MIB: u64 = 1 << 20;

pub(super) fn run(options: &cli::Agent) -> Result<u8, Error> {
    if options.print_config {
        super::print(DEFAULT)?;
        return Ok(cli::exit::HEALTHY);
    }
    let config = Config::load(options.config.as_deref())?;
    kernel::ensure_observable()?;
    // Before there is any other thread.
    let kept = privilege::limit(privilege::Scope::Tree)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::Runtime)?;
    let result = runtime.block_on(serve(options, config, &kept));
    // A reader of the store may be half way through; nobody is left to take what it finds.
    runtime.shutdown_background();
    result
}

async fn serve(options: &cli::Agent, config: Config, kept: &Kept) -> Result<u8, Error> {
    let limits = Limits::of_total(config.store.max_mib * MIB);
    let (writer, recovered) = Writer::open(&config.store.dir, limits)?;
    let (_, kernel) = identity::machine();
    let metrics = Metrics::new(
        config.metrics.max_series,
        env!("CARGO_PKG_VERSION"),
        &kernel,
    );
    metrics.torn(recovered.torn);
    metrics.stored(recovered.bytes);
    let metrics = Arc::new(Mutex::new(metrics));
    let traces = Arc::new(Traces::default());
    let (commands, orders) = mpsc::channel(COMMANDS);
    let (tell, readiness) = watch::channel(Readiness {
        ready: false,
        level: "full",
        reason: Some("starting".to_owned()),
    });
    let service = Service {
        store: config.store.dir.clone(),
        metrics: Arc::clone(&metrics),
        traces: Arc::clone(&traces),
        readiness,
        commands,
        clock: Timestamp::now,
    };
    let doors = Doors::open(&config, &service).await?;
    say(format_args!(
        "capabilities: {}",
        kept.names().collect::<Vec<_>>().join(", ")
    ));
    if !kept.can_enter_namespaces() {
        say(
            "blind: pods' namespaces: CAP_SYS_ADMIN is not held, so their interfaces and sockets are not read",
        );
    }
    if recovered.torn > 0 {
        say("the last line of the store was torn by the end of the agent before, and is cut off");
    }
    let supervisor = Supervisor::new(config, writer, metrics, traces, tell)?;
    supervisor
        .run(options.config.as_deref(), orders, &doors)
        .await
}

/// One line for people.
fn say(what: impl std::fmt::Display) {
    let _ = writeln!(io::stderr(), "netdiag: {what}");
}

/// Reads a certificate again for the listener it was made for.
type Renewal = Box<dyn Fn(&Listen) -> Result<(), String>>;

/// The open doors; closed when dropped.
struct Doors {
    renewals: Vec<(Listen, Renewal)>,
    serving: JoinSet<()>,
}

impl Doors {
    async fn open(config: &Config, service: &Service) -> Result<Self, Error> {
        let authorizer = if config.listen.iter().any(|listen| listen.auth.is_some()) {
            let access = connect(&Places::of_process(config.kubeconfig.as_deref())).await?;
            Some(Arc::new(Authorizer::new(access.client)))
        } else {
            None
        };
        let mut doors = Self {
            renewals: Vec::new(),
            serving: JoinSet::new(),
        };
        for listen in &config.listen {
            let listener = Listener::open(listen).await?;
            let guard = match (&listen.unix, &listen.auth, &authorizer) {
                (Some(_), ..) => Guard::Owner,
                (None, Some(_), Some(authorizer)) => Guard::Kubernetes(Arc::clone(authorizer)),
                (None, ..) => Guard::Local,
            };
            doors
                .renewals
                .push((listen.clone(), Box::new(listener.renewal())));
            say(format_args!("serving {}", listener.name()));
            let router = service.clone().router(guard);
            doors.serving.spawn(listener.serve(router));
        }
        Ok(doors)
    }

    /// Reads the certificates again; says what is wrong with those that cannot be used.
    fn renew(&self) {
        for (listen, renew) in &self.renewals {
            if let Err(why) = renew(listen) {
                tracing::warn!("{listen}: keeping the old certificate: {why}");
            }
        }
    }

    /// The same addresses with the same rules.
    fn are(&self, listen: &[Listen]) -> bool {
        self.renewals.iter().map(|(listen, _)| listen).eq(listen)
    }
}

/// Asks to end, or to read the configuration again.
pub(super) type Orders = mpsc::Receiver<Command>;
