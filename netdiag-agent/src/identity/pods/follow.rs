//! Pods of a query that come, restart and go while they are followed.
//!
//! A runtime tells nobody when a pod starts, so it is asked: at a slow pace, and at a fast one for a moment after the
//! node's interfaces changed, because a new pod's veth is there shortly before its runtime calls it ready.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use super::find::{Finder, Pod};

/// Catches what passes no interface of the node, such as a pod on a macvlan.
const SLOW: Duration = Duration::from_secs(1);

const FAST: Duration = Duration::from_millis(50);

/// A sandbox is ready so long after its veth appeared at the latest; what takes longer is found at the slow pace.
const FAST_TIMES: u32 = 40;

/// Says that something changed that may be a pod.
#[derive(Clone, Debug, Default)]
pub struct Nudge(Arc<Notify>);

impl Nudge {
    pub fn now(&self) {
        self.0.notify_one();
    }
}

/// Knows which pods there are.
pub struct Follower {
    finder: Finder,
    current: Vec<Pod>,
    nudge: Nudge,
    /// Looks left at the fast pace.
    fast: u32,
    /// The last look failed, and that was said.
    failing: bool,
}

impl Follower {
    /// `finder` has found these.
    pub fn new(finder: Finder, pods: Vec<Pod>) -> Self {
        Self {
            finder,
            current: pods,
            nudge: Nudge::default(),
            fast: 0,
            failing: false,
        }
    }

    pub fn nudge(&self) -> Nudge {
        self.nudge.clone()
    }

    /// What was told last is not known to be so: the next look tells whatever it finds.
    pub fn forget(&mut self) {
        self.current.clear();
    }

    /// All pods, once they are others than before. Waits for that as long as it takes.
    pub async fn next(&mut self) -> &[Pod] {
        loop {
            let pace = if self.fast > 0 { FAST } else { SLOW };
            self.fast = self.fast.saturating_sub(1);
            if timeout(pace, self.nudge.0.notified()).await.is_ok() {
                self.fast = FAST_TIMES;
            }
            match self.finder.again().await {
                Ok(mut pods) => {
                    self.failing = false;
                    pods.sort_by_key(|pod| pod.netns.netns());
                    if !same(&pods, &self.current) {
                        self.current = pods;
                        return &self.current;
                    }
                }
                // Nothing is known of any pod: those that are followed go on being so.
                Err(error) if !self.failing => {
                    self.failing = true;
                    tracing::warn!("pods that come and go are not seen for now: {error}");
                }
                Err(_) => {}
            }
        }
    }
}

/// By their namespaces: a pod that restarted has another.
fn same(one: &[Pod], other: &[Pod]) -> bool {
    let within = |pod: &Pod, pods: &[Pod]| {
        let mut netns = pods.iter().map(|one| one.netns.netns());
        netns.any(|netns| netns == pod.netns.netns())
    };
    one.iter().all(|pod| within(pod, other)) && other.iter().all(|pod| within(pod, one))
}
