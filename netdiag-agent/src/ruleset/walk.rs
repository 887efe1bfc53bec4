//! One packet's walk through the chains of one base chain.

use std::collections::HashMap;

use super::evaluate::{Candidate, ElementRef, Fate, Via};
use super::matching::View;
use super::model::{Chain, Entry, MapRef, Rule, Selector, Step, Target, Tri};
use super::order::Line;
use super::state::{Bits, State, join};
use super::translate::spares;

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
    /// Wanted are rules that translate, or keep from it.
    translations: bool,
}

/// The walk's place within a chain.
struct Cursor {
    /// `None`: nothing gets here.
    now: Option<State>,
    certain: bool,
    flow: Flow,
}

/// How a rule took a packet.
#[derive(Clone, Copy)]
struct Taken {
    /// All matches were met, or may have been.
    tri: Tri,
    state: State,
    /// As it is when they were not.
    skipped: Option<State>,
}

impl<'a, 'f> Walk<'a, 'f> {
    pub fn new(view: View<'a>, line: &'a Line<'a>, found: &'f mut Vec<Found>) -> Self {
        Self {
            view,
            line,
            found,
            memo: HashMap::new(),
            via: Vec::new(),
            translations: false,
        }
    }

    /// One that looks for what becomes of the source address.
    pub fn translating(view: View<'a>, line: &'a Line<'a>, found: &'f mut Vec<Found>) -> Self {
        Self {
            translations: true,
            ..Self::new(view, line, found)
        }
    }

    pub fn chain(&mut self, at: usize, state: State, certain: bool) -> Flow {
        if !certain && let Some(flow) = self.memo.get(&(at, state)) {
            return *flow;
        }
        let table = self.line.table;
        let chain = &table.chains()[at];
        let mut cursor = Cursor {
            now: Some(state),
            certain,
            flow: Flow::default(),
        };
        for rule in &chain.rules {
            let Some(now) = cursor.now else { break };
            self.note_spared(chain, rule, now);
            let taken = self.steps(rule, now);
            if taken.tri == Tri::No {
                cursor.now = taken.skipped;
            } else {
                let at = At {
                    chain,
                    rule,
                    entry: None,
                };
                self.target(at, &rule.target, taken, &mut cursor);
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
                    Tri::No => {
                        return Taken {
                            tri: Tri::No,
                            state,
                            skipped: join(skipped, Some(state)),
                        };
                    }
                },
            }
        }
        Taken {
            tri,
            state,
            skipped,
        }
    }

    fn target(&mut self, at: At<'a>, target: &'a Target, taken: Taken, cursor: &mut Cursor) {
        let rest = taken.rest();
        let flow = &mut cursor.flow;
        match target {
            Target::Continue => cursor.now = join(Some(taken.state), rest),
            Target::Return => {
                flow.returns = join(flow.returns, Some(taken.state));
                cursor.leave(rest);
            }
            Target::Accept | Target::Nat(_) => {
                let nat = matches!(target, Target::Nat(_));
                if nat && self.translations {
                    let certain = cursor.certain && taken.tri == Tri::Yes;
                    self.find(at, Fate::Translated, certain, taken.state);
                }
                let mut state = taken.state;
                state.translated |= nat && self.view.facts.before_nat.is_none();
                flow.accepted = join(flow.accepted, Some(state));
                cursor.lose(rest);
            }
            Target::Drop => self.drop(at, Fate::Drop, taken, cursor),
            Target::Reject(_) => self.drop(at, Fate::Reject, taken, cursor),
            Target::Queue => {
                flow.accepted = join(flow.accepted, Some(taken.state));
                let certain = self.view.facts.queued && cursor.certain && taken.tri == Tri::Yes;
                self.find(at, Fate::Handed, certain, taken.state);
                cursor.lose(rest);
            }
            Target::Unknown(_) => {
                self.find(at, Fate::Handed, false, taken.state);
                cursor.lose(join(Some(taken.state), rest));
            }
            Target::Jump(to) => {
                let flow = self.call(at, to, taken, cursor);
                cursor.now = join(flow.returns, rest);
                cursor.certain &= !flow.lost;
            }
            Target::Goto(to) => {
                let flow = self.call(at, to, taken, cursor);
                cursor.flow.returns = join(cursor.flow.returns, flow.returns);
                cursor.leave(rest);
            }
            Target::Vmap { key, map } => self.vmap(at, (key, map), taken, cursor),
        }
    }

    fn note_spared(&mut self, chain: &'a Chain, rule: &'a Rule, state: State) {
        let spared = if self.translations {
            spares(&self.view, chain, rule, &state)
        } else {
            None
        };
        let at = At {
            chain,
            rule,
            entry: None,
        };
        match spared {
            Some(Tri::No) | None => {}
            Some(met) => self.find(at, Fate::Spared, met == Tri::Yes, state),
        }
    }

    fn drop(&mut self, at: At<'a>, fate: Fate, taken: Taken, cursor: &mut Cursor) {
        let certain = cursor.certain && taken.tri == Tri::Yes;
        self.find(at, fate, certain, taken.state);
        cursor.lose(taken.rest());
    }

    /// The walk through another chain; what does not come back of it is noted here.
    fn call(&mut self, at: At<'a>, to: &str, taken: Taken, cursor: &mut Cursor) -> Flow {
        let position = self.line.table.position(to);
        let Some(position) = position.filter(|_| self.via.len() < MAX_DEPTH) else {
            return Flow {
                returns: Some(taken.state),
                ..Flow::default()
            };
        };
        let certain = cursor.certain && taken.tri == Tri::Yes;
        self.via.push(Via {
            chain: at.chain.name.clone(),
            rule: at.rule.at,
            text: at.rule.text.clone(),
            comment: at.comment(),
        });
        let flow = self.chain(position, taken.state, certain);
        self.via.pop();
        cursor.flow.accepted = join(cursor.flow.accepted, flow.accepted);
        cursor.flow.lost |= flow.lost;
        flow
    }

    fn vmap(
        &mut self,
        at: At<'a>,
        (key, map): (&'a [Selector], &'a MapRef),
        taken: Taken,
        cursor: &mut Cursor,
    ) {
        let rest = taken.rest();
        let map = match map {
            MapRef::Named(name) => self.line.table.maps.get(name),
            MapRef::Inline(map) => Some(map),
        };
        let entries = map.map(|map| map.entries.as_slice()).unwrap_or_default();
        let elements = entries.iter().map(|entry| &entry.element);
        let answers = self.view.lookup(key, elements, &taken.state);
        let mut now = Some(taken.state);
        for (entry, answer) in entries.iter().zip(answers.unwrap_or_default()) {
            let Some(state) = now.filter(|_| answer != Tri::No) else {
                continue;
            };
            let met = answer == Tri::Yes;
            let one = Taken {
                tri: answer.and(taken.tri),
                state,
                skipped: join((!met).then_some(state), rest),
            };
            let entry_at = At {
                entry: Some(entry),
                ..at
            };
            self.target(entry_at, &entry.target, one, cursor);
            if met {
                // It has set the cursor.
                return;
            }
            now = cursor.now;
        }
        cursor.now = join(now, rest);
    }

    fn find(&mut self, at: At<'a>, fate: Fate, certain: bool, state: State) {
        let table = self.line.table;
        let candidate = Candidate {
            backend: table.backend,
            family: table.family,
            hook: self.line.base.hook,
            table: table.name.clone(),
            chain: at.chain.name.clone(),
            rule: Some(at.rule.at),
            text: at.rule.text.clone(),
            comment: at.comment(),
            fate,
            certain,
            counter: at.rule.counter,
            element: at.element(),
            via: self.via.clone(),
        };
        let mut known = self.found.iter_mut();
        if let Some(found) = known.find(|found| same(&found.candidate, &candidate)) {
            found.mark = found.mark.join(state.mark);
            found.candidate.certain |= certain;
        } else {
            self.found.push(Found {
                candidate,
                mark: state.mark,
            });
        }
    }
}

/// A rule, and the element of its verdict map that was met.
#[derive(Clone, Copy)]
struct At<'a> {
    chain: &'a Chain,
    rule: &'a Rule,
    entry: Option<&'a Entry>,
}

impl At<'_> {
    fn comment(&self) -> Option<String> {
        let of_entry = self.entry.and_then(|entry| entry.comment.as_ref());
        of_entry.or(self.rule.comment.as_ref()).cloned()
    }

    fn element(&self) -> Option<ElementRef> {
        match &self.rule.target {
            Target::Vmap {
                map: MapRef::Named(map),
                ..
            } => Some(ElementRef {
                map: map.clone(),
                key: self.entry?.text.clone(),
            }),
            _ => None,
        }
    }
}

impl Taken {
    /// What goes on behind the rule without having met it.
    fn rest(&self) -> Option<State> {
        self.skipped.filter(|_| self.tri == Tri::Maybe)
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

    /// As [`Self::leave`], and what did meet it does not come back to the caller.
    fn lose(&mut self, rest: Option<State>) {
        self.flow.lost = true;
        self.leave(rest);
    }
}
