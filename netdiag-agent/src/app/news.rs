//! Facts about the node that change while a trace runs: counters, listening sockets, foreign BPF programs, links.
//!
//! Each is read on a blocking thread inside its namespace and arrives in the engine as a delta. Counters are read on a
//! schedule; sockets and programs only when an event makes somebody ask for them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::running;
use crate::event::{CtStatus, Detail, Event, IfIndex, Netns, Proto};
use crate::identity::links::{Change, Traced, Watch};
use crate::identity::pods::{Follower, Nudge, names};
use crate::identity::{self, IdentityError, LinkRef, NetnsHandle, Selector, Target};
use crate::inventory::Delta;

/// Asked again for the same thing not before this.
const FRESH: Duration = Duration::from_millis(500);

/// Namespaces whose counters are read on schedule; a node may have more, then only those with events are.
const MAX_POLLED: usize = 16;

/// A conntrack table with more entries is read in the background, not before the trace begins.
const BIG_TABLE: u64 = 50_000;

/// Questions remembered; those no longer fresh are forgotten first.
const MAX_ASKED: usize = 4096;

/// News waiting to be read.
const QUEUE: usize = 1024;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Topic {
    Listeners,
    Programs(IfIndex, Arc<str>),
    Rules,
    /// Who has the connections that are answered from there to here.
    Holders(Proto, SocketAddr, IpAddr),
}

pub(super) struct News {
    handles: BTreeMap<Netns, NetnsHandle>,
    polled: BTreeSet<Netns>,
    asked: BTreeMap<(Netns, Topic), Instant>,
    /// A rule dropped something here since the rules were last read.
    dropped_by_rules: BTreeSet<Netns>,
    /// Ids of our own programs, which are nobody's news.
    own_programs: Vec<u32>,
    /// Held by each question that is not answered yet.
    open_questions: Arc<()>,
    sender: mpsc::Sender<Change>,
    receiver: mpsc::Receiver<Change>,
}

impl News {
    pub(super) fn new(target: &Target, own_programs: Vec<u32>) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let pods = target.pods.iter().chain(&target.other_pods);
        let handles: BTreeMap<_, _> = std::iter::once(&target.node)
            .chain(pods)
            .map(|handle| (handle.netns(), handle.clone()))
            .collect();
        let few = handles.len() <= MAX_POLLED;
        let always = std::iter::once(&target.node)
            .chain(&target.pods)
            .map(NetnsHandle::netns);
        let polled = if few {
            handles.keys().copied().collect()
        } else {
            always.collect()
        };
        Self {
            handles,
            polled,
            asked: BTreeMap::new(),
            dropped_by_rules: BTreeSet::new(),
            own_programs,
            open_questions: Arc::new(()),
            sender,
            receiver,
        }
    }

    /// The packet filters of the node and the traced pods, now: what later readings are compared with.
    pub(super) fn rules(target: &Target) -> Vec<Delta> {
        let namespaces: Vec<_> = std::iter::once(&target.node).chain(&target.pods).collect();
        std::thread::scope(|scope| {
            let readers: Vec<_> = namespaces
                .iter()
                .map(|handle| scope.spawn(|| identity::rulesets::reading(handle)))
                .collect();
            let read = readers
                .into_iter()
                .filter_map(|reader| reader.join().ok()?.ok());
            read.flatten().collect()
        })
    }

    /// Counters of all polled namespaces, now: the baseline, or the last word.
    pub(super) fn counters(&self) -> Vec<Delta> {
        let read = |netns: &Netns| identity::counters::counters(self.handles.get(netns)?).ok();
        self.polled.iter().filter_map(read).collect()
    }

    /// The connections of the traced pods that are older than the trace; of the whole node where that is traced.
    pub(super) fn connections(&self, target: &Target) -> Option<Delta> {
        let (node, addresses) = (&target.node, &target.pod_addresses);
        if identity::conntrack::count(node)? > BIG_TABLE {
            let addresses = addresses.clone();
            self.spawn(node, move |node| {
                identity::conntrack::connections(node, &addresses).map(|delta| vec![delta])
            });
            return None;
        }
        identity::conntrack::connections(node, addresses)
            .inspect_err(|error| tracing::warn!("{error}"))
            .ok()
    }

    /// Starts reading the counters in the background.
    pub(super) fn poll_counters(&self) {
        for handle in self
            .polled
            .iter()
            .filter_map(|netns| self.handles.get(netns))
        {
            self.spawn(handle, |handle| {
                identity::counters::counters(handle).map(|delta| vec![delta])
            });
        }
    }

    /// Reads the rules again where they dropped something, but not without end.
    pub(super) fn poll_rules(&mut self, now: Instant) {
        let due: Vec<Netns> = self
            .dropped_by_rules
            .iter()
            .copied()
            .filter(|netns| !self.is_fresh(*netns, &Topic::Rules, now))
            .collect();
        for netns in due {
            self.dropped_by_rules.remove(&netns);
            self.ask(netns, Topic::Rules, now);
        }
    }

    /// Something that an event made us ask is not answered yet.
    pub(super) fn is_asking(&self) -> bool {
        Arc::strong_count(&self.open_questions) > 1
    }

    /// Answers to what was asked, and other facts that wait to be read. On a node whose interfaces come and go the kernel
    /// makes readers of interfaces wait; we wait for them no longer than `limit`.
    pub(super) fn last_answers(&mut self, limit: Duration) -> Vec<Delta> {
        let began = Instant::now();
        while self.is_asking() && began.elapsed() < limit {
            std::thread::sleep(limit / 64);
        }
        let waiting = std::iter::from_fn(|| self.receiver.try_recv().ok());
        let fact = |change| match change {
            Change::Delta(delta) => Some(delta),
            _ => None,
        };
        waiting.filter_map(fact).collect()
    }

    /// The last reading of the rules that dropped something since the one before.
    pub(super) fn last_rules(&mut self) -> Vec<Delta> {
        let namespaces = std::mem::take(&mut self.dropped_by_rules);
        let handles = namespaces
            .iter()
            .filter_map(|netns| self.handles.get(netns));
        handles
            .filter_map(|handle| identity::rulesets::reading(handle).ok())
            .flatten()
            .collect()
    }

    /// An event may make somebody ask: what does listen there, whose program is that?
    pub(super) fn consider(&mut self, event: &Event, now: Instant) {
        let Some(netns) = event.place.netns else {
            return;
        };
        self.polled
            .extend(self.handles.contains_key(&netns).then_some(netns));
        match &event.detail {
            Detail::ResetSent => self.ask(netns, Topic::Listeners, now),
            Detail::Dropped(drop) => {
                let reason = drop.reason.as_deref().unwrap_or("");
                let location = drop.location.as_deref().unwrap_or("");
                if is_netfilter(reason, location) {
                    self.dropped_by_rules.insert(netns);
                }
                if reason == "NO_SOCKET" {
                    self.ask(netns, Topic::Listeners, now);
                } else if let Some((proto, from, to)) = clash(event) {
                    self.ask(netns, Topic::Holders(proto, from, to), now);
                } else if let (Some(ifindex), Some(name)) =
                    (event.place.ifindex, &event.place.ifname)
                    && may_be_program(reason, location)
                {
                    self.ask(netns, Topic::Programs(ifindex, Arc::clone(name)), now);
                }
            }
            _ => {}
        }
    }

    fn is_fresh(&self, netns: Netns, topic: &Topic, now: Instant) -> bool {
        let asked = self.asked.get(&(netns, topic.clone()));
        asked.is_some_and(|asked| now.duration_since(*asked) < FRESH)
    }

    fn ask(&mut self, netns: Netns, topic: Topic, now: Instant) {
        let fresh = self.is_fresh(netns, &topic, now);
        let Some(handle) = self.handles.get(&netns).filter(|_| !fresh) else {
            return;
        };
        if self.asked.len() >= MAX_ASKED {
            self.asked
                .retain(|_, asked| now.duration_since(*asked) < FRESH);
        }
        self.asked.insert((netns, topic.clone()), now);
        match topic {
            Topic::Listeners => {
                self.inquire(handle, |handle| {
                    identity::sockets::listeners(handle).map(|delta| vec![delta])
                });
            }
            Topic::Rules => self.inquire(handle, identity::rulesets::reading),
            Topic::Holders(proto, from, to) => {
                self.inquire(handle, move |handle| {
                    identity::conntrack::holders(handle, proto, from, to).map(|delta| vec![delta])
                });
            }
            Topic::Programs(ifindex, name) => {
                let own = self.own_programs.clone();
                let link = [LinkRef { ifindex, name }];
                self.inquire(handle, move |handle| {
                    identity::programs::foreign(handle, &link, &own)
                });
            }
        }
    }

    /// As [`Self::spawn`], of a question whose answer the trace waits for at its end.
    fn inquire<F>(&self, handle: &NetnsHandle, read: F)
    where
        F: FnOnce(&NetnsHandle) -> Result<Vec<Delta>, IdentityError> + Send + 'static,
    {
        let tell = self.reading(handle, read);
        let question = Arc::clone(&self.open_questions);
        tokio::task::spawn_blocking(move || {
            tell();
            drop(question);
        });
    }

    fn spawn<F>(&self, handle: &NetnsHandle, read: F)
    where
        F: FnOnce(&NetnsHandle) -> Result<Vec<Delta>, IdentityError> + Send + 'static,
    {
        tokio::task::spawn_blocking(self.reading(handle, read));
    }

    /// Reads and makes news of it.
    fn reading<F>(&self, handle: &NetnsHandle, read: F) -> impl FnOnce() + Send + 'static
    where
        F: FnOnce(&NetnsHandle) -> Result<Vec<Delta>, IdentityError> + Send + 'static,
    {
        let (handle, sender) = (handle.clone(), self.sender.clone());
        move || match read(&handle) {
            // A full queue means that the engine is behind; the next reading replaces this one.
            Ok(deltas) => deltas
                .into_iter()
                .for_each(|delta| drop(sender.try_send(Change::Delta(delta)))),
            Err(error) => tracing::debug!("{error}"),
        }
    }

    /// Starts watching the node's interfaces, and the traced pods where somebody knows when these become others.
    pub(super) fn watch_links(
        &self,
        target: &Target,
        selector: Selector,
        follower: Option<Follower>,
    ) {
        let traced = Traced::new(&target.pods);
        let watch = match Watch::open_for(target, &selector, &traced) {
            Ok(watch) => watch,
            Err(error) => return tracing::warn!("{error}"),
        };
        let nudge = follower.as_ref().map(Follower::nudge);
        tokio::spawn(links(watch, self.sender.clone(), nudge));
        if let Some(follower) = follower {
            tokio::spawn(pods(follower, selector, traced, self.sender.clone()));
        }
    }

    /// A new namespace on this node.
    pub(super) fn add(&mut self, handle: NetnsHandle) {
        self.handles.insert(handle.netns(), handle);
    }

    /// One that has gone.
    pub(super) fn forget(&mut self, netns: Netns) {
        self.handles.remove(&netns);
        self.polled.remove(&netns);
        self.dropped_by_rules.remove(&netns);
        self.asked.retain(|(asked, _), _| *asked != netns);
    }

    /// The next piece of news.
    pub(super) async fn next(&mut self) -> Option<Change> {
        self.receiver.recv().await
    }
}

/// A program or an action may have dropped it: without reasons, functions that also drop for other causes.
fn may_be_program(reason: &str, location: &str) -> bool {
    let receives = location.contains("xdp") || location.starts_with("veth_poll");
    let by_reason = reason.starts_with("TC_") || reason == "XDP";
    let unclear = reason.is_empty()
        && (location.starts_with("__netif_receive_skb")
            || location.starts_with("__dev_queue_xmit"));
    by_reason || receives || unclear
}

async fn links(mut watch: Watch, sender: mpsc::Sender<Change>, nudge: Option<Nudge>) {
    loop {
        let changes = match watch.next().await {
            Ok(changes) => changes,
            Err(error) => return tracing::warn!("{error}"),
        };
        let moved =
            |change: &Change| matches!(change, Change::Appeared { .. } | Change::Gone { .. });
        if let Some(nudge) = nudge.as_ref().filter(|_| changes.iter().any(moved)) {
            nudge.now();
        }
        for change in changes {
            if sender.send(change).await.is_err() {
                return;
            }
        }
    }
}

async fn pods(
    mut follower: Follower,
    mut selector: Selector,
    traced: Traced,
    sender: mpsc::Sender<Change>,
) {
    loop {
        let found = follower.next().await.to_vec();
        selector.pods = found.iter().map(|pod| pod.netns.clone()).collect();
        let target = if selector.pods.is_empty() {
            None
        } else {
            let selector = selector.clone();
            let resolved = tokio::task::spawn_blocking(move || identity::resolve(&selector)).await;
            match resolved {
                Ok(Ok(mut target)) => {
                    let names = names(running::now(), &found, target.node.netns(), &target.deltas);
                    target.deltas.extend(names);
                    Some(Box::new(target))
                }
                // A pod that ended meanwhile, most likely; the next look tells.
                Ok(Err(error)) => {
                    tracing::debug!("{error}");
                    follower.forget();
                    continue;
                }
                Err(_) => continue,
            }
        };
        // Without any, what led to the last of them is still no way off the node.
        if let Some(target) = &target {
            traced.set(&target.pods);
        }
        if sender.send(Change::Pods(target)).await.is_err() {
            return;
        }
    }
}

/// As `flow::drops` sees it: only to know when to read the rules again.
fn is_netfilter(reason: &str, location: &str) -> bool {
    reason == "NETFILTER_DROP"
        || location.starts_with("nft_do_chain")
        || location.starts_with("nf_hook_slow")
        || location.starts_with("nf_queue")
}

/// A packet dropped after SNAT and before its entry got into the table: where its answers would come from, and to whom.
fn clash(event: &Event) -> Option<(Proto, SocketAddr, IpAddr)> {
    let status = event.conntrack?.status;
    let translated = status.has(CtStatus::SRC_NAT | CtStatus::SRC_NAT_DONE);
    let tuple = event.packet.as_ref()?.tuple;
    (translated && !status.has(CtStatus::CONFIRMED)).then_some((
        tuple.proto,
        tuple.dst,
        tuple.src.ip(),
    ))
}
