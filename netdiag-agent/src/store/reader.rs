//! Reading a store, also while it is being written.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use serde::Deserialize;
use uuid::Uuid;

use super::segment;
use super::{Error, io_error};
use crate::export::record::{Outcome, Time};

/// Which verdicts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    /// Decided at this time or later; RFC 3339 with nine digits sorts as text.
    pub since: Option<Time>,
    /// One of these; any when empty.
    pub outcomes: Vec<Outcome>,
}

/// What a reading met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Read {
    pub matched: u64,
    /// Whole lines that are no verdicts.
    pub unreadable: u64,
}

/// As much of a line as choosing needs.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    time: Cow<'a, str>,
    #[serde(borrow)]
    uuid: Cow<'a, str>,
    revision: u32,
    outcome: Outcome,
}

/// Hands the last revision of each flow that matches to `take`, oldest first, as it was written; `take` ends the reading
/// with an error of its own.
///
/// Reads the files twice: whether a line is the last word on its flow is known only at their end.
pub fn select<E: From<Error>>(
    folder: &Path,
    query: &Query,
    mut take: impl FnMut(&str) -> Result<(), E>,
) -> Result<Read, E> {
    let mut last: HashMap<Uuid, u32> = HashMap::new();
    let mut read = Read::default();
    each_line(folder, |line| {
        match head(line) {
            Some((uuid, head)) => {
                let revision = last.entry(uuid).or_default();
                *revision = head.revision.max(*revision);
            }
            None => read.unreadable += 1,
        }
        Ok::<(), E>(())
    })?;
    each_line(folder, |line| {
        let Some((uuid, head)) = head(line).filter(|(_, head)| matches(head, query)) else {
            return Ok(());
        };
        if last.get(&uuid).is_some_and(|last| head.revision < *last) {
            return Ok(());
        }
        read.matched += 1;
        take(&String::from_utf8_lossy(line))
    })?;
    Ok(read)
}

fn head(line: &[u8]) -> Option<(Uuid, Head<'_>)> {
    let head: Head<'_> = serde_json::from_slice(line).ok()?;
    Some((Uuid::try_parse(&head.uuid).ok()?, head))
}

fn matches(head: &Head<'_>, query: &Query) -> bool {
    let since = query.since.as_ref();
    since.is_none_or(|since| *head.time >= *since.0)
        && (query.outcomes.is_empty() || query.outcomes.contains(&head.outcome))
}

/// Every whole line, without its newline. A segment that goes while we read made room for newer ones.
fn each_line<E: From<Error>>(
    folder: &Path,
    mut visit: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let mut line = Vec::new();
    for segment in segment::list(folder)? {
        let path = segment.path(folder);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(io_error("open", path)(error).into()),
        };
        let mut reader = BufReader::with_capacity(128 * 1024, file);
        loop {
            line.clear();
            reader
                .read_until(b'\n', &mut line)
                .map_err(io_error("read", &path))?;
            // Without its newline a line is being written, or its writer died.
            if line.pop() != Some(b'\n') {
                break;
            }
            visit(&line)?;
        }
    }
    Ok(())
}
