//! One flow laid before the rules, with all they may know.

mod deaths;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::finding::Finding;
use super::rules::RULES;
use super::types::{Confidence, HopName, NatKind, Outcome};
use crate::event::{IcmpKind, Ktime, Netns, NudState, Proto, Span};
use crate::flow::FlowTable;
use crate::flow::place::{Leg, Stage};
use crate::flow::record::{Direction, DropGroup, Flow, IcmpError, Reset};
use crate::inventory::{Inventory, Namespace, NamespaceKind};

/// A refusal waits this long for the drop that explains it.
const GRACE: Span = Span::millis(30);
/// So many segments sent again are more than one that got lost.
const STUBBORN: u32 = 2;

/// Last known state of a neighbour entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    pub state: NudState,
    pub at: Ktime,
}

/// Neighbour entries by namespace and address.
pub type Neighbours = BTreeMap<(Netns, IpAddr), Neighbour>;

/// All a rule may look at.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    pub flow: &'a Flow,
    pub inventory: &'a Inventory,
    pub neighbours: &'a Neighbours,
    /// Every flow of the trace, this one included.
    pub others: &'a FlowTable,
    pub now: Ktime,
    pub no_answer: Span,
    /// The trace is over: what is not known now never will be.
    pub ending: bool,
    /// Events lost while the flow lived.
    pub lost: u64,
}

/// A drop that ended the flow, and its index.
#[derive(Clone, Copy, Debug)]
pub struct Death<'a> {
    pub index: usize,
    pub group: &'a DropGroup,
}

impl<'a> Case<'a> {
    /// What can be said now; `None`: nothing yet.
    pub fn judge(&self) -> Option<Finding> {
        if self.answered() && self.death().is_none() && !self.forgotten() {
            return Some(self.delivered());
        }
        if let Some(finding) = RULES.iter().find_map(|rule| rule.judge(self)) {
            return Some(self.unheard(self.honest(finding)));
        }
        let decided = self.ending || self.deadline_passed() && !self.unsettled();
        (decided && !self.unwatched()).then(|| self.undetermined())
    }

    /// The node's talk with itself passes no interface we watch; without a refusal or a loss there is nothing to tell.
    fn unwatched(&self) -> bool {
        let same = |to: &Namespace| self.initiator().is_some_and(|from| from.netns == to.netns);
        let home = self.flow.tuple.dst.ip().is_loopback() || self.responder().is_some_and(same);
        home && self.flow.sightings.is_empty() && self.flow.drops.is_empty()
    }

    /// A drop is too fresh to tell whether the flow died of it.
    fn unsettled(&self) -> bool {
        self.flow.drops.iter().any(|group| {
            !self.is_harmless(group)
                && !self.survived(group)
                && self.now < group.last.plus(self.patience(group))
        })
    }

    /// The node gave the living connection another address or port, and the peer, who does not know it, reset it.
    pub fn translated_anew(&self) -> Option<&'a Reset> {
        let since = self.flow.translated_anew?;
        let mut resets = self.flow.resets.iter();
        resets.find(|reset| reset.direction == Direction::Reply && reset.first >= since)
    }

    /// The node itself reset the peer's end of the living connection: a RST left by the uplink that the pod never sent.
    /// Kernels without drop reasons say no more of an answer that ends at the node.
    pub fn disowned(&self) -> Option<&'a Reset> {
        let flow = self.flow;
        let at = |reset: &Reset| reset.spot.as_ref().map(|spot| spot.hop);
        let by_pod = |reset: &&Reset| at(reset) == Some(HopName::PodVeth);
        let left = |reset: &&Reset| at(reset) == Some(HopName::NicEgress);
        let ripe = |reset: &&Reset| self.ending || self.now >= reset.first.plus(GRACE);
        let translated = flow.nat.iter().any(|nat| nat.kind == NatKind::Snat);
        let watched = flow
            .of(Direction::Original)
            .any(|sighting| sighting.spot.hop == HopName::PodVeth);
        let told = self
            .losses()
            .any(|group| group.direction == Direction::Reply);
        if !self.established() || !translated || !watched || told {
            return None;
        }
        let resets = flow.resets.iter();
        let mut sent = resets.filter(|reset| reset.direction == Direction::Original);
        if sent.clone().any(|reset| by_pod(&reset)) {
            return None;
        }
        sent.find(left).filter(ripe)
    }

    /// The connection lives on at its ends, and the node no longer knows it.
    fn forgotten(&self) -> bool {
        self.translated_anew().is_some() || self.disowned().is_some()
    }

    fn delivered(&self) -> Finding {
        let mut finding = Finding::plain(Outcome::Delivered);
        for group in self.losses() {
            let reason = group.drop.reason.as_deref().unwrap_or("no reason");
            let healed = self.flow.advanced(group.direction, &group.spot, group.last);
            let after = if healed {
                "what came after got through"
            } else {
                "nothing of that direction got through after them"
            };
            finding = finding.caveat(format!(
                "{} packet(s) lost on the way ({reason}); {after}",
                group.count
            ));
        }
        for remark in RULES.iter().filter_map(|rule| rule.remark(self)) {
            finding.cause.get_or_insert(remark.cause);
            finding.component = finding.component.or(remark.component);
            finding = finding
                .caveat(remark.caveat)
                .remedy(remark.summary, remark.commands);
        }
        let resent = self.flow.tcp.resent;
        if resent >= STUBBORN {
            finding = finding.caveat(format!(
                "established, then {resent} segments had to be sent again: if data does not get through, suspect the path MTU or a filter beyond this node"
            ));
        }
        let syns = self.flow.syn_count();
        if syns > 1 && self.losses().next().is_none() {
            finding = finding.caveat(format!("the SYN had to be sent {syns} times"));
        }
        finding
    }

    fn undetermined(&self) -> Finding {
        let mut finding = Finding::plain(Outcome::Undetermined);
        finding.confidence = Confidence::Unknown;
        let left = self.left_node();
        if self.flow.tuple.proto == Proto::UDP && left {
            finding.caveat("one-way UDP: it left this node and met no drop and no ICMP error; whether it arrived cannot be seen from here")
        } else if self.flow.tuple.proto == Proto::UDP {
            finding.caveat("one-way UDP: no drop and no ICMP error seen")
        } else {
            finding.caveat("the trace ended before this flow could be decided")
        }
    }

    /// That nothing was seen beyond a drop proves nothing when events were lost; a refusal that was seen stays seen.
    fn honest(&self, mut finding: Finding) -> Finding {
        let rests_on_absence = finding.outcome != Outcome::Refused;
        if self.lost > 0 && rests_on_absence && finding.confidence == Confidence::Proven {
            finding.confidence = Confidence::Inferred;
        }
        finding
    }

    /// A refusal by ICMP that a filter of this machine dropped on its way back: to the sender it is silence.
    fn unheard(&self, finding: Finding) -> Finding {
        let dropped = self.flow.errors_dropped.get(&Direction::Original);
        let Some(spot) = dropped.filter(|_| finding.outcome == Outcome::Refused) else {
            return finding;
        };
        let hook = match spot.stage {
            Stage::Prerouting => "in PREROUTING",
            Stage::Input => "in INPUT",
            Stage::Forward => "in FORWARD",
            Stage::Output => "in OUTPUT",
            Stage::Postrouting => "in POSTROUTING",
            _ => "at an interface",
        };
        let namespace = spot.netns.and_then(|netns| self.inventory.namespace(netns));
        let pod = namespace.filter(|namespace| namespace.kind == NamespaceKind::Pod);
        let owner = pod.and_then(|pod| pod.name.as_deref());
        let owner = owner.unwrap_or("this node");
        finding.caveat(format!(
            "the ICMP error was dropped on its way back by a firewall of {owner}, {hook}: the sender hears nothing"
        ))
    }

    /// When the next look could tell more; `None`: only a new event could.
    pub fn next_look(&self) -> Option<Ktime> {
        let settle = self
            .losses()
            .map(|group| group.last.plus(self.patience(group)));
        let refusal = self.refusals().map(|at| at.plus(GRACE));
        let deadline = self.deadline();
        settle
            .chain(refusal)
            .chain([deadline])
            .filter(|at| *at > self.now)
            .min()
    }

    /// Packets behind the verdict. What the kernel frees of a healthy connection is none of them.
    pub fn weight(&self) -> u64 {
        let lost: u64 = self.losses().map(|group| group.count).sum();
        let sent_again = self.flow.syn_count() + self.flow.tcp.resent;
        lost + u64::from(sent_again) + self.flow.queue_full
    }

    fn deadline(&self) -> Ktime {
        // Each DNS question on a shared socket has its own deadline; the last unanswered one decides.
        let asked = self
            .unanswered_query()
            .map_or(self.flow.first, |query| query.asked);
        asked.plus(self.no_answer)
    }

    pub fn deadline_passed(&self) -> bool {
        self.now >= self.deadline()
    }

    pub fn unanswered_query(&self) -> Option<&'a crate::flow::record::Query> {
        self.flow
            .queries
            .iter()
            .rev()
            .find(|query| query.answered.is_none())
    }

    /// The initiator has its answer.
    pub fn answered(&self) -> bool {
        if self.flow.is_tcp() {
            let replied = self.flow.of(Direction::Reply).next().is_some();
            return self.flow.tcp.established.is_some() && (self.flow.tcp.syn.is_some() || replied);
        }
        if self.unanswered_query().is_some() {
            return false;
        }
        let pod = self
            .initiator()
            .is_some_and(|namespace| namespace.kind == NamespaceKind::Pod);
        self.flow
            .of(Direction::Reply)
            .any(|sighting| sighting.is_with_initiator(pod))
    }

    /// A connection that is older than the trace has sent again and again since, and nobody was heard.
    pub fn fell_silent(&self) -> bool {
        let tcp = &self.flow.tcp;
        let heard = self.flow.of(Direction::Reply).next().is_some();
        tcp.syn.is_none() && tcp.resent >= STUBBORN && !heard
    }

    pub fn established(&self) -> bool {
        self.flow.is_tcp() && self.flow.tcp.established.is_some()
    }

    /// The namespace on this node that the flow starts in.
    pub fn initiator(&self) -> Option<&'a Namespace> {
        self.owner_of(self.flow.tuple.src.ip())
    }

    /// The namespace on this node that has the address. Each has its own loopback: talk over that is of the one it was
    /// seen in.
    pub fn owner_of(&self, address: IpAddr) -> Option<&'a Namespace> {
        if !address.is_loopback() {
            return self.inventory.owner_of(address);
        }
        let seen = self.flow.sightings.iter().map(|sighting| &sighting.spot);
        let mut spots = seen.chain(self.flow.drops.iter().map(|group| &group.spot));
        self.inventory.namespace(spots.find_map(|spot| spot.netns)?)
    }

    /// The address that really answers: behind DNAT the backend's.
    pub fn responder_address(&self) -> IpAddr {
        let dnat = self.flow.nat.iter().find(|nat| nat.kind == NatKind::Dnat);
        dnat.map_or(self.flow.tuple.dst, |nat| nat.after).ip()
    }

    /// The namespace on this node that answers.
    pub fn responder(&self) -> Option<&'a Namespace> {
        self.owner_of(self.responder_address())
    }

    /// Times at which somebody said no.
    fn refusals(&self) -> impl Iterator<Item = Ktime> {
        let errors = self
            .flow
            .errors
            .iter()
            .filter(|error| is_refusal(error))
            .map(|error| error.first);
        errors.chain(self.flow.resets.iter().map(|reset| reset.first))
    }

    /// A RST before the connection was established, old enough that a drop explaining it would be known.
    pub fn reset(&self) -> Option<&'a Reset> {
        if self.established() {
            return None;
        }
        let ripe = |reset: &&Reset| self.ending || self.now >= reset.first.plus(GRACE);
        self.flow
            .resets
            .iter()
            .filter(|reset| reset.direction == Direction::Reply)
            .filter(ripe)
            .min_by_key(|r| r.first)
    }

    /// An ICMP error that says no to a request of this flow.
    pub fn icmp_refusal(&self) -> Option<&'a IcmpError> {
        let ripe = |error: &&IcmpError| self.ending || self.now >= error.first.plus(GRACE);
        let about = |error: &&IcmpError| error.about == Direction::Original && is_refusal(error);
        self.flow
            .errors
            .iter()
            .filter(about)
            .filter(ripe)
            .min_by_key(|error| error.first)
    }

    /// A request was seen on its way out of this node, as it is or wrapped up for another node.
    pub fn left_node(&self) -> bool {
        self.left_by(HopName::NicEgress) || self.left_by(HopName::TunnelEncap)
    }

    pub fn left_by(&self, hop: HopName) -> bool {
        self.flow
            .of(Direction::Original)
            .any(|s| s.spot.leg == Leg::Node && s.spot.hop == hop)
    }

    /// A request was seen inside the namespace that should answer.
    pub fn reached_responder(&self) -> bool {
        self.flow.of(Direction::Original).any(|sighting| {
            sighting.spot.leg == Leg::Destination
                || (sighting.spot.hop == HopName::PodVeth && sighting.spot.stage == Stage::Transmit)
        })
    }

    /// The pod itself sends it elsewhere within the pod: where to.
    pub fn redirected(&self) -> Option<SocketAddr> {
        let mut nats = self.flow.nat.iter();
        let dnat = nats.find(|nat| nat.kind == NatKind::Dnat && nat.hop == HopName::NfOutput)?;
        let pod = self.initiator()?;
        let same = self.owner_of(dnat.after.ip())?.netns == pod.netns;
        (pod.kind == NamespaceKind::Pod && same).then_some(dnat.after)
    }

    /// The next hop's address is still being asked for, or could not be found.
    pub fn resolving_neighbour(&self) -> bool {
        !self.left_node() && !self.reached_responder() && self.unresolved_neighbour().is_some()
    }

    /// A neighbour that does not answer, tried while this flow lived: of the namespace its packets died in, else the node's.
    pub fn unresolved_neighbour(&self) -> Option<(IpAddr, NudState)> {
        let node = self.inventory.node_netns();
        let died = self.death().and_then(|death| death.group.spot.netns);
        let wanted = died.or(node);
        let v6 = self.flow.tuple.is_ipv6();
        self.neighbours
            .iter()
            .filter(|((netns, address), _)| {
                wanted.is_none_or(|wanted| wanted == *netns) && address.is_ipv6() == v6
            })
            .filter(|(_, entry)| entry.at >= self.flow.first && !entry.state.is_valid())
            .max_by_key(|((_, address), entry)| (*address == self.responder_address(), entry.at))
            .map(|((_, address), entry)| (*address, entry.state))
    }
}

/// Destination unreachable other than "fragmentation needed"; for `ICMPv6` type 1 (RFC 792, RFC 4443).
fn is_refusal(error: &IcmpError) -> bool {
    let IcmpKind { kind, code } = error.kind;
    match error.from {
        Some(IpAddr::V6(_)) => kind == 1,
        _ => kind == 3 && code != 4,
    }
}
