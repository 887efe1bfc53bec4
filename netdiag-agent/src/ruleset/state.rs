//! What rules change of a packet while it passes them, known bit by bit.

use super::facts::PacketFacts;
use super::model::{Effect, Tri};

/// A number of which some bits are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bits {
    pub value: u128,
    pub known: u128,
}

impl Bits {
    pub const UNKNOWN: Self = Self { value: 0, known: 0 };

    pub const fn known(value: u128) -> Self {
        Self {
            value,
            known: u128::MAX,
        }
    }

    /// What holds whichever of the two it is.
    #[must_use]
    pub const fn join(self, other: Self) -> Self {
        let known = self.known & other.known & !(self.value ^ other.value);
        Self {
            value: self.value & known,
            known,
        }
    }

    #[must_use]
    pub const fn forget(self, mask: u128) -> Self {
        Self {
            value: self.value & !mask,
            known: self.known & !mask,
        }
    }

    #[must_use]
    const fn change(self, and: u32, xor: u32) -> Self {
        let (and, xor) = (and as u128, xor as u128);
        // A bit that is cleared becomes known.
        let known = self.known | (!and & MARK);
        Self {
            value: ((self.value & and) ^ xor) & known,
            known,
        }
    }

    /// Could both be the same number?
    pub const fn agrees(self, other: Self) -> bool {
        (self.value ^ other.value) & self.known & other.known == 0
    }

    pub fn any(self, mask: u128) -> Tri {
        if self.value & self.known & mask != 0 {
            Tri::Yes
        } else if mask & !self.known != 0 {
            Tri::Maybe
        } else {
            Tri::No
        }
    }

    /// Is it, masked, between `low` and `high`?
    pub fn within(self, mask: u128, low: u128, high: u128) -> Tri {
        let least = self.value & self.known & mask;
        let open = mask & !self.known;
        let most = least | open;
        if high < least || most < low {
            Tri::No
        } else if low <= least && most <= high {
            Tri::Yes
        } else if low == high && (low & !open) != least {
            Tri::No
        } else {
            Tri::Maybe
        }
    }
}

/// The bits a mark has.
const MARK: u128 = 0xffff_ffff;

/// What of conntrack a chain sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CtView {
    AsFacts,
    /// In front of conntrack: the kernel calls that invalid.
    None,
    Untracked,
    Unknown,
}

/// The part of a packet that rules change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub mark: Bits,
    pub ct_mark: Bits,
    pub ct: CtView,
    /// A NAT rule has given it ends that are not known.
    pub translated: bool,
}

impl State {
    /// On entry to a hook whose rules change these bits of the mark.
    pub fn on_entry(facts: &PacketFacts, changed: u128) -> Self {
        let whole = |mark: Option<u32>| {
            mark.map_or(Bits::known(0).forget(MARK), |mark| {
                Bits::known(u128::from(mark))
            })
        };
        let mark = match facts.mark_before {
            Some(mark) => Bits::known(u128::from(mark)),
            None => whole(facts.mark).forget(changed),
        };
        Self {
            mark,
            ct_mark: whole(facts.ct.mark),
            ct: CtView::AsFacts,
            translated: false,
        }
    }

    #[must_use]
    pub fn join(self, other: Self) -> Self {
        Self {
            mark: self.mark.join(other.mark),
            ct_mark: self.ct_mark.join(other.ct_mark),
            ct: if self.ct == other.ct {
                self.ct
            } else {
                CtView::Unknown
            },
            translated: self.translated || other.translated,
        }
    }

    pub fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Mark { and, xor } => self.mark = self.mark.change(and, xor),
            Effect::CtMark { and, xor } => self.ct_mark = self.ct_mark.change(and, xor),
            Effect::MarkUnknown { mask } => self.mark = self.mark.forget(u128::from(mask)),
            Effect::CtMarkUnknown { mask } => self.ct_mark = self.ct_mark.forget(u128::from(mask)),
            Effect::NoTrack => self.ct = CtView::Untracked,
        }
    }
}

/// Either, where there is one.
pub fn join(a: Option<State>, b: Option<State>) -> Option<State> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.join(b)),
        (one, None) | (None, one) => one,
    }
}
