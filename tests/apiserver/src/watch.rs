//! Watches: one JSON object per line, for as long as both sides like.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, Stream};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use crate::answer::status;
use crate::path::{Query, Target};
use crate::select;
use crate::store::{Happening, Store};

/// Of a watch without `timeoutSeconds`.
const LONGEST: Duration = Duration::from_mins(30);

struct Watch {
    store: Arc<Store>,
    target: Target,
    query: Query,
    version: u64,
    cuts: u64,
    bookmarks: u64,
    deadline: Instant,
    ended: bool,
}

pub fn stream(
    store: Arc<Store>,
    target: Target,
    query: Query,
) -> impl Stream<Item = io::Result<Bytes>> {
    let asked = query
        .get("resourceVersion")
        .and_then(|text| text.parse().ok());
    let now = store.since(&target, u64::MAX);
    let seconds = query
        .get("timeoutSeconds")
        .and_then(|text| text.parse().ok());
    let watch = Watch {
        version: asked.unwrap_or(0),
        cuts: now.cuts,
        bookmarks: now.bookmarks,
        deadline: Instant::now() + seconds.map_or(LONGEST, Duration::from_secs),
        store,
        target,
        query,
        ended: false,
    };
    stream::unfold(watch, |mut watch| async {
        if watch.ended {
            return None;
        }
        let chunk = watch.next().await?;
        Some((chunk, watch))
    })
}

impl Watch {
    /// The next lines; `None`: the watch is over.
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        let mut changes = self.store.changes();
        loop {
            let news = self.store.since(&self.target, self.version);
            if news.cuts > self.cuts {
                self.ended = true;
                return Some(Err(io::Error::other("cut")));
            }
            if self.version < news.oldest {
                self.ended = true;
                let message = format!(
                    "too old resource version: {} ({})",
                    self.version, news.oldest
                );
                return Some(Ok(line("ERROR", &status(410, "Expired", &message))));
            }
            let mut lines: Vec<u8> = Vec::new();
            for happening in &news.happenings {
                lines.extend(self.seen(happening));
                self.version = happening.version;
            }
            if news.bookmarks > self.bookmarks {
                self.bookmarks = news.bookmarks;
                self.version = news.version;
                if self
                    .query
                    .get("allowWatchBookmarks")
                    .is_some_and(|on| on == "true")
                {
                    lines.extend(line("BOOKMARK", &self.bookmark(news.version)));
                }
            }
            if !lines.is_empty() {
                return Some(Ok(lines.into()));
            }
            tokio::select! {
                _ = changes.changed() => {}
                () = sleep_until(self.deadline) => return None,
            }
        }
    }

    /// An object that begins or ceases to meet the selectors comes or goes for this watch.
    fn seen(&self, happening: &Happening) -> Bytes {
        let object = &happening.object;
        let fields = self.query.get("fieldSelector");
        let labels = self.query.get("labelSelector");
        let selected = fields.is_none_or(|selector| select::by_fields(selector, object))
            && labels.is_none_or(|selector| select::by_labels(selector, object));
        match (selected, happening.kind) {
            (true, kind) => line(kind, object),
            (false, "MODIFIED") => line("DELETED", object),
            (false, _) => Bytes::new(),
        }
    }

    fn bookmark(&self, version: u64) -> Value {
        let page = self.store.list(&self.target, |_| false, None, 0);
        json!({
            "kind": page.kind,
            "apiVersion": page.api_version,
            "metadata": {"resourceVersion": version.to_string(), "creationTimestamp": null},
            "spec": {}, "status": {},
        })
    }
}

fn line(kind: &str, object: &Value) -> Bytes {
    let mut text = json!({"type": kind, "object": object}).to_string();
    text.push('\n');
    text.into()
}
