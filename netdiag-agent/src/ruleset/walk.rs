//! One packet's walk through the chains of one base chain.

use std::collections::HashMap;

use super::evaluate::{Candidate, ElementRef, Fate, Via};
use super::matching::View;
use super::model::{Chain, Entry, MapRef, Rule, Selector, Step, Target, Tri};
use super::order::Line;
use super::state::{Bits, State, join};

/// More than the kernel allows (`NFT_JUMP_STACK_SIZE` is 16).
const MAX_DEPTH: usize = 32;

/// A candidate, and the mark the packet would have there.
#[derive(Clone, Debug)]
pub struct Found {
    pub candidate: Candidate,
    pub mark: Bits,
}

/// How a packet can leave a chain.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flow {
    /// Back to the caller, by `return` or over the end.
    pub returns: Option<State>,
    pub accepted: Option<State>,
    /// Some way through it does not come back to the caller.
    pub lost: bool,
}

pub struct Walk<'a, 'f> {
    pub view: View<'a>,
    pub line: &'a Line<'a>,
    pub found: &'f mut Vec<Found>,
    /// Chains already walked as a mere possibility.
    memo: HashMap<(usize, State), Flow>,
    via: Vec<Via>,
}

/// The walk's place within a chain.
struct Cursor {
    /// `None`: nothing gets here.
    now: Option<State>,
    certain: bool,
    flow: Flow,
}

/// How a rule took a packet.
struct Taken {
    /// All matches were met, or may have been.
    tri: Tri,
    state: State,
    /// As it is when they were not.
    skipped: Option<State>,
}

impl<'a, 'f> Walk<'a, 'f> {
    pub fn new(view: View<'a>, line: &'a Line<'a>, found: &'f mut Vec<Found>) -> Self {
        Self { view, line, found, memo: HashMap::new(), via: Vec::new() }
    }

    pub fn chain(&mut self, at: usize, state: State, certain: bool) -> Flow {
        if !certain && let Some(flow) = self.memo.get(&(at, state)) {
            return *flow;
        }
        let table = self.line.table;
        let chain = &table.chains()[at];
        let mut cursor = Cursor { now: Some(state), certain, flow: Flow::default() };
        for rule in &chain.rules {
            let Some(now) = cursor.now else { break };
            let taken = self.steps(rule, now);
            if taken.tri == Tri::No {
                cursor.now = taken.skipped;
            } else {
                self.target(chain, rule, &rule.target, None, taken, &mut cursor);
            }
        }
        cursor.flow.returns = join(cursor.flow.returns, cursor.now);
        if !certain {
            self.memo.insert((at, state), cursor.flow);
        }
        cursor.flow
    }

    fn steps(&self, rule: &Rule, mut state: State) -> Taken {
        let mut tri = Tri::Yes;
        let mut skipped = None;
        for step in &rule.steps {
            match step {
                Step::Effect(effect) => state.apply(*effect),
                Step::Match(test) => match self.view.meets(test, &state) {
                    Tri::Yes => {}
                    Tri::Maybe => {
                        skipped = join(skipped, Some(state));
                        tri = Tri::Maybe;
                    }
                    // Effects in front of the failed match stay.
                    Tri::No => return Taken { tri: Tri::No, state, skipped: join(skipped, Some(state)) },
                },
            }
        }
        Taken { tri, state, skipped }
    }

    /// `entry` is the element of a verdict map that led to the target.
    fn target(
        &mut self,
        chain: &'a Chain,
        rule: &'a Rule,
        target: &'a Target,
        entry: Option<&'a Entry>,
        taken: Taken,
        cursor: &mut Cursor,
    ) {
        let certain = cursor.certain && taken.tri == Tri::Yes;
        let rest = if taken.tri == Tri::Maybe { taken.skipped } else { None };
        let comment = entry.and_then(|entry| entry.comment.as_ref()).or(rule.comment.as_ref());
        match target {
            Target::Continue => cursor.now = join(Some(taken.state), rest),
            Target::Accept | Target::Nat(_) => {
                let mut state = taken.state;
                state.translated |= matches!(target, Target::Nat(_)) && self.view.facts.before_nat.is_none();
                cursor.flow.accepted = join(cursor.flow.accepted, Some(state));
                cursor.flow.lost = true;
                cursor.leave(rest);
            }
            Target::Drop | Target::Reject(_) => {
                let fate = if *target == Target::Drop { Fate::Drop } else { Fate::Reject };
                self.find((chain, rule, entry), fate, certain, taken.state);
                cursor.flow.lost = true;
                cursor.leave(rest);
            }
            Target::Queue => {
                self.find((chain, rule, entry), Fate::Handed, false, taken.state);
                cursor.flow.accepted = join(cursor.flow.accepted, Some(taken.state));
                cursor.flow.lost = true;
                cursor.leave(rest);
            }
            Target::Unknown(_) => {
                self.find((chain, rule, entry), Fate::Handed, false, taken.state);
                cursor.flow.lost = true;
                cursor.leave(join(Some(taken.state), rest));
            }
            Target::Return => {
                cursor.flow.returns = join(cursor.flow.returns, Some(taken.state));
                cursor.leave(rest);
            }
            Target::Jump(to) | Target::Goto(to) => {
                let via = Via {
                    chain: chain.name.clone(),
                    rule: rule.at,
                    text: rule.text.clone(),
                    comment: comment.cloned(),
                };
                let flow = self.call(to, via, taken.state, certain);
                cursor.flow.accepted = join(cursor.flow.accepted, flow.accepted);
                cursor.flow.lost |= flow.lost;
                if matches!(target, Target::Goto(_)) {
                    cursor.flow.returns = join(cursor.flow.returns, flow.returns);
                    cursor.leave(rest);
                } else {
                    cursor.now = join(flow.returns, rest);
                    cursor.certain &= !flow.lost;
                }
            }
            Target::Vmap { key, map } => self.vmap(chain, rule, (key, map), taken, cursor),
        }
    }

    fn call(&mut self, to: &str, via: Via, state: State, certain: bool) -> Flow {
        let at = self.line.table.position(to).filter(|_| self.via.len() < MAX_DEPTH);
        let Some(at) = at else { return Flow { returns: Some(state), ..Flow::default() } };
        self.via.push(via);
        let flow = self.chain(at, state, certain);
        self.via.pop();
        flow
    }

    fn vmap(
        &mut self,
        chain: &'a Chain,
        rule: &'a Rule,
        (key, map): (&'a [Selector], &'a MapRef),
        taken: Taken,
        cursor: &mut Cursor,
    ) {
        let rest = if taken.tri == Tri::Maybe { taken.skipped } else { None };
        let map = match map {
            MapRef::Named(name) => self.line.table.maps.get(name),
            MapRef::Inline(map) => Some(map),
        };
        let entries = map.map(|map| map.entries.as_slice()).unwrap_or_default();
        let answers = self.view.lookup(key, entries.iter().map(|entry| &entry.element), &taken.state);
        let mut now = Some(taken.state);
        for (entry, answer) in entries.iter().zip(answers.unwrap_or_default()) {
            let (Some(state), true) = (now, answer != Tri::No) else { continue };
            let missed = if answer == Tri::Yes { None } else { Some(state) };
            let one = Taken { tri: answer.and(taken.tri), state, skipped: join(missed, rest) };
            self.target(chain, rule, &entry.target, Some(entry), one, cursor);
            now = if answer == Tri::Yes { None } else { cursor.now };
            if answer == Tri::Yes {
                break;
            }
        }
        // An entry that was met has set the cursor; otherwise the packet goes on behind the rule.
        if now.is_some() {
            cursor.now = join(now, rest);
        }
    }

    fn find(
        &mut self,
        (chain, rule, entry): (&'a Chain, &'a Rule, Option<&'a Entry>),
        fate: Fate,
        certain: bool,
        state: State,
    ) {
        let table = self.line.table;
        let candidate = Candidate {
            backend: table.backend,
            family: table.family,
            hook: self.line.base.hook,
            table: table.name.clone(),
            chain: chain.name.clone(),
            rule: Some(rule.at),
            text: rule.text.clone(),
            comment: entry.and_then(|entry| entry.comment.clone()).or_else(|| rule.comment.clone()),
            fate,
            certain,
            counter: rule.counter,
            element: entry.and_then(|entry| element_of(rule, entry)),
            via: self.via.clone(),
        };
        match self.found.iter_mut().find(|found| same(&found.candidate, &candidate)) {
            Some(found) => {
                found.mark = found.mark.join(state.mark);
                found.candidate.certain |= certain;
            }
            None => self.found.push(Found { candidate, mark: state.mark }),
        }
    }
}

fn element_of(rule: &Rule, entry: &Entry) -> Option<ElementRef> {
    match &rule.target {
        Target::Vmap { map: MapRef::Named(map), .. } => {
            Some(ElementRef { map: map.clone(), key: entry.text.clone() })
        }
        _ => None,
    }
}

/// Two ways to one rule.
fn same(a: &Candidate, b: &Candidate) -> bool {
    let key = |c: &Candidate| (c.rule, c.backend, c.family, c.hook);
    key(a) == key(b) && a.chain == b.chain && a.table == b.table && a.element == b.element
}

impl Cursor {
    /// Only what did not meet the rule goes on, and whether there is any is not certain.
    fn leave(&mut self, rest: Option<State>) {
        self.now = rest;
        self.certain = false;
    }
}
