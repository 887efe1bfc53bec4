//! Names of the cluster, as they arrive.

use std::sync::Arc;
use std::time::Duration;

use super::{Error, Running, now};
use crate::engine::Input;
use crate::identity::kube::names::{Names, Roll};
use crate::inventory::Delta;
use crate::inventory::cluster::Change;
use crate::verdict::Verdict;

/// So long a trace waits for names before it says that it is ready.
const FIRST_NAMES: Duration = Duration::from_millis(300);

/// Pieces of news of the cluster taken at once.
const BATCH: usize = 256;

impl Running {
    /// A small cluster is known before the first packet; nobody waits for a large one, or for one that is down.
    pub(super) async fn first_names(&mut self) -> Result<(), Error> {
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

    pub(super) fn learn(&mut self, news: Vec<Change>) -> Result<Vec<Verdict>, Error> {
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
}

/// Waits for news; false: there will be no more. Without anybody to ask it waits for ever.
pub(super) async fn next(names: &mut Option<Names>, news: &mut Vec<Change>) -> bool {
    match names {
        Some(names) => names.next(news, BATCH).await,
        None => std::future::pending().await,
    }
}
