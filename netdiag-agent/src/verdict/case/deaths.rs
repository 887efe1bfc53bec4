//! Which drop ended the flow, and which it survived.

use super::{Case, Death, GRACE, is_refusal};
use crate::event::{Ktime, Span};
use crate::flow::drops::DropKind;
use crate::flow::place::{Leg, Stage};
use crate::flow::record::{Direction, DropGroup, Reset};
use crate::verdict::types::HopName;

/// A drop is a death when the flow has not advanced for this long.
const SETTLE: Span = Span::millis(100);
/// A firewall's drop waits this long for the reading of the rules that it sets off.
const RULES_READ: Span = Span::millis(170);
/// An established connection retransmits; only a loss that lasts this long is a death.
const PERSIST: Span = Span::millis(700);

/// So often no network loses the same segment by chance.
const INSISTENT: u64 = 3;

impl<'a> Case<'a> {
    /// Drops that are losses, fatal or not.
    pub(super) fn losses(&self) -> impl Iterator<Item = &'a DropGroup> {
        self.flow
            .drops
            .iter()
            .filter(|group| !self.is_harmless(group) && !self.is_late_answer(group))
    }

    /// The end of a packet that was not lost, or of a copy of one.
    pub(super) fn is_harmless(&self, group: &DropGroup) -> bool {
        match group.kind {
            DropKind::Benign => true,
            DropKind::OtherHost => !self.is_misaddressed(group),
            _ => false,
        }
    }

    /// Bridges and switches flood frames to stations they are not for. A pod's own link has no third station, and what comes
    /// to the namespace that has the packet's destination was meant for it.
    fn is_misaddressed(&self, group: &DropGroup) -> bool {
        let to = group.packet.as_ref().map(|packet| packet.tuple.dst.ip());
        let meant = || {
            let owner = self.owner_of(to?)?;
            Some(group.spot.netns == Some(owner.netns))
        };
        group.spot.hop == HopName::PodVeth && (group.spot.leg == Leg::Node || meant() == Some(true))
    }

    /// The asker has closed its socket, or listens with a raw one (ping) that is counted apart.
    pub(super) fn is_late_answer(&self, group: &DropGroup) -> bool {
        group.kind == DropKind::NoSocket
            && group.direction == Direction::Reply
            && self
                .initiator()
                .is_some_and(|namespace| group.spot.netns == Some(namespace.netns))
    }

    /// How long a drop of this group must have had no sequel.
    pub(super) fn patience(&self, group: &DropGroup) -> Span {
        if self.established() {
            PERSIST
        } else if self.awaits_rules(group) {
            RULES_READ
        } else {
            SETTLE
        }
    }

    /// The rules are being read again: then the counter of the one that did it has moved.
    fn awaits_rules(&self, group: &DropGroup) -> bool {
        let rules = group
            .spot
            .netns
            .and_then(|netns| self.inventory.rules(netns));
        matches!(group.kind, DropKind::Netfilter(_))
            && rules.is_some_and(|rules| rules.after.at <= group.first)
    }

    /// The drop that ended the flow: nothing of its direction got further since.
    pub fn death(&self) -> Option<Death<'a>> {
        let fatal = |group: &DropGroup| {
            !self.is_harmless(group)
                && !self.survived(group)
                && (self.ending || self.now >= group.last.plus(self.patience(group)))
        };
        let drops = self.flow.drops.iter().enumerate();
        drops
            .filter(|(_, group)| fatal(group))
            .max_by_key(|(index, group)| (group.direction, group.last, *index))
            .map(|(index, group)| Death { index, group })
    }

    /// As [`Self::death`], of one kind.
    pub fn death_of(&self, wanted: impl Fn(DropKind) -> bool) -> Option<Death<'a>> {
        self.death().filter(|death| wanted(death.group.kind))
    }

    /// The flow went on after this drop, or was over before it.
    pub(super) fn survived(&self, group: &DropGroup) -> bool {
        if self.never_arrived(group) || self.broken_off(group) {
            return false;
        }
        let flow = self.flow;
        let fragment = group.packet.as_ref().is_some_and(|packet| packet.fragment);
        // The first fragment of the next datagram says nothing of the rest of this one.
        let since = if flow.is_tcp() || fragment {
            group.last
        } else {
            group.first
        };
        if flow.advanced(group.direction, &group.spot, since) {
            return true;
        }
        let answered = group.direction == Direction::Original
            && flow
                .of(Direction::Reply)
                .any(|sighting| sighting.last > since);
        if answered {
            return true;
        }
        if group.kind == DropKind::NoSocket && group.direction == Direction::Reply {
            // On the way to somebody else it is a loss: CONNTRACK_LOST.
            return self.is_late_answer(group);
        }
        let tcp = &flow.tcp;
        let over =
            tcp.established.is_some() && tcp.closing.is_some_and(|closing| closing <= group.last);
        // One lost segment of a living connection is TCP's daily bread.
        let single = self.established() && group.count < 2;
        over || single
    }

    /// A segment was sent and dropped again and again until its receiver closed without it. Small ones, which acknowledge and
    /// close, may pass all the while.
    fn never_arrived(&self, group: &DropGroup) -> bool {
        let tcp = &self.flow.tcp;
        let mut stuck = group.segments.iter();
        stuck.any(|segment| {
            segment.times >= INSISTENT
                && tcp.closed_without(group.direction, segment.seq, segment.first)
        })
    }

    /// A rule of this node rejected a segment of a living connection: with a RST that came in by no interface.
    fn broken_off(&self, group: &DropGroup) -> bool {
        let near = |reset: &Reset| {
            reset.first.plus(GRACE) >= group.first && group.last.plus(GRACE) >= reset.first
        };
        let back = |reset: &&Reset| reset.direction != group.direction;
        let on_node = |reset: &Reset| {
            let spot = reset.spot.as_ref().filter(|spot| spot.leg == Leg::Node);
            spot.map(|spot| spot.stage)
        };
        let by_socket_or_peer =
            |reset: &Reset| reset.spot.is_none() || on_node(reset) == Some(Stage::Receive);
        let resets = || self.flow.resets.iter().filter(back);
        // Where the other packets came in, a RST would have been seen as well.
        let watched = self.responder().is_some()
            || self
                .flow
                .of(group.direction.flipped())
                .any(|s| s.spot.leg == Leg::Node && s.spot.stage == Stage::Receive);
        matches!(group.kind, DropKind::Netfilter(_))
            && watched
            && self.established()
            && resets().any(|reset| near(reset) && on_node(reset) == Some(Stage::Transmit))
            && !resets().any(by_socket_or_peer)
    }

    /// An error or reset of this node's making came within a moment of this drop: it was a REJECT.
    pub fn rejected(&self, group: &DropGroup) -> bool {
        let near = |at: Ktime| at.plus(GRACE) >= group.first && group.last.plus(GRACE) >= at;
        let here = |netns| netns == group.spot.netns;
        self.flow.errors.iter().any(|error| {
            // A redirect, say, is no refusal.
            is_refusal(error)
                && error.about == group.direction
                && near(error.first)
                && here(error.netns)
        }) || self
            .flow
            .resets
            .iter()
            .any(|reset| reset.direction != group.direction && near(reset.first))
    }
}
