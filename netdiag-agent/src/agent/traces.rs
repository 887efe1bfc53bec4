//! Traces asked for through the service: what each has said so far, for those who listen late.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use tokio::sync::watch;

/// Verdict lines kept per trace.
const BACKLOG: usize = 4096;

/// Ended traces that can still be read.
const ENDED: usize = 16;

/// All there are, by id.
#[derive(Debug, Default)]
pub struct Traces {
    all: Mutex<BTreeMap<u64, Arc<Trace>>>,
}

/// One trace.
#[derive(Debug)]
pub struct Trace {
    pub id: u64,
    /// What was asked for, for humans.
    pub subject: String,
    /// RFC 3339.
    pub started: String,
    said: Mutex<Said>,
    /// Changes with every line, and at the end.
    news: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Said {
    lines: VecDeque<Arc<str>>,
    /// Lines that are no longer kept.
    gone: u64,
    end: Option<End>,
}

/// How a trace ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    InOrder,
    Failed(String),
}

/// What a reader finds at its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    Line(Arc<str>),
    /// So many lines were not kept long enough for this reader.
    Skipped(u64),
    /// Nothing yet.
    Wait,
    End(End),
}

/// For the list of traces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    pub id: String,
    pub subject: String,
    pub started: String,
    pub state: &'static str,
    pub verdicts: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Traces {
    /// Makes a new one; its id has never been used in this process.
    pub fn add(&self, id: u64, subject: String, started: String) -> Arc<Trace> {
        let trace = Arc::new(Trace {
            id,
            subject,
            started,
            said: Mutex::default(),
            news: watch::channel(()).0,
        });
        let mut all = locked(&self.all);
        all.insert(id, Arc::clone(&trace));
        let ended: Vec<u64> = all
            .iter()
            .filter(|(_, trace)| trace.end().is_some())
            .map(|(id, _)| *id)
            .collect();
        for id in ended.iter().take(ended.len().saturating_sub(ENDED)) {
            all.remove(id);
        }
        trace
    }

    pub fn get(&self, id: u64) -> Option<Arc<Trace>> {
        locked(&self.all).get(&id).cloned()
    }

    pub fn list(&self) -> Vec<Summary> {
        locked(&self.all)
            .values()
            .map(|trace| trace.summary())
            .collect()
    }
}

impl Trace {
    /// One more verdict line.
    pub fn say(&self, line: Arc<str>) {
        let mut said = locked(&self.said);
        said.lines.push_back(line);
        if said.lines.len() > BACKLOG {
            said.lines.pop_front();
            said.gone += 1;
        }
        drop(said);
        self.news.send_replace(());
    }

    pub fn ended(&self, end: End) {
        locked(&self.said).end.get_or_insert(end);
        self.news.send_replace(());
    }

    pub fn end(&self) -> Option<End> {
        locked(&self.said).end.clone()
    }

    /// What stands at `place`, counted from the first line ever said.
    pub fn at(&self, place: u64) -> Next {
        let said = locked(&self.said);
        if place < said.gone {
            return Next::Skipped(said.gone - place);
        }
        match (said.lines.get((place - said.gone) as usize), &said.end) {
            (Some(line), _) => Next::Line(Arc::clone(line)),
            (None, Some(end)) => Next::End(end.clone()),
            (None, None) => Next::Wait,
        }
    }

    /// Tells when there is something new; subscribe before looking with [`Trace::at`].
    pub fn news(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }

    pub fn summary(&self) -> Summary {
        let said = locked(&self.said);
        let (state, error) = match &said.end {
            None => ("running", None),
            Some(End::InOrder) => ("ended", None),
            Some(End::Failed(why)) => ("failed", Some(why.clone())),
        };
        Summary {
            id: self.id.to_string(),
            subject: self.subject.clone(),
            started: self.started.clone(),
            state,
            verdicts: said.gone + said.lines.len() as u64,
            error,
        }
    }
}

/// A reader that panicked left nothing half done.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(n: usize) -> Arc<str> {
        n.to_string().into()
    }

    #[test]
    fn a_late_reader_gets_what_is_kept_and_is_told_what_is_not() {
        let traces = Traces::default();
        let trace = traces.add(1, "node".to_owned(), String::new());
        assert_eq!(trace.at(0), Next::Wait);
        for n in 0..BACKLOG + 10 {
            trace.say(line(n));
        }
        assert_eq!(trace.at(3), Next::Skipped(7));
        assert_eq!(trace.at(10), Next::Line(line(10)));
        let all = BACKLOG as u64 + 10;
        assert_eq!(trace.at(all), Next::Wait);
        trace.ended(End::InOrder);
        trace.ended(End::Failed("too late to matter".to_owned()));
        assert_eq!(trace.at(all), Next::End(End::InOrder));
        assert_eq!(trace.summary().verdicts, all);
    }

    #[test]
    fn only_the_last_ended_traces_are_kept() {
        let traces = Traces::default();
        let running = traces.add(0, "node".to_owned(), String::new());
        for id in 1..100 {
            traces
                .add(id, String::new(), String::new())
                .ended(End::InOrder);
        }
        assert!(traces.list().len() <= ENDED + 2);
        assert!(traces.get(running.id).is_some() && traces.get(99).is_some());
    }
}
