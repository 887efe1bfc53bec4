//! One kind of object, listed and watched for as long as anybody listens; what changes goes out as news.
//!
//! Whatever the server does, this goes on: it tries again with growing pauses, and says once what cannot be seen and
//! once that it can be seen again. Only that the server does not serve this version of the kind is an end.

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::api::ListParams;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::prune::{Pruner, Read};
use crate::inventory::cluster::{Change, Kind, Origin};

/// Objects read at a time: what is read of them is pruned before the next ones are.
const PAGE: u32 = 250;

/// Objects kept of a kind.
const MOST: usize = 200_000;

/// A watch that lives for this long after a failure has recovered.
const QUIET: Duration = Duration::from_secs(1);

/// How long things may take, and how long to wait after failures.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Without an answer for so long, the kind counts as unseen; the question stays open.
    pub patience: Duration,
    pub first_pause: Duration,
    pub longest_pause: Duration,
    /// A watch is asked for anew after so many seconds.
    pub watch: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(5),
            first_pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(30),
            watch: 290,
        }
    }
}

/// The server knows no such version of the kind.
#[derive(Debug)]
pub struct NotServed;

/// Tells what it sees of one kind.
pub struct Reflector {
    kind: Kind,
    pace: Pace,
    sender: mpsc::Sender<Change>,
    pruner: Pruner,
    /// What has been told of each object.
    known: HashMap<Arc<str>, Change>,
    /// Objects of the list that is being read.
    listed: Option<HashSet<Arc<str>>>,
    synced: bool,
    unseen: bool,
    failures: u32,
    overfull: bool,
}

/// Nobody listens any more.
struct Closed;

impl Reflector {
    pub fn new(kind: Kind, sender: mpsc::Sender<Change>, pace: Pace, wall_offset: i64) -> Self {
        Self {
            kind,
            pace,
            sender,
            pruner: Pruner {
                wall_offset,
                ..Pruner::default()
            },
            known: HashMap::new(),
            listed: None,
            synced: false,
            unseen: false,
            failures: 0,
            overfull: false,
        }
    }

    /// Returns when nobody listens any more.
    pub async fn run<K>(
        &mut self,
        api: Api<K>,
        fields: &str,
        read: Read<K>,
    ) -> Result<(), NotServed>
    where
        K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let mut config = watcher::Config::default()
            .page_size(PAGE)
            .timeout(self.pace.watch);
        if !fields.is_empty() {
            config = config.fields(fields);
        }
        let mut stream = pin!(watcher(api.clone(), config.clone()));
        let mut progress = Instant::now();
        loop {
            let limit = self.limit().map_or(Duration::MAX, |limit| {
                limit.saturating_sub(progress.elapsed())
            });
            let told = match timeout(limit, stream.next()).await {
                Ok(Some(Ok(event))) => {
                    // That a list begins is no answer yet.
                    if !matches!(event, Event::Init) {
                        progress = Instant::now();
                    }
                    self.event(event, read).await
                }
                Ok(Some(Err(error))) => {
                    if is_not_served(&error) {
                        return Err(NotServed);
                    }
                    let told = self.failed(&error).await;
                    self.pause(&error).await;
                    progress = Instant::now();
                    told
                }
                Ok(None) => return Ok(()),
                Err(_) => {
                    progress = Instant::now();
                    self.silent(&api, &config).await
                }
            };
            if told.is_err() {
                return Ok(());
            }
        }
    }

    /// How long the stream may be silent before somebody should ask why; `None`: for ever.
    fn limit(&self) -> Option<Duration> {
        if !self.synced || self.listed.is_some() {
            Some(self.pace.patience)
        } else if self.unseen || self.failures > 0 {
            Some(QUIET)
        } else {
            None
        }
    }

    async fn event<K>(&mut self, event: Event<K>, read: Read<K>) -> Result<(), Closed> {
        match event {
            Event::Init => self.listed = Some(HashSet::new()),
            Event::InitApply(object) | Event::Apply(object) => {
                if let Some((key, change)) = read(&mut self.pruner, &object) {
                    if let Some(listed) = &mut self.listed {
                        listed.insert(Arc::clone(&key));
                    }
                    self.put(key, change).await?;
                }
            }
            Event::Delete(object) => {
                if let Some((key, _)) = read(&mut self.pruner, &object) {
                    self.remove(&key).await?;
                }
            }
            Event::InitDone => self.synchronised().await?,
        }
        Ok(())
    }

    async fn put(&mut self, key: Arc<str>, change: Change) -> Result<(), Closed> {
        if self.known.get(&key) == Some(&change) {
            return Ok(());
        }
        if self.known.len() >= MOST && !self.known.contains_key(&key) {
            if !self.overfull {
                self.overfull = true;
                self.unseen(format!("there are more than {MOST}")).await?;
            }
            return Ok(());
        }
        self.known.insert(key, change.clone());
        self.tell(change).await
    }

    async fn remove(&mut self, key: &str) -> Result<(), Closed> {
        match self.known.remove(key).as_ref().and_then(removal) {
            Some(gone) => self.tell(gone).await,
            None => Ok(()),
        }
    }

    async fn synchronised(&mut self) -> Result<(), Closed> {
        let listed = self.listed.take().unwrap_or_default();
        let gone: Vec<_> = self
            .known
            .keys()
            .filter(|key| !listed.contains(*key))
            .cloned()
            .collect();
        for key in gone {
            self.remove(&key).await?;
        }
        self.pruner.interner.sweep();
        self.known.shrink_to_fit();
        self.seen().await
    }

    async fn seen(&mut self) -> Result<(), Closed> {
        if self.unseen {
            tracing::info!("{} can be seen again", self.kind.name());
        }
        (self.synced, self.unseen, self.failures) = (true, false, 0);
        if self.overfull {
            return Ok(());
        }
        self.tell(Change::Synced(self.kind)).await
    }

    async fn failed(&mut self, error: &watcher::Error) -> Result<(), Closed> {
        tracing::debug!("{}: {error}", self.kind.name());
        match error {
            // Our version is too old: the watcher lists anew by itself. A stream that breaks is asked for again.
            watcher::Error::WatchError(status) if status.code == 410 => Ok(()),
            watcher::Error::WatchFailed(_) => Ok(()),
            _ => {
                self.failures = self.failures.saturating_add(1);
                self.unseen(why(error)).await
            }
        }
    }

    async fn unseen(&mut self, why: String) -> Result<(), Closed> {
        if self.unseen {
            return Ok(());
        }
        self.unseen = true;
        self.tell(Change::Unseen(self.kind, why.into())).await
    }

    async fn pause(&self, error: &watcher::Error) {
        let outage = !matches!(
            error,
            watcher::Error::WatchError(_) | watcher::Error::WatchFailed(_)
        );
        let doublings = if outage { self.failures.min(10) } else { 1 };
        let pause = self.pace.first_pause * 2_u32.pow(doublings.saturating_sub(1));
        sleep(jittered(pause.min(self.pace.longest_pause))).await;
    }

    /// Nothing was heard for a while when something should have been.
    async fn silent<K>(&mut self, api: &Api<K>, config: &watcher::Config) -> Result<(), Closed>
    where
        K: Resource + Clone + DeserializeOwned + Debug,
    {
        if !self.synced || self.listed.is_some() {
            let seconds = self.pace.patience.as_secs_f32();
            return self
                .unseen(format!("the API server has not answered for {seconds} s"))
                .await;
        }
        // A watch that was refused may have been granted since, and then tells nothing until something changes.
        let mut one = ListParams::default().limit(1);
        one.field_selector.clone_from(&config.field_selector);
        match timeout(self.pace.patience, api.list(&one)).await {
            Ok(Ok(_)) => self.seen().await,
            Ok(Err(_)) | Err(_) => Ok(()),
        }
    }

    async fn tell(&self, change: Change) -> Result<(), Closed> {
        self.sender.send(change).await.map_err(|_| Closed)
    }
}

/// The news that the object of this news is gone.
fn removal(change: &Change) -> Option<Change> {
    Some(match change {
        Change::Pod(pod) => Change::PodGone(Arc::clone(&pod.uid), Origin::Api),
        Change::Service(service) => Change::ServiceGone(service.name.clone()),
        Change::Slice(slice) => Change::SliceGone(slice.name.clone()),
        Change::Policy(policy) => Change::PolicyGone(policy.name.clone()),
        Change::Namespace(name, _) => Change::NamespaceGone(Arc::clone(name)),
        Change::Machine(machine) => Change::MachineGone(Arc::clone(&machine.name)),
        _ => return None,
    })
}

fn is_not_served(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status)) => status.code == 404,
        _ => false,
    }
}

/// In a few words: who said no, or that nobody answered.
fn why(error: &watcher::Error) -> String {
    use watcher::Error::{InitialListFailed, WatchError, WatchFailed, WatchStartFailed};
    match error {
        InitialListFailed(error) | WatchStartFailed(error) | WatchFailed(error) => match error {
            kube::Error::Api(status) => refusal(status),
            other => super::client::innermost(other),
        },
        WatchError(status) => refusal(status),
        watcher::Error::NoResourceVersion => "the API server's answer has no version".to_owned(),
    }
}

fn refusal(status: &kube::core::Status) -> String {
    match status.code {
        401 => "the API server does not accept our credentials (401)".to_owned(),
        403 => "our credentials may not list and watch them (403)".to_owned(),
        code => {
            let message = status.message.lines().next().unwrap_or_default();
            format!("the API server answers {code} {message}")
                .trim_end()
                .to_owned()
        }
    }
}

/// Between half and all of it, so that the agents of a cluster do not all come back at once.
fn jittered(pause: Duration) -> Duration {
    use std::hash::{BuildHasher, RandomState};
    let random = RandomState::new().hash_one(0_u8) % 1024;
    pause / 2 + pause / 2 * random as u32 / 1024
}
