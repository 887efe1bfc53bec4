//! Facts about the node that change while a trace runs: counters, listening sockets, foreign BPF programs, links.
//!
//! Each is read on a blocking thread inside its namespace and arrives in the engine as a delta. Counters are read on a
//! schedule; sockets and programs only when an event makes somebody ask for them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::event::{Detail, Event, IfIndex, Netns};
use crate::identity::{self, NetnsHandle, Target};
use crate::inventory::Delta;

/// Asked again for the same thing not before this.
const FRESH: Duration = Duration::from_millis(500);

/// Namespaces whose counters are read on schedule; a node may have more, then only those with events are.
const MAX_POLLED: usize = 16;

/// Deltas waiting for the engine.
const QUEUE: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Topic {
    Listeners,
    Programs(IfIndex),
}

pub(super) struct News {
    handles: BTreeMap<Netns, NetnsHandle>,
    polled: BTreeSet<Netns>,
    asked: BTreeMap<(Netns, Topic), Instant>,
    /// Ids of our own programs, which are nobody's news.
    own_programs: Vec<u32>,
    sender: mpsc::Sender<Delta>,
    receiver: mpsc::Receiver<Delta>,
}

impl News {
    pub(super) fn new(target: &Target, own_programs: Vec<u32>) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let pods = target.pod.iter().chain(&target.other_pods);
        let handles: BTreeMap<_, _> =
            std::iter::once(&target.node).chain(pods).map(|handle| (handle.netns(), handle.clone())).collect();
        let few = handles.len() <= MAX_POLLED;
        let always = std::iter::once(&target.node).chain(&target.pod).map(NetnsHandle::netns);
        let polled = if few { handles.keys().copied().collect() } else { always.collect() };
        Self { handles, polled, asked: BTreeMap::new(), own_programs, sender, receiver }
    }

    /// Counters of all polled namespaces, now: the baseline, or the last word.
    pub(super) fn counters(&self) -> Vec<Delta> {
        let read = |netns: &Netns| identity::counters::read(self.handles.get(netns)?).ok();
        self.polled.iter().filter_map(read).collect()
    }

    /// Starts reading the counters in the background.
    pub(super) fn poll_counters(&self) {
        for handle in self.polled.iter().filter_map(|netns| self.handles.get(netns)) {
            self.spawn(handle, identity::counters::read);
        }
    }

    /// An event may make somebody ask: what does listen there, whose program is that?
    pub(super) fn consider(&mut self, event: &Event, now: Instant) {
        let Some(netns) = event.place.netns else { return };
        self.polled.extend(self.handles.contains_key(&netns).then_some(netns));
        match &event.detail {
            Detail::ResetSent => self.ask(netns, Topic::Listeners, now),
            Detail::Dropped(drop) => {
                let reason = drop.reason.as_deref().unwrap_or("");
                let location = drop.location.as_deref().unwrap_or("");
                if reason == "NO_SOCKET" {
                    self.ask(netns, Topic::Listeners, now);
                } else if let Some(ifindex) = event.place.ifindex
                    && (reason.starts_with("TC_") || reason == "XDP" || location.contains("xdp"))
                {
                    self.ask(netns, Topic::Programs(ifindex), now);
                }
            }
            _ => {}
        }
    }

    fn ask(&mut self, netns: Netns, topic: Topic, now: Instant) {
        let fresh = self.asked.get(&(netns, topic)).is_some_and(|asked| now.duration_since(*asked) < FRESH);
        let Some(handle) = self.handles.get(&netns).filter(|_| !fresh) else { return };
        self.asked.insert((netns, topic), now);
        match topic {
            Topic::Listeners => self.spawn(handle, identity::sockets::read),
            Topic::Programs(ifindex) => {
                let own = self.own_programs.clone();
                self.spawn(handle, move |handle| identity::programs::read(handle, ifindex, &own));
            }
        }
    }

    fn spawn<F>(&self, handle: &NetnsHandle, read: F)
    where
        F: FnOnce(&NetnsHandle) -> Result<Delta, identity::IdentityError> + Send + 'static,
    {
        let (handle, sender) = (handle.clone(), self.sender.clone());
        tokio::task::spawn_blocking(move || match read(&handle) {
            // A full queue means that the engine is behind; the next reading replaces this one.
            Ok(delta) => drop(sender.try_send(delta)),
            Err(error) => tracing::debug!("{error}"),
        });
    }

    /// The next delta.
    pub(super) async fn next(&mut self) -> Option<Delta> {
        self.receiver.recv().await
    }
}
