//! A recording through the engine: the verdicts of the trace that wrote it, without privilege and without kernel.

use std::io::BufRead;
use std::path::Path;

use crate::engine::{Engine, Input};
use crate::event::Ktime;
use crate::inventory::{Delta, Inventory};
use crate::recording::{Error, Limits, Reader};
use crate::verdict::Verdict;

/// Replays a recording; `decided` gets each verdict with what was known of the node when it was decided.
///
/// A recording that breaks off, because the trace was killed or the file was cut, is replayed as far as it goes: its
/// flows are decided as if the trace had ended there. Where it broke off within a line, that is then the error.
pub fn replay<R: BufRead>(
    reader: Reader<R>,
    mut decided: impl FnMut(&Verdict, &Inventory),
) -> Result<(), Error> {
    let mut engine = Engine::new(reader.config());
    let mut step = |input: Input| {
        for verdict in engine.step(input) {
            decided(&verdict, engine.inventory());
        }
    };
    let mut latest = Ktime::default();
    let mut stopped = false;
    let mut fault = None;
    for input in reader {
        match input {
            Ok(input) => {
                latest = latest.max(time_of(&input).unwrap_or(latest));
                stopped = matches!(input, Input::Stop(_));
                step(input);
            }
            Err(error) => fault = Some(error),
        }
    }
    if !stopped {
        step(Input::Stop(latest));
    }
    fault.map_or(Ok(()), Err)
}

/// All verdicts of a recording, every revision of each.
pub fn verdicts(path: &Path) -> Result<Vec<Verdict>, Error> {
    let mut verdicts = Vec::new();
    replay(Reader::open(path, Limits::default())?, |verdict, _| {
        verdicts.push(verdict.clone())
    })?;
    Ok(verdicts)
}

fn time_of(input: &Input) -> Option<Ktime> {
    match input {
        Input::Event(event) => Some(event.at),
        Input::Inventory(Delta::Counters { at, .. }) | Input::Lost { at, .. } => Some(*at),
        Input::Tick(at) | Input::Stop(at) => Some(*at),
        Input::Inventory(_) => None,
    }
}
